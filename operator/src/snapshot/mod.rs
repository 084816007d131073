//! An `Aof2Snapshot`: observe, plan, record, apply, record. The work is the engines', per stream; the deadline is ours.
//!
//! Nothing is remembered between two looks but status: an engine that is asked again for the same request answers what it has, so an
//! operator that is killed anywhere goes on. When a snapshot was read back last is remembered in memory alone (`passes.rs`).

mod apply;
mod conditions;
mod facts;
pub mod known;
mod leave;
mod observe;
mod passes;
mod plan;
mod record;
pub mod run;
pub mod schedule;
pub mod seen;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aof2_crds::snapshot::{DeletionPolicy, SnapshotCondition as Kind};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::context::{Context, Sight};
use crate::kube::{CallError, holds_catalogues};
use crate::machine::{NextLook, later};
use facts::{Facts, IndexFacts};
use known::{Key, Known};
use observe::Observed;
use passes::{Pass, Passes};
use plan::{Done, Step, conclude, step};
use seen::Entry;

/// A snapshot made by hand is read back, and counts for its cluster, for so long.
pub const BY_HAND: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One look. Returns when the next one is due.
async fn reconcile(
    context: &Context,
    passes: &Passes,
    known: &Known,
    key: &Key,
    entry: &Entry,
) -> Result<NextLook, CallError> {
    if entry.is_leaving {
        return leave::leave(context, key).await;
    }
    match (entry.succeeded, entry.verified) {
        (Some(false), _) => Ok(NextLook::AT_CHANGE),
        (Some(true), Some(_)) => read_back(context, passes, known, key, entry).await,
        (None, _) | (Some(true), None) => take(context, passes, known, key, entry).await,
    }
}

/// One that is taken, or was taken and never read back: what it comes to is written.
async fn take(
    context: &Context,
    passes: &Passes,
    known: &Known,
    key: &Key,
    entry: &Entry,
) -> Result<NextLook, CallError> {
    let Some(snapshot) = observe::live(context, key).await? else {
        return Ok(NextLook::AT_CHANGE);
    };
    let before = snapshot.status.clone().unwrap_or_default();
    if conditions::is(&before, Kind::Succeeded, "False") {
        return Ok(NextLook::AT_CHANGE);
    }
    let is_deleted_along = snapshot.spec.deletion_policy == DeletionPolicy::Delete;
    if is_deleted_along && !holds_catalogues(&snapshot) {
        // Before anything of it is in the bucket.
        context.door.hold_snapshot(&snapshot, true).await?;
        return Ok(NextLook::SOON);
    }
    let has_succeeded = conditions::is(&before, Kind::Succeeded, "True");
    let uid = snapshot.uid().unwrap_or_default();
    let now = Timestamp::now();
    let sight = observe::sight(context, &key.cluster).await?;
    let pass = passes.get(&uid);
    let interval = verify_interval(sight.as_ref());
    let left = pass.left(interval, now);
    if let Some(left) = left.filter(|_| has_succeeded) {
        return Ok(NextLook::AT_CHANGE.by(later(now, left)));
    }
    let Observed { facts, engines } = observe::observe(
        context,
        &snapshot,
        sight.as_ref(),
        left.is_none(),
        has_succeeded,
    )
    .await;
    let Step {
        status,
        actions,
        next,
    } = step(&before, &facts, now);
    let written = record::record(context, &snapshot, &before, &status).await?;
    let done = apply::apply(&facts, &uid, &engines, actions).await;
    let (pass, is_unknown) = passed(pass, &facts, &done, now);
    passes.put(uid, pass, known, now);
    let after = conclude(status.clone(), &facts, &done, Timestamp::now());
    record::record(context, &written, &status, &after).await?;
    if facts.is_of(&after) {
        let completed = after.timing.completed_at.as_ref().map(|at| at.0);
        let read_back = done.is_as_it_was().then_some(now);
        record::show(context, key, entry, completed, read_back);
    }
    Ok(match (has_succeeded, is_unknown) {
        (false, _) => next.or(NextLook::SOON),
        (true, true) => NextLook::AT_CHANGE.by(later(now, pass.pause(interval))),
        (true, false) => next,
    })
}

/// One that was read back before. Nothing is read from the API server unless the verdict is another one: then it is written from a live read.
async fn read_back(
    context: &Context,
    passes: &Passes,
    known: &Known,
    key: &Key,
    entry: &Entry,
) -> Result<NextLook, CallError> {
    let now = Timestamp::now();
    let cluster = &key.cluster;
    let sight = match context.sights.get(&cluster.namespace, &cluster.name) {
        Some(sight) => Some(sight),
        None => observe::sight(context, cluster).await?.map(Arc::new),
    };
    let sight = sight.as_deref();
    let pass = passes.get(&entry.uid);
    let interval = verify_interval(sight);
    let light = entry.as_stored(key);
    let before = light.status.clone().unwrap_or_default();
    if let Some(left) = pass.left(interval, now) {
        return Ok(NextLook::AT_CHANGE.by(later(now, left)));
    }
    let Observed { facts, engines } = observe::observe(context, &light, sight, true, true).await;
    let Step {
        status,
        actions,
        next,
    } = step(&before, &facts, now);
    let done = apply::apply(&facts, &entry.uid, &engines, actions).await;
    let (pass, is_unknown) = passed(pass, &facts, &done, now);
    passes.put(entry.uid.to_string(), pass, known, now);
    if facts.is_of(&before) {
        let read_back = done.is_as_it_was().then_some(now);
        record::show(context, key, entry, entry.completed_at, read_back);
    }
    if seen::verdict_of(&conclude(status, &facts, &done, now)) != entry.verdict
        && let Some(snapshot) = observe::live(context, key).await?
    {
        let before = snapshot.status.clone().unwrap_or_default();
        let is_the_same = snapshot.uid().as_deref() == Some(&entry.uid);
        if is_the_same && conditions::is(&before, Kind::Succeeded, "True") {
            let after = conclude(step(&before, &facts, now).status, &facts, &done, now);
            record::record(context, &snapshot, &before, &after).await?;
        }
    }
    Ok(match is_unknown {
        true => NextLook::AT_CHANGE.by(later(now, pass.pause(interval))),
        false => next,
    })
}

/// What the look says about reading it back, and whether nobody could say.
fn passed(pass: Pass, facts: &Facts, done: &Done, now: Timestamp) -> (Pass, bool) {
    let is_known = done.is_verdict() || matches!(facts.index, Some(IndexFacts::Missing(_)));
    let is_unknown = !is_known && done.verdicts.is_some();
    match is_known || is_unknown {
        true => (pass.asked(is_known, now), is_unknown),
        false => (pass, false),
    }
}

fn verify_interval(sight: Option<&Sight>) -> SignedDuration {
    sight.map_or(SignedDuration::from_hours(1), |sight| sight.verify_interval)
}
