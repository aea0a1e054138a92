//! What the gateway counts. The hot path counts in plain numbers of its own thread ([`CoreMetrics`]); they are added up
//! when somebody asks for `/metrics` ([`page()`]).

mod link;
mod page;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use crate::error::ErrorKind;
use crate::session::life::Pin;
use crate::tls::Ends;

pub(crate) use link::Link;
pub(crate) use page::page;

/// From a fast login on loopback to the longest wake anyone waits for.
const SECONDS_BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// A bound that a login's source had reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// Logins under way.
    HalfOpen,
    /// Failed logins of its address.
    Address,
    /// Wrong passwords for the project.
    Password,
}

impl Throttled {
    const ALL: [Self; 3] = [Self::HalfOpen, Self::Address, Self::Password];

    fn label(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open",
            Self::Address => "address",
            Self::Password => "password",
        }
    }
}

/// Counters of one data-plane thread, on a cache line of their own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct CoreMetrics {
    /// Which one.
    pub(crate) thread: usize,
    sessions: AtomicU64,
    commands: AtomicU64,
    errors_from_compute: AtomicU64,
    bytes_to_client: AtomicU64,
    bytes_to_compute: AtomicU64,
    attached: AtomicU64,
    parks: AtomicU64,
    losses: AtomicU64,
    kills: AtomicU64,
    accepts_failed: AtomicU64,
    refused: AtomicU64,
    pins: [AtomicU64; Pin::ALL.len()],
}

impl CoreMetrics {
    pub(crate) fn session_begun(&self) {
        self.sessions.fetch_add(1, Relaxed);
    }

    pub(crate) fn session_ended(&self) {
        self.sessions.fetch_sub(1, Relaxed);
    }

    pub(crate) fn attached(&self) {
        self.attached.fetch_add(1, Relaxed);
    }

    pub(crate) fn detached(&self) {
        self.attached.fetch_sub(1, Relaxed);
    }

    pub(crate) fn parked(&self) {
        self.parks.fetch_add(1, Relaxed);
    }

    pub(crate) fn compute_lost(&self) {
        self.losses.fetch_add(1, Relaxed);
    }

    pub(crate) fn killed_at_compute(&self) {
        self.kills.fetch_add(1, Relaxed);
    }

    pub(crate) fn accept_failed(&self) {
        self.accepts_failed.fetch_add(1, Relaxed);
    }

