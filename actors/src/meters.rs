//! The meters: counters that everybody bumps in place. The first five have the names of the module
//! document; the others begin with `cni_` too. Labels never hold a container's name.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};
use quantum_config::cni::Code;

/// From a tenth of a millisecond, where an undisturbed attachment is, to the patience of runtimes.
const BUCKETS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Handles of all metrics; clones count the same.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    operations: IntCounterVec,
    errors: IntCounterVec,
    duration: HistogramVec,
    /// Endpoint records found in memory.
    pub(crate) cache_hits: IntCounter,
    /// Endpoint records read from the store.
    pub(crate) cache_misses: IntCounter,
    /// How long each actor's mailbox took to answer, in seconds.
    pub(crate) lag: GaugeVec,
    /// Jobs that wait for each lane.
    pub(crate) lanes: IntGaugeVec,
    /// For how long the job of each lane has run, in seconds.
    pub(crate) busy: GaugeVec,
    /// Leased addresses of each network.
    pub(crate) held: GaugeVec,
    /// Free addresses of each network's scarcest set.
    pub(crate) free: GaugeVec,
    /// Ports of the host that lead to containers.
    pub(crate) published: IntGauge,
    /// What others took away or changed, and was put right.
    pub(crate) repairs: IntCounterVec,
    /// Packets that policy denied, or would have denied, by direction and mode.
    pub(crate) denied: IntCounterVec,
    /// Records of those that were lost.
    pub(crate) denied_lost: IntCounter,
    /// Attachments whose interface is gone and whose DEL has not come.
    pub(crate) orphans: IntGauge,
    /// Those of them that were released.
    pub(crate) orphans_released: IntCounter,
    /// Connections that the kernel tracks, the most that it can, and addresses that hold too many.
    pub(crate) connections: IntGauge,
    pub(crate) connections_max: IntGauge,
    pub(crate) crowded: IntGauge,
    /// 1 while the store can be written.
    pub(crate) writable: IntGauge,
    /// 1 while `/readyz` says so.
    pub(crate) ready: Gauge,
}

