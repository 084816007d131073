//! What has to hold before a pod goes and after it came back: ordered lists of pure functions. The first that fails is the wait.

use aof2_crds::{Gate, Rollout, RolloutKind, RolloutPod, WaitReason};
use jiff::{SignedDuration, Timestamp};

use super::facts::{EngineFacts, Facts, PodFacts, PodInstance, Recovery};
use super::version::EngineVersion;
use super::wait::Wait;

/// What a gate looks at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub facts: &'a Facts,
    pub memo: &'a Rollout,
    /// The current pod, as it was remembered and as it is.
    pub memo_pod: &'a RolloutPod,
    pub pod: &'a PodFacts,
    pub now: Timestamp,
}

pub(super) type PodGate = fn(&Look<'_>) -> Result<(), Wait>;

pub(super) const BEFORE: &[PodGate] = &[
    template_accepted,
    min_reader_version,
    one_pod_down,
    engine_reachable,
];

pub(super) const AFTER: &[PodGate] = &[
    pod_started,
    version_reported,
    replayed,
    ready,
    replay_version,
    caught_up,
    flush_failures,
];

/// A person may let these pass. The others would lose data or cannot work: a drain that Tier 2 does not allow, a target that cannot
/// read the volume.
const OVERRIDABLE: &[Gate] = &[
    Gate::OnePodDown,
    Gate::EngineReachable,
    Gate::ReplayVersion,
    Gate::CaughtUp,
    Gate::FlushFailures,
    Gate::Soaked,
];

/// The first gate that holds, and those before it that a person let pass.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub wait: Option<Wait>,
    pub overridden: Vec<Gate>,
}

pub(super) fn check(gates: &[PodGate], look: &Look<'_>) -> Verdict {
    let mut overridden = Vec::new();
    for gate in gates {
        if let Err(wait) = gate(look) {
            if !is_overridden(look.facts, wait.gate, look.now) {
                return Verdict {
                    wait: Some(wait),
                    overridden,
                };
            }
            overridden.push(wait.gate);
        }
    }
    Verdict {
        wait: None,
        overridden,
    }
}

pub(super) fn is_overridden(facts: &Facts, gate: Gate, now: Timestamp) -> bool {
    OVERRIDABLE.contains(&gate) && facts.is_overridden(gate, now)
}

