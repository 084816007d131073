//! Which pod is next: one that came onto the target out of turn, then those that do not serve, since replacing them takes nothing
//! away, then the highest ordinal.

use super::facts::{Facts, PodFacts};
use super::memo::Memo;

/// `None`: every pod is done.
pub(super) fn next_pod<'a>(memo: &Memo, facts: &'a Facts) -> Option<&'a PodFacts> {
    facts
        .pods
        .iter()
        .filter(|pod| !is_done(memo, pod))
        .max_by_key(|pod| (comes_on_target(memo, facts, pod), !pod.is_up(), pod.ordinal))
}

/// On the target, and either soaked there or there since before the target was set.
fn is_done(memo: &Memo, pod: &PodFacts) -> bool {
    pod.instance.as_ref().is_some_and(|instance| {
        instance.is_on(&memo.revision) && !instance.terminating && memo.done.contains(&instance.uid)
    })
}

/// It is on the target or its successor will be, without this rollout's doing: nothing else moves until it has soaked.
fn comes_on_target(memo: &Memo, facts: &Facts, pod: &PodFacts) -> bool {
    match &pod.instance {
        Some(instance) if !instance.terminating => instance.is_on(&memo.revision),
        Some(_) | None => facts.is_written(&memo.revision),
    }
}

/// Another pod than the current one came, or will come, on the target and has not soaked: it is to be the current one.
pub(super) fn is_overtaken(memo: &Memo, facts: &Facts) -> bool {
    let current = memo.pod.as_ref().map(|pod| pod.name.as_str());
    let is_on_its_way = facts
        .pods
        .iter()
        .any(|pod| Some(pod.name.as_str()) == current && comes_on_target(memo, facts, pod));
    // Of two that come out of turn neither takes the other's place: the choice would go on for ever.
    !is_on_its_way
        && facts.pods.iter().any(|pod| {
            Some(pod.name.as_str()) != current
                && !is_done(memo, pod)
                && comes_on_target(memo, facts, pod)
        })
}

/// Uids of the pods that need nothing when the target is set: they were on it before.
pub(super) fn done_at_start(template: &str, facts: &Facts) -> Vec<String> {
    facts
        .pods
        .iter()
        .filter_map(|pod| pod.instance.as_ref())
        .filter(|instance| instance.is_on(template) && !instance.terminating)
        .map(|instance| instance.uid.clone())
        .collect()
}
