//! What has to be asked before a plan can be made, and is not to be read anywhere: whether the API server takes a template, and whether an
//! engine takes a configuration. Asking changes nothing (`cluster::ask`).

use std::net::IpAddr;

use aof2_admin_api::report::{
    ConfigChange, ConfigVerdict, Reload, RetentionLimits, ShortenedRetention,
};
use aof2_admin_api::storage::ShortenedForecast;
use aof2_crds::Quantity;
use aof2_crds::cluster::OperationMode;
use aof2_crds::status::{Announcement, KeyChange, MAX_CHANGES};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{config::read_source, expansion, shares::Shares, told::rendered};
use crate::{
    cluster::{
        build::{self, Owner, stateful_set::StatefulSet, template},
        facts::{ConfigSource, Observed},
        memo::Memo,
        validate,
    },
    config_rollout::{
        ConfigStep, Verdict,
        retention::Shortened,
        takes::{self, Count, Takes},
    },
    kube::PodTarget,
    machine::bounded,
    names,
    rollout::UpgradeStep,
};

#[derive(Debug, Default)]
pub struct Questions {
    pub template: Option<TemplateQuestion>,
    pub config: Option<ConfigQuestion>,
    /// Would this pod be evicted?
    pub eviction: Option<PodTarget>,
    pub count: Option<CountQuestion>,
}

impl Questions {
    pub fn is_empty(&self) -> bool {
        self.template.is_none()
            && self.config.is_none()
            && self.eviction.is_none()
            && self.count.is_none()
    }
}

/// Would the API server take this?
#[derive(Debug)]
pub struct TemplateQuestion {
    /// Of the cluster.
    pub uid: String,
    /// Of the template.
    pub digest: String,
    pub stateful_set: Box<StatefulSet>,
}

/// What an engine is asked about a revision before anybody gets it.
#[derive(Debug)]
pub struct ConfigQuestion {
    pub pod: String,
    /// Of its engine.
    pub version: String,
    pub ip: IpAddr,
    /// As the user wrote it, so that line numbers are the user's; absent without a source.
    pub user_text: Option<String>,
    /// As the pod would get it.
    pub pod_text: String,
}

/// What all engines are asked about rules of retention that are announced.
#[derive(Debug)]
pub struct CountQuestion {
    /// Of the cluster.
    pub uid: String,
    /// The rules, as a file.
    pub rules: String,
    /// Every pod that there is to be; without an address: it does not answer.
    pub pods: Vec<(String, Option<IpAddr>)>,
    /// Only where the verdict on the same rules has news.
    announced: Option<Vec<Announcement>>,
    now: Timestamp,
}

impl CountQuestion {
    /// The rules are validated in the same look: what was said of them before may be of other rules in use.
    pub fn is_of_verdict(&self) -> bool {
        self.announced.is_some()
    }

    /// `verdict`: on the same rules, where they are validated now.
    pub fn is_asked(&self, verdict: Option<&Verdict>) -> bool {
        match (&self.announced, verdict) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(announced), Some(verdict)) => {
                verdict.errors.is_empty()
                    && takes::is_wanted(announced, &verdict.shortened, self.now)
            }
        }
    }
}

pub fn questions(observed: &Observed) -> Questions {
    let config = config(observed);
    Questions {
        template: template(observed),
        count: count(observed, config.is_some()),
        config,
        eviction: eviction(observed),
    }
}

