//! The keys of the configuration as an engine tells them, and the few values that the operator has to know before an engine runs.

use std::fmt;

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

/// Where a user says what a key of the operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// A field of the Aof2Cluster.
    Field(&'static str),
    /// Another key of the file.
    Key(&'static str),
    /// Nowhere: the operator decides alone.
    Nothing,
}

impl fmt::Display for Instead {
    /// What the user does with such a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => write!(f, "remove it and set `{field}` of the Aof2Cluster"),
            Self::Key(key) => write!(f, "remove it and set `{key}`"),
            Self::Nothing => f.write_str("remove it, the operator sets it"),
        }
    }
}

/// Keys that a user's file must not hold. An engine tells them in its schema; the operator refuses them before any engine runs.
pub const OPERATOR_KEYS: &[(&str, Instead)] = &[
    ("operator.revision", Instead::Nothing),
    ("cluster.id", Instead::Nothing),
    ("cluster.name", Instead::Field("metadata.name")),
    ("cluster.namespace", Instead::Field("metadata.namespace")),
    ("node.name", Instead::Nothing),
    ("listen.data_socket", Instead::Nothing),
    ("listen.admin_socket", Instead::Nothing),
    ("listen.admin_address", Instead::Nothing),
    ("listen.http_address", Instead::Nothing),
    ("tls.directory", Instead::Nothing),
    ("tls.client_name", Instead::Nothing),
    ("storage.directory", Instead::Field("spec.storage.tier0")),
    (
        "storage.tier1_directory",
        Instead::Field("spec.storage.tier1"),
    ),
    (
        "storage.capacity_bytes",
        Instead::Field("spec.storage.tier0.size"),
    ),
    (
        "tier0.instance_quota_bytes",
        Instead::Key("tier0.cluster_max_bytes"),
    ),
    ("tier2.endpoint", Instead::Field("spec.tier2.endpoint")),
    ("tier2.region", Instead::Field("spec.tier2.region")),
    ("tier2.bucket", Instead::Field("spec.tier2.bucket")),
    ("tier2.prefix", Instead::Field("spec.tier2.prefix")),
    ("tier2.addressing", Instead::Field("spec.tier2.addressing")),
    ("tier2.checksum", Instead::Field("spec.tier2.checksum")),
    (
        "tier2.credentials_directory",
        Instead::Field("spec.tier2.credentials"),
    ),
    ("tier2.ca_file", Instead::Field("spec.tier2.caBundle")),
];

/// Tables that hold keys of both; every other table of [`OPERATOR_KEYS`] is the operator's as a whole.
pub const SHARED_TABLES: &[&str] = &["tier0", "tier2"];

/// `None` where the key is the user's.
pub const fn operator_key(key: &str) -> Option<Instead> {
    let mut at = 0;
    while at < OPERATOR_KEYS.len() {
        if is_same(OPERATOR_KEYS[at].0, key) {
            return Some(OPERATOR_KEYS[at].1);
        }
        at += 1;
    }
    None
}

/// Strings cannot be compared in constants otherwise.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

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
