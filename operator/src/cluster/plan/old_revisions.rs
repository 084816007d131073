//! Revisions and evidence of changes that nobody needs any more.
//!
//! Looked at while a configuration is rolled out, since only that makes new ones.

use std::collections::BTreeSet;

use super::Draft;
use crate::cluster::{
    action::Action,
    facts::{Observed, StoredConfig},
};
use crate::names::StoredKind;

/// What is kept of each kind, beside what is in use or was rejected (design, objects).
const KEPT: usize = 10;

pub fn plan(observed: &Observed, draft: &mut Draft) {
    let in_use = in_use(observed, draft);
    let mut removals = Vec::new();
    for kind in [StoredKind::Revision, StoredKind::Evidence] {
        let mut spare: Vec<&StoredConfig> = observed
            .stored_configs
            .iter()
            .filter(|stored| stored.kind == kind && !in_use.contains(stored.revision.as_str()))
            .collect();
        spare.sort_by(|one, other| {
            (other.created_at, &other.revision).cmp(&(one.created_at, &one.revision))
        });
        let old = spare.into_iter().skip(KEPT).map(|old| old.name.clone());
        removals.extend(old.map(|name| Action::RemoveConfigMap { name }));
    }
    draft.actions.extend(removals);
}

/// By what was recorded and by what this plan records: a removal must not outrun its status.
fn in_use<'a>(observed: &'a Observed, draft: &'a Draft) -> BTreeSet<&'a str> {
    let recorded = observed.cluster.status.as_ref();
    let configs = recorded
        .map(|status| &status.config)
        .into_iter()
        .chain([&draft.config]);
    let rollouts = recorded
        .and_then(|status| status.rollout.as_ref())
        .into_iter()
        .chain(draft.rollout.as_ref());
    let revisions = [&draft.revision, &draft.candidate];
    configs
        .flat_map(|config| {
            let rejected = config.rejected.iter().map(|rejected| &rejected.revision);
            [&config.current, &config.target, &config.last_good]
                .into_iter()
                .chain(rejected)
        })
        .chain(rollouts.flat_map(|rollout| [&rollout.from, &rollout.to]))
        .map(String::as_str)
        .chain(
            revisions
                .into_iter()
                .flatten()
                .map(|revision| revision.hash.as_str()),
        )
        .collect()
}
