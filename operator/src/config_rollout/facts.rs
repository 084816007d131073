//! What the machine is told. What was not reported is `None`, and holds.

use std::collections::BTreeMap;

use jiff::Timestamp;

use aof2_crds::{
    Duration,
    cluster::OnFailure,
    status::{Announcement, KeyChange},
};

use super::retention::Shortened;
use crate::machine::{Override, Wait};

#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the look.
    pub now: Timestamp,
    /// The revision that pods have while nothing is rolled out.
    pub in_force: String,
    /// What the source makes; `None`: it cannot be read now.
    pub candidate: Option<String>,
    /// Every pod ran the candidate before: going back to it needs neither healthy pods nor a canary.
    pub is_return: bool,
    /// The candidate was refused or reverted before, and is not tried again by itself.
    pub is_barred: bool,
    /// What an engine says about the candidate, once asked.
    pub verdict: Option<Verdict>,
    /// A change of version or template is wanted or under way: it goes first.
    pub is_upgrading: bool,
    /// The change needs engines to restart, as the engine that validated it said.
    pub needs_restart: bool,
    /// The change gives Tier 0 more bytes and Tier 1 none.
    pub tier0_raise: Option<Tier0Raise>,
    /// What the change keeps for less, and from when on it may.
    pub announcements: Vec<Announcement>,
    /// The rules of retention differ, whatever they say.
    pub changes_retention: bool,
    pub policy: Policy,
    pub overrides: Vec<Override>,
    /// By ordinal.
    pub pods: Vec<PodFacts>,
    /// Name of the ConfigMap for the evidence.
    pub evidence: String,
}

/// Of `tier0.cluster_max_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier0Raise {
    pub from_bytes: u64,
    pub to_bytes: u64,
}

impl Tier0Raise {
    pub fn of(changes: &[KeyChange]) -> Option<Self> {
        let ends = |key: &str| {
            let change = changes.iter().find(|change| change.key == key)?;
            let parsed = |text: &str| text.parse::<u64>().ok();
            Some((parsed(&change.from)?, parsed(&change.to)?))
        };
        let (from_bytes, to_bytes) = ends("tier0.cluster_max_bytes")?;
        // 0 = no limit.
        let raises_tier1 = ends("tier1.max_bytes").is_some_and(|(from, to)| to == 0 || to > from);
        (to_bytes > from_bytes && !raises_tier1).then_some(Self {
            from_bytes,
            to_bytes,
        })
    }
}

/// `spec.configRollout`.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub observation_window: Duration,
    pub progress_deadline: Duration,
    pub on_failure: OnFailure,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub pod: String,
    pub version: String,
    /// Empty: it is valid.
    pub errors: Vec<String>,
    pub changes: Vec<KeyChange>,
    /// What it keeps for less.
    pub shortened: Vec<Shortened>,
}

#[derive(Clone, Debug)]
pub struct PodFacts {
    pub name: String,
    /// Empty: there is no such pod now.
    pub uid: String,
    /// The kubelet's word; a pod that goes or is on a lost node is not.
    pub is_ready: bool,
    /// Its engine ends again and again.
    pub crashes: Option<String>,
    /// Why its volume would be released with it, or is not the same one.
    pub volume_at_risk: Option<Wait>,
    /// `None`: the engine does not answer.
    pub engine: Option<EngineFacts>,
    /// `None`: not counted for long enough in this process.
    pub rates: Option<Rates>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EngineFacts {
    /// In force in the engine.
    pub revision: String,
    /// Why it refused the newest file.
    pub error: Option<String>,
    /// The revision of that file; `None`: not told.
    pub error_revision: Option<String>,
    pub restart_pending: bool,
    pub process_start: String,
    pub is_ready: bool,
    /// `None`: not reported.
    pub is_caught_up: Option<bool>,
    pub flush_failures: u64,
    /// `None`: not reported.
    pub activation_queue_depth: Option<u64>,
    /// Of reads from Tier 2; 0 where there were none of late.
    pub hydration_p99_ms: f64,
}

/// What an engine did lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Refused appends a second by kind, over the last minute.
    pub minute: BTreeMap<String, f64>,
    /// The same over what is known of the last five minutes, at least one.
    pub past: BTreeMap<String, f64>,
    /// What it kept up for the last minute, of figures of its tiers.
    pub kept_up: BTreeMap<Figure, f64>,
    /// Their mean over what is known of the last five minutes.
    pub mean: BTreeMap<Figure, f64>,
    /// Over the last minute; `None`: not reported.
    pub reads: Option<ReadRates>,
    /// Over what is known of the last ten minutes, at least one.
    pub reads_before: Option<ReadRates>,
}

/// What is watched of the tiers, by the handbook's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    ActivationQueueDepth,
    HydrationP99Ms,
    UploadRetries,
    Tier0Use,
}

/// Bytes of payloads a second that readers got.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadRates {
    pub bytes: f64,
    /// Of these, after a wait for Tier 2.
    pub waited_bytes: f64,
}

impl Figure {
    pub const ALL: [Self; 4] = [
        Self::ActivationQueueDepth,
        Self::HydrationP99Ms,
        Self::UploadRetries,
        Self::Tier0Use,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActivationQueueDepth => "activation_queue_depth",
            Self::HydrationP99Ms => "hydration_latency_p99_ms",
            Self::UploadRetries => "upload_retry_attempts",
            Self::Tier0Use => "total_bytes",
        }
    }
}

impl Facts {
    pub(super) fn pod(&self, name: &str) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.name == name)
    }
}
