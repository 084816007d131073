//! From what was found to what is to be done. Pure and total: no clock of its own, no client, no waiting.
//!
//! The order: who the cluster is, whether its spec can be followed, what its engines are to run, by which
//! certificates they are reached, how many pods there are, and which of them is being replaced. What cannot go on becomes a wait,
//! and what does not depend on it goes on.

mod certificates;
pub(super) mod config;
mod config_rollout;
mod not_serving;
mod old_revisions;
mod replicas;
mod rollout;
pub(super) mod snapshots;
#[cfg(test)]
mod tests;

pub(super) use config_rollout::restarts_engine;

use aof2_crds::{
    Aof2ClusterStatus, Gate, Rollout, RolloutKind, WaitReason,
    cluster::OperationMode,
    labels,
    snapshot::SnapshotsStatus,
    status::{ConfigStatus, HistoryEntry},
};

use kube::ResourceExt;

use crate::{
    cluster::{
        action::{Action, Desired},
        build::{self, Owner, template},
        config::Revision,
        facts::Observed,
        identity::{Identity, identify},
        status, validate,
    },
    machine::{NextLook, Override, Wait},
};

pub struct Plan {
    /// Written before anything is done.
    pub status: Aof2ClusterStatus,
    pub actions: Vec<Action>,
    pub next: NextLook,
    /// Gates that would hold and that a person lets pass.
    pub overridden: Vec<Gate>,
}

/// What the parts of the plan add up to, before it becomes status.
#[derive(Clone, Debug)]
pub struct Draft {
    pub cluster_id: String,
    /// The spec's error, if it has one.
    pub spec_error: Option<String>,
    pub config: ConfigStatus,
    /// What is in force; `None` until a configuration was taken.
    pub revision: Option<Revision>,
    /// What the source makes; `None`: it cannot be read.
    pub candidate: Option<Revision>,
    /// A schedule that cannot be followed.
    pub schedule_error: Option<String>,
    pub snapshots: Option<SnapshotsStatus>,
    pub snapshot_health: snapshots::Health,
    /// Number of pods that share the Tier 0 budget.
    pub share: i32,
    pub rollout: Option<Rollout>,
    pub finished: Vec<HistoryEntry>,
    pub overridden: Vec<Gate>,
    pub waits: Vec<Wait>,
    pub actions: Vec<Action>,
    pub is_paused: bool,
    pub next: NextLook,
}

impl Draft {
    fn of(observed: &Observed) -> Self {
        let status = observed.cluster.status.clone().unwrap_or_default();
        Self {
            cluster_id: status.cluster_id,
            spec_error: None,
            config: status.config,
            revision: None,
            schedule_error: None,
            snapshots: None,
            snapshot_health: snapshots::Health::default(),
            candidate: None,
            share: observed
                .stateful_set
                .as_ref()
                .map_or(observed.cluster.spec.replicas, |set| set.replicas),
            rollout: status.rollout,
            finished: Vec::new(),
            overridden: Vec::new(),
            waits: Vec::new(),
            actions: Vec::new(),
            is_paused: observed.cluster.spec.operation.mode == OperationMode::Paused,
            next: NextLook::AT_POLL,
        }
    }

    fn wait(&mut self, gate: Gate, reason: WaitReason, pod: &str, message: impl Into<String>) {
        self.waits.push(Wait {
            gate,
            reason,
            pod: pod.to_owned(),
            message: message.into(),
        });
    }

    fn apply(&mut self, desired: impl Into<Desired>) {
        self.actions.push(Action::Apply(desired.into()));
    }

    fn look_soon(&mut self) {
        self.next = self.next.or(NextLook::SOON);
    }
}

