//! What the machine is told. What was not reported is `None`, and holds.

use std::collections::BTreeMap;

use jiff::Timestamp;

use aof2_crds::{Duration, cluster::OnFailure, status::KeyChange};

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
    pub policy: Policy,
    pub overrides: Vec<Override>,
    /// By ordinal.
    pub pods: Vec<PodFacts>,
    /// Name of the ConfigMap for the evidence.
    pub evidence: String,
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
    pub activation_queue_depth: u64,
}

/// Refused appends a second by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Over the last minute.
    pub minute: BTreeMap<String, f64>,
    /// Over what is known of the last five minutes, at least one.
    pub past: BTreeMap<String, f64>,
}

impl Facts {
    pub(super) fn pod(&self, name: &str) -> Option<&PodFacts> {
        self.pods.iter().find(|pod| pod.name == name)
    }
}