impl Meters {
    /// Makes the metrics and registers them.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let meters = Self {
            operations: IntCounterVec::new(
                Opts::new("cni_operations_total", "CNI operations by type."),
                &["command"],
            )?,
            errors: IntCounterVec::new(
                Opts::new(
                    "cni_operation_errors_total",
                    "CNI operations that failed, by type and code.",
                ),
                &["command", "code"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "cni_operation_duration_seconds",
                    "CNI operation durations, from the request read to the answer ready.",
                )
                .buckets(BUCKETS.to_vec()),
                &["command"],
            )?,
            cache_hits: IntCounter::new(
                "cni_cache_hits_total",
                "Endpoint records found in memory.",
            )?,
            cache_misses: IntCounter::new(
                "cni_cache_misses_total",
                "Endpoint records that had to be read from the store.",
            )?,
            lag: GaugeVec::new(
                Opts::new("cni_actor_lag_seconds", "How long an actor's mailbox took to answer."),
                &["actor"],
            )?,
            lanes: IntGaugeVec::new(
                Opts::new("cni_lane_jobs", "Jobs that wait for a lane to the kernel or the store."),
                &["lane"],
            )?,
            busy: GaugeVec::new(
                Opts::new("cni_lane_busy_seconds", "For how long a lane's job has run; 0 if none."),
                &["lane"],
            )?,
            held: GaugeVec::new(
                Opts::new("cni_pool_addresses_held", "Leased addresses."),
                &["network"],
            )?,
            free: GaugeVec::new(
                Opts::new("cni_pool_addresses_free", "Free addresses of the scarcest range set."),
                &["network"],
            )?,
            published: IntGauge::new(
                "cni_published_ports",
                "Ports of the host that lead to containers.",
            )?,
            repairs: IntCounterVec::new(
                Opts::new("cni_repairs_total", "What others broke and was repaired."),
                &["what"],
            )?,
            denied: IntCounterVec::new(
                Opts::new(
                    "cni_denied_flows_total",
                    "Recorded packets that policy denied, or would have denied (mode audit).",
                ),
                &["direction", "mode"],
            )?,
            denied_lost: IntCounter::new(
                "cni_denied_records_lost_total",
                "Records of denied packets that were lost or could not be read.",
            )?,
            orphans: IntGauge::new(
                "cni_orphans",
                "Attachments whose interface is gone and whose DEL has not come.",
            )?,
            orphans_released: IntCounter::new(
                "cni_orphans_released_total",
                "Attachments that were released because their interface was gone for too long.",
            )?,
            connections: IntGauge::new(
                "cni_connections",
                "Connections that the kernel tracks in the host's network namespace.",
            )?,
            connections_max: IntGauge::new(
                "cni_connections_max",
                "The most connections that the kernel can track.",
            )?,
            crowded: IntGauge::new(
                "cni_crowded_addresses",
                "Addresses of containers that hold too many connections and begin no new ones.",
            )?,
            writable: IntGauge::new("cni_store_writable", "1 while the store can be written.")?,
            ready: Gauge::new("cni_ready", "1 while /readyz says so.")?,
        };
        registry.register(Box::new(meters.operations.clone()))?;
        registry.register(Box::new(meters.errors.clone()))?;
        registry.register(Box::new(meters.duration.clone()))?;
        registry.register(Box::new(meters.cache_hits.clone()))?;
        registry.register(Box::new(meters.cache_misses.clone()))?;
        registry.register(Box::new(meters.lag.clone()))?;
        registry.register(Box::new(meters.lanes.clone()))?;
        registry.register(Box::new(meters.busy.clone()))?;
        registry.register(Box::new(meters.held.clone()))?;
        registry.register(Box::new(meters.free.clone()))?;
        registry.register(Box::new(meters.published.clone()))?;
        registry.register(Box::new(meters.repairs.clone()))?;
        registry.register(Box::new(meters.denied.clone()))?;
        registry.register(Box::new(meters.denied_lost.clone()))?;
        registry.register(Box::new(meters.orphans.clone()))?;
        registry.register(Box::new(meters.orphans_released.clone()))?;
        registry.register(Box::new(meters.connections.clone()))?;
        registry.register(Box::new(meters.connections_max.clone()))?;
        registry.register(Box::new(meters.crowded.clone()))?;
        registry.register(Box::new(meters.writable.clone()))?;
        registry.register(Box::new(meters.ready.clone()))?;
        for what in ["rules", "address", "link", "forwarding"] {
            meters.repairs.with_label_values(&[what]);
        }
        for direction in ["ingress", "egress"] {
            for mode in ["enforce", "audit"] {
                meters.denied.with_label_values(&[direction, mode]);
            }
        }
        // Shown from the first scrape on, so that a rate over them is never undefined: each verb,
        // with the errors that an operator will first set an alarm on.
        for (command, code) in [
            ("ADD", Code::InvalidNetworkConfig),
            ("ADD", Code::TryAgainLater),
            ("ADD", Code::Kernel),
            ("DEL", Code::TryAgainLater),
            ("CHECK", Code::CheckFailed),
        ] {
            meters.operations.with_label_values(&[command]);
            meters.duration.with_label_values(&[command]);
            meters.errors.with_label_values(&[command, &code.number().to_string()]);
        }
        Ok(meters)
    }

    /// Counts an operation. Commands that do not exist are counted as one, so that nobody can fill
    /// our memory with labels.
    pub(crate) fn operation(&self, command: &str, took: Duration, failed: Option<Code>) {
        let known = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];
        let command = if known.contains(&command) { command } else { "unknown" };
        self.operations.with_label_values(&[command]).inc();
        self.duration.with_label_values(&[command]).observe(took.as_secs_f64());
        if let Some(code) = failed {
            self.errors.with_label_values(&[command, &code.number().to_string()]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn the_module_documents_names_are_there_from_the_start() {
        let registry = Registry::new();
        let meters = Meters::new(&registry).expect("registered");
        meters.operation("ADD", Duration::from_millis(2), Some(Code::InvalidNetworkConfig));
        meters.operation("no such verb", Duration::ZERO, None);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        for line in [
            "cni_operations_total{command=\"ADD\"} 1",
            "cni_operations_total{command=\"DEL\"} 0",
            "cni_operations_total{command=\"unknown\"} 1",
            "cni_operation_errors_total{code=\"7\",command=\"ADD\"} 1",
            "cni_operation_duration_seconds_count{command=\"ADD\"} 1",
            "cni_cache_hits_total 0",
            "cni_cache_misses_total 0",
            "cni_denied_flows_total{direction=\"egress\",mode=\"audit\"} 0",
            "cni_denied_flows_total{direction=\"ingress\",mode=\"enforce\"} 0",
            "cni_denied_records_lost_total 0",
            "cni_orphans_released_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
