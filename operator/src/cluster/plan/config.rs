//! What the engines are to work by.
//!
//! What `spec.configFrom` and `spec.tier2` say becomes a revision, an immutable ConfigMap. The first is in force at once; another
//! one is rolled out (`config_rollout`), which decides what each pod is told.

use aof2_crds::{
    Gate, WaitReason,
    status::{Announcement, ConfigSourceStatus, ConfigStatus},
};

use super::{Part, volume_sum};
use crate::{
    cluster::{
        build::{self, Owner},
        config::{Revision, UserConfig},
        facts::{ConfigSource, Observed, Read},
        memo::Memo,
    },
    config_rollout::{self, retention, takes},
    machine::quoted,
    names,
};

/// What the engines are to work by.
#[derive(Clone, Debug)]
pub struct Configs {
    pub status: ConfigStatus,
    /// The revision that pods have while nothing is rolled out.
    pub in_force: Revision,
    /// What the source makes; `None`: it cannot be read.
    pub candidate: Option<Revision>,
    /// What the candidate keeps for less.
    pub announcements: Vec<Announcement>,
}

impl Configs {
    /// A revision by its name, from wherever it is known.
    pub fn named(&self, observed: &Observed, hash: &str) -> Option<Revision> {
        [Some(&self.in_force), self.candidate.as_ref()]
            .into_iter()
            .flatten()
            .find(|known| known.hash == hash)
            .cloned()
            .or_else(|| stored(observed, hash))
    }

    /// The revision that a pod is told now.
    pub fn told_to(&self, observed: &Observed, memo: Option<&Memo>, pod: &str) -> Option<Revision> {
        let memo = memo.and_then(Memo::config);
        let hash = config_rollout::told(memo, &self.in_force.hash, pod);
        self.named(observed, hash)
            .or_else(|| Some(self.in_force.clone()))
    }
}

/// Decides on the revision in force and writes it. `None`: there is none, and nothing can be created.
pub fn plan(observed: &Observed, owner: &Owner, memo: Option<&Memo>) -> (Option<Configs>, Part) {
    let mut part = Part::default();
    let mut status = observed
        .cluster
        .status
        .as_ref()
        .map(|status| status.config.clone())
        .unwrap_or_default();
    let read = read_source(observed);
    let known = in_force(&status, memo).to_owned();
    // A first configuration that no engine could start with was never in force: its correction is a first one too.
    let is_first = known.is_empty() || was_never_loaded(observed, &status);
    let revision = match (&read, is_first) {
        (Ok(revision), true) => {
            status.source = source_status(observed);
            status.target = revision.hash.clone();
            Some(revision.clone())
        }
        (Err(problem), true) if known.is_empty() => {
            part.wait(Gate::Config, problem.reason, "", &problem.message);
            return (None, part);
        }
        (Ok(candidate), false) if candidate.hash == known => {
            status.source = source_status(observed);
            Some(candidate.clone())
        }
        (Ok(_), false) => stored(observed, &known),
        (Err(problem), true | false) => {
            part.wait(
                Gate::Config,
                problem.reason,
                "",
                format!("{}. The engines keep config {known}", problem.message),
            );
            stored(observed, &known)
        }
    };
    let Some(in_force) = revision else {
        if observed.is_unread(Read::Revisions) {
            part.wait(
                Gate::ObjectsRead,
                WaitReason::ReadFailed,
                "",
                format!("Config {known} in force cannot be read. The operator retries, and pods stay as they are"),
            );
            return (None, part);
        }
        // Seldom: somebody deleted the revision and changed the source too. The pods still hold their files.
        let message = format!(
            "ConfigMap {} is missing. It holds config {known}, which the engines run. Restore spec.configFrom to what made it, and the operator creates it again",
            names::config_revision(&owner.name, &known)
        );
        part.wait(Gate::Config, WaitReason::ConfigMapMissing, "", message);
        return (None, part);
    };
    part.apply(build::config_map::revision(owner, &in_force));
    let announced = observed.cluster.status.as_ref();
    let announced = announced.map(|status| status.announcements.clone());
    let configs = Configs {
        status,
        in_force,
        candidate: read.ok(),
        announcements: retention::effective(
            takes::counted(
                announced.unwrap_or_default(),
                observed.answers.counts.as_ref(),
                observed.now,
            ),
            observed.cluster.spec.retention_notice,
        ),
    };
    (Some(configs), part)
}

