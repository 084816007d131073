//! What a rollout remembers between two looks: its whole memory, in status. What the cluster reports outranks it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Gate, WaitReason};
use crate::names::names;
use crate::schema;

names! {
    /// What differs between the pods that are done and those that are not.
    pub enum RolloutKind {
        /// The engine's version, and with it any change of the template.
        Version,
        /// The pod template alone: the user's containers, resources, labels.
        Template,
        /// The engines' configuration; no pod is replaced.
        Config,
    }
}

names! {
    /// Where the current pod stands. A wait does not change the step: it is in `status.waits`.
    pub enum RolloutStep {
        /// Between pods: the next one is chosen.
        Planned,
        /// May the chosen pod go?
        Preflight,
        /// Sealed segments are uploaded, appends go on.
        Uploading,
        /// Admission is closed, the rest is sealed and uploaded.
        Draining,
        /// The pod is being removed; the drain token is written here before.
        Replacing,
        /// The new pod starts, replays and catches up.
        Recovering,
        /// It serves, and is watched.
        Soaking,
        // Of kind Config, beside Preflight.
        /// An engine is asked about the new configuration.
        Validating,
        /// The canary gets it.
        Canary,
        /// The canary runs it, and is compared with the others and its own past.
        Observing,
        /// The other pods get it.
        Rolling,
        /// Every pod gets what it had before.
        Reverting,
        /// A gate failed and `onFailure` is Pause: a person decides.
        Held,
    }
}

/// The running rollout. Absent if none runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub kind: RolloutKind,
    /// Engine version (kind Version), template revision (kind Template) or config (kind Config) before the rollout.
    #[schemars(length(max = 64))]
    pub from: String,
    /// Engine version, template revision or config that the pods get.
    #[schemars(length(max = 64))]
    pub to: String,
    /// Template revision that the pods get. Set for kind Version too, empty for kind Config.
    #[schemars(length(max = 63))]
    pub revision: String,
    pub step: RolloutStep,
    #[schemars(schema_with = "schema::time")]
    pub started_at: Time,
    /// When the step started.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
    /// End of the soak, of the observation or of the pause before the next drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub until: Option<Time>,
    /// When a rollout of kind Config fails. The time in which it is held counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub deadline: Option<Time>,
    /// What the engines reported before a rollout of kind Config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// The gate for which a rollout of kind Config is rolled back or held. Absent if it is rolled back because spec changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<GateFailure>,
    /// UIDs of the finished pods, which soaked on the target or already served on it when it was set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 63)))]
    pub done: Vec<String>,
    /// The pod in progress. Absent in step `Planned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<RolloutPod>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPod {
    #[schemars(length(max = 63))]
    pub name: String,
    /// UID of the pod to be removed, then of its successor. Empty while there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub uid: String,
    /// Manifest version with which the pod to be removed replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = u32::MAX))]
    pub replay_version: Option<u32>,
    /// Whether the operator requested a drain in this step.
    #[serde(default)]
    pub drain_requested: bool,
    /// Number of failed drains in a row. The pause before the next drain grows with it.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub failed_drains: u32,
    /// Why the last drain failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Drain token of the engine. The operator removes the pod only with an unexpired one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub drain_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub drain_expires_at: Option<Time>,
    /// Since when the pod is not ready. Set for kind Config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub unready_since: Option<Time>,
    /// Progress of the replay at the last reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayProgress>,
    /// Values at the start of the soak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// A gate that failed, kept until the next try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    pub gate: Gate,
    pub reason: WaitReason,
    #[schemars(length(max = 512))]
    pub message: String,
}

/// What a soak or an observation is measured against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// Start of the watched process. Another process starts the watch again.
    #[schemars(length(max = 40))]
    pub process_start: String,
    /// Failed flushes of that process at the start of the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = schema::MAX_INTEGER))]
    pub flush_failures: Option<u64>,
    /// Refused appends per second by kind before the change, such as `0.5/s`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, RateText>")]
    pub would_block: BTreeMap<String, String>,
    /// Figures of the tiers before the change, such as `activation_queue_depth: "3.0"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, RateText>")]
    pub figures: BTreeMap<String, String>,
}

/// `0.5/s`
#[derive(JsonSchema)]
#[schemars(inline)]
struct RateText(
    #[schemars(length(max = 32))]
    #[allow(dead_code, reason = "a schema only")]
    String,
);

/// Where evidence is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    pub config_map_ref: EvidenceMap,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceMap {
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A gate that a configuration did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateFailure {
    pub gate: Gate,
    #[schemars(length(max = 512))]
    pub observed: String,
    #[schemars(length(max = 128))]
    pub limit: String,
}

/// Progress in steps of 5 percent, so that a replay does not write status all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayProgress {
    #[schemars(with = "i32", range(min = 0, max = 100))]
    pub percent: u32,
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
}
