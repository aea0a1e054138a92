//! What control counts, in a registry of its own: one process runs several services, each with its own `/metrics`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control_api::{
    process,
    rest::{ComputeState, OperationKind},
};
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

use crate::{
    clock,
    publish::Publisher,
    store::{EpochMs, counted, operations::OperationRecord},
};

/// Milliseconds from the beginning of a wake.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WakePhases {
    /// Its turn to start came.
    pub(crate) queued_ms: u32,
    /// mariadbd was executed.
    pub(crate) executed_ms: u32,
    /// The agent said ready.
    pub(crate) ready_ms: u32,
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    computes: IntGaugeVec,
    ready_cu: Gauge,
    watchers: IntGauge,
    wakes: IntCounterVec,
    wake_phases: HistogramVec,
    rest_requests: IntCounterVec,
    leads: IntGauge,
    leases_lost: IntCounter,
    in_state: GaugeVec,
    silence: Gauge,
    operations_open: IntGaugeVec,
    stalled: Gauge,
    office: Mutex<Office>,
    certificates: IntGaugeVec,
}

/// What is known of operations while this control plane leads.
#[derive(Default)]
struct Office {
    leads: bool,
    /// Since when the operation does not advance that has not for the longest time; `None`: they all do.
    stalled_since: Option<EpochMs>,
}

/// How callers of a wake are answered.
const OUTCOMES: [&str; 5] = ["already_ready", "started", "refused", "deadline", "abandoned"];
const PHASES: [&str; 3] = ["queued", "executed", "ready"];
/// States that a compute is not in for long.
const PASSING: [ComputeState; 2] = [ComputeState::Starting, ComputeState::Draining];
/// What `/readyz` answers; alerts are on the last two.
const READY_STATUSES: [&str; 3] = ["200", "500", "503"];

