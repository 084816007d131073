//! The machine against a small model of engines (told by files, loading and restarting in their own time), tables, and golden
//! transcripts.

mod figures;
mod not_serving;
mod retention_notice;
mod table;
mod takes;
mod transcript;
mod world;

use std::collections::BTreeMap;

use aof2_crds::Duration;
use aof2_crds::cluster::OnFailure;
use aof2_crds::status::{Announcement, KeyChange};
use jiff::{SignedDuration, Timestamp};

use crate::config_rollout::{
    Memo,
    retention::{self, Shortened},
};
use crate::machine::Override;

use super::{
    Action, EngineFacts, Facts, Figure, PodFacts, Policy, Rates, ReadRates, Step, Verdict, step,
    told,
};

const OLD: &str = "aaaaaaaa";
const NEW: &str = "bbbbbbbb";

fn start() -> Timestamp {
    "2026-09-21T10:00:00Z".parse().unwrap()
}

/// One engine and its pod.
#[derive(Clone, Debug)]
struct Engine {
    /// Its file on disk, as the kubelet brought it.
    file: String,
    /// What its process started with, for the keys that need a restart.
    started_with: String,
    process: u32,
    /// Looks until a process that starts serves.
    starting: u32,
    answers: bool,
    /// Refused appends a second while the new revision is in force.
    refuses: f64,
    crashes: bool,
    /// By the kubelet's word, though the engine serves.
    unready: bool,
}

/// A cluster whose operator remembers nothing but its memo.
struct World {
    now: Timestamp,
    in_force: String,
    candidate: Option<String>,
    needs_restart: bool,
    /// Looks that a restart takes.
    restart_looks: u32,
    deadline: Duration,
    errors: Vec<String>,
    on_failure: OnFailure,
    is_upgrading: bool,
    is_barred: bool,
    is_return: bool,
    /// Of the candidate.
    shortened: Vec<Shortened>,
    changes_retention: bool,
    announcements: Vec<Announcement>,
    notice: Duration,
    overrides: Vec<Override>,
    engines: Vec<Engine>,
    memo: Option<Memo>,
    /// Looks since when rates are known; counted again when the operator was killed.
    counted_for: u32,
    restarts: Vec<String>,
    ends: Vec<(String, String)>,
    rejected: Vec<String>,
}

/// Looks are that far apart.
const LOOK: SignedDuration = SignedDuration::from_secs(2);
/// Looks in a minute.
const MINUTE: u32 = 30;

impl World {
    fn new(pods: usize, needs_restart: bool) -> Self {
        let engine = Engine {
            file: OLD.into(),
            started_with: OLD.into(),
            process: 1,
            starting: 0,
            answers: true,
            refuses: 0.0,
            crashes: false,
            unready: false,
        };
        Self {
            now: start(),
            in_force: OLD.into(),
            candidate: Some(NEW.into()),
            needs_restart,
            restart_looks: 3,
            deadline: Duration::from_secs(3600),
            errors: Vec::new(),
            on_failure: OnFailure::Revert,
            is_upgrading: false,
            is_barred: false,
            is_return: false,
            shortened: Vec::new(),
            changes_retention: false,
            announcements: Vec::new(),
            notice: Duration::from_secs(600),
            overrides: Vec::new(),
            engines: vec![engine; pods],
            memo: None,
            counted_for: MINUTE,
            restarts: Vec::new(),
            ends: Vec::new(),
            rejected: Vec::new(),
        }
    }

    fn name(ordinal: usize) -> String {
        format!("orders-{ordinal}")
    }

    fn facts(&self) -> Facts {
        Facts {
            now: self.now,
            is_return: self.is_return,
            in_force: self.in_force.clone(),
            candidate: self.candidate.clone(),
            is_barred: self.is_barred,
            verdict: self
                .engines
                .iter()
                .rposition(|engine| engine.answers)
                .map(|ordinal| Verdict {
                    pod: Self::name(ordinal),
                    version: "0.1.0".into(),
                    errors: self.errors.clone(),
                    changes: vec![KeyChange {
                        key: "tier0.cluster_max_bytes".into(),
                        from: "1".into(),
                        to: "2".into(),
                        reload: if self.needs_restart { "Restart" } else { "Hot" }.into(),
                    }],
                    shortened: self.shortened.clone(),
                }),
            is_upgrading: self.is_upgrading,
            needs_restart: self.needs_restart,
            tier0_raise: None,
            announcements: self.announcements.clone(),
            changes_retention: self.changes_retention,
            policy: Policy {
                observation_window: Duration::from_secs(120),
                progress_deadline: self.deadline,
                on_failure: self.on_failure,
            },
            overrides: self.overrides.clone(),
            pods: (0..self.engines.len())
                .map(|ordinal| self.pod(ordinal))
                .collect(),
            evidence: "orders-evidence".into(),
        }
    }