pub fn plan(observed: &Observed) -> Plan {
    let mut draft = Draft::of(observed);
    let conflict = match identify(observed) {
        Identity::Known(id) => {
            draft.cluster_id = id;
            None
        }
        Identity::Conflict { message } => Some(message),
    };
    match (conflict, Owner::of(&observed.cluster)) {
        (Some(message), _) => draft.wait(
            Gate::ClusterIdentity,
            WaitReason::ClusterIDConflict,
            "",
            message,
        ),
        (None, Some(owner)) => work(observed, &owner, &mut draft),
        // An object without uid is not from the API server.
        (None, None) => {}
    }
    if draft.is_paused {
        draft.actions.clear();
        draft.rollout = observed
            .cluster
            .status
            .as_ref()
            .and_then(|status| status.rollout.clone());
        draft.finished.clear();
        if let Some(status) = &observed.cluster.status {
            draft.config = status.config.clone();
            draft.snapshots.clone_from(&status.snapshots);
        }
        draft.waits.insert(0, paused());
        draft.next = NextLook::AT_POLL;
    } else if !status::is_settled(observed) {
        draft.look_soon();
    }
    let (actions, overridden, next) = (
        std::mem::take(&mut draft.actions),
        std::mem::take(&mut draft.overridden),
        draft.next,
    );
    Plan {
        status: status::publish(observed, draft),
        actions,
        next,
        overridden,
    }
}

/// What a person lets pass, for every machine.
fn overrides(observed: &Observed) -> Vec<Override> {
    observed
        .cluster
        .annotations()
        .get(labels::OVERRIDE_GATE)
        .and_then(|value| Override::parse(value))
        .into_iter()
        .collect()
}

fn paused() -> Wait {
    let message = "spec.operation.mode is Paused: the operator observes and acts on nothing; set it to Active to go on";
    Wait {
        gate: Gate::Active,
        reason: WaitReason::Paused,
        pod: String::new(),
        message: message.to_owned(),
    }
}

fn work(observed: &Observed, owner: &Owner, draft: &mut Draft) {
    let spec = &observed.cluster.spec;
    not_serving::show_refusals(observed, draft);
    let refused = validate::validate(spec)
        .err()
        .map(|error| error.to_string())
        .or_else(|| observed.template_refused.clone());
    if let Some(message) = &refused {
        draft.spec_error = Some(message.clone());
        if observed.stateful_set.is_none() {
            draft.wait(
                Gate::SpecValid,
                WaitReason::InvalidPodTemplate,
                "",
                message.clone(),
            );
            return;
        }
    }
    if !config::plan(observed, owner, draft) {
        return;
    }
    // The identity reaches status before anything carries it.
    if observed
        .cluster
        .status
        .as_ref()
        .is_none_or(|status| status.cluster_id != draft.cluster_id)
    {
        draft.next = NextLook::AT_ONCE;
        draft.actions.clear();
        return;
    }
    draft.apply(build::service_account::build(owner));
    draft.apply(build::service::build(owner));
    draft.apply(build::network_policy::build(
        owner,
        &observed.operator_namespace,
    ));
    certificates::plan(observed, draft);

    let Some(written) = &observed.stateful_set else {
        config::write_files(observed, owner, spec.replicas, draft);
        write_pods(observed, owner, spec.replicas, draft);
        draft.look_soon();
        return;
    };
    let written_template = written.template.clone();
    // One rollout at a time, and that of a version or template goes first.
    let is_config = draft
        .rollout
        .as_ref()
        .is_some_and(|rollout| rollout.kind == RolloutKind::Config);
    let writes_template = !is_config && rollout::plan(observed, written, refused, draft);
    config_rollout::plan(observed, owner, written, draft);
    old_revisions::plan(observed, draft);
    let replicas = replicas::plan(observed, written, draft);
    draft.share = replicas.share;
    config::write_files(observed, owner, replicas.files, draft);
    config::check_loaded(observed, owner, draft);
    not_serving::show_troubles(observed, draft);
    snapshots::plan(observed, owner, draft);
    let digest = template::digest(spec, &observed.image_repository);
    if writes_template || written_template == digest {
        write_pods(observed, owner, replicas.apply, draft);
    }
    // Removals come last: what they depend on is in place then.
    draft.actions.sort_by_key(Action::rank);
}

fn write_pods(observed: &Observed, owner: &Owner, replicas: i32, draft: &mut Draft) {
    let spec = &observed.cluster.spec;
    match build::disruption_budget::build(owner, replicas) {
        Some(budget) => draft.apply(budget),
        None => draft.actions.push(Action::RemoveDisruptionBudget),
    }
    draft.apply(build::stateful_set::build(
        owner,
        spec,
        &draft.cluster_id,
        replicas,
        &observed.image_repository,
    ));
}
