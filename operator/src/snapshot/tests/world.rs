//! A cluster and its bucket in memory, with engines that take snapshots.

use std::collections::BTreeMap;

use aof2_admin_api::{
    SnapshotPhase, SnapshotReason, SnapshotReport, SnapshotVerdict, VerifyReason,
};
use aof2_crds::Aof2SnapshotStatus;
use aof2_crds::snapshot::{Level, SnapshotCondition as Kind};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::snapshot::conditions::condition;
use crate::snapshot::facts::{
    ClusterFacts, Earlier, Facts, IndexFacts, Origin, PodFacts, StreamFacts, Taken,
};
use crate::snapshot::plan::{Action, Done, IndexFailure, Step, Target, conclude, step};

pub fn start() -> Timestamp {
    "2026-09-21T10:00:00Z".parse().unwrap()
}

pub fn report(stream: &str, phase: SnapshotPhase) -> SnapshotReport {
    SnapshotReport {
        stream: stream.into(),
        snapshot_id: "4294967297".into(),
        request: "uid".into(),
        phase,
        heartbeat: "2026-09-21T10:00:01Z".into(),
        completed_at: Some("2026-09-21T10:00:05Z".into()),
        key: format!("prod/snapshots/{stream}/4294967297.json"),
        digest: "sha256:00".into(),
        bytes: 7,
        ..SnapshotReport::default()
    }
}

/// A stream and what its session reports.
pub type Session = (String, Option<SnapshotReport>);

/// Pods with streams; a session takes some looks.
pub struct World {
    pub pods: Vec<Result<Vec<Session>, String>>,
    /// Keeps sessions from ending, with what an engine says then.
    pub tier2_down: bool,
    pub lost: Vec<String>,
    pub lost_as: VerifyReason,
    /// That were asked for.
    pub levels: Vec<Level>,
    pub status: Aof2SnapshotStatus,
    pub facts: Facts,
    pub now: Timestamp,
    pub begun: usize,
    pub writes: usize,
    /// What the bucket answers when the list is to be written.
    pub refuses_index: Option<IndexFailure>,
    /// What the bucket holds of the list.
    pub index: Option<BTreeMap<String, Taken>>,
    pub largest: usize,
    /// What the bucket holds under the name of the snapshot.
    pub earlier: Earlier,
}

impl World {
    pub fn new(pods: usize, streams: usize) -> Self {
        let name = |pod: usize, stream: usize| format!("orders-{pod}-{stream}");
        Self {
            pods: (0..pods)
                .map(|pod| {
                    Ok((0..streams)
                        .map(|stream| (name(pod, stream), None))
                        .collect())
                })
                .collect(),
            tier2_down: false,
            lost: Vec::new(),
            lost_as: VerifyReason::ObjectMissing,
            levels: Vec::new(),
            status: Aof2SnapshotStatus::default(),
            facts: Facts {
                name: "first".into(),
                spec: serde_json::from_value(
                    json!({"clusterRef": {"name": "orders"}, "activeDeadline": "10m"}),
                )
                .unwrap(),
                created_at: start(),
                generation: 1,
                cluster: Some(ClusterFacts {
                    cluster_id: "c".into(),
                    has_tier2: true,
                    is_paused: false,
                    verify_interval: SignedDuration::from_hours(1),
                }),
                pods: Vec::new(),
                is_verification_due: true,
                index: None,
                earlier: None,
                origin: Origin::default(),
            },
            earlier: Earlier::Nothing,
            now: start(),
            begun: 0,
            writes: 0,
            refuses_index: None,
            index: None,
            largest: 0,
        }
    }

