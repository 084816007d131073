//! Which machine goes first, said here alone.
//!
//! 1. What is under way ends first. A rollout of a configuration takes itself back where a version or template is wanted meanwhile.
//! 2. A version or template.
//! 3. A configuration: validated by the version that is to run it.
//! 4. The number of pods.
//!
//! A configuration that waits before its canary (for its notice of retention: a day) keeps nobody from the number of pods.
//!
//! One machine moves pods or tells them something at a time: it has the memo. The others say what they wait for.

use super::{Part, config::Configs, config_rollout, replicas, replicas::Replicas, rollout};
use crate::cluster::{
    build::Owner,
    facts::{Observed, StatefulSetFacts},
    memo::Memo,
};

/// What the machines came to.
pub struct Moved {
    pub memo: Option<Memo>,
    pub configs: Configs,
    pub replicas: Replicas,
    /// The number of pods and their shares stay as they are.
    pub is_rolling: bool,
    /// The wanted template is to be written now.
    pub writes_template: bool,
}

pub fn step(
    observed: &Observed,
    owner: &Owner,
    written: &StatefulSetFacts,
    spec_error: Option<&str>,
    memo: Option<Memo>,
    configs: Configs,
) -> (Moved, Part) {
    let mut part = Part::default();
    let (upgrade, config) = match memo {
        Some(Memo::Upgrade(memo)) => (Some(Some(memo)), None),
        Some(Memo::Config(memo)) => (None, Some(memo)),
        None => (Some(None), None),
    };
    let (upgrade, writes_template) = match upgrade {
        Some(memo) => part.take(rollout::step(observed, written, spec_error, memo)),
        None => (None, false),
    };
    let is_upgrading =
        upgrade.is_some() || config_rollout::is_upgrade_wanted(observed, written, spec_error);
    let turn = config_rollout::Turn {
        is_upgrading,
        is_other_under_way: upgrade.is_some(),
    };
    let (config, configs) = part.take(config_rollout::step(
        observed, owner, written, turn, config, configs,
    ));
    let memo = upgrade
        .map(Memo::Upgrade)
        .or_else(|| config.map(Memo::Config));
    let is_rolling = memo
        .as_ref()
        .is_some_and(|memo| !memo.is_only_announced(&configs.announcements, observed.now));
    let replicas = part.take(replicas::plan(
        observed,
        written,
        is_rolling,
        &configs.in_force,
    ));
    let moved = Moved {
        memo,
        configs,
        replicas,
        is_rolling,
        writes_template,
    };
    (moved, part)
}
