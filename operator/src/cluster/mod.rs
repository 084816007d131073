//! One reconcile of a cluster: observe, ask, plan, record what is intended, apply, record what came of it.
//!
//! `observe` only reads; `ask` asks what nobody can read, and changes nothing; only `apply` and `record` write; what lies between is pure. Nothing is remembered between two looks but
//! what status holds, so that an operator that is killed anywhere goes on where the next look finds things.

pub mod action;
pub mod annotations;
pub mod answered;
pub mod apply;
pub mod ask;
pub mod backoff;
pub mod build;
pub mod config;
pub mod error;
pub mod facts;
pub mod failures;
pub mod heard;
pub mod identity;
pub mod isolation;
pub mod memo;
pub mod memory;
pub mod neighbour;
pub mod nodes;
pub mod observe;
pub mod plan;
pub mod pod;
pub mod reader;
pub mod record;
pub mod rest;
pub mod run;
pub mod samples;
pub mod status;
pub mod tier2;
pub mod touches;
pub mod unbound;
pub mod validate;
pub mod watches;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use aof2_crds::{Aof2Cluster, Aof2ClusterStatus};

use crate::{
    context::Context,
    engines::Whose,
    kube::{CallError, Notice},
    machine::{NextLook, carry_since},
    runtime::metrics::ClusterLabels,
};
use apply::Done;
use build::Owner;
use error::ReconcileError;
use facts::Observed;
use memory::Memory;
use plan::Plan;
use rest::Looked;

/// A deleted cluster leaves no series and no samples.
pub fn forget(context: &Context, memory: &Memory, namespace: &str, name: &str) {
    context.metrics.forget(&ClusterLabels {
        namespace: namespace.to_owned(),
        cluster: name.to_owned(),
    });
    context.sights.forget(namespace, name);
    memory.rests.forget(namespace, name);
    memory.touches.forget(namespace, name);
    let key = samples::key(namespace, name);
    memory.samples.lock().forget(&key);
    memory.backoff.lock().succeeded(namespace, name);
    memory
        .failures
        .forget(&(namespace.to_owned(), name.to_owned()));
}

/// One look. Returns when the next one is due.
pub async fn reconcile(
    context: &Context,
    memory: &Memory,
    namespace: &str,
    name: &str,
) -> Result<NextLook, ReconcileError> {
    if let Some(next) = rest::look(context, memory, namespace, name).await {
        return Ok(next);
    }
    let mark = memory.touches.mark(namespace, name);
    let Some(mut observed) = observe::observe(context, &memory.snapshots, namespace, name)
        .await
        .map_err(ReconcileError::Observe)?
    else {
        forget(context, memory, namespace, name);
        return Ok(NextLook::AT_CHANGE);
    };
    observed.rates = memory.count(
        &samples::key(namespace, name),
        &observed.reports,
        observed.now,
    );
    let whose = Whose::of(&observed.cluster);
    let questions = plan::questions(&observed);
    let is_asked = !questions.is_empty();
    observed.answers = ask::ask(context, memory, whose.as_ref(), questions).await;
    // Answers may have been long in coming, and a drain token must not look younger than it is.
    observed.now = jiff::Timestamp::now();
    let Plan {
        status,
        actions,
        next,
        overridden,
    } = plan::plan(&observed);
    // Whether what failed before still fails is known only after the next try.
    let mut intended = status.clone();
    status::carry_apply_failed(&mut intended, observed.cluster.status.as_ref());
    let stored = match record::record(context, &observed.cluster, &intended).await {
        Ok(stored) => stored,
        // Somebody else wrote the object in between: what was planned rests on an old one.
        Err(error) if error.is_conflict() => return Ok(NextLook::AT_ONCE),
        Err(error) => return Err(ReconcileError::Record(error)),
    };
    let is_overridden = !overridden.is_empty();
    for gate in overridden {
        let annotation = aof2_crds::labels::OVERRIDE_GATE;
        let value = stored
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(annotation));
        let message = format!(
            "Gate {gate} is failing and bypassed by annotation {annotation}={}",
            value.map_or("", String::as_str)
        );
        context
            .door
            .tell(
                &stored,
                &Notice {
                    is_warning: true,
                    reason: "GateOverridden".to_owned(),
                    message,
                    gate: Some(gate),
                    lasts: true,
                    ..Notice::default()
                },
            )
            .await;
    }
    let Some(owner) = Owner::of(&stored) else {
        return Ok(NextLook::AT_POLL);
    };
    let whose = Whose::of(&stored);
    let keeping = rest::of_keeping(&actions);
    let done = apply::apply(context, memory, &owner, whose.as_ref(), actions).await;
    let was_quiet = !is_asked
        && !is_overridden
        && !done.changed
        && done.failures.is_empty()
        && done.waits.is_empty();
    let mut next = next;
    let was_said = stored.metadata.resource_version != observed.cluster.metadata.resource_version;
    if done.changed || was_said {
        // What was just written is looked at before the next poll: the operator's own writes wake nobody.
        next = next.or(NextLook::SOON);
    }
    for failure in &done.failures {
        next = next.by(failure.retry_at);
    }
    let was_concluded = conclude(context, &observed, &stored, status, done)
        .await
        .map_err(ReconcileError::Record)?;
    let blind = observed
        .unread
        .iter()
        .find(|unread| unread.what.is_essential())
        .map(|unread| unread.message.clone());
    let looked = Looked {
        mark,
        is_quiet: was_quiet && !was_said && !was_concluded,
        actions: keeping,
    };
    rest::remember(memory, observed, looked);
    match blind {
        Some(message) => Err(ReconcileError::Blind(message)),
        None => Ok(next),
    }
}

/// Status after the actions, also after failed ones. True: it was written.
async fn conclude(
    context: &Context,
    observed: &Observed,
    stored: &Aof2Cluster,
    planned: Aof2ClusterStatus,
    done: Done,
) -> Result<bool, CallError> {
    let mut status = planned;
    if let Some(certificate) = done.certificate {
        status
            .certificates
            .retain(|known| known.name != certificate.name);
        status.certificates.push(certificate);
    }
    if !done.waits.is_empty() {
        let known: Vec<_> = observed
            .cluster
            .status
            .iter()
            .flat_map(|status| status.waits.clone())
            .collect();
        status.waits.retain(|wait| {
            !done
                .waits
                .iter()
                .any(|new| new.gate == wait.gate && new.pod == wait.pod)
        });
        status
            .waits
            .extend(carry_since(&known, done.waits, observed.now));
        status.waits.truncate(aof2_crds::status::MAX_WAITS);
    }
    status::apply_failed(
        &mut status,
        &done.failures,
        observed.cluster.status.as_ref(),
        observed.cluster.metadata.generation,
        observed.now,
    );
    match record::record(context, stored, &status).await {
        Ok(written) => Ok(written.metadata.resource_version != stored.metadata.resource_version),
        Err(error) if error.is_conflict() => Ok(true),
        Err(error) => Err(error),
    }
}
