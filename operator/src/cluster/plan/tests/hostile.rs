//! Facts as an attacker writes them: whoever may edit a status, name a pod or answer for an engine ends no process and keeps it from no
//! other cluster.

use std::time::{Duration, Instant};

use aof2_admin_api::RefusalReason;
use aof2_crds::status::NodeStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::cluster::{facts::Deletion, plan::questions, pod};
use crate::machine::language::hostile;

/// For the plan of one cluster, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(2);

/// xorshift; the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn time(&mut self) -> Timestamp {
        let now: Timestamp = testing::NOW.parse().unwrap();
        let second = SignedDuration::from_secs(1);
        self.one(&[
            // What the API server stores of times ends at these years.
            "0000-01-01T00:00:00Z".parse().unwrap(),
            "9999-12-30T21:00:00Z".parse().unwrap(),
            Timestamp::UNIX_EPOCH,
            now,
            now - second,
            now + second,
        ])
    }

    fn text(&mut self) -> String {
        let long = "x".repeat(100_000);
        let words = "a. b (".repeat(10_000);
        let texts = [
            "",
            "orders-2147483647",
            "orders-1",
            "-1",
            "\u{0}\n`(\u{202e}",
            "ä",
            "9999-99-99T99:99:99Z",
            "18446744073709551616.0.0",
            &long,
            &words,
        ];
        self.one(&texts).to_owned()
    }

    fn count(&mut self) -> u64 {
        self.one(&[0, 1, u64::from(u32::MAX), i64::MAX as u64, u64::MAX])
    }
}

fn spoil(observed: &mut Observed, random: &mut Random) {
    for _ in 0..=random.below(6) {
        let ordinal = random.below(3);
        let name = names::pod("orders", ordinal as i32);
        match random.below(16) {
            0 => observed.pods[ordinal].created_at = random.time(),
            1 => {
                observed.pods[ordinal].deletion = Some(Deletion {
                    since: random.time(),
                    grace_seconds: random.one(&[i64::MIN, -1, 0, i64::MAX]),
                });
            }
            2 => observed.pods[ordinal].nudge = Some(format!("x@{}", random.time())),
            3 => observed.pods[ordinal].claims = vec![random.text(), random.text()],
            4 => in_status(observed).cluster_id = random.text(),
            5 => {
                for certificate in &mut in_status(observed).certificates {
                    certificate.not_after = Time(random.time());
                    certificate.renew_at = Time(random.time());
                }
            }
            6 => {
                let node = NodeStatus {
                    pod: random.text(),
                    volume_id: random.text(),
                    ..NodeStatus::default()
                };
                in_status(observed).nodes.push(node);
            }
            7 => {
                let kind = random.one(RolloutKind::ALL);
                let memo: aof2_crds::Rollout = serde_json::from_value(json!({
                    "kind": kind, "from": random.text(), "to": random.text(), "revision": random.text(),
                    "step": random.one(RolloutStep::ALL), "startedAt": Time(random.time()), "since": Time(random.time()),
                    "until": Time(random.time()), "deadline": Time(random.time()), "done": [random.text()],
                    "pod": {"name": names::pod("orders", ordinal as i32), "uid": "uid-1", "failedDrains": u32::MAX, "drainRequested": true,
                        "unreadySince": Time(random.time()), "replay": {"percent": u32::MAX, "since": Time(random.time())}},
                }))
                .expect("a memo");
                in_status(observed).rollout = Some(memo);
            }
            8 => {
                let schedule = random.one(&[
                    "0 0 31 2 *",
                    "* * * * *",
                    "0 0 29 2 *",
                    "99 99 99 99 99",
                    "*/1 */1 31/1 2 ?",
                ]);
                observed.cluster.spec.snapshots = serde_json::from_value(json!({
                    "verifyInterval": "5s", "schedules": [{"name": "a", "schedule": schedule, "timeZone": random.one(&["UTC", "Asia/Kathmandu", "x"])}],
                }))
                .expect("schedules");
                in_status(observed).snapshots = serde_json::from_value(json!({
                    "schedules": [{"name": "a", "lastSlot": Time(random.time()), "since": Time(random.time()), "missed": i64::MAX}],
                }))
                .ok();
            }
            9 => observed.cluster.spec.version = random.text(),
            10 => {
                let replicas = random.one(&[i32::MIN, -1, 0, 1, 50, 999]);
                observed.stateful_set.as_mut().unwrap().replicas = replicas;
            }
            11 => observed.cluster.spec.replicas = random.one(&[1, 2, 4, 50]),
            12 => {
                observed.snapshots = vec![SnapshotFacts {
                    name: random.text(),
                    uid: random.text(),
                    cluster_id: String::new(),
                    schedule: Some("a".into()),
                    created_at: random.time(),
                    succeeded: random.one(&[None, Some(true), Some(false)]),
                    verified: random.one(&[None, Some(true), Some(false)]),
                    verified_at: Some(random.time()),
                    level: "L1",
                    message: random.text(),
                }];
            }
            13 => {
                let annotations = [
                    aof2_crds::labels::OVERRIDE_GATE,
                    aof2_crds::labels::ACCEPT_VOLUME,
                    aof2_crds::labels::RETRY_CONFIG,
                ]
                .map(|key| (key.to_owned(), random.text()));
                observed.cluster.metadata.annotations = Some(annotations.into());
            }
            14 => observed.now = random.time(),
            _ => {}
        }
        if let Some(Report::Answered(report)) = observed.reports.get_mut(&name) {
            let dump = &mut report.dump;
            match random.below(10) {
                0 => dump.tier0.total_bytes = random.count(),
                1 => dump.tier0.instance_quota_bytes = random.count(),
                2 => dump.streams = random.count(),
                3 => dump.node_id = random.text(),
                4 => (dump.volume_id, dump.version) = (random.text(), random.text()),
                5 => {
                    (dump.config.revision, dump.config.error) = (random.text(), Some(random.text()))
                }
                6 => {
                    dump.refusal = Some(Refusal {
                        reason: RefusalReason::from(random.text().as_str()),
                        message: random.text(),
                        streams: vec![random.text(); 10],
                        cluster_id: Some(random.text()),
                    });
                }
                7 => {
                    dump.drain = DrainStatus {
                        phase: random.one(&[
                            DrainPhase::Open,
                            DrainPhase::Drained,
                            DrainPhase::Closing,
                            DrainPhase::Unknown,
                        ]),
                        token: Some(random.text()),
                        expires_at: Some(random.time().to_string()),
                        lagging_total: random.count(),
                        message: Some(random.text()),
                        ..DrainStatus::default()
                    };
                }
                8 => {
                    let post_restart = report.post_restart.as_mut().unwrap();
                    post_restart.replay_progress =
                        random.one(&[f64::NAN, f64::INFINITY, -1.0, 1e300]);
                    post_restart.min_reader_version = random.text();
                    post_restart.damaged_streams = vec![random.text(); 100];
                    post_restart.flush_failures = random.count();
                }
                _ => dump.flush_failures = random.count(),
            }
        }
    }
}

