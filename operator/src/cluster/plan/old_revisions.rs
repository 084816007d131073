//! Revisions and evidence of changes that nobody needs any more.
//!
//! Looked at while a configuration is rolled out, since only that makes new ones.

use std::collections::BTreeSet;

use super::{Part, config::Configs};
use crate::cluster::{
    action::Action,
    facts::{Observed, StoredConfig},
    memo::Memo,
};
use crate::names::StoredKind;

/// What is kept of each kind, beside what is in use or was rejected (design, objects).
const KEPT: usize = 10;

pub fn plan(observed: &Observed, configs: &Configs, memo: Option<&Memo>) -> Part {
    let in_use = in_use(observed, configs, memo);
    let mut part = Part::default();
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
        part.actions
            .extend(old.map(|name| Action::RemoveConfigMap { name }));
    }
    part
}

/// By what was recorded and by what this plan records: a removal must not outrun its status.
fn in_use<'a>(
    observed: &'a Observed,
    configs: &'a Configs,
    memo: Option<&'a Memo>,
) -> BTreeSet<&'a str> {
    let recorded = observed.cluster.status.as_ref();
    let statuses = recorded
        .map(|status| &status.config)
        .into_iter()
        .chain([&configs.status]);
    let recorded_ends = recorded
        .and_then(|status| status.rollout.as_ref())
        .map(|rollout| [rollout.from.as_str(), rollout.to.as_str()]);
    let ends = [recorded_ends, memo.map(Memo::ends)];
    let revisions = [Some(&configs.in_force), configs.candidate.as_ref()];
    statuses
        .flat_map(|config| {
            let rejected = config.rejected.iter().map(|rejected| &rejected.revision);
            [&config.current, &config.target, &config.last_good]
                .into_iter()
                .chain(rejected)
        })
        .map(String::as_str)
        .chain(ends.into_iter().flatten().flatten())
        .chain(
            revisions
                .into_iter()
                .flatten()
                .map(|revision| revision.hash.as_str()),
        )
        .collect()
}
