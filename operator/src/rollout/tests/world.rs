//! A small world: pods, engines, a kubelet, a StatefulSet controller and a bucket, in memory and without a clock. It knows nothing of
//! the machine but its actions, and checks the safety invariants on each of them.

use aof2_admin_api::{DrainPhase, DrainStatus};
use aof2_admin_api::{DrainReason, LaggingStream};
use aof2_crds::status::HistoryEntry;
use aof2_crds::{Duration, WaitReason};
use jiff::{SignedDuration, Timestamp};

use crate::machine::Override;
use crate::rollout::Memo;
use crate::rollout::{
    Action, EngineFacts, Facts, PodFacts, PodInstance, Policy, Recovery, Revision, Step,
    Tier2Trouble, Trouble, eviction_refused, step,
};

/// Of one tick, and of the operator's poll.
mod pods;

pub use pods::Pod;
use pods::{Engine, REPLAY_TICKS};

pub const TICK: SignedDuration = SignedDuration::from_secs(2);

/// How an engine of some version fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    ImagePull,
    CrashLoop,
    /// Runs and answers, and never gets ready.
    NeverReady,
    /// Replays with another manifest version.
    OtherManifest,
    /// Fails flushes while it soaks.
    FailsFlushes,
    /// Reports another version than its image's tag.
    WrongVersion,
}

#[derive(Clone, Debug)]
pub struct World {
    pub now: Timestamp,
    pub memo: Option<Memo>,
    pub history: Vec<HistoryEntry>,
    pub wanted: Revision,
    pub written: Revision,
    /// On which every pod was last, with no rollout under way (`cluster::plan::recreate`).
    kept: Revision,
    pub pods: Vec<Option<Pod>>,
    pub tier2_is_up: bool,
    pub overrides: Vec<Override>,
    pub behaviours: Vec<(&'static str, Behaviour)>,
    /// A budget of somebody else refuses every eviction.
    pub evictions_refused: bool,
    /// A wiped status does not know who soaked.
    pub memo_was_lost: bool,
    written_at: Timestamp,
    next_uid: u32,
    next_token: u32,
    policy: Policy,
}

pub fn revision(version: &str) -> Revision {
    Revision {
        version: version.to_owned(),
        template: format!("t-{version}"),
    }
}

pub fn start_of_time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a valid timestamp")
}

impl World {
    /// A healthy cluster on version 0.1.0.
    pub fn new(replicas: u32) -> Self {
        let mut world = Self {
            now: start_of_time(),
            memo: None,
            history: Vec::new(),
            wanted: revision("0.1.0"),
            written: revision("0.1.0"),
            kept: revision("0.1.0"),
            pods: vec![None; replicas as usize],
            tier2_is_up: true,
            overrides: Vec::new(),
            behaviours: Vec::new(),
            evictions_refused: false,
            memo_was_lost: false,
            written_at: start_of_time(),
            next_uid: 0,
            next_token: 0,
            policy: Policy {
                upload_timeout: Duration::from_secs(20),
                drain_timeout: Duration::from_secs(10),
                soak: Duration::from_secs(10),
                replay_stall_timeout: Duration::from_secs(60),
            },
        };
        for _ in 0..10 {
            world.tick();
        }
        assert!(
            world
                .pods
                .iter()
                .all(|pod| pod.as_ref().is_some_and(|pod| pod.ready))
        );
        world
    }

    pub fn behaviour(&self, version: &str) -> Behaviour {
        self.behaviours
            .iter()
            .find(|(name, _)| *name == version)
            .map_or(Behaviour::Good, |(_, behaviour)| *behaviour)
    }

    pub fn has_converged(&self) -> bool {
        self.memo.is_none()
            && self.written == self.wanted
            && self.pods.iter().all(|pod| {
                pod.as_ref().is_some_and(|pod| {
                    pod.revision == self.wanted && pod.ready && pod.terminating_ticks.is_none()
                })
            })
    }

    pub fn serving(&self) -> usize {
        self.pods
            .iter()
            .filter(|pod| {
                pod.as_ref()
                    .is_some_and(|pod| pod.ready && pod.terminating_ticks.is_none())
            })
            .count()
    }

    pub fn observe(&self) -> Facts {
        Facts {
            wanted: self.wanted.clone(),
            written: self.written.clone(),
            template_refused: None,
            policy: self.policy.clone(),
            overrides: self.overrides.clone(),
            pods: (0u32..)
                .zip(&self.pods)
                .map(|(ordinal, pod)| PodFacts {
                    name: pod_name(ordinal as usize),
                    ordinal,
                    not_created: None,
                    instance: pod
                        .as_ref()
                        .map(|pod| self.observe_pod(&pod_name(ordinal as usize), pod)),
                })
                .collect(),
        }
    }

