//! Before a pod goes.

use aof2_crds::{Gate, WaitReason};

use super::{View, answering, lost_node, unreachable};
use crate::machine::{Wait, quoted};
use crate::rollout::facts::{PodFacts, PodInstance};
use crate::rollout::memo::UpgradeKind;
use crate::rollout::version::EngineVersion;

pub(in crate::rollout) fn template_accepted(view: &View<'_>) -> Result<(), Wait> {
    match &view.facts.template_refused {
        Some(message) => Err(Wait::new(
            Gate::SpecValid,
            WaitReason::InvalidPodTemplate,
            "",
            message.as_str(),
        )),
        None => Ok(()),
    }
}

/// The target can read the data of every pod, also of those that are not on it yet: they all will be.
pub(in crate::rollout) fn min_reader_version(view: &View<'_>) -> Result<(), Wait> {
    match view.memo.kind {
        UpgradeKind::Version => {}
        UpgradeKind::Template => return Ok(()),
    }
    let target = &view.facts.wanted.version;
    for pod in &view.facts.pods {
        let Some((instance, engine)) = answering(pod) else {
            continue;
        };
        let Some(min) = engine
            .recovery
            .as_ref()
            .and_then(|recovery| EngineVersion::parse(&recovery.min_reader_version))
        else {
            if instance.ready && engine.refusal.is_none() {
                let message = format!(
                    "{} does not report the lowest version that can read its data. Waiting for the report",
                    pod.name
                );
                return Err(Wait::new(
                    Gate::MinReaderVersion,
                    WaitReason::NotReported,
                    &pod.name,
                    message,
                ));
            }
            continue;
        };
        if EngineVersion::parse(target).is_none_or(|target| target < min) {
            let lowest = engine
                .recovery
                .as_ref()
                .map_or("", |recovery| &recovery.min_reader_version);
            let message = format!(
                "Version {target} cannot read the data of {}. Set spec.version to {lowest} or higher",
                pod.name
            );
            return Err(Wait::new(
                Gate::MinReaderVersion,
                WaitReason::DataTooNew,
                &pod.name,
                message,
            ));
        }
    }
    Ok(())
}

/// No pod is removed whose volume would be released, also none that does not serve: that volume alone guards what it acknowledged.
/// One that serves is removed only while this holds for every pod, so that no rollout stops half way.
pub(in crate::rollout) fn volume_stays(view: &View<'_>) -> Result<(), Wait> {
    let risk = |pod: &PodFacts| {
        let risk = pod.instance.as_ref()?.volume_at_risk.as_ref()?;
        Some(Wait::new(
            Gate::VolumeKept,
            risk.reason,
            &pod.name,
            risk.message.as_str(),
        ))
    };
    let own = risk(view.pod);
    let others = || {
        let serves = view.pod.is_up();
        serves
            .then(|| view.facts.pods.iter().find_map(risk))
            .flatten()
    };
    own.or_else(others).map_or(Ok(()), Err)
}

/// At most one pod is down: one that serves goes only while all others serve. Removing one that does not takes nothing away, and
/// neither does one whose application cannot come up, though its engine runs: were it to wait for the others, a template that is bad
/// for every pod could never be corrected.
pub(in crate::rollout) fn one_pod_down(view: &View<'_>) -> Result<(), Wait> {
    let may_serve = |pod: &PodInstance| pod.may_serve() && pod.trouble.is_none();
    let takes_one_away = view.pod.is_up() || view.pod.instance.as_ref().is_some_and(may_serve);
    if !takes_one_away {
        return Ok(());
    }
    match view
        .facts
        .pods
        .iter()
        .find(|pod| pod.name != view.pod.name && !pod.is_up())
    {
        Some(down) => {
            let (reason, message) = why_down(down);
            Err(Wait::new(Gate::OnePodDown, reason, &down.name, message))
        }
        None => Ok(()),
    }
}

fn why_down(pod: &PodFacts) -> (WaitReason, String) {
    let name = &pod.name;
    match &pod.instance {
        None => (
            WaitReason::PodMissing,
            format!("Waiting for the StatefulSet to create {name}"),
        ),
        Some(instance) if instance.on_lost_node => (WaitReason::PodOnLostNode, lost_node(name)),
        Some(instance) if instance.terminating => {
            (WaitReason::PodTerminating, format!("{name} is terminating"))
        }
        Some(PodInstance {
            trouble: Some(trouble),
            ..
        }) => (
            trouble.reason,
            format!(
                "{}. The rollout waits for this pod",
                quoted(&trouble.message)
            ),
        ),
        Some(_) => (
            WaitReason::PodNotReady,
            format!("Waiting for {name} to become ready"),
        ),
    }
}

/// Nothing moves while an engine that runs cannot be asked.
pub(in crate::rollout) fn engine_reachable(view: &View<'_>) -> Result<(), Wait> {
    let candidate = std::iter::once(view.pod)
        .filter(|pod| pod.instance.as_ref().is_some_and(|pod| pod.may_serve()));
    let others = view.facts.pods.iter().filter(|pod| pod.is_up());
    for pod in candidate.chain(others) {
        let Some(instance) = &pod.instance else {
            continue;
        };
        if instance.on_lost_node {
            return Err(Wait::new(
                Gate::EngineReachable,
                WaitReason::PodOnLostNode,
                &pod.name,
                lost_node(&pod.name),
            ));
        }
        if instance.engine.is_none() && !instance.terminating {
            return Err(unreachable(&pod.name));
        }
    }
    Ok(())
}
