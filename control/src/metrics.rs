//! What control counts, in a registry of its own: one process runs several services, each with its own `/metrics`.

use std::sync::Arc;

use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::publish::Publisher;

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
}

/// Seconds. A wake takes a tenth of a second on a quiet machine and seconds after a crash.
const WAKE_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let computes = IntGaugeVec::new(Opts::new("selkie_control_computes", "Computes by state."), &["state"])?;
        let ready_cu = Gauge::new("selkie_control_ready_cu", "CU of the computes that are ready.")?;
        let watchers = IntGauge::new("selkie_control_watchers", "Gateways that watch.")?;
        let wakes = IntCounterVec::new(
            Opts::new(
                "selkie_control_wakes_total",
                "Answers to callers that wanted a compute ready, by outcome.",
            ),
            &["outcome"],
        )?;
        let wake_phases = HistogramVec::new(
            HistogramOpts::new(
                "selkie_control_wake_phase_seconds",
                "From the beginning of a wake until its turn came (queued), mariadbd was executed, it was ready.",
            )
            .buckets(WAKE_BUCKETS.to_vec()),
            &["phase"],
        )?;
        let rest_requests = IntCounterVec::new(
            Opts::new(
                "selkie_control_rest_requests_total",
                "REST requests by route and status.",
            ),
            &["method", "route", "status"],
        )?;
        registry.register(Box::new(computes.clone()))?;
        registry.register(Box::new(ready_cu.clone()))?;
        registry.register(Box::new(watchers.clone()))?;
        registry.register(Box::new(wakes.clone()))?;
        registry.register(Box::new(wake_phases.clone()))?;
        registry.register(Box::new(rest_requests.clone()))?;
        let inner = Inner {
            registry,
            computes,
            ready_cu,
            watchers,
            wakes,
            wake_phases,
            rest_requests,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One caller got its answer.
    pub(crate) fn wake(&self, outcome: &str) {
        self.inner.wakes.with_label_values(&[outcome]).inc();
    }

    /// One compute became ready.
    pub(crate) fn wake_phases(&self, phases: WakePhases) {
        for (phase, ms) in [
            ("queued", phases.queued_ms),
            ("executed", phases.executed_ms),
            ("ready", phases.ready_ms),
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
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.inner.registry.gather(), &mut text)?;
        Ok(text)
    }
}