    fn observe_pod(&self, name: &str, pod: &Pod) -> PodInstance {
        let runs = pod.runs(self.behaviour(&pod.revision.version));
        let trouble = match self.behaviour(&pod.revision.version) {
            Behaviour::ImagePull => Some((
                WaitReason::ImagePull,
                "cannot pull aof2-engine:0.1.1 (not found)",
            )),
            Behaviour::CrashLoop if pod.engine.restarts > 0 => {
                Some((WaitReason::CrashLoop, "crashes with exit code 2"))
            }
            _ => None,
        };
        PodInstance {
            uid: pod.uid.clone(),
            resource_version: pod.resource_version.to_string(),
            revision: pod.revision.clone(),
            terminating: pod.terminating_ticks.is_some(),
            on_lost_node: false,
            ready: pod.ready,
            engine_runs: runs,
            trouble: trouble.map(|(reason, message)| Trouble {
                reason,
                message: format!("{name} {message}"),
            }),
            eviction_refused: pod.eviction_refused.clone(),
            eviction_would_fail: None,
            volume_at_risk: None,
            engine: (runs && pod.engine.reachable).then(|| self.observe_engine(pod)),
        }
    }

    fn observe_engine(&self, pod: &Pod) -> EngineFacts {
        let engine = &pod.engine;
        let behaviour = self.behaviour(&pod.revision.version);
        let is_behind = engine.acked > engine.sealed_uploaded;
        EngineFacts {
            version: if behaviour == Behaviour::WrongVersion {
                "9.9.9".to_owned()
            } else {
                pod.revision.version.clone()
            },
            process_start: engine.process_start.to_string(),
            ready: engine.is_ready(),
            refusal: None,
            drain: DrainStatus {
                phase: engine.phase,
                token: engine.token.as_ref().map(|(token, _)| token.clone()),
                expires_at: engine
                    .token
                    .as_ref()
                    .map(|(_, expires_at)| expires_at.to_string()),
                lagging: is_behind
                    .then(|| LaggingStream {
                        stream: "a".to_owned(),
                        acked: engine.acked,
                        sealed_uploaded: engine.sealed_uploaded,
                    })
                    .into_iter()
                    .collect(),
                lagging_total: u64::from(is_behind),
                reason: engine.reason.clone(),
                message: None,
            },
            tier2_trouble: (!self.tier2_is_up).then(|| Tier2Trouble {
                unreachable: true,
                message: "connection refused".to_owned(),
            }),
            recovery: Some(Recovery {
                replay_progress: f64::from(REPLAY_TICKS - engine.replaying_ticks)
                    / f64::from(REPLAY_TICKS),
                replay_version: if behaviour == Behaviour::OtherManifest {
                    2
                } else {
                    1
                },
                min_reader_version: "0.1.0".to_owned(),
                flush_failures: engine.flush_failures,
                caught_up: engine.is_ready(),
                damaged_streams: Vec::new(),
            }),
        }
    }

    /// One look of the operator, without faults.
    pub fn reconcile(&mut self) -> Step {
        let step = step(self.memo.clone(), &self.observe(), self.now);
        for action in &step.actions {
            self.apply(action);
        }
        self.record(&step);
        step
    }

    pub fn record(&mut self, step: &Step) {
        self.memo.clone_from(&step.memo);
        self.history.extend(step.finished.iter().cloned());
        if self.has_converged() {
            self.kept.clone_from(&self.written);
        }
    }

    pub fn apply(&mut self, action: &Action) {
        match action {
            Action::WriteTemplate { revision } => self.write(revision),
            Action::StartDrain {
                pod,
                upload_timeout,
                drain_timeout,
                ..
            } => {
                let bounds = [upload_timeout, drain_timeout]
                    .map(|bound| (bound.as_std().as_secs() / 2) as u32);
                let Some(engine) = self.answering_engine(pod) else {
                    return;
                };
                if engine.phase == DrainPhase::Open && engine.is_ready() {
                    engine.enter(DrainPhase::Uploading, None);
                    engine.bounds_ticks = bounds;
                }
            }
            Action::Resume { pod } => {
                if let Some(engine) = self.answering_engine(pod) {
                    engine.enter(DrainPhase::Open, Some(DrainReason::Resumed));
                }
            }
            Action::RemovePod {
                pod,
                uid,
                resource_version,
                ..
            } => self.remove(pod, uid, resource_version, action),
        }
    }

    fn write(&mut self, revision: &Revision) {
        if self.written != *revision {
            self.written = revision.clone();
            self.written_at = self.now;
        }
    }

    fn answering_engine(&mut self, name: &str) -> Option<&mut Engine> {
        let ordinal = ordinal(name);
        let behaviour = self.behaviour(&self.pods[ordinal].as_ref()?.revision.version);
        let pod = self.pods[ordinal].as_mut()?;
        (pod.runs(behaviour) && pod.engine.reachable).then_some(&mut pod.engine)
    }

