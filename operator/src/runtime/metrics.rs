//! What the operator counts, in OpenMetrics text.
//!
//! `aof2_cluster_*` describes a cluster and goes with it; `aof2_operator_*` describes this process.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct ClusterLabels {
    pub namespace: String,
    pub cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct GateLabels {
    pub namespace: String,
    pub cluster: String,
    pub gate: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WaitLabels {
    pub gate: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    pub result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabels {
    pub kind: String,
    pub result: String,
}

pub struct Metrics {
    registry: Registry,
    pub reconciles: Family<ResultLabels, Counter>,
    pub reconcile_seconds: Histogram,
    pub writes: Family<WriteLabels, Counter>,
    pub waits: Family<WaitLabels, Counter>,
    pub leader: Gauge,
    pub epoch: Gauge,
    held_since: Family<GateLabels, Gauge<i64, AtomicI64>>,
    ready_replicas: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    certificate_expiry: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    /// Series that exist, since a family cannot be listed.
    held: Mutex<BTreeSet<GateLabels>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let reconciles = Family::default();
        registry.register(
            "aof2_operator_reconciles",
            "Reconciles of clusters, by result",
            reconciles.clone(),
        );
        let reconcile_seconds = Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]);
        registry.register_with_unit(
            "aof2_operator_reconcile_duration",
            "Duration of a reconcile",
            Unit::Seconds,
            reconcile_seconds.clone(),
        );
        let writes = Family::default();
        registry.register(
            "aof2_operator_writes",
            "Objects brought to the API server, by kind and result; unchanged ones were not sent",
            writes.clone(),
        );
        let waits = Family::default();
        registry.register(
            "aof2_operator_waits",
            "Waits that began, by gate and reason",
            waits.clone(),
        );
        let leader = Gauge::default();
        registry.register(
            "aof2_operator_leader",
            "1 while this process holds the Lease",
            leader.clone(),
        );
        let epoch = Gauge::<i64, AtomicI64>::default();
        registry.register(
            "aof2_operator_epoch",
            "Operator epoch of the acquisition, 0 without one",
            epoch.clone(),
        );
        let held_since = Family::default();
        registry.register(
            "aof2_cluster_held_since_timestamp_seconds",
            "When the gate began to hold the cluster; no series while it passes",
            held_since.clone(),
        );
        let ready_replicas = Family::default();
        registry.register(
            "aof2_cluster_ready_replicas",
            "Pods that serve",
            ready_replicas.clone(),
        );
        let certificate_expiry = Family::default();
        registry.register(
            "aof2_cluster_certificate_expiration_timestamp_seconds",
            "When the engines' certificate ends",
            certificate_expiry.clone(),
        );
        Self {
            registry,
            reconciles,
            reconcile_seconds,
            writes,
            waits,
            leader,
            epoch,
            held_since,
            ready_replicas,
            certificate_expiry,
            held: Mutex::default(),
        }
    }
}

impl Metrics {
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing into a String does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    pub fn reconciled(&self, result: &str, took: Duration) {
        self.reconciles
            .get_or_create(&ResultLabels {
                result: result.to_owned(),
            })
            .inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    pub fn wrote(&self, kind: &str, result: &str) {
        self.writes
            .get_or_create(&WriteLabels {
                kind: kind.to_owned(),
                result: result.to_owned(),
            })
            .inc();
    }

    pub fn waits(&self, gate: &str, reason: &str) -> u64 {
        let counter: Counter<u64, AtomicU64> = self
            .waits
            .get_or_create(&WaitLabels {
                gate: gate.to_owned(),
                reason: reason.to_owned(),
            })
            .clone();
        counter.inc()
    }

    /// Replaces the cluster's gauges: `held` are the gates that hold, and since when in unix seconds.
    pub fn show(
        &self,
        cluster: &ClusterLabels,
        ready_replicas: i32,
        held: &[(&str, i64)],
        certificate_expiry: Option<i64>,
    ) {
        self.ready_replicas
            .get_or_create(cluster)
            .set(i64::from(ready_replicas));
        if let Some(expiry) = certificate_expiry {
            self.certificate_expiry.get_or_create(cluster).set(expiry);
        }
        let now: BTreeSet<GateLabels> = held
            .iter()
            .map(|(gate, since)| {
                let labels = GateLabels {
                    namespace: cluster.namespace.clone(),
                    cluster: cluster.cluster.clone(),
                    gate: (*gate).to_owned(),
                };
                self.held_since.get_or_create(&labels).set(*since);
                labels
            })
            .collect();
        let mut known = self.held.lock();
        known.retain(|labels| {
            let gone = labels.namespace == cluster.namespace
                && labels.cluster == cluster.cluster
                && !now.contains(labels);
            if gone {
                self.held_since.remove(labels);
            }
            !gone
        });
        known.extend(now);
    }

    /// The cluster was deleted: so are its series.
    pub fn forget(&self, cluster: &ClusterLabels) {
        self.ready_replicas.remove(cluster);
        self.certificate_expiry.remove(cluster);
        self.held.lock().retain(|labels| {
            let gone = labels.namespace == cluster.namespace && labels.cluster == cluster.cluster;
            if gone {
                self.held_since.remove(labels);
            }
            !gone
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> ClusterLabels {
        ClusterLabels {
            namespace: "shop".into(),
            cluster: "orders".into(),
        }
    }

    #[test]
    fn a_gate_has_a_series_only_while_it_holds() {
        let metrics = Metrics::default();
        metrics.show(&orders(), 3, &[("Uploaded", 1_795_400_003)], None);
        let series = r#"aof2_cluster_held_since_timestamp_seconds{namespace="shop",cluster="orders",gate="Uploaded"} 1795400003"#;
        assert!(metrics.encode().contains(series), "{}", metrics.encode());
        metrics.show(&orders(), 3, &[], None);
        assert!(
            !metrics.encode().contains("gate=\"Uploaded\""),
            "{}",
            metrics.encode()
        );
    }

    #[test]
    fn a_deleted_cluster_leaves_no_series() {
        let metrics = Metrics::default();
        metrics.show(&orders(), 3, &[("Soaked", 1)], Some(2));
        metrics.forget(&orders());
        assert!(!metrics.encode().contains("orders"), "{}", metrics.encode());
    }
}
