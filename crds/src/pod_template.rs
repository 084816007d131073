//! What the user adds to the pods: labels, annotations, and containers beside the engine.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schema;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PodTemplate {
    #[serde(default, skip_serializing_if = "PodTemplateMetadata::is_empty")]
    pub metadata: PodTemplateMetadata,
    /// A pod's spec. With containers in it the engine runs as a native sidecar. The API server validates it in a dry run of the StatefulSet.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "schema::open_object")]
    pub spec: Map<String, Value>,
}

impl PodTemplate {
    pub fn is_empty(&self) -> bool {
        let Self { metadata, spec } = self;
        metadata.is_empty() && spec.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PodTemplateMetadata {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

impl PodTemplateMetadata {
    pub fn is_empty(&self) -> bool {
        let Self {
            labels,
            annotations,
        } = self;
        labels.is_empty() && annotations.is_empty()
    }
}