    fn remove(&mut self, name: &str, uid: &str, resource_version: &str, action: &Action) {
        let ordinal = ordinal(name);
        let is_overridden = !self.overrides.is_empty();
        let Some(pod) = &self.pods[ordinal] else {
            return;
        };
        if pod.uid != uid || pod.resource_version.to_string() != resource_version {
            return;
        }
        if pod.ready && !is_overridden {
            assert!(
                pod.engine.holds_token(self.now),
                "{action:?} at {} without a valid drain token: {pod:?}",
                self.now
            );
            assert!(
                pod.engine.acked <= pod.engine.sealed_uploaded,
                "{action:?} loses records: {pod:?}"
            );
            let others_serve = self
                .pods
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != ordinal)
                .all(|(_, other)| {
                    other
                        .as_ref()
                        .is_some_and(|other| other.ready && other.terminating_ticks.is_none())
                });
            assert!(
                others_serve,
                "{action:?} at {} takes a second pod down: {:?}",
                self.now, self.pods
            );
        }
        self.assert_soaked(ordinal, action);
        let is_refused = self.evictions_refused && pod.ready;
        let Some(pod) = &mut self.pods[ordinal] else {
            return;
        };
        if is_refused {
            pod.eviction_refused = Some(eviction_refused(name, "a PodDisruptionBudget needs it"));
            return;
        }
        pod.terminate();
    }

    /// A serving pod goes only after those that came on the new revision have soaked.
    fn assert_soaked(&self, going: usize, action: &Action) {
        let is_serving = self.pods[going].as_ref().is_some_and(|pod| pod.ready);
        if !is_serving || self.memo_was_lost {
            return;
        }
        for pod in self.pods.iter().flatten() {
            let came_with_it = pod.revision == self.written && pod.created_at >= self.written_at;
            assert!(
                !came_with_it || pod.has_soaked,
                "{action:?} at {} before {pod:?} has soaked",
                self.now
            );
        }
    }

    /// What a person or the node does to a pod.
    pub fn delete_pod(&mut self, ordinal: usize) {
        if let Some(pod) = &mut self.pods[ordinal] {
            pod.terminate();
        }
    }

    /// A person deletes the StatefulSet, with its pods or without, and the operator recreates it.
    pub fn recreate(&mut self, with_pods: bool) {
        self.written.clone_from(&self.kept);
        self.written_at = self.now;
        if with_pods {
            self.pods.fill(None);
            // They come before anything is decided.
            self.tick();
        }
    }

    /// Pods on another revision than the one that every pod ran.
    pub fn moved(&self) -> usize {
        let pods = self.pods.iter().flatten();
        pods.filter(|pod| pod.revision != self.kept && !pod.has_soaked)
            .count()
    }

    pub fn crash_engine(&mut self, ordinal: usize) {
        let now = self.now;
        if let Some(pod) = &mut self.pods[ordinal] {
            pod.engine.restart(now);
            pod.set_ready(false, now);
        }
    }

    pub fn set_reachable(&mut self, ordinal: usize, reachable: bool) {
        if let Some(pod) = &mut self.pods[ordinal] {
            pod.engine.reachable = reachable;
        }
    }

    /// Time passes for everything but the operator.
    pub fn tick(&mut self) {
        self.now += TICK;
        for ordinal in 0..self.pods.len() {
            let Some(mut pod) = self.pods[ordinal].take() else {
                self.next_uid += 1;
                self.pods[ordinal] = Some(Pod::new(
                    format!("uid-{}", self.next_uid),
                    self.written.clone(),
                    self.now,
                ));
                continue;
            };
            match pod.terminating_ticks.as_mut() {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            self.tick_pod(&mut pod);
            self.pods[ordinal] = Some(pod);
        }
    }

    fn tick_pod(&mut self, pod: &mut Pod) {
        let behaviour = self.behaviour(&pod.revision.version);
        let is_terminating = pod.terminating_ticks.is_some();
        let engine = &mut pod.engine;
        if engine.starting_ticks > 0 {
            if behaviour != Behaviour::ImagePull {
                engine.starting_ticks -= 1;
            }
        } else if engine.replaying_ticks > 0 {
            match behaviour {
                Behaviour::CrashLoop => engine.restart(self.now),
                Behaviour::NeverReady => {}
                _ => engine.replaying_ticks -= 1,
            }
        } else {
            if matches!(engine.phase, DrainPhase::Open | DrainPhase::Uploading) && !is_terminating {
                engine.acked += 1;
            }
            if behaviour == Behaviour::FailsFlushes {
                engine.flush_failures += 1;
            }
            self.next_token += 1;
            engine.tick_drain(self.tier2_is_up, self.now, self.next_token, is_terminating);
        }
        let ready = pod.engine.is_ready() && !is_terminating;
        pod.set_ready(ready, self.now);
        pod.has_soaked |=
            ready && self.now.duration_since(pod.ready_since) >= self.policy.soak.as_signed();
    }
}

pub fn pod_name(ordinal: usize) -> String {
    format!("orders-{ordinal}")
}

fn ordinal(name: &str) -> usize {
    name.rsplit('-')
        .next()
        .and_then(|ordinal| ordinal.parse().ok())
        .expect("a pod of this world")
}
