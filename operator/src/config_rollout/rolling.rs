//! The others are told: one at a time where engines restart, all at once where none does.

use aof2_crds::status::RolloutOutcome;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::converge::{Converge, converge, serves};
use super::facts::Facts;
use super::memo::Memo;
use super::step::{News, Step, entry, told};
use super::{gates, taking_back, watching};
use crate::machine::{counted, elapsed, later};

pub(super) fn rolling(mut memo: Memo, facts: &Facts, now: Timestamp) -> Step {
    // The canary is still watched; what is not known while the others restart is no reason to stop half way.
    if let gates::Verdict::Failed(failure) = gates::check(&mut memo, facts, now) {
        return taking_back::fail(memo, failure, facts, now);
    }
    let revision = memo.to.clone();
    let mut waits = Vec::new();
    let mut actions = Vec::new();
    let mut is_restarting = false;
    for pod in &facts.pods {
        if told(Some(&memo), &facts.in_force, &pod.name) != revision {
            continue;
        }
        // Without a canary nobody served before either.
        let crashed = || memo.canary.as_ref().and_then(|_| gates::crashed(pod));
        if let Some(failure) = watching::refused(pod, &revision).or_else(crashed) {
            return taking_back::fail(memo, failure, facts, now);
        }
        if let Converge::Waiting(wait, action) = converge(pod, &revision, facts) {
            waits.push(wait);
            if let Some(action) = action.filter(|_| !is_restarting) {
                is_restarting = true;
                actions.push(action);
            }
        }
    }
    if !waits.is_empty() {
        return Step {
            actions,
            waits,
            ..Step::stay(memo)
        };
    }
    let next = facts
        .pods
        .iter()
        .filter(|pod| told(Some(&memo), &facts.in_force, &pod.name) != revision)
        // One that does not serve first: those that do would wait for it to serve before they restart.
        .rev()
        .min_by_key(|pod| serves(pod));
    if let Some(next) = next {
        memo.done.push(next.name.clone());
        return Step::go_on(with_deadline(memo, facts, now));
    }
    let took = elapsed(memo.started_at.0, now);
    Step {
        finished: vec![entry(
            &memo,
            RolloutOutcome::Completed,
            format!("{} in {took}", counted(facts.pods.len() as u64, "pod")),
            now,
        )],
        news: News {
            completed: Some(revision),
            ..News::default()
        },
        ..Step::ended()
    }
}

/// Each pod has the whole deadline: how many there are decides nothing. Where nobody is judged there is none.
pub(super) fn with_deadline(mut memo: Memo, facts: &Facts, now: Timestamp) -> Memo {
    if memo.deadline.is_some() {
        let limit = facts.policy.progress_deadline.as_signed();
        memo.deadline = Some(Time(later(now, limit)));
    }
    memo
}