    /// A client came when all places were taken.
    pub(crate) fn client_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn pinned(&self, pin: Pin) {
        if let Some(count) = self.pins.get(pin as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn command_begun(&self) {
        self.commands.fetch_add(1, Relaxed);
    }

    pub(crate) fn response_ended(&self, in_error: bool) {
        if in_error {
            self.errors_from_compute.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn bytes_to_client(&self, n: usize) {
        self.bytes_to_client.fetch_add(n as u64, Relaxed);
    }

    pub(crate) fn bytes_to_compute(&self, n: usize) {
        self.bytes_to_compute.fetch_add(n as u64, Relaxed);
    }
}

/// Counters of the gateway.
pub(crate) struct Metrics {
    registry: Registry,
    cores: Vec<Arc<CoreMetrics>>,
    logins: Histogram,
    logins_failed: IntCounterVec,
    throttled: IntCounterVec,
    errors: IntCounterVec,
    project_full: IntCounter,
    wakes: IntCounter,
    wake_phases: HistogramVec,
    pub(crate) link: Arc<Link>,
    /// Of the connection to control: read once, when it is first made.
    pub(crate) control_certificates: OnceLock<Ends>,
}

/// The phases of a wake, in their order.
const WAKE_PHASES: [&str; 6] = ["asked", "started", "ready", "greeting", "logged_in", "first_row"];

/// A metric that cannot be made or registered is a mistake in this file, found by its test.
impl Metrics {
    pub(crate) fn new(threads: usize) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS_BUCKETS.to_vec());
        let logins = Histogram::with_opts(histogram(
            "selkie_gateway_login_seconds",
            "Accept to OK, of logins that succeeded",
        ))?;
        let logins_failed = IntCounterVec::new(
            Opts::new(
                "selkie_gateway_logins_failed_total",
                "Logins that did not succeed, by whose fault it was",
            ),
            &["kind"],
        )?;
        let throttled = IntCounterVec::new(
            Opts::new(
                "selkie_gateway_throttled_total",
                "Logins that were not listened to, by the bound that their source had reached",
            ),
            &["bound"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "selkie_gateway_errors_total",
                "Sessions that ended in an error, by whose fault it was",
            ),
            &["kind"],
        )?;
        let project_full = IntCounter::new(
            "selkie_gateway_project_clients_refused_total",
            "Clients that were told 1040, Too many connections: gateway.max_clients_per_project of their project were there",
        )?;
        let wakes = IntCounter::new(
            "selkie_gateway_wakes_total",
            "Sessions whose command had to wait for a wake",
        )?;
        let wake_phases = HistogramVec::new(
            histogram(
                "selkie_gateway_wake_phase_seconds",
                "Since the command that needed the database, until the phase was over",
            ),
            &["phase"],
        )?;
        for collector in [
            Box::new(logins.clone()) as Box<dyn Collector>,
            Box::new(logins_failed.clone()),
            Box::new(throttled.clone()),
            Box::new(errors.clone()),
            Box::new(project_full.clone()),
            Box::new(wakes.clone()),
            Box::new(wake_phases.clone()),
        ] {
            registry.register(collector)?;
        }
        for kind in ErrorKind::ALL {
            logins_failed.with_label_values(&[kind.label()]);
            errors.with_label_values(&[kind.label()]);
        }
        for by in Throttled::ALL {
            throttled.with_label_values(&[by.label()]);
        }
        for phase in WAKE_PHASES {
            wake_phases.with_label_values(&[phase]);
        }
        let core = |thread| CoreMetrics {
            thread,
            ..CoreMetrics::default()
        };
        let cores = (0..threads).map(|thread| Arc::new(core(thread))).collect();
        Ok(Self {
            registry,
            cores,
            logins,
            logins_failed,
            throttled,
            errors,
            project_full,
            wakes,
            wake_phases,
            link: Arc::default(),
            control_certificates: OnceLock::new(),
        })
    }

    pub(crate) fn core(&self, thread: usize) -> Arc<CoreMetrics> {
        Arc::clone(&self.cores[thread])
    }

    pub(crate) fn logged_in(&self, took: Duration) {
        self.logins.observe(took.as_secs_f64());
    }

    /// The counter of logins that were not listened to.
    pub(crate) fn throttled(&self, by: Throttled) -> IntCounter {
        self.throttled.with_label_values(&[by.label()])
    }

    pub(crate) fn login_failed(&self, kind: ErrorKind) {
        self.logins_failed.with_label_values(&[kind.label()]).inc();
    }

    /// A client came when its project had as many as it may have.
    pub(crate) fn project_was_full(&self) {
        self.project_full.inc();
    }

    pub(crate) fn error(&self, kind: ErrorKind) {
        self.errors.with_label_values(&[kind.label()]).inc();
    }

    /// When each phase of one wake ended, since the command that needed the database.
    pub(crate) fn woken(&self, ended: [Duration; WAKE_PHASES.len()]) {
        self.wakes.inc();
        for (phase, after) in WAKE_PHASES.into_iter().zip(ended) {
            self.wake_phases
                .with_label_values(&[phase])
                .observe(after.as_secs_f64());
        }
    }

    /// What is counted here, in Prometheus' text format.
    fn text(&self) -> String {
        let mut out = Vec::new();
        // Writing into memory; an encoder that fails leaves the page short.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        let mut text = String::from_utf8_lossy(&out).into_owned();
        let sum =
            |of: fn(&CoreMetrics) -> &AtomicU64| self.cores.iter().map(|core| of(core).load(Relaxed)).sum::<u64>();
        for (name, kind, help, value) in [
            (
                "selkie_gateway_clients",
                "gauge",
                "Clients connected",
                sum(|c| &c.sessions),
            ),
            (
                "selkie_gateway_attached",
                "gauge",
                "Clients that hold a compute connection",
                sum(|c| &c.attached),
            ),
            (
                "selkie_gateway_parks_total",
                "counter",
                "Times a session gave its compute connection up",
                sum(|c| &c.parks),
            ),
            (
                "selkie_gateway_computes_lost_total",
                "counter",
                "Times a session went on after its compute connection broke",
                sum(|c| &c.losses),
            ),
            (
                "selkie_gateway_kills_total",
                "counter",
                "Statements and connections that the gateway had a compute end: the client was gone, or asked with KILL",
                sum(|c| &c.kills),
            ),
            (
                "selkie_gateway_accepts_failed_total",
                "counter",
                "Tries to accept a client that failed, mostly for want of file descriptors",
                sum(|c| &c.accepts_failed),
            ),
            (
                "selkie_gateway_clients_refused_total",
                "counter",
                "Clients that were told 1040, Too many connections: gateway.max_clients were there",
                sum(|c| &c.refused),
            ),
            (
                "selkie_gateway_commands_total",
                "counter",
                "Commands relayed",
                sum(|c| &c.commands),
            ),
            (
                "selkie_gateway_compute_errors_total",
                "counter",
                "ERR packets relayed",
                sum(|c| &c.errors_from_compute),
            ),
            (
                "selkie_gateway_bytes_to_client_total",
                "counter",
                "Bytes relayed to clients",
                sum(|c| &c.bytes_to_client),
            ),
            (
                "selkie_gateway_bytes_to_compute_total",
                "counter",
                "Bytes relayed to computes",
                sum(|c| &c.bytes_to_compute),
            ),
        ] {
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
        }
        let name = "selkie_gateway_pins_total";
        text.push_str(&format!(
            "# HELP {name} Times a session could not give it up\n# TYPE {name} counter\n"
        ));
        for pin in Pin::ALL {
            let value: u64 = self
                .cores
                .iter()
                .map(|core| core.pins[pin as usize].load(Relaxed))
                .sum();
            text.push_str(&format!("{name}{{reason=\"{}\"}} {value}\n", pin.label()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_on_the_page() {
        let metrics = Metrics::new(2).unwrap();
        metrics.core(1).bytes_to_client(5);
        metrics.core(0).bytes_to_client(2);
        metrics.core(1).client_refused();
        metrics.woken([10, 20, 30, 40, 50, 90].map(Duration::from_millis));
        let text = metrics.text();
        let before = Metrics::new(1).unwrap().text();
        for counter in text
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, _)| series)
        {
            let there = before
                .lines()
                .any(|line| line.strip_prefix(counter).is_some_and(|rest| rest.starts_with(' ')));
            assert!(
                there || counter.starts_with('#'),
                "{counter} is not there from the start"
            );
        }
        for line in [
            "selkie_gateway_bytes_to_client_total 7",
            "selkie_gateway_errors_total{kind=\"wake\"} 0",
            "selkie_gateway_wake_phase_seconds_bucket{phase=\"first_row\",le=\"0.1\"} 1",
            "selkie_gateway_wake_phase_seconds_bucket{phase=\"logged_in\",le=\"0.05\"} 1",
            "selkie_gateway_clients_refused_total 1",
            "selkie_gateway_login_seconds_count 0",
            "selkie_gateway_attached 0",
            "selkie_gateway_throttled_total{bound=\"half_open\"} 0",
            "selkie_gateway_pins_total{reason=\"transaction\"} 0",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