/// Nobody is asked where the answer would not be kept.
fn count(observed: &Observed, is_validated: bool) -> Option<CountQuestion> {
    let status = observed.cluster.status.as_ref()?;
    let is_blind = observed.unread.iter().any(|it| it.what.is_essential());
    if is_blind || observed.cluster.spec.operation.mode == OperationMode::Paused {
        return None;
    }
    let memo = Memo::read(status.rollout.as_ref()?)?;
    let memo = memo.config()?;
    let is_due = match memo.step {
        ConfigStep::Validating => is_validated,
        // From the next step on a pod may have the new rules.
        ConfigStep::Preflight => takes::is_due(&status.announcements, observed.now),
        ConfigStep::Canary
        | ConfigStep::Observing
        | ConfigStep::Rolling
        | ConfigStep::Reverting
        | ConfigStep::Held => false,
    };
    let candidate = read_source(observed).ok();
    let candidate = candidate.filter(|candidate| is_due && candidate.hash == memo.to)?;
    let replicas = observed.stateful_set.as_ref()?.replicas;
    let pods = names::pods(
        &observed.cluster.name_any(),
        replicas.clamp(0, names::MAX_ORDINAL),
    )
    .into_iter();
    let pods = pods.map(|name| {
        let pod = observed.pods.iter().find(|pod| pod.name == name);
        let ip = pod.and_then(|pod| pod.ip);
        let ip = ip.filter(|_| observed.answer(&name).is_some());
        (name, ip)
    });
    Some(CountQuestion {
        uid: observed.cluster.uid().unwrap_or_default(),
        rules: candidate.retention_text(),
        pods: pods.collect(),
        announced: (memo.step == ConfigStep::Validating).then(|| status.announcements.clone()),
        now: observed.now,
    })
}

/// What one engine answered.
pub fn counts(shortened: Vec<ShortenedForecast>) -> Vec<Count> {
    let count = |it: ShortenedForecast| Count {
        change: of_change(&it.change),
        takes: Takes {
            bytes: it.takes.now.bytes,
            records: it.takes.now.records,
            segments: it.takes.now.segments,
        },
    };
    shortened.into_iter().map(count).collect()
}