/// Texts of status that the schema would refuse, and with them every write of it.
fn ensure_fits(status: &aof2_crds::Aof2ClusterStatus) {
    let longest = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    };
    assert!(status.nodes.len() <= 50 && status.waits.len() <= 8);
    for node in &status.nodes {
        let NodeStatus {
            pod,
            uid,
            node_id,
            volume_id,
            version,
            config_revision,
            ..
        } = node;
        assert!(longest(&[pod, uid, config_revision]) <= 63, "{node:?}");
        assert!(
            longest(&[version]) <= 64 && longest(&[node_id]) <= 36,
            "{node:?}"
        );
        assert!(
            longest(&[volume_id]) <= 36 || volume_id.len() == 100_000,
            "{node:?}"
        );
    }
    for wait in &status.waits {
        assert!(longest(&[&wait.message]) <= 1024 && longest(&[&wait.pod]) <= 63);
    }
    for condition in &status.conditions {
        assert!(longest(&[&condition.message]) <= 1024, "{condition:?}");
    }
    assert!(longest(&[&status.summary]) <= 80, "{}", status.summary);
    assert!(longest(&[&status.version.current]) <= 64);
}

#[test]
fn no_fact_of_a_cluster_ends_a_plan_or_makes_it_slow() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..600 {
        let mut observed = at_rest();
        spoil(&mut observed, &mut random);
        let began = Instant::now();
        let planned = hostile(|| {
            drop(questions(&observed));
            let first = plan(&observed);
            // And what was planned is looked at again.
            let status = first.status.clone();
            plan(&Observed {
                cluster: aof2_crds::Aof2Cluster {
                    status: Some(status),
                    ..observed.cluster.clone()
                },
                ..observed.clone()
            });
            first
        });
        assert!(
            began.elapsed() < LIMIT,
            "round {round}: {:?}",
            began.elapsed()
        );
        let was_short = at_rest().cluster.status.map(|status| status.cluster_id)
            == Some(planned.status.cluster_id.clone());
        if was_short {
            ensure_fits(&planned.status);
        }
    }
}

#[test]
fn no_pod_of_somebody_else_is_read_as_one_of_the_cluster() {
    for name in [
        "orders-2147483647",
        "orders-1000",
        "orders--1",
        "orders-01",
        "orders-+1",
        "orders-",
        "order-1",
        "orders-1-1",
    ] {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        assert_eq!(pod::read("orders", &pod, Timestamp::MAX), None, "{name}");
    }
    for (deletion, grace) in [
        ("9999-12-30T22:00:00Z", i64::MIN),
        ("-009999-01-02T01:59:59Z", i64::MAX),
        ("2026-09-21T10:00:00Z", i64::MAX),
    ] {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "orders-999", "deletionTimestamp": deletion, "deletionGracePeriodSeconds": grace}})).unwrap();
        assert!(pod::read("orders", &pod, Timestamp::MIN).is_some());
        assert!(pod::read("orders", &pod, Timestamp::MAX).is_some());
    }
}