fn template_accepted(look: &Look<'_>) -> Result<(), Wait> {
    match &look.facts.template_refused {
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
fn min_reader_version(look: &Look<'_>) -> Result<(), Wait> {
    match look.memo.kind {
        RolloutKind::Version => {}
        RolloutKind::Template | RolloutKind::Unknown => return Ok(()),
    }
    let target = &look.facts.wanted.version;
    for pod in &look.facts.pods {
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
                    "{} does not report the lowest version that can read its data",
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
                "version {target} cannot read the data of {}: the lowest that can is {lowest}; set spec.version to that or higher",
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

/// At most one pod is down: one that serves goes only while all others serve. Removing one that does not takes nothing away.
pub(super) fn one_pod_down(look: &Look<'_>) -> Result<(), Wait> {
    let takes_one_away = look.pod.is_up()
        || look
            .pod
            .instance
            .as_ref()
            .is_some_and(PodInstance::may_serve);
    if !takes_one_away {
        return Ok(());
    }
    match look
        .facts
        .pods
        .iter()
        .find(|pod| pod.name != look.pod.name && !pod.is_up())
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
        None => (WaitReason::PodMissing, format!("{name} does not exist yet")),
        Some(instance) if instance.on_lost_node => (WaitReason::PodOnLostNode, lost_node(name)),
        Some(instance) if instance.terminating => {
            (WaitReason::PodTerminating, format!("{name} is terminating"))
        }
        Some(PodInstance {
            trouble: Some(trouble),
            ..
        }) => (trouble.reason, format!("{name}: {}", trouble.message)),
        Some(_) => (WaitReason::PodNotReady, format!("{name} is not ready")),
    }
}

pub(super) fn lost_node(name: &str) -> String {
    format!(
        "the node of {name} does not report, so its engine may still run; when the node is surely off, delete the Node object or the pod with --force"
    )
}

/// Nothing moves while an engine that runs cannot be asked.
fn engine_reachable(look: &Look<'_>) -> Result<(), Wait> {
    let candidate = std::iter::once(look.pod)
        .filter(|pod| pod.instance.as_ref().is_some_and(|pod| pod.may_serve()));
    let others = look.facts.pods.iter().filter(|pod| pod.is_up());
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

pub(super) fn unreachable(name: &str) -> Wait {
    let message = format!(
        "the engine of {name} runs but does not answer on its admin port; look at its log and at network policies, or let the gate pass with annotation aof2.dev/override-gate: EngineReachable=<until>"
    );
    Wait::new(
        Gate::EngineReachable,
        WaitReason::EngineUnreachable,
        name,
        message,
    )
}

fn pod_started(look: &Look<'_>) -> Result<(), Wait> {
    let name = &look.pod.name;
    let hold = |reason, message: String| Err(Wait::new(Gate::PodStarted, reason, name, message));
    let Some(instance) = &look.pod.instance else {
        return hold(
            WaitReason::PodMissing,
            format!("waiting for the StatefulSet to create {name}"),
        );
    };
    if instance.on_lost_node {
        return hold(WaitReason::PodOnLostNode, lost_node(name));
    }
    if instance.terminating {
        return hold(WaitReason::PodTerminating, format!("{name} is terminating"));
    }
    if let Some(trouble) = instance.trouble.as_ref().filter(|_| !instance.ready) {
        return hold(
            trouble.reason,
            format!(
                "{name} does not come up: {}; the rollout stops here, set spec back or to a better target",
                trouble.message
            ),
        );
    }
    if instance.engine.is_some() {
        return Ok(());
    }
    if instance.ready {
        return Err(unreachable(name));
    }
    if look.now.duration_since(look.memo.since.0)
        >= look.facts.policy.replay_stall_timeout.as_signed()
    {
        return hold(
            WaitReason::ReplayStalled,
            format!(
                "the engine of {name} did not answer since {}",
                look.memo.since.0
            ),
        );
    }
    hold(WaitReason::Starting, format!("{name} starts"))
}

fn version_reported(look: &Look<'_>) -> Result<(), Wait> {
    let Some((instance, engine)) = answering(look.pod) else {
        return not_reported(look, Gate::VersionReported);
    };
    let target = &instance.revision.version;
    if engine.version == *target {
        return Ok(());
    }
    let message = format!(
        "{} runs version {} from an image tagged {target}; push the right image",
        look.pod.name, engine.version
    );
    Err(Wait::new(
        Gate::VersionReported,
        WaitReason::VersionMismatch,
        &look.pod.name,
        message,
    ))
}

fn replayed(look: &Look<'_>) -> Result<(), Wait> {
    let name = &look.pod.name;
    let Some((_, engine)) = answering(look.pod) else {
        return not_reported(look, Gate::Replayed);
    };
    if let Some(refusal) = &engine.refusal {
        let message = format!("the engine of {name} refuses its data: {refusal}");
        return Err(Wait::new(
            Gate::Replayed,
            WaitReason::EngineRefused,
            name,
            message,
        ));
    }
    if engine.ready {
        return Ok(());
    }
    let (percent, since) = look
        .memo_pod
        .replay
        .as_ref()
        .map_or((0, look.memo.since.0), |replay| {
            (replay.percent, replay.since.0)
        });
    if look.now.duration_since(since) >= look.facts.policy.replay_stall_timeout.as_signed() {
        let message = format!(
            "{name} replays its log and made no progress beyond {percent} percent since {since}; look at its log and its disk"
        );
        return Err(Wait::new(
            Gate::Replayed,
            WaitReason::ReplayStalled,
            name,
            message,
        ));
    }
    Err(Wait::new(
        Gate::Replayed,
        WaitReason::Replaying,
        name,
        format!("{name} replays its log, {percent} percent"),
    ))
}

fn ready(look: &Look<'_>) -> Result<(), Wait> {
    let name = &look.pod.name;
    if look.pod.is_up() {
        return Ok(());
    }
    let (reason, message) = match look
        .pod
        .instance
        .as_ref()
        .and_then(|instance| instance.trouble.as_ref())
    {
        Some(trouble) => (trouble.reason, format!("{name}: {}", trouble.message)),
        None if look.now.duration_since(look.memo.since.0) < SignedDuration::from_secs(60) => (
            WaitReason::Starting,
            format!("the engine of {name} serves, the pod is not ready yet"),
        ),
        None => (
            WaitReason::PodNotReady,
            format!(
                "the engine of {name} serves, and the pod is not ready; look at its other containers"
            ),
        ),
    };
    Err(Wait::new(Gate::Ready, reason, name, message))
}

/// Readers and writers of the manifest's schema do not mix: the new engine replays with the version that the others use. On the way
/// to a lower version it is what the others use that was wrong; there [`min_reader_version`] decides.
fn replay_version(look: &Look<'_>) -> Result<(), Wait> {
    match look.memo.kind {
        RolloutKind::Version if EngineVersion::parse(&look.memo.to) >= EngineVersion::parse(&look.memo.from) => {}
        RolloutKind::Version | RolloutKind::Template | RolloutKind::Unknown => return Ok(()),
    }
    let name = &look.pod.name;
    let Some(new) = recovery(look.pod) else {
        return not_reported(look, Gate::ReplayVersion);
    };
    let expected = look
        .facts
        .pods
        .iter()
        .filter(|pod| pod.name != *name)
        .filter(|pod| {
            pod.instance
                .as_ref()
                .is_some_and(|instance| !instance.is_on(&look.memo.revision))
        })
        .filter_map(recovery)
        .map(|recovery| recovery.replay_version)
        .next()
        .or(look.memo_pod.replay_version);
    match expected {
        Some(expected) if expected != new.replay_version => {
            let message = format!(
                "{name} replays with manifest version {}, the pods not yet upgraded with {expected}; set spec.version back",
                new.replay_version
            );
            Err(Wait::new(
                Gate::ReplayVersion,
                WaitReason::ReplayVersionMismatch,
                name,
                message,
            ))
        }
        Some(_) => Ok(()),
        // Nothing is left to compare with: a pod deleted by hand as the last one.
        None => Ok(()),
    }
}

fn caught_up(look: &Look<'_>) -> Result<(), Wait> {
    let name = &look.pod.name;
    let Some(recovery) = recovery(look.pod) else {
        return not_reported(look, Gate::CaughtUp);
    };
    if !recovery.damaged_streams.is_empty() {
        let message = format!(
            "{name} found damage in {}",
            recovery.damaged_streams.join(", ")
        );
        return Err(Wait::new(
            Gate::CaughtUp,
            WaitReason::DamagedStreams,
            name,
            message,
        ));
    }
    if recovery.caught_up {
        return Ok(());
    }
    Err(Wait::new(
        Gate::CaughtUp,
        WaitReason::NotCaughtUp,
        name,
        format!("{name} does not serve every stream's end yet"),
    ))
}

fn flush_failures(look: &Look<'_>) -> Result<(), Wait> {
    let name = &look.pod.name;
    let Some(recovery) = recovery(look.pod) else {
        return not_reported(look, Gate::FlushFailures);
    };
    if recovery.flush_failures == 0 {
        return Ok(());
    }
    let message = format!(
        "{name} failed {} flushes since it started; look at its disk",
        recovery.flush_failures
    );
    Err(Wait::new(
        Gate::FlushFailures,
        WaitReason::FlushFailed,
        name,
        message,
    ))
}

fn answering(pod: &PodFacts) -> Option<(&PodInstance, &EngineFacts)> {
    let instance = pod.instance.as_ref()?;
    Some((instance, instance.engine.as_ref()?))
}

fn recovery(pod: &PodFacts) -> Option<&Recovery> {
    answering(pod)?.1.recovery.as_ref()
}

/// What was not reported holds, and never passes.
fn not_reported(look: &Look<'_>, gate: Gate) -> Result<(), Wait> {
    let message = format!(
        "the engine of {} does not report what gate {gate} needs",
        look.pod.name
    );
    Err(Wait::new(
        gate,
        WaitReason::NotReported,
        &look.pod.name,
        message,
    ))
}