/// The pod that a rollout drains next, if it serves.
fn eviction(observed: &Observed) -> Option<PodTarget> {
    let status = observed.cluster.status.as_ref()?;
    let Memo::Upgrade(memo) = Memo::read(status.rollout.as_ref()?)? else {
        return None;
    };
    let chosen = memo.pod.filter(|_| memo.step == UpgradeStep::Preflight)?;
    let pod = observed.pods.iter().find(|pod| pod.uid == chosen.uid)?;
    pod.is_ready.then(|| PodTarget {
        namespace: observed.cluster.namespace().unwrap_or_default(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    })
}

/// A template that is not written yet.
fn template(observed: &Observed) -> Option<TemplateQuestion> {
    let cluster = &observed.cluster;
    let digest = template::digest(&cluster.spec, &observed.image_repository);
    let written = observed.stateful_set.as_ref();
    if written.is_some_and(|written| written.template == digest)
        || validate::validate(observed).is_err()
    {
        return None;
    }
    let owner = Owner::of(cluster)?;
    let stateful_set = build::stateful_set::build(
        &owner,
        &expansion::as_created(observed, &cluster.spec),
        observed.cluster_id(),
        written.map_or(cluster.spec.replicas, |written| written.replicas),
        observed.platform(),
        written.is_none_or(|written| written.protects_claims),
    );
    Some(TemplateQuestion {
        uid: cluster.uid().unwrap_or_default(),
        digest,
        stateful_set: Box::new(stateful_set),
    })
}

/// `None`: nobody has to be asked, or can be.
fn config(observed: &Observed) -> Option<ConfigQuestion> {
    let status = observed.cluster.status.as_ref()?;
    let memo = Memo::read(status.rollout.as_ref()?)?;
    let memo = memo
        .config()
        .filter(|memo| memo.step == ConfigStep::Validating)?;
    let candidate = read_source(observed)
        .ok()
        .filter(|candidate| candidate.hash == memo.to)?;
    let (pod, version) = observed.pods.iter().rev().find_map(|pod| {
        let dump = &observed.answer(&pod.name)?.dump;
        let may_be_asked =
            pod.deletion.is_none() && pod.ip.is_some() && dump.ready && dump.refusal.is_none();
        may_be_asked.then(|| (pod, dump.version.clone()))
    })?;
    let replicas = observed
        .stateful_set
        .as_ref()
        .map_or(observed.cluster.spec.replicas, |set| set.replicas);
    let owner = Owner::of(&observed.cluster)?;
    let shares = Shares::plan(observed, &candidate, replicas, true);
    Some(ConfigQuestion {
        pod: pod.name.clone(),
        version,
        ip: pod.ip?,
        user_text: match &observed.config_source {
            ConfigSource::Found { text, .. } => {
                Some(text.trim_start_matches('\u{feff}').to_owned())
            }
            ConfigSource::Unset
            | ConfigSource::MissingMap { .. }
            | ConfigSource::MissingKey { .. }
            | ConfigSource::Binary { .. }
            | ConfigSource::Unreadable { .. } => None,
        },
        pod_text: rendered(
            observed,
            &owner,
            &candidate,
            &pod.name,
            &status.cluster_id,
            shares.of(&pod.name, candidate.cluster_max_bytes()),
        ),
    })
}

/// The engine's answer, without what differs from pod to pod.
pub fn verdict(pod: String, version: String, answer: ConfigVerdict) -> Verdict {
    let short = |text: &str| bounded(text, 128);
    let errors = match (answer.valid, answer.errors.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec!["the engine rejects it without a reason".to_owned()],
        (false, false) => answer.errors,
    };
    Verdict {
        pod,
        version: bounded(&version, 64),
        errors,
        changes: answer
            .changes
            .iter()
            .filter(|change| {
                !change.key.starts_with("operator.") && change.key != "tier0.instance_quota_bytes"
            })
            .take(MAX_CHANGES)
            .map(|change| KeyChange {
                key: short(&change.key),
                from: short(&change.from),
                to: short(&change.to),
                reload: match change.reload {
                    Reload::Hot => "Hot",
                    // What this version does not know may need one.
                    Reload::Restart | Reload::Unknown => "Restart",
                }
                .to_owned(),
            })
            .collect(),
        shortened: shortened(answer.shortened_retention, &answer.changes),
    }
}

/// What is kept for less. An engine that does not compare the rules says only that they differ, which may mean anything.
fn shortened(told: Option<Vec<ShortenedRetention>>, changes: &[ConfigChange]) -> Vec<Shortened> {
    let short = |text: &str| bounded(text, 128);
    match told {
        Some(told) => {
            let mut changes: Vec<Shortened> = Vec::new();
            for change in told.iter().map(of_change) {
                // Of two pairs of rules that read alike nobody can tell one from the other.
                if !changes.contains(&change) {
                    changes.push(change);
                }
            }
            changes
        }
        None => changes
            .iter()
            .filter(|change| change.key == "retention")
            .map(|change| Shortened {
                streams: "*".to_owned(),
                from: short(&change.from),
                to: short(&change.to),
            })
            .collect(),
    }
}

fn of_change(told: &ShortenedRetention) -> Shortened {
    let short = |text: &str| bounded(text, 128);
    Shortened {
        streams: short(&told.streams),
        from: short(&kept(&told.from)),
        to: short(&kept(&told.to)),
    }
}

fn kept(limits: &RetentionLimits) -> String {
    let bytes = limits.max_bytes.map(Quantity::from_bytes);
    match (&limits.max_age, bytes) {
        (None, None) => "everything".to_owned(),
        (Some(age), None) => age.clone(),
        (None, Some(bytes)) => bytes.to_string(),
        (Some(age), Some(bytes)) => format!("{age} and at most {bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{at_rest, observed};

    #[test]
    fn a_template_is_asked_about_until_it_is_written_and_only_if_its_spec_can_be_followed() {
        let asked = |observed: &Observed| questions(observed).template.is_some();
        assert!(asked(&observed()), "a new cluster");
        assert!(!asked(&at_rest()));
        let mut changed = at_rest();
        changed.cluster.spec.version = "0.1.1".into();
        assert!(asked(&changed));
        let fields = &mut changed.cluster.spec.pod_template.spec;
        fields.insert("restartPolicy".into(), "Never".into());
        assert!(!asked(&changed), "refused without asking");
    }
}
