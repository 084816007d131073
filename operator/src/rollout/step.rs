//! The types of the machine, its entrance, and the choice of the next pod.

use aof2_crds::Duration;
use aof2_crds::status::{HistoryEntry, RolloutOutcome};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Facts, PodFacts, Revision};
use super::gates::{self, View};
use super::memo::{Memo, MovingPod, UpgradeKind, UpgradeStep};
use super::{drain, order, preflight, removal, retarget, returning};
use crate::machine::{
    self, counted, elapsed,
    gate::{self, Verdict},
};

/// What one look comes to.
pub type Step = machine::Step<Memo, Action>;

/// What the operator is to do. Each may be repeated: it changes nothing when it was done already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Apply the StatefulSet with this template.
    WriteTemplate { revision: Revision },
    /// `POST /aof2/lifecycle/drain`.
    StartDrain {
        pod: String,
        ttl: Duration,
        upload_timeout: Duration,
        drain_timeout: Duration,
    },
    /// `POST /aof2/lifecycle/resume`.
    Resume { pod: String },
    /// With both as preconditions, after a live read that still shows them.
    RemovePod {
        pod: String,
        uid: String,
        resource_version: String,
        by: RemoveBy,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveBy {
    /// It serves: budgets of other owners are asked.
    Eviction,
    /// It does not serve, and a budget could refuse for ever.
    Delete,
}

/// The next step of a rollout, or its beginning. See the invariants of this module.
pub fn step(memo: Option<Memo>, facts: &Facts, now: Timestamp) -> Step {
    let Some(memo) = memo else {
        return start(facts, now);
    };
    if memo.revision != facts.wanted.template && retarget::is_due(&memo, facts, now) {
        return retarget::take(memo, facts, now);
    }
    match memo.step {
        UpgradeStep::Planned => planned(memo, facts, now),
        UpgradeStep::Preflight => preflight::preflight(memo, facts, now),
        UpgradeStep::Uploading | UpgradeStep::Draining => drain::drain(memo, facts, now),
        UpgradeStep::Replacing => removal::replacing(memo, facts, now),
        UpgradeStep::Recovering => returning::recovering(memo, facts, now),
        UpgradeStep::Soaking => returning::soaking(memo, facts, now),
    }
}

fn start(facts: &Facts, now: Timestamp) -> Step {
    let Facts {
        wanted,
        written,
        pods,
        ..
    } = facts;
    let stray = pods
        .iter()
        .filter_map(|pod| pod.instance.as_ref())
        .find(|instance| !instance.is_on(&wanted.template));
    if stray.is_none() && facts.is_written(&wanted.template) {
        return Step::idle();
    }
    let before = if facts.is_written(&wanted.template) {
        stray.map_or(written, |stray| &stray.revision)
    } else {
        written
    };
    Step::go_on(new_rollout(facts, before, now))
}

/// The memo of a rollout from `before` to what is wanted.
pub(super) fn new_rollout(facts: &Facts, before: &Revision, now: Timestamp) -> Memo {
    let wanted = &facts.wanted;
    let moves_version = before.version != wanted.version
        || facts
            .pods
            .iter()
            .filter_map(|pod| pod.instance.as_ref())
            .any(|pod| pod.revision.version != wanted.version);
    let (kind, from, to) = if moves_version {
        (UpgradeKind::Version, &before.version, &wanted.version)
    } else {
        (UpgradeKind::Template, &before.template, &wanted.template)
    };
    Memo {
        kind,
        from: from.clone(),
        to: to.clone(),
        revision: wanted.template.clone(),
        step: UpgradeStep::Planned,
        started_at: Time(now),
        since: Time(now),
        until: None,
        done: order::done_at_start(&wanted.template, facts),
        pod: None,
    }
}

fn planned(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    match order::next_pod(&memo, facts) {
        Some(pod) => {
            let uid = pod
                .instance
                .as_ref()
                .map_or_else(String::new, |instance| instance.uid.clone());
            memo.pod = Some(MovingPod {
                name: pod.name.clone(),
                uid,
                ..MovingPod::default()
            });
            go_to(memo, UpgradeStep::Preflight, now)
        }
        None if facts.is_written(&memo.revision) => completed(memo, facts, now),
        // Going back before any pod moved: only the template has to.
        None => Step {
            actions: vec![Action::WriteTemplate {
                revision: facts.wanted.clone(),
            }],
            ..Step::go_on(memo)
        },
    }
}

fn completed(memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    let entry = HistoryEntry {
        at: Time(now),
        kind: memo.kind.stored(),
        from: memo.from,
        to: memo.to,
        outcome: RolloutOutcome::Completed,
        message: format!(
            "{} in {}",
            counted(facts.pods.len() as u64, "pod"),
            elapsed(memo.started_at.0, now)
        ),
    };
    Step {
        finished: vec![entry],
        ..Step::ended()
    }
}

/// Another step, entered now.
pub(super) fn go_to(mut memo: Memo, step: UpgradeStep, now: Timestamp) -> Step {
    memo.step = step;
    memo.since = Time(now);
    memo.until = None;
    Step::go_on(memo)
}

/// Back to the choice of a pod: the current one is not what was remembered any more.
pub(super) fn choose_again(mut memo: Memo, now: Timestamp) -> Step {
    memo.pod = None;
    go_to(memo, UpgradeStep::Planned, now)
}

/// The current pod in memo and facts; `None` when it is no longer part of the StatefulSet or was never chosen.
pub(super) fn current<'m, 'f>(
    memo: &'m Memo,
    facts: &'f Facts,
) -> Option<(&'m MovingPod, &'f PodFacts)> {
    let memo_pod = memo.pod.as_ref()?;
    Some((memo_pod, facts.pod(&memo_pod.name)?))
}

pub(super) fn check(
    gates: &[gates::PodGate],
    memo: &Memo,
    facts: &Facts,
    now: Timestamp,
) -> Verdict {
    match current(memo, facts) {
        Some((memo_pod, pod)) => gate::check(
            gates,
            &View {
                facts,
                memo,
                memo_pod,
                pod,
                now,
            },
            &facts.overrides,
            now,
        ),
        None => Verdict::default(),
    }
}
