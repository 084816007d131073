//! One pod on its way to a revision: told, loaded, restarted where a key needs it, and serving again.

use aof2_crds::{Gate, WaitReason};

use super::facts::{EngineFacts, Facts, PodFacts};
use super::step::Action;
use crate::machine::{Wait, gate, see_log};

pub(super) enum Converge {
    Done,
    /// What it waits for, and what helps.
    Waiting(Wait, Option<Action>),
}

/// What a gate on the way looks at.
struct View<'a> {
    pod: &'a PodFacts,
    engine: &'a EngineFacts,
    revision: &'a str,
    facts: &'a Facts,
}

type ConvergeGate = fn(&View<'_>) -> Result<(), (Wait, Option<Action>)>;

const ON_THE_WAY: &[ConvergeGate] = &[has_loaded, has_restarted, serves_again];

pub(super) fn converge(pod: &PodFacts, revision: &str, facts: &Facts) -> Converge {
    let Some(engine) = &pod.engine else {
        return Converge::Waiting(silent(pod, facts), None);
    };
    let view = View {
        pod,
        engine,
        revision,
        facts,
    };
    gate::first(ON_THE_WAY, &view).map_or(Converge::Done, |(wait, action)| {
        Converge::Waiting(wait, action)
    })
}

/// Its engine does not answer: what it works by is not known.
fn silent(pod: &PodFacts, facts: &Facts) -> Wait {
    let name = &pod.name;
    let (gate, reason, message) = match (pod.is_ready, facts.needs_restart) {
        (false, _) => (
            Gate::Ready,
            WaitReason::EngineRestarting,
            format!("Waiting for the engine of {name} to start"),
        ),
        (true, true) => (
            Gate::Ready,
            WaitReason::EngineRestarting,
            format!("Waiting for the engine of {name} to answer. It restarts or is unreachable"),
        ),
        (true, false) => (
            Gate::EngineReachable,
            WaitReason::EngineUnreachable,
            format!(
                "Engine of {name} unreachable; its running config is unknown. {}",
                see_log(name)
            ),
        ),
    };
    Wait::new(gate, reason, name, message)
}

fn has_loaded(view: &View<'_>) -> Result<(), (Wait, Option<Action>)> {
    let (name, revision) = (&view.pod.name, view.revision);
    if view.engine.revision == revision {
        return Ok(());
    }
    let message = format!(
        "{name} has not loaded config {revision} yet (runs {})",
        view.engine.revision
    );
    let (gate, reason) = (Gate::ConfigLoaded, WaitReason::ConfigLoading);
    Err((Wait::new(gate, reason, name, message), None))
}

/// One engine that serves restarts at a time.
fn has_restarted(view: &View<'_>) -> Result<(), (Wait, Option<Action>)> {
    let (name, revision) = (&view.pod.name, view.revision);
    if !view.engine.restart_pending {
        return Ok(());
    }
    if let Some(risk) = &view.pod.volume_at_risk {
        return Err((risk.clone(), None));
    }
    let down: Vec<&str> = view
        .facts
        .pods
        .iter()
        .filter(|other| other.name != *name && !serves(other))
        .map(|other| other.name.as_str())
        .collect();
    // The restart of one that does not serve takes nothing down.
    let is_overridden =
        gate::is_overridden(&view.facts.overrides, Gate::OnePodDown, view.facts.now);
    if !down.is_empty() && serves(view.pod) && !is_overridden {
        let message = format!("Restart of {name} waits for {} to serve", down.join(", "));
        let (gate, reason) = (Gate::OnePodDown, WaitReason::PodNotReady);
        return Err((Wait::new(gate, reason, name, message), None));
    }
    let message = format!("{name} restarts its engine to load config {revision}");
    let (gate, reason) = (Gate::ConfigLoaded, WaitReason::EngineRestarting);
    let restart = Action::Restart {
        pod: name.clone(),
        process_start: view.engine.process_start.clone(),
    };
    Err((Wait::new(gate, reason, name, message), Some(restart)))
}

fn serves_again(view: &View<'_>) -> Result<(), (Wait, Option<Action>)> {
    let (name, revision) = (&view.pod.name, view.revision);
    if view.engine.is_ready && view.pod.is_ready && view.engine.is_caught_up == Some(true) {
        return Ok(());
    }
    let message = format!("{name} runs config {revision} and is not ready yet");
    let (gate, reason) = (Gate::Ready, WaitReason::EngineRestarting);
    Err((Wait::new(gate, reason, name, message), None))
}

/// Ready by the kubelet's word and by the engine's own.
pub(super) fn serves(pod: &PodFacts) -> bool {
    pod.is_ready && pod.engine.as_ref().is_some_and(|engine| engine.is_ready)
}
