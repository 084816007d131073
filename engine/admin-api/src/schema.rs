//! The keys of the configuration as an engine tells them, and the few values that the operator has to know before an engine runs.

use serde::{Deserialize, Serialize};

use crate::report::Reload;

/// Budget of Tier 0 over all pods of an engine that has none configured. The operator divides it among the pods.
pub const CLUSTER_MAX_BYTES: u64 = 12 << 30;
/// Largest configuration file, so that a few hundred of them fit into one ConfigMap.
pub const MAX_FILE_BYTES: usize = 16 * 1024;
/// Of the admin API over mutual TLS.
pub const ADMIN_PORT: u16 = 7421;
/// Of probes and metrics.
pub const HTTP_PORT: u16 = 7422;

/// Answer of `GET /aof2/config/schema`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSchema {
    pub keys: Vec<ConfigKey>,
    /// Of the engine.
    pub version: String,
}

impl ConfigSchema {
    pub fn key(&self, key: &str) -> Option<&ConfigKey> {
        self.keys.iter().find(|known| known.key == key)
    }
}

/// Values are text as a file has them, but without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigKey {
    /// Dotted, e.g. `tier0.cluster_max_bytes`.
    pub key: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    pub reload: Reload,
    pub owner: ConfigOwner,
    /// Where the user of an operator says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cr_field: Option<String>,
    pub doc: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOwner {
    User,
    /// Refused in a user's file.
    Operator,
    #[serde(other)]
    Unknown,
}
