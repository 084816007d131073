//! From what was found to what is to be done. Pure and total: no clock of its own, no client, no waiting.
//!
//! The order: who the cluster is, whether its spec can be followed, what its engines are to run, by which
//! certificates they are reached, who of the machines moves (`precedence.rs`), and what each pod is told. Each concern takes what the
//! ones before it decided, and adds its part. What cannot go on becomes a wait, and what does not depend on it goes on.

mod arbiter;
mod certificates;
mod config;
mod config_rollout;
pub(super) mod expansion;
mod not_serving;
mod old_revisions;
mod part;
mod precedence;
mod questions;
mod recreate;
mod replicas;
mod rollout;
mod shares;
pub(super) mod snapshots;
#[cfg(test)]
mod tests;
mod told;
mod volume_sum;
mod volumes;

pub(super) use config_rollout::restarts_engine;
pub(super) use not_serving::remedy;
pub(super) use questions::{
    ConfigQuestion, CountQuestion, Questions, TemplateQuestion, counts, questions, verdict,
};
pub(super) use shares::Shares;
pub(super) use volumes::{at_risk as volume_at_risk, is_accepted as is_volume_accepted};

use aof2_crds::{
    Aof2ClusterSpec, Aof2ClusterStatus, Gate, WaitReason,
    cluster::OperationMode,
    status::{Announcement, ConfigStatus, HistoryEntry},
};

use crate::{
    cluster::{
        action::Action,
        annotations,
        build::{self, Owner, template},
        config::Revision,
        facts::{Observed, Read},
        identity::{Identity, identify},
        memo::Memo,
        status, validate,
    },
    machine::{NextLook, Override, Wait, quoted},
};
use config::Configs;
use part::Part;
use precedence::Moved;
use snapshots::Snapshots;
use told::Told;

pub struct Plan {
    /// Written before anything is done.
    pub status: Aof2ClusterStatus,
    pub actions: Vec<Action>,
    pub next: NextLook,
    /// Gates that would hold and that a person lets pass.
    pub overridden: Vec<Gate>,
}

/// What was decided: status is made from it.
#[derive(Clone, Debug)]
pub struct Decided {
    pub cluster_id: String,
    /// The spec's error, if it has one.
    pub spec_error: Option<String>,
    pub is_paused: bool,
    pub config: ConfigStatus,
    pub announcements: Vec<Announcement>,
    /// The configuration in force; `None`: there is none, or it is not known.
    pub in_force: Option<Revision>,
    pub memo: Option<Memo>,
    pub snapshots: Snapshots,
    pub waits: Vec<Wait>,
    pub finished: Vec<HistoryEntry>,
    /// `None`: what status says stays.
    pub shares: Option<Shares>,
}

impl Decided {
    /// Nothing: what status says stays.
    fn nothing(observed: &Observed) -> Self {
        let status = observed.cluster.status.clone().unwrap_or_default();
        Self {
            memo: status.rollout.as_ref().and_then(Memo::read),
            cluster_id: status.cluster_id,
            spec_error: None,
            is_paused: observed.cluster.spec.operation.mode == OperationMode::Paused,
            config: status.config,
            announcements: status.announcements,
            in_force: None,
            snapshots: Snapshots::before(observed),
            waits: Vec::new(),
            finished: Vec::new(),
            shares: None,
        }
    }

    fn configured(self, configs: Configs) -> Self {
        Self {
            config: configs.status,
            announcements: configs.announcements,
            in_force: Some(configs.in_force),
            ..self
        }
    }
}

pub fn plan(observed: &Observed) -> Plan {
    if observed
        .unread
        .iter()
        .any(|unread| unread.what.is_essential())
    {
        return blind(observed);
    }
    let mut part = Part::default();
    let mut decided = match (identify(observed), Owner::of(&observed.cluster)) {
        (Identity::Known(id), Some(owner)) => part.take(work(observed, &owner, id)),
        // An object without uid is not from the API server.
        (Identity::Known(cluster_id), None) => Decided {
            cluster_id,
            ..Decided::nothing(observed)
        },
        (Identity::Conflict { message }, _) => {
            let (gate, reason) = (Gate::ClusterIdentity, WaitReason::ClusterIDConflict);
            part.wait(gate, reason, "", message);
            Decided::nothing(observed)
        }
    };
    if decided.is_paused {
        let nothing = Decided::nothing(observed);
        part.actions.clear();
        part.finished.clear();
        part.overridden.clear();
        part.waits.insert(0, paused());
        part.next = NextLook::AT_POLL;
        decided = Decided {
            memo: nothing.memo,
            config: nothing.config,
            announcements: nothing.announcements,
            snapshots: Snapshots {
                status: nothing.snapshots.status,
                ..decided.snapshots
            },
            shares: None,
            ..decided
        };
    } else if !status::is_settled(observed) {
        part.look(NextLook::SOON);
    }
    let Part {
        waits,
        actions,
        finished,
        overridden,
        next,
    } = part;
    let decided = Decided {
        waits,
        finished,
        ..decided
    };
    Plan {
        status: status::publish(observed, decided),
        actions,
        next,
        overridden,
    }
}

