//! An `Aof2Snapshot`: observe, plan, record, apply, record. The work is the engines', per stream; the deadline is ours.
//!
//! Nothing is remembered between two looks but status: an engine that is asked again for the same request answers what it has, so an
//! operator that is killed anywhere goes on. When a snapshot was read back last is remembered in memory alone (`passes.rs`).

mod apply;
mod conditions;
mod facts;
mod observe;
mod passes;
mod plan;
mod record;
pub mod run;
pub mod schedule;
#[cfg(test)]
mod tests;

use aof2_crds::Aof2Snapshot;
use aof2_crds::snapshot::SnapshotCondition as Kind;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::context::Context;
use crate::kube::CallError;
use crate::machine::NextLook;
use facts::IndexFacts;
use observe::Observed;
use passes::Passes;
use plan::{Step, conclude, step};

/// A snapshot made by hand is read back, and counts for its cluster, for so long.
pub const BY_HAND: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One look. Returns when the next one is due.
async fn reconcile(
    context: &Context,
    passes: &Passes,
    snapshot: &Aof2Snapshot,
) -> Result<NextLook, CallError> {
    let Some(snapshot) = observe::live(context, snapshot).await? else {
        return Ok(NextLook::AT_CHANGE);
    };
    let uid = snapshot.uid().unwrap_or_default();
    let before = snapshot.status.clone().unwrap_or_default();
    let has_succeeded = conditions::is(&before, Kind::Succeeded, "True");
    if conditions::is(&before, Kind::Succeeded, "False") {
        return Ok(NextLook::AT_CHANGE);
    }
    if has_succeeded && !observe::is_read_back(context, &snapshot).await? {
        return Ok(NextLook::AT_CHANGE);
    }
    let now = Timestamp::now();
    let pass = passes.get(&uid);
    let interval = observe::verify_interval(context, &snapshot).await?;
    let left = pass.left(interval, now);
    if let Some(left) = left.filter(|_| has_succeeded) {
        return Ok(NextLook::AT_CHANGE.by(crate::machine::later(now, left)));
    }
    let Observed { facts, engines } =
        observe::observe(context, &snapshot, left.is_none(), has_succeeded).await?;
    let Step {
        status,
        actions,
        next,
    } = step(&before, &facts, now);
    let written = record::record(context, &snapshot, &before, &status).await?;
    let done = apply::apply(&facts, &uid, &engines, actions).await;
    let is_known = done.is_verdict() || matches!(facts.index, Some(IndexFacts::Missing(_)));
    let is_unknown = !is_known && done.verdicts.is_some();
    let pass = match is_known || is_unknown {
        true => pass.asked(is_known, now),
        false => pass,
    };
    passes.put(uid, pass);
    let after = conclude(status.clone(), &facts, &done, Timestamp::now());
    record::record(context, &written, &status, &after).await?;
    if facts.is_of(&after) {
        record::show(
            context,
            &snapshot,
            &after,
            done.is_as_it_was().then_some(now),
        );
    }
    Ok(match (has_succeeded, is_unknown) {
        (false, _) => next.or(NextLook::SOON),
        (true, true) => NextLook::AT_CHANGE.by(crate::machine::later(now, pass.pause(interval))),
        (true, false) => next,
    })
}
