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
        /// One pod is told.
        Canary,
        /// It works by it, and is watched against the others and its own past.
        Observing,
        /// The others are told.
        Rolling,
        /// Every pod is told what it had before.
        Reverting,
        /// A gate failed and `onFailure` is Pause: a person decides.
        Held,
    }
}

/// The memo. Absent: no rollout runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub kind: RolloutKind,
    /// Engine version (kind Version) or template revision (kind Template) that the pods had.
    #[schemars(length(max = 64))]
    pub from: String,
    /// Engine version or template revision that they get.
    #[schemars(length(max = 64))]
    pub to: String,
    /// Template revision that they get; of kind Version too, and empty for kind Config.
    #[schemars(length(max = 63))]
    pub revision: String,
    pub step: RolloutStep,
    #[schemars(schema_with = "schema::time")]
    pub started_at: Time,
    /// When the step began.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
    /// End of the soak, or of the pause before the next drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub until: Option<Time>,
    /// Of kind Config: when it counts as failed, time held included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub deadline: Option<Time>,
    /// Of kind Config: what the engines reported before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Of kind Config: the gate for which it is reverted or held; absent, it is reverted since something else is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<GateFailure>,
    /// Uids of the pods that need no more: they soaked on the target, or served on it when it was set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 63)))]
    pub done: Vec<String>,
    /// The one pod that is on its way; absent in step `Planned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<RolloutPod>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPod {
    #[schemars(length(max = 63))]
    pub name: String,
    /// Of the pod that is to go, then of its successor; empty while there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub uid: String,
    /// Schema version of the manifest with which the pod that is to go replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = u32::MAX))]
    pub replay_version: Option<u32>,
    /// A drain was asked for in this step.
    #[serde(default)]
    pub drain_requested: bool,
    /// Drains that ended without the pod going, in a row: the pause before the next grows with them.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 1000))]
    pub failed_drains: u32,
    /// Why the last drain failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Given by the engine; removing the pod needs it, unexpired.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub drain_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub drain_expires_at: Option<Time>,
    /// Of kind Config: since when the pod is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub unready_since: Option<Time>,
    /// Where recovery was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayProgress>,
    /// Written once, when the soak begins.
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
    /// Of the process that is watched: another one begins anew.
    #[schemars(length(max = 40))]
    pub process_start: String,
    /// Failed flushes of that process when the watch began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = schema::MAX_INTEGER))]
    pub flush_failures: Option<u64>,
    /// Refused appends a second by kind, before the change: `0.5/s`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, RateText>")]
    pub would_block: BTreeMap<String, String>,
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