/// Nothing is known about the pods: nothing happens to them, and what does not depend on them goes on.
fn blind(observed: &Observed) -> Plan {
    let mut part = Part::default();
    let essential = observed
        .unread
        .iter()
        .find(|unread| unread.what.is_essential());
    if let Some(unread) = essential {
        let message = format!(
            "The operator cannot read the objects of the cluster ({}). It retries, and changes no pod until then",
            quoted(&unread.message)
        );
        part.wait(Gate::ObjectsRead, WaitReason::ReadFailed, "", message);
    }
    let is_paused = observed.cluster.spec.operation.mode == OperationMode::Paused;
    if !is_paused && !observed.cluster_id().is_empty() {
        let nothing = Decided::nothing(observed);
        part.add(certificates::plan(
            observed,
            &nothing.config,
            nothing.memo.as_ref(),
        ));
    }
    Plan {
        status: status::blind(observed, part.waits),
        actions: part.actions,
        next: part.next,
        overridden: Vec::new(),
    }
}

/// What a person lets pass, for every machine.
fn overrides(observed: &Observed) -> Vec<Override> {
    let passes = annotations::gate_override(&observed.cluster);
    passes.into_iter().collect()
}

/// Damaged streams of the pod that its drain does not wait for: those that a person named. An engine refuses others.
fn left_out(observed: &Observed, pod: &str) -> Vec<String> {
    let answer = observed.answer(pod);
    let is_damaged = |name: &String| {
        answer.is_some_and(|answer| {
            let after = &answer.post_restart;
            answer.dump.damage.contains_key(name)
                || after
                    .as_ref()
                    .is_some_and(|report| report.damaged_streams.contains(name))
        })
    };
    let named = annotations::drain_without(&observed.cluster, observed.now);
    named.into_iter().filter(is_damaged).collect()
}

/// While a person keeps the operator from acting.
pub(super) const PAUSED: &str =
    "Paused: the operator changes nothing. Set spec.operation.mode to Active to resume";

fn paused() -> Wait {
    Wait::new(Gate::Active, WaitReason::Paused, "", PAUSED)
}

