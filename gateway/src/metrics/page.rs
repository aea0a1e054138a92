//! The page that Prometheus reads: what was counted, and what is so at this moment.

use control_api::process;

use crate::context::Gateway;

/// Everything, in Prometheus' text format.
pub(crate) fn page(gateway: &Gateway) -> String {
    let metrics = &gateway.metrics;
    let mut text = metrics.text();
    for (name, kind, help, value) in [
        (
            "selkie_gateway_max_clients",
            "gauge",
            "Clients that may be connected (gateway.max_clients)",
            f64::from(gateway.seats.max()),
        ),
        (
            "selkie_gateway_control_connected",
            "gauge",
            "1 while control tells this gateway of every change, else 0",
            f64::from(u8::from(metrics.link.connected())),
        ),
        (
            "selkie_gateway_control_silence_seconds",
            "gauge",
            "Since control last said anything; without anything new and without clients that is normal",
            metrics.link.silence(),
        ),
        (
            "selkie_gateway_reports_failed_total",
            "counter",
            "Reports of databases in use that control has not taken, because it was away or refused them",
            metrics.link.reports_failed() as f64,
        ),
    ] {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    let name = "selkie_gateway_certificate_not_after_seconds";
    text.push_str(&format!(
        "# HELP {name} When the first certificate of a file ends, in seconds since 1970, by the setting that names the file\n\
         # TYPE {name} gauge\n"
    ));
    let of_control = metrics.control_certificates.get();
    for (setting, ends) in gateway.tls.ends().iter().chain(of_control.into_iter().flatten()) {
        text.push_str(&format!("{name}{{setting=\"{setting}\"}} {ends}\n"));
    }
    let version = env!("CARGO_PKG_VERSION");
    text.push_str(&format!(
        "# HELP selkie_gateway_build_info Which version this is\n# TYPE selkie_gateway_build_info gauge\n\
         selkie_gateway_build_info{{version=\"{version}\"}} 1\n"
    ));
    text + &process::text() + &gateway.meter.text()
}
