//! What a rollout remembers between two looks: its whole memory, in status. What the cluster reports outranks it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::names;
use crate::schema;

names! {
    /// What differs between the pods that are done and those that are not.
    pub enum RolloutKind {
        /// The engine's version, and with it any change of the template.
        Version,
        /// The pod template alone: the user's containers, resources, labels.
        Template,
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
    }
}

/// The memo. Absent: no rollout runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    pub kind: RolloutKind,
    /// Engine version (kind Version) or template revision that the pods had.
    #[schemars(length(max = 253))]
    pub from: String,
    /// Engine version (kind Version) or template revision that they get.
    #[schemars(length(max = 253))]
    pub to: String,
    /// Template revision that `to` became; empty until it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub revision: String,
    pub step: RolloutStep,
    /// When the rollout began.
    #[schemars(schema_with = "schema::time")]
    pub started_at: Time,
    /// When the step began.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
    /// End of the soak, or of the pause before the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub until: Option<Time>,
    /// The one pod that is on its way; absent in step `Planned`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<RolloutPod>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPod {
    #[schemars(length(max = 63))]
    pub name: String,
    /// Of the pod that is to go; a pod with another uid is its successor.
    #[schemars(length(max = 63))]
    pub uid: String,
    /// Drains that ended without a token, in a row: the pause before the next grows with it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_drains: i32,
    /// Given by the engine; removing the pod needs it, unexpired.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub drain_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub drain_expires_at: Option<Time>,
    /// Written once, when the soak begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Where recovery was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayProgress>,
}

/// What a soak is measured against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// Of the process that soaks: another one begins the soak anew.
    #[schemars(length(max = 40))]
    pub process_start: String,
}

/// Progress in steps of 5 percent, so that a replay does not write status all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayProgress {
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
}