fn work(observed: &Observed, owner: &Owner, cluster_id: String) -> (Decided, Part) {
    let spec = &observed.cluster.spec;
    let mut part = volumes::plan(observed);
    part.add(expansion::plan(observed));
    part.add(not_serving::refusals(observed));
    let spec_error = validate::validate(observed)
        .err()
        .map(|error| error.to_string())
        .or_else(|| {
            let refused = observed.answers.template_refused.as_ref()?;
            Some(format!(
                "spec.podTemplate rejected: {}. Correct it",
                quoted(refused)
            ))
        });
    let unchecked = observed.answers.template_unknown.as_ref().map(|why| {
        format!(
            "The API server does not check the pod template ({}). The operator retries, and writes it then",
            quoted(why)
        )
    });
    if let Some(message) = &unchecked {
        part.wait(Gate::ObjectsRead, WaitReason::ReadFailed, "", message);
    }
    let decided = Decided {
        cluster_id: cluster_id.clone(),
        spec_error: spec_error.clone(),
        ..Decided::nothing(observed)
    };
    let missing = recreate::missing(observed);
    if let (Some(message), None) = (&spec_error, &observed.stateful_set)
        && !missing.is_kept
    {
        let (gate, reason) = (Gate::SpecValid, WaitReason::InvalidPodTemplate);
        part.wait(gate, reason, "", message);
        return (decided, part);
    }
    let Some(configs) = part.take(config::plan(observed, owner, decided.memo.as_ref())) else {
        if !decided.cluster_id.is_empty() && observed.stateful_set.is_some() {
            // What an unknown configuration does not touch.
            part.add(write_surroundings(observed, owner));
            let live = observed.stateful_set.as_ref().map_or(1, |set| set.replicas);
            part.add(write_budget(owner, live));
            part.add(certificates::plan(
                observed,
                &decided.config,
                decided.memo.as_ref(),
            ));
            let snapshots = part.take(snapshots::plan(observed, owner, &cluster_id));
            return (
                Decided {
                    snapshots,
                    ..decided
                },
                part,
            );
        }
        return (decided, part);
    };
    // The identity reaches status before anything carries it.
    let recorded = observed.cluster.status.as_ref();
    if recorded.is_none_or(|status| status.cluster_id != cluster_id) {
        part.look(NextLook::AT_ONCE);
        part.actions.clear();
        return (decided.configured(configs), part);
    }
    part.add(write_surroundings(observed, owner));
    part.add(certificates::plan(
        observed,
        &configs.status,
        decided.memo.as_ref(),
    ));
    let Some(written) = &observed.stateful_set else {
        part.look(NextLook::SOON);
        if missing.was_deleted {
            part.waits.push(recreate::deleted(owner, &missing.spec));
        }
        let count = missing.spec.replicas;
        let is_unchecked = unchecked.is_some() && !missing.is_kept;
        if !is_unchecked && volumes::unused(observed, count).is_empty() {
            let shares = Shares::plan(observed, &configs.in_force, count, false);
            let told = Told::plan(observed, &configs, decided.memo.as_ref(), count, &shares);
            part.add(told.write(observed, owner, &cluster_id));
            part.add(write_pods(
                observed,
                owner,
                &missing.spec,
                &cluster_id,
                count,
            ));
        }
        return (decided.configured(configs), part);
    };
    let deleted = written.is_terminating.then(|| {
        let message = format!(
            "StatefulSet {} is being deleted. The operator recreates it after the deletion completes",
            owner.name
        );
        let (gate, reason) = (Gate::ObjectsInPlace, WaitReason::ObjectTerminating);
        Wait::new(gate, reason, "", message)
    });
    if let Some(wait) = deleted.or_else(|| recreate::not_complete(observed, written)) {
        part.waits.push(wait);
        part.look(NextLook::SOON);
        let snapshots = part.take(snapshots::plan(observed, owner, &cluster_id));
        let decided = Decided {
            snapshots,
            ..decided.configured(configs)
        };
        return (decided, part);
    }
    // A template that could not be checked is not written; the pods stay on theirs.
    let template_error = spec_error.as_deref().or(unchecked.as_deref());
    let Moved {
        memo,
        configs,
        replicas,
        is_rolling,
        writes_template,
    } = part.take(precedence::step(
        observed,
        owner,
        written,
        template_error,
        decided.memo.clone(),
        configs,
    ));
    part.add(old_revisions::plan(observed, &configs, memo.as_ref()));
    let shares = Shares::plan(observed, &configs.in_force, replicas.told, is_rolling);
    let told = Told::plan(observed, &configs, memo.as_ref(), replicas.told, &shares);
    let is_config = memo.as_ref().and_then(Memo::config).is_some();
    part.add(told.write(observed, owner, &cluster_id));
    part.add(told.check(observed, owner, &cluster_id, is_config));
    part.add(not_serving::troubles(observed, &part.waits));
    let snapshots = part.take(snapshots::plan(observed, owner, &cluster_id));
    let digest = template::digest(spec, &observed.image_repository);
    if writes_template || written.template == digest {
        part.add(write_pods(
            observed,
            owner,
            spec,
            &cluster_id,
            replicas.apply,
        ));
    } else {
        part.add(write_budget(owner, replicas.apply));
    }
    part.add(recreate::keep(observed, owner, written, memo.as_ref()));
    // Removals come last: what they depend on is in place then.
    part.actions.sort_by_key(Action::rank);
    let decided = Decided {
        memo,
        snapshots,
        shares: Some(shares),
        ..decided.configured(configs)
    };
    (decided, part)
}

/// What pods need around them, whatever they run.
fn write_surroundings(observed: &Observed, owner: &Owner) -> Part {
    let mut part = Part::default();
    part.apply(build::service_account::build(owner));
    part.apply(build::service::build(owner));
    let policies = observed
        .unread
        .iter()
        .find(|unread| unread.what == Read::NetworkPolicies);
    match policies {
        // What was open stays open, and what was closed closed.
        Some(unread) => {
            let message = format!(
                "The operator cannot list the network policies of the namespace ({}). It retries, and leaves its own as it is",
                quoted(&unread.message)
            );
            part.wait(Gate::ObjectsRead, WaitReason::ReadFailed, "", message);
        }
        None => part.apply(build::network_policy::build(
            owner,
            &observed.operator_namespace,
            observed.is_isolated,
        )),
    }
    part
}

fn write_pods(
    observed: &Observed,
    owner: &Owner,
    spec: &Aof2ClusterSpec,
    cluster_id: &str,
    replicas: i32,
) -> Part {
    let mut part = write_budget(owner, replicas);
    part.apply(build::stateful_set::build(
        owner,
        &expansion::as_created(observed, spec),
        cluster_id,
        replicas,
        observed.platform(),
        observed
            .stateful_set
            .as_ref()
            .is_none_or(|written| written.protects_claims),
    ));
    part
}

fn write_budget(owner: &Owner, replicas: i32) -> Part {
    let mut part = Part::default();
    match build::disruption_budget::build(owner, replicas) {
        Some(budget) => part.apply(budget),
        None => part.actions.push(Action::RemoveDisruptionBudget),
    }
    part
}