    fn pod(&self, ordinal: usize) -> PodFacts {
        let engine = &self.engines[ordinal];
        let serves = engine.starting == 0 && !engine.crashes;
        let rate = if engine.file == NEW {
            engine.refuses
        } else {
            0.0
        };
        let rates = BTreeMap::from([("Admission".to_owned(), rate)]);
        PodFacts {
            volume_at_risk: None,
            name: Self::name(ordinal),
            uid: format!("uid-{ordinal}"),
            is_ready: serves && !engine.unready,
            crashes: engine
                .crashes
                .then(|| "aof2-engine of orders-2 crashes with exit code 2".to_owned()),
            engine: (serves && engine.answers).then(|| EngineFacts {
                revision: engine.file.clone(),
                error: None,
                error_revision: None,
                restart_pending: self.needs_restart && engine.started_with != engine.file,
                process_start: engine.process.to_string(),
                is_ready: true,
                is_caught_up: Some(true),
                flush_failures: 0,
                activation_queue_depth: Some(0),
                hydration_p99_ms: 0.0,
            }),
            rates: (serves && engine.answers && self.counted_for >= MINUTE).then(|| Rates {
                minute: rates.clone(),
                past: BTreeMap::from([("Admission".to_owned(), 0.0)]),
                kept_up: Figure::ALL.map(|figure| (figure, 0.0)).into(),
                mean: Figure::ALL.map(|figure| (figure, 0.0)).into(),
                reads: Some(ReadRates::default()),
                reads_before: Some(ReadRates::default()),
            }),
        }
    }

    /// One look, and what it does to the engines.
    fn reconcile(&mut self) -> Step {
        self.announcements = retention::effective(self.announcements.clone(), self.notice);
        let facts = self.facts();
        let result = step(self.memo.clone(), &facts, self.now);
        self.memo.clone_from(&result.memo);
        let announced = std::mem::take(&mut self.announcements);
        self.announcements = retention::after(announced, &result.news, &facts, self.notice);
        for entry in &result.finished {
            self.ends
                .push((entry.outcome.to_string(), entry.message.clone()));
        }
        if let Some(rejected) = &result.news.rejected {
            self.rejected
                .push(format!("{} {}", rejected.gate, rejected.observed));
            self.is_barred = true;
        }
        if let Some(completed) = &result.news.completed {
            self.in_force.clone_from(completed);
        }
        for ordinal in 0..self.engines.len() {
            let name = Self::name(ordinal);
            let revision = told(self.memo.as_ref(), &self.in_force, &name).to_owned();
            let asked = result
                .actions
                .iter()
                .any(|action| matches!(action, Action::Restart { pod, .. } if *pod == name));
            let engine = &mut self.engines[ordinal];
            if asked {
                engine.started_with.clone_from(&engine.file);
                engine.process += 1;
                engine.starting = self.restart_looks;
                self.restarts.push(name);
            } else if engine.starting > 0 {
                engine.starting -= 1;
            }
            engine.file = revision;
        }
        self.now = self.now.checked_add(LOOK).unwrap();
        self.counted_for += 1;
        result
    }

    fn down(&self) -> usize {
        self.engines
            .iter()
            .filter(|engine| engine.starting > 0)
            .count()
    }

    fn told_new(&self) -> Vec<usize> {
        (0..self.engines.len())
            .filter(|ordinal| self.engines[*ordinal].file == NEW)
            .collect()
    }

    /// Until nothing is left to do, at most for two hours of looks.
    fn run(&mut self, each: impl FnMut(&World, &Step)) {
        self.run_for(3600, each);
    }

    fn run_for(&mut self, looks: usize, mut each: impl FnMut(&World, &Step)) {
        for _ in 0..looks {
            let result = self.reconcile();
            each(self, &result);
            if self.memo.is_none() && !result.next.is_at_once() && self.down() == 0 {
                return;
            }
        }
        panic!("no end: {:?}", self.memo);
    }

    fn run_to(&mut self, step: super::ConfigStep) {
        self.run_until(|world| world.memo.as_ref().is_some_and(|memo| memo.step == step));
    }

    fn run_until(&mut self, is_so: impl Fn(&World) -> bool) {
        for _ in 0..3600 {
            if is_so(self) {
                return;
            }
            self.reconcile();
        }
        panic!("never: {:?}", self.memo);
    }
}
