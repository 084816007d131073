//! Facts and memos for the tables: a healthy cluster on 0.1.0 that is to go to 0.1.1, changed where a test says so.

use aof2_admin_api::{DrainPhase, DrainStatus};
use aof2_crds::{Duration, Gate};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{pod_name, revision, start_of_time};
use crate::machine::Override;
use crate::rollout::MovingPod;
use crate::rollout::{EngineFacts, Facts, PodFacts, PodInstance, Policy, Recovery};
use crate::rollout::{Memo, UpgradeKind, UpgradeStep};

pub fn at(seconds: i64) -> Timestamp {
    start_of_time() + SignedDuration::from_secs(seconds)
}

pub fn facts(replicas: u32) -> Facts {
    Facts {
        wanted: revision("0.1.1"),
        written: revision("0.1.1"),
        template_refused: None,
        policy: Policy {
            upload_timeout: Duration::from_mins(10),
            drain_timeout: Duration::from_secs(30),
            soak: Duration::from_secs(30),
            replay_stall_timeout: Duration::from_mins(15),
        },
        pods: (0..replicas).map(|ordinal| pod(ordinal, "0.1.0")).collect(),
        overrides: Vec::new(),
    }
}

pub fn pod(ordinal: u32, version: &str) -> PodFacts {
    PodFacts {
        name: pod_name(ordinal as usize),
        ordinal,
        not_created: None,
        instance: Some(PodInstance {
            uid: format!("uid-{ordinal}"),
            resource_version: "7".to_owned(),
            revision: revision(version),
            terminating: false,
            on_lost_node: false,
            ready: true,
            engine_runs: true,
            trouble: None,
            eviction_refused: None,
            eviction_would_fail: None,
            volume_at_risk: None,
            engine: Some(engine(version)),
        }),
    }
}

pub fn engine(version: &str) -> EngineFacts {
    EngineFacts {
        version: version.to_owned(),
        process_start: at(-600).to_string(),
        ready: true,
        refusal: None,
        drain: DrainStatus::default(),
        tier2_trouble: None,
        recovery: Some(Recovery {
            replay_progress: 1.0,
            replay_version: 1,
            min_reader_version: "0.1.0".to_owned(),
            flush_failures: 0,
            caught_up: true,
            damaged_streams: Vec::new(),
        }),
    }
}

pub fn drain(phase: DrainPhase) -> DrainStatus {
    DrainStatus {
        phase,
        ..DrainStatus::default()
    }
}

pub fn drained(expires_at: Timestamp) -> DrainStatus {
    DrainStatus {
        token: Some("token".to_owned()),
        expires_at: Some(expires_at.to_string()),
        ..drain(DrainPhase::Drained)
    }
}

/// A rollout to 0.1.1 whose current pod, the highest ordinal of three, entered this step at second 0.
pub fn memo(step: UpgradeStep) -> Memo {
    Memo {
        kind: UpgradeKind::Version,
        from: "0.1.0".to_owned(),
        to: "0.1.1".to_owned(),
        revision: revision("0.1.1").template,
        step,
        started_at: Time(at(0)),
        since: Time(at(0)),
        until: None,
        done: Vec::new(),
        pod: Some(MovingPod {
            name: pod_name(2),
            uid: "uid-2".to_owned(),
            ..MovingPod::default()
        }),
    }
}

pub fn overriding(gate: Gate) -> Vec<Override> {
    vec![Override {
        gate,
        until: at(3600),
    }]
}

pub trait FactsExt {
    fn instance(&mut self, ordinal: usize) -> &mut PodInstance;
    fn engine(&mut self, ordinal: usize) -> &mut EngineFacts;
    fn recovery(&mut self, ordinal: usize) -> &mut Recovery;
}

impl FactsExt for Facts {
    fn instance(&mut self, ordinal: usize) -> &mut PodInstance {
        self.pods[ordinal]
            .instance
            .as_mut()
            .expect("the pod exists")
    }

    fn engine(&mut self, ordinal: usize) -> &mut EngineFacts {
        self.instance(ordinal)
            .engine
            .as_mut()
            .expect("the engine answers")
    }

    fn recovery(&mut self, ordinal: usize) -> &mut Recovery {
        self.engine(ordinal)
            .recovery
            .as_mut()
            .expect("recovery is reported")
    }
}