/// Seconds. A wake takes a tenth of a second on a quiet machine and seconds after a crash.
const WAKE_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// Makes a metric and has the registry tell of it.
fn kept<M: Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<M, prometheus::Error>,
) -> Result<M, prometheus::Error> {
    let metric = made?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl Metrics {
    /// Every counter is there from the start: an increase from nothing to one is none to Prometheus.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name, help| kept(&registry, IntGauge::new(name, help));
        let real = |name, help| kept(&registry, Gauge::new(name, help));
        let gauges = |name: &str, help: &str, label| kept(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            kept(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let wake_phases = HistogramOpts::new(
            "selkie_control_wake_phase_seconds",
            "From the beginning of a wake until its turn came (queued), mariadbd was executed, it was ready.",
        );
        let in_state = Opts::new(
            "selkie_control_longest_in_state_seconds",
            "For how long the compute has been in this state that has been for the longest time; 0: none is.",
        );
        let build = gauges("selkie_control_build_info", "Which version this is.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let inner = Inner {
            computes: gauges("selkie_control_computes", "Computes by state.", "state")?,
            ready_cu: real("selkie_control_ready_cu", "CU of the computes that are ready.")?,
            watchers: gauge("selkie_control_watchers", "Gateways that are connected and watch.")?,
            wakes: counters(
                "selkie_control_wakes_total",
                "Answers to callers that wanted a compute ready, by outcome.",
                &["outcome"],
            )?,
            wake_phases: kept(
                &registry,
                HistogramVec::new(wake_phases.buckets(WAKE_BUCKETS.to_vec()), &["phase"]),
            )?,
            rest_requests: counters(
                "selkie_control_rest_requests_total",
                "REST requests by route and status.",
                &["method", "route", "status"],
            )?,
            leads: gauge(
                "selkie_control_leads",
                "1 while this control plane leads, 0 while it stands by or begins.",
            )?,
            leases_lost: kept(
                &registry,
                IntCounter::new(
                    "selkie_control_leases_lost_total",
                    "Times that this control plane led and could not go on: it did not reach the store, or another took over.",
                ),
            )?,
            in_state: kept(&registry, GaugeVec::new(in_state, &["state"]))?,
            silence: real(
                "selkie_control_gateway_silence_seconds",
                "For how long the gateway has owed an answer to what it was told that has for the longest time; 0: none does.",
            )?,
            operations_open: gauges(
                "selkie_control_operations_open",
                "Operations that have begun and not ended, by kind.",
                "kind",
            )?,
            stalled: real(
                "selkie_control_operation_stalled_seconds",
                "For how long the operation has not come further that has not for the longest time; 0: all do.",
            )?,
            office: Mutex::default(),
            certificates: gauges(
                "selkie_control_certificate_not_after_seconds",
                "When the first certificate of a file ends, in seconds since 1970, by the setting that names the file.",
                "setting",
            )?,
            registry,
        };
        for outcome in OUTCOMES {
            inner.wakes.with_label_values(&[outcome]);
        }
        for phase in PHASES {
            inner.wake_phases.with_label_values(&[phase]);
        }
        for status in READY_STATUSES {
            inner.rest_requests.with_label_values(&["GET", "/readyz", status]);
        }
        let metrics = Self { inner: Arc::new(inner) };
        metrics.leads(false);
        Ok(metrics)
    }

    fn office(&self) -> MutexGuard<'_, Office> {
        self.inner.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It leads from now on, or does no more.
    pub(crate) fn leads(&self, leads: bool) {
        let mut office = self.office();
        *office = Office {
            leads,
            stalled_since: None,
        };
        self.inner.leads.set(leads.into());
        self.count_open(&[]);
    }

    pub(crate) fn lease_lost(&self) {
        self.inner.leases_lost.inc();
    }

    /// When the first certificate of the file that this setting names ends.
    pub(crate) fn certificate_ends(&self, setting: &str, not_after_s: i64) {
        self.inner.certificates.with_label_values(&[setting]).set(not_after_s);
    }

    /// Those that have begun and not ended; of one that leads no more they are another's to look after. One that has failed
    /// at a step and tries it again does not advance.
    pub(crate) fn operations_are(&self, open: &[OperationRecord]) {
        let mut office = self.office();
        if !office.leads {
            return;
        }
        let since = open.iter().map(|operation| match operation.error {
            Some(_) => operation.created,
            None => operation.updated,
        });
        office.stalled_since = since.min();
        self.count_open(open);
    }

    fn count_open(&self, open: &[OperationRecord]) {
        for kind in OperationKind::ALL {
            let of_kind = open.iter().filter(|operation| operation.kind == kind).count();
            let count = i64::try_from(of_kind).unwrap_or(i64::MAX);
            self.inner
                .operations_open
                .with_label_values(&[kind.as_str()])
                .set(count);
        }
    }

    /// One caller got its answer.
    pub(crate) fn wake(&self, outcome: &str) {
        self.inner.wakes.with_label_values(&[outcome]).inc();
    }

    /// One compute became ready.
    pub(crate) fn wake_phases(&self, phases: WakePhases) {
        for (phase, ms) in [
            (PHASES[0], phases.queued_ms),
            (PHASES[1], phases.executed_ms),
            (PHASES[2], phases.ready_ms),
        ] {
            self.inner
                .wake_phases
                .with_label_values(&[phase])
                .observe(f64::from(ms) / 1000.0);
        }
    }

    /// `route` is the pattern, not the path: its values are few.
    pub(crate) fn rest_request(&self, method: &str, route: &str, status: u16) {
        self.inner
            .rest_requests
            .with_label_values(&[method, route, &status.to_string()])
            .inc();
    }

    /// Everything in prometheus' text format, gauges as of now.
    pub(crate) fn render(&self, publisher: &Publisher) -> Result<Vec<u8>, prometheus::Error> {
        let (counts, cu) = publisher.count();
        for (state, count) in counts {
            self.inner.computes.with_label_values(&[state]).set(count);
        }
        self.inner.ready_cu.set(cu);
        self.inner
            .watchers
            .set(i64::try_from(publisher.watchers()).unwrap_or(i64::MAX));
        for state in PASSING {
            let longest = publisher.longest_in(state).map_or(0, |since| clock::now() - since);
            self.inner
                .in_state
                .with_label_values(&[state.as_str()])
                .set(longest.max(0) as f64 / 1e3);
        }
        self.inner.silence.set(publisher.longest_silence().as_secs_f64());
        let stalled = self.office().stalled_since.map_or(0, |since| clock::now() - since);
        self.inner.stalled.set(stalled.max(0) as f64 / 1e3);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.inner.registry.gather(), &mut text)?;
        text.extend(counted_by_stores().into_bytes());
        text.extend(process::text().into_bytes());
        Ok(text)
    }
}

/// What stores count by themselves.
fn counted_by_stores() -> String {
    let mut text = String::new();
    let mut counter = |name: &str, help: &str, counts: &mut dyn Iterator<Item = (&str, u64)>| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} counter\n"));
        for (kind, count) in counts {
            text.push_str(&format!("{name}{{kind=\"{kind}\"}} {count}\n"));
        }
    };
    counter(
        "selkie_control_operations_failed_total",
        "Operations that ended with an error, by kind; suspends that were called off are among them.",
        &mut counted::operations_failed(),
    );
    counter(
        "selkie_control_store_errors_total",
        "Calls to the store that failed, by what was wrong: not reached or too slow (away), a full disk, read-only, damaged; or the statement (refused).",
        &mut counted::errors(),
    );
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use control_api::rest::OperationState;

    use super::*;
    use crate::{
        store::StoreError,
        testing::{Plane, Start},
    };

    fn value(metrics: &Metrics, publisher: &Publisher, series: &str) -> f64 {
        let text = String::from_utf8(metrics.render(publisher).unwrap()).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in:\n{text}"))
            .parse()
            .unwrap()
    }

    fn operation(kind: OperationKind, created: EpochMs, updated: EpochMs, error: Option<&str>) -> OperationRecord {
        OperationRecord {
            id: created.to_string(),
            project: crate::name::ProjectId::new("demo").unwrap(),
            kind,
            state: OperationState::Running,
            step: "a step".into(),
            error: error.map(Into::into),
            incarnation: None,
            requested_by: "api".into(),
            created,
            updated,
            ended: None,
        }
    }

    #[test]
    fn every_counter_is_there_from_the_start() {
        let (metrics, publisher) = (Metrics::new().unwrap(), Publisher::new());
        for series in [
            "selkie_control_leads",
            "selkie_control_leases_lost_total",
            "selkie_control_wakes_total{outcome=\"refused\"}",
            "selkie_control_wake_phase_seconds_count{phase=\"ready\"}",
            "selkie_control_rest_requests_total{method=\"GET\",route=\"/readyz\",status=\"500\"}",
            "selkie_control_longest_in_state_seconds{state=\"starting\"}",
            "selkie_control_gateway_silence_seconds",
            "selkie_control_operations_open{kind=\"delete\"}",
            "selkie_control_operation_stalled_seconds",
        ] {
            assert_eq!(value(&metrics, &publisher, series), 0.0, "{series}");
        }
        // Of the whole process, and another test may have been before this one.
        for series in [
            "store_errors_total{kind=\"away\"}",
            "operations_failed_total{kind=\"start\"}",
        ] {
            value(&metrics, &publisher, &format!("selkie_control_{series}"));
        }
        assert!(value(&metrics, &publisher, "process_open_fds") > 0.0);
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("selkie_control_build_info{{version=\"{version}\"}}");
        assert_eq!(value(&metrics, &publisher, &build), 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn operations_that_fail_are_counted_by_kind() {
        let (plane, demo) = Plane::with_demo().await;
        let failed = |kind: &str| {
            let series = format!("selkie_control_operations_failed_total{{kind=\"{kind}\"}}");
            value(&plane.metrics, plane.publisher(), &series)
        };
        // Of the whole process, and other tests fail as well.
        let before = failed("start");
        let fails = Start::Fails(Duration::from_millis(1), "no space left");
        plane.driver.starts.lock().unwrap().push_back(fails);
        let woken = plane.computes().wake(&demo, None, Duration::from_secs(60)).await;
        assert!(woken.is_err());
        assert!(failed("start") > before);
        for kind in OperationKind::ALL {
            failed(kind.as_str());
        }
    }

    #[test]
    fn calls_to_the_store_that_fail_are_counted_by_what_is_wrong() {
        let (metrics, publisher) = (Metrics::new().unwrap(), Publisher::new());
        let errors = |kind: &str| {
            let series = format!("selkie_control_store_errors_total{{kind=\"{kind}\"}}");
            value(&metrics, &publisher, &series)
        };
        // Of the whole process: other tests fail as well.
        let before = ["away", "full", "read_only", "damaged", "refused"].map(&errors);
        drop(StoreError::from(sqlx::Error::PoolTimedOut));
        assert!(errors("away") >= before[0] + 1.0);
        drop(StoreError::silent());
        assert!(errors("away") >= before[0] + 2.0);
        drop(StoreError::from(sqlx::Error::RowNotFound));
        assert!(errors("refused") > before[4]);
    }

    #[test]
    fn an_operation_that_tries_one_step_again_and_again_does_not_advance() {
        let (metrics, publisher) = (Metrics::new().unwrap(), Publisher::new());
        let now = clock::now();
        let open = [
            operation(OperationKind::Start, now - 900_000, now - 10_000, None),
            operation(OperationKind::Apply, now - 400_000, now - 1_000, Some("lock wait")),
        ];
        metrics.leads(true);
        metrics.operations_are(&open);
        let stalled = || value(&metrics, &publisher, "selkie_control_operation_stalled_seconds");
        assert!((400.0..460.0).contains(&stalled()), "{}", stalled());
        assert_eq!(
            value(&metrics, &publisher, "selkie_control_operations_open{kind=\"apply\"}"),
            1.0
        );
        metrics.operations_are(&open[..1]);
        assert!(
            (10.0..70.0).contains(&stalled()),
            "one that came to a step ten seconds ago"
        );
        metrics.leads(false);
        assert_eq!(stalled(), 0.0);
        metrics.operations_are(&open);
        assert_eq!(stalled(), 0.0, "they are another's to look after");
        assert_eq!(
            value(&metrics, &publisher, "selkie_control_operations_open{kind=\"start\"}"),
            0.0
        );
    }
}