/// The revision that pods have while nothing is rolled out; empty before the first.
///
/// Before the first was loaded everywhere there is no last good one, and a change may be under way all the same: what it began with.
fn in_force<'a>(config: &'a ConfigStatus, memo: Option<&'a Memo>) -> &'a str {
    match (config.last_good.as_str(), memo) {
        ("", Some(Memo::Config(memo))) => &memo.from,
        ("", Some(Memo::Upgrade(_)) | None) => &config.target,
        (last_good, _) => last_good,
    }
}

fn stored(observed: &Observed, hash: &str) -> Option<Revision> {
    observed
        .revision_texts
        .get(hash)
        .and_then(|text| Revision::read(hash, text))
}

/// Why the source cannot be read.
pub struct Problem {
    reason: WaitReason,
    message: String,
}

pub fn read_source(observed: &Observed) -> Result<Revision, Problem> {
    let tier2 = observed.cluster.spec.tier2.as_ref();
    let user = match &observed.config_source {
        ConfigSource::Unset => UserConfig::default(),
        ConfigSource::MissingMap { name } => {
            let message =
                format!("ConfigMap {name} does not exist. Create it or correct spec.configFrom");
            return Err(Problem {
                reason: WaitReason::ConfigMapMissing,
                message,
            });
        }
        ConfigSource::MissingKey { name, key } => {
            let message = format!(
                "ConfigMap {name} has no key {key}. Add the key or correct spec.configFrom.configMapRef.key"
            );
            return Err(Problem {
                reason: WaitReason::ConfigMapMissing,
                message,
            });
        }
        ConfigSource::Binary {
            name,
            key,
            is_utf16,
        } => {
            let what = match is_utf16 {
                true => "UTF-16",
                false => "binary (not UTF-8)",
            };
            let message = format!(
                "Key {key} of ConfigMap {name} is {what}. Save the file as UTF-8 and create the ConfigMap again"
            );
            return Err(Problem {
                reason: WaitReason::ConfigInvalid,
                message,
            });
        }
        ConfigSource::Unreadable { name, message } => {
            return Err(Problem {
                reason: WaitReason::ReadFailed,
                message: format!(
                    "ConfigMap {name} cannot be read ({}). The operator retries",
                    quoted(message)
                ),
            });
        }
        ConfigSource::Found { name, text, .. } => {
            UserConfig::parse(text).map_err(|error| Problem {
                reason: WaitReason::ConfigInvalid,
                message: format!("ConfigMap {name} rejected ({error}). Correct it"),
            })?
        }
    };
    let revision = Revision::new(&user, tier2);
    let storage = &observed.cluster.spec.storage;
    let is_known = revision.hash == known_hash(observed);
    let budgets = volume_sum::budgets(&revision, storage, observed.cluster.spec.replicas);
    volume_sum::journal(&revision, storage)
        // A revision in force stays: what its volumes hold was seen.
        .and(if is_known { Ok(()) } else { budgets })
        .map_err(|message| Problem {
            reason: WaitReason::ConfigInvalid,
            message,
        })?;
    Ok(revision)
}

/// Of the revision that every engine loaded last.
fn known_hash(observed: &Observed) -> &str {
    let status = observed.cluster.status.as_ref();
    status.map_or("", |status| &status.config.last_good)
}

fn was_never_loaded(observed: &Observed, config: &ConfigStatus) -> bool {
    config.last_good.is_empty()
        && observed
            .pods
            .iter()
            .all(|pod| !pod.engine.is_running && observed.answer(&pod.name).is_none())
}

pub fn source_status(observed: &Observed) -> Option<ConfigSourceStatus> {
    match &observed.config_source {
        ConfigSource::Found {
            name,
            resource_version,
            ..
        } => Some(ConfigSourceStatus {
            name: name.clone(),
            resource_version: resource_version.clone(),
        }),
        ConfigSource::Unset
        | ConfigSource::MissingMap { .. }
        | ConfigSource::MissingKey { .. }
        | ConfigSource::Binary { .. }
        | ConfigSource::Unreadable { .. } => None,
    }
}