    pub fn reconcile(&mut self) -> Step {
        self.facts.pods = self
            .pods
            .iter()
            .enumerate()
            .map(|(ordinal, streams)| PodFacts {
                name: format!("orders-{ordinal}"),
                streams: streams.clone().map(|streams| {
                    streams
                        .into_iter()
                        .map(|(name, report)| StreamFacts { name, report })
                        .collect()
                }),
            })
            .collect();
        let before = self.status.clone();
        self.facts.index = condition(&before, Kind::Succeeded)
            .filter(|condition| condition.status == "True")
            .map(|_| match (&self.index, self.tier2_down) {
                (_, true) => IndexFacts::Unknown("the bucket does not answer".into()),
                (Some(index), false) => IndexFacts::Found(index.clone()),
                (None, false) => {
                    IndexFacts::Missing("prod/snapshots/_index/first.json is missing".into())
                }
            });
        self.facts.earlier = before.cluster_id.is_empty().then(|| match self.tier2_down {
            true => Earlier::Unknown("connection refused".into()),
            false => self.earlier.clone(),
        });
        let result = step(&self.status, &self.facts, self.now);
        let mut done = Done::default();
        // What was begun goes on by itself.
        for streams in self.pods.iter_mut().flatten() {
            for (_, report) in streams.iter_mut() {
                if let Some(report) = report.as_mut().filter(|_| !self.tier2_down) {
                    report.phase = SnapshotPhase::Done;
                    (report.reason, report.message) = (None, None);
                }
            }
        }
        for action in &result.actions {
            match action {
                Action::Begin { pod, stream } => {
                    self.begun += 1;
                    let ordinal: usize = pod.trim_start_matches("orders-").parse().unwrap();
                    let streams = self.pods[ordinal].as_mut().unwrap();
                    let entry = streams.iter_mut().find(|(name, _)| name == stream).unwrap();
                    let mut begun = report(stream, SnapshotPhase::Uploading);
                    if self.tier2_down {
                        begun.reason = Some(SnapshotReason::Tier2Unreachable);
                        begun.message = Some("connection refused".into());
                    }
                    entry.1 = Some(begun);
                }
                Action::PutIndex(index) => {
                    // Made again it has to have the same bytes.
                    let latest = match index.streams.is_empty() {
                        true => "",
                        false => "2026-09-21T10:00:05Z",
                    };
                    assert_eq!(index.completed_at, latest);
                    let taken = index.streams.iter().map(|(stream, report)| {
                        let taken = Taken {
                            snapshot_id: report.snapshot_id.clone(),
                            digest: report.digest.clone(),
                        };
                        (stream.clone(), taken)
                    });
                    if let Some(refusal) = self.refuses_index.clone() {
                        done.index = Some(Err(refusal));
                        continue;
                    }
                    self.index = Some(taken.collect());
                    done.index = Some(Ok("prod/snapshots/_index/first.json".into()));
                }
                Action::Verify(level, targets) => {
                    self.levels.push(*level);
                    let verdict = |stream: &str| SnapshotVerdict {
                        stream: stream.into(),
                        verified: !self.lost.iter().any(|lost| lost == stream),
                        reason: Some(self.lost_as.clone()),
                        message: Some(format!(
                            "prod/snapshots/{stream}/4294967297.json is missing"
                        )),
                        ..SnapshotVerdict::default()
                    };
                    let verdicts: BTreeMap<_, _> = targets
                        .iter()
                        .map(|Target { stream, .. }| {
                            let answer = match self.tier2_down {
                                true => Err("the bucket does not answer".to_owned()),
                                false => Ok(verdict(stream)),
                            };
                            (stream.clone(), answer)
                        })
                        .collect();
                    done.verdicts = Some(verdicts);
                }
            }
        }
        self.status = conclude(result.status.clone(), &self.facts, &done, self.now);
        self.writes += usize::from(self.status != before);
        self.largest = self.largest.max(self.status.streams.len());
        self.now = self.now.checked_add(SignedDuration::from_secs(2)).unwrap();
        result
    }

    pub fn run(&mut self) {
        for _ in 0..1000 {
            self.reconcile();
            if self.said(Kind::Succeeded).0 == "False"
                || matches!(self.said(Kind::Verified).0.as_str(), "True" | "False")
            {
                return;
            }
        }
        panic!("no end: {:?}", self.status);
    }

    pub fn said(&self, kind: Kind) -> (String, String, String) {
        condition(&self.status, kind).map_or_else(Default::default, |condition| {
            (
                condition.status.clone(),
                condition.reason.clone(),
                condition.message.clone(),
            )
        })
    }
}

pub fn ends_with(world: &World, kind: Kind, status: &str, reason: &str, words: &str) {
    let said = world.said(kind);
    assert_eq!(
        (said.0.as_str(), said.1.as_str()),
        (status, reason),
        "{said:?}"
    );
    assert!(said.2.contains(words), "{said:?}");
}
