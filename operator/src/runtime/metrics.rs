//! What the operator counts, in OpenMetrics text.
//!
//! `aof2_cluster_*` describes a cluster and goes with it; `aof2_operator_*` describes this process.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Of a condition.
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];
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

/// `schedule` is empty for snapshots that were made by hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct ScheduleLabels {
    pub namespace: String,
    pub cluster: String,
    pub schedule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct ConditionLabels {
    pub namespace: String,
    pub cluster: String,
    pub r#type: String,
    pub status: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct InfoLabels {
    pub namespace: String,
    pub cluster: String,
    pub cluster_id: String,
    /// Of the engines that run.
    pub version: String,
    pub target_version: String,
    pub config: String,
    pub target_config: String,
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
    /// Every cluster was listed; for `/readyz`.
    pub is_synced: AtomicBool,
    pub epoch: Gauge,
    held_since: Family<GateLabels, Gauge<i64, AtomicI64>>,
    ready_replicas: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    certificate_expiry: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    snapshot_taken: Family<ScheduleLabels, Gauge<i64, AtomicI64>>,
    snapshot_read_back: Family<ScheduleLabels, Gauge<i64, AtomicI64>>,
    missed_slots: Family<ScheduleLabels, Gauge<i64, AtomicI64>>,
    conditions: Family<ConditionLabels, Gauge<i64, AtomicI64>>,
    info: Family<InfoLabels, Gauge<i64, AtomicI64>>,
    /// Series that exist, since a family cannot be listed.
    held: Mutex<BTreeSet<GateLabels>>,
    scheduled: Mutex<BTreeSet<ScheduleLabels>>,
    stated: Mutex<BTreeSet<ConditionLabels>>,
    informed: Mutex<BTreeSet<InfoLabels>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let reconciles = Family::default();
        registry.register(
            "aof2_operator_reconciles",
            "Reconciles of clusters since the start of the process, by result",
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
            "Objects applied since the start of the process, by kind and result; unchanged objects are not sent",
            writes.clone(),
        );
        let waits = Family::default();
        registry.register(
            "aof2_operator_waits",
            "Waits that began since the start of the process, by gate and reason",
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
            "Operator epoch of the held Lease, 0 without a Lease",
            epoch.clone(),
        );
        let held_since = Family::default();
        registry.register(
            "aof2_cluster_held_since_timestamp_seconds",
            "Unix time since when the gate holds the cluster; no series while the gate passes",
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
            "Unix time at which the engines' certificate expires",
            certificate_expiry.clone(),
        );
        let snapshot_taken = Family::default();
        registry.register(
            "aof2_cluster_snapshot_last_success_timestamp_seconds",
            "Unix time at which the newest successful snapshot was complete",
            snapshot_taken.clone(),
        );
        let snapshot_read_back = Family::default();
        registry.register(
            "aof2_cluster_snapshot_last_verification_timestamp_seconds",
            "Unix time of the last successful verification of a snapshot against the bucket",
            snapshot_read_back.clone(),
        );
        let missed_slots = Family::default();
        registry.register(
            "aof2_cluster_snapshot_missed_slots",
            "Missed slots of the schedule since its creation",
            missed_slots.clone(),
        );
        let conditions = Family::default();
        registry.register(
            "aof2_cluster_condition",
            "1 for the status that the condition has, 0 for the others; no series without the condition",
            conditions.clone(),
        );
        let info = Family::default();
        registry.register(
            "aof2_cluster_info",
            "Identity, versions and configs of the cluster, always 1",
            info.clone(),
        );
        Self {
            registry,
            reconciles,
            reconcile_seconds,
            writes,
            waits,
            leader,
            is_synced: AtomicBool::new(false),
            epoch,
            held_since,
            ready_replicas,
            certificate_expiry,
            snapshot_taken,
            snapshot_read_back,
            missed_slots,
            conditions,
            info,
            held: Mutex::default(),
            scheduled: Mutex::default(),
            stated: Mutex::default(),
            informed: Mutex::default(),
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

    /// Of a snapshot that was complete at `taken_at`, in unix seconds; an older one changes nothing.
    pub fn snapshot_taken(&self, schedule: &ScheduleLabels, taken_at: i64) {
        self.scheduled.lock().insert(schedule.clone());
        let gauge = self.snapshot_taken.get_or_create(schedule);
        gauge.set(gauge.get().max(taken_at));
    }

    /// Every object of a snapshot was read back at `at`, in unix seconds.
    pub fn snapshot_read_back(&self, schedule: &ScheduleLabels, at: i64) {
        self.scheduled.lock().insert(schedule.clone());
        let gauge = self.snapshot_read_back.get_or_create(schedule);
        gauge.set(gauge.get().max(at));
    }

    /// Replaces what is known of the cluster's schedules: name and missed slots of each.
    pub fn show_schedules(&self, cluster: &ClusterLabels, schedules: &[(&str, i64)]) {
        let mut known = self.scheduled.lock();
        for (schedule, missed) in schedules {
            let labels = ScheduleLabels {
                namespace: cluster.namespace.clone(),
                cluster: cluster.cluster.clone(),
                schedule: (*schedule).to_owned(),
            };
            self.missed_slots.get_or_create(&labels).set(*missed);
            known.insert(labels);
        }
        known.retain(|labels| {
            let gone = is_of(labels, cluster)
                && !labels.schedule.is_empty()
                && schedules.iter().all(|(name, _)| *name != labels.schedule);
            if gone {
                self.remove_schedule(labels);
            }
            !gone
        });
    }

    /// Replaces the conditions of the cluster: type and status of each.
    pub fn show_conditions(&self, cluster: &ClusterLabels, conditions: &[(&str, &str)]) {
        let mut known = self.stated.lock();
        for (kind, now) in conditions {
            for status in STATUSES {
                let labels = ConditionLabels {
                    namespace: cluster.namespace.clone(),
                    cluster: cluster.cluster.clone(),
                    r#type: (*kind).to_owned(),
                    status: status.to_owned(),
                };
                let gauge = self.conditions.get_or_create(&labels);
                gauge.set(i64::from(status == *now));
                drop(gauge);
                known.insert(labels);
            }
        }
        known.retain(|labels| {
            let is_gone = labels.namespace == cluster.namespace
                && labels.cluster == cluster.cluster
                && conditions.iter().all(|(kind, _)| *kind != labels.r#type);
            if is_gone {
                self.conditions.remove(labels);
            }
            !is_gone
        });
    }

    pub fn show_info(&self, info: InfoLabels) {
        let cluster = ClusterLabels {
            namespace: info.namespace.clone(),
            cluster: info.cluster.clone(),
        };
        if !self.informed.lock().contains(&info) {
            self.forget_info(&cluster);
            self.info.get_or_create(&info).set(1);
            self.informed.lock().insert(info);
        }
    }

    fn forget_info(&self, cluster: &ClusterLabels) {
        self.informed.lock().retain(|labels| {
            let is_gone =
                labels.namespace == cluster.namespace && labels.cluster == cluster.cluster;
            if is_gone {
                self.info.remove(labels);
            }
            !is_gone
        });
    }

    fn remove_schedule(&self, labels: &ScheduleLabels) {
        self.snapshot_taken.remove(labels);
        self.snapshot_read_back.remove(labels);
        self.missed_slots.remove(labels);
    }

    /// The cluster was deleted: so are its series.
    pub fn forget(&self, cluster: &ClusterLabels) {
        self.ready_replicas.remove(cluster);
        self.certificate_expiry.remove(cluster);
        self.show_conditions(cluster, &[]);
        self.forget_info(cluster);
        self.scheduled.lock().retain(|labels| {
            let gone = is_of(labels, cluster);
            if gone {
                self.remove_schedule(labels);
            }
            !gone
        });
        self.held.lock().retain(|labels| {
            let gone = labels.namespace == cluster.namespace && labels.cluster == cluster.cluster;
            if gone {
                self.held_since.remove(labels);
            }
            !gone
        });
    }
}

fn is_of(labels: &ScheduleLabels, cluster: &ClusterLabels) -> bool {
    labels.namespace == cluster.namespace && labels.cluster == cluster.cluster
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
    fn a_schedule_that_was_removed_leaves_no_series_and_one_by_hand_stays() {
        let metrics = Metrics::default();
        let of = |schedule: &str| ScheduleLabels {
            namespace: "shop".into(),
            cluster: "orders".into(),
            schedule: schedule.into(),
        };
        metrics.show_schedules(&orders(), &[("catalog", 2)]);
        metrics.snapshot_taken(&of("catalog"), 20);
        metrics.snapshot_taken(&of("catalog"), 10);
        metrics.snapshot_read_back(&of(""), 30);
        let series = [
            r#"missed_slots{namespace="shop",cluster="orders",schedule="catalog"} 2"#,
            r#"last_success_timestamp_seconds{namespace="shop",cluster="orders",schedule="catalog"} 20"#,
            r#"last_verification_timestamp_seconds{namespace="shop",cluster="orders",schedule=""} 30"#,
        ];
        let text = metrics.encode();
        for series in series {
            assert!(text.contains(series), "{series}\n{text}");
        }
        metrics.show_schedules(&orders(), &[]);
        let text = metrics.encode();
        assert!(!text.contains("catalog"), "{text}");
        assert!(text.contains(series[2]), "{text}");
    }

    #[test]
    fn help_texts_are_phrases_to_which_the_exporter_adds_the_full_stop() {
        let metrics = Metrics::default();
        metrics.reconciled("ok", std::time::Duration::ZERO);
        metrics.wrote("Pod", "evicted");
        metrics.waits("Soaked", "Soaking");
        metrics.show(&orders(), 3, &[("Soaked", 1)], Some(2));
        metrics.show_schedules(&orders(), &[("catalog", 2)]);
        let of = ScheduleLabels {
            namespace: "shop".into(),
            cluster: "orders".into(),
            schedule: "catalog".into(),
        };
        metrics.snapshot_taken(&of, 1);
        metrics.snapshot_read_back(&of, 2);
        metrics.show_conditions(&orders(), &[("Ready", "True")]);
        metrics.show_info(InfoLabels::default());
        let text = metrics.encode();
        let helps: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("# HELP"))
            .collect();
        assert_eq!(helps.len(), 14, "{text}");
        for help in helps {
            assert!(help.ends_with('.') && !help.contains(".."), "{help}");
            let words = help.splitn(4, ' ').nth(3).unwrap_or_default();
            assert!(!words.starts_with(char::is_lowercase), "{help}");
        }
        // Counters count since the process started, and say so.
        for counter in ["reconciles", "writes", "waits"] {
            let help = format!("# HELP aof2_operator_{counter} ");
            let line = text.lines().find(|line| line.starts_with(&help)).unwrap();
            assert!(line.contains("since the start of the process"), "{line}");
        }
    }

    #[test]
    fn a_condition_has_one_status_and_goes_with_its_series() {
        let metrics = Metrics::default();
        let series = |kind: &str, status: &str| {
            format!(
                r#"aof2_cluster_condition{{namespace="shop",cluster="orders",type="{kind}",status="{status}"}}"#
            )
        };
        metrics.show_conditions(&orders(), &[("Healthy", "True"), ("Stalled", "True")]);
        metrics.show_conditions(&orders(), &[("Healthy", "False")]);
        let text = metrics.encode();
        for (status, value) in [("True", 0), ("False", 1), ("Unknown", 0)] {
            let line = format!("{} {value}", series("Healthy", status));
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(!text.contains("Stalled"), "{text}");
    }

    #[test]
    fn information_about_a_cluster_is_one_series() {
        let metrics = Metrics::default();
        for version in ["0.1.0", "0.1.1"] {
            metrics.show_info(InfoLabels {
                namespace: "shop".into(),
                cluster: "orders".into(),
                version: version.into(),
                ..InfoLabels::default()
            });
        }
        let text = metrics.encode();
        assert_eq!(text.matches("aof2_cluster_info{").count(), 1, "{text}");
        assert!(text.contains(r#"version="0.1.1""#), "{text}");
    }

    #[test]
    fn a_deleted_cluster_leaves_no_series() {
        let metrics = Metrics::default();
        metrics.show_conditions(&orders(), &[("Ready", "True")]);
        metrics.show_info(InfoLabels {
            namespace: "shop".into(),
            cluster: "orders".into(),
            ..InfoLabels::default()
        });
        metrics.show_schedules(&orders(), &[("catalog", 2)]);
        metrics.show(&orders(), 3, &[("Soaked", 1)], Some(2));
        metrics.forget(&orders());
        assert!(!metrics.encode().contains("orders"), "{}", metrics.encode());
    }
}
