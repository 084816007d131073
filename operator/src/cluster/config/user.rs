//! The user's `aof2.toml`. The engine knows the keys; the operator only looks for its own among them.

use toml::{Table, Value};

pub use aof2_admin_api::schema::MAX_FILE_BYTES;

/// Tables of the operator, and where the user says the same.
const OWNED_TABLES: [(&str, &str); 6] = [
    (
        "operator",
        "nothing: the operator keeps its own notes there",
    ),
    ("cluster", "metadata.name of the Aof2Cluster"),
    ("node", "nothing: it is the pod's name"),
    ("listen", "nothing: ports and sockets are fixed"),
    ("tls", "nothing: the operator issues the certificates"),
    ("storage", "spec.storage of the Aof2Cluster"),
];

/// Keys of the operator in tables that the user shares.
const OWNED_KEYS: [(&str, &str, &str); 8] = [
    (
        "tier0",
        "instance_quota_bytes",
        "tier0.cluster_max_bytes, which is shared over spec.replicas",
    ),
    (
        "tier2",
        "endpoint",
        "spec.tier2.endpoint of the Aof2Cluster",
    ),
    ("tier2", "region", "spec.tier2.region of the Aof2Cluster"),
    ("tier2", "bucket", "spec.tier2.bucket of the Aof2Cluster"),
    ("tier2", "prefix", "spec.tier2.prefix of the Aof2Cluster"),
    (
        "tier2",
        "addressing",
        "spec.tier2.addressing of the Aof2Cluster",
    ),
    (
        "tier2",
        "credentials_directory",
        "spec.tier2.credentials of the Aof2Cluster",
    ),
    ("tier2", "ca_file", "spec.tier2.caBundle of the Aof2Cluster"),
];

/// Why a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "the file has {bytes} bytes, and at most {MAX_FILE_BYTES} are allowed; leave out comments and keys at their defaults"
    )]
    TooLarge { bytes: usize },
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("key {key} belongs to the operator; remove it and use {instead}")]
    Owned { key: String, instead: String },
    #[error("key {key}: {value} is not {expected}")]
    WrongValue {
        key: String,
        value: String,
        expected: &'static str,
    },
}

/// What the user set, parsed; without a file, nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserConfig {
    pub(super) table: Table,
}

impl UserConfig {
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge { bytes: text.len() });
        }
        let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text
                .as_bytes()
                .iter()
                .take(start)
                .filter(|byte| **byte == b'\n')
                .count()
                + 1;
            ConfigError::Syntax {
                line,
                message: error.message().to_owned(),
            }
        })?;
        refuse_owned(&table)?;
        Ok(Self { table })
    }
}

fn refuse_owned(table: &Table) -> Result<(), ConfigError> {
    for (name, instead) in OWNED_TABLES {
        if table.contains_key(name) {
            return Err(ConfigError::Owned {
                key: name.to_owned(),
                instead: instead.to_owned(),
            });
        }
    }
    for (name, key, instead) in OWNED_KEYS {
        let is_set = table
            .get(name)
            .and_then(Value::as_table)
            .is_some_and(|table| table.contains_key(key));
        if is_set {
            return Err(ConfigError::Owned {
                key: format!("{name}.{key}"),
                instead: instead.to_owned(),
            });
        }
    }
    // The one key whose value the operator needs, and tables that it writes into.
    for name in ["tier0", "tier2"] {
        if let Some(value) = table.get(name).filter(|value| !value.is_table()) {
            return Err(ConfigError::WrongValue {
                key: name.to_owned(),
                value: value.to_string(),
                expected: "a table",
            });
        }
    }
    match table
        .get("tier0")
        .and_then(|tier0| tier0.get("cluster_max_bytes"))
    {
        Some(Value::Integer(bytes)) if *bytes > 0 => Ok(()),
        Some(value) => Err(ConfigError::WrongValue {
            key: "tier0.cluster_max_bytes".to_owned(),
            value: value.to_string(),
            expected: "a positive number of bytes",
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_operator_are_refused_naming_the_field_to_use() {
        for (text, key, instead) in [
            ("[cluster]\nname = 'x'", "cluster", "metadata.name"),
            ("[storage]\ndirectory = '/x'", "storage", "spec.storage"),
            (
                "[tier0]\ninstance_quota_bytes = 1",
                "tier0.instance_quota_bytes",
                "spec.replicas",
            ),
            ("[tier2]\nbucket = 'b'", "tier2.bucket", "spec.tier2.bucket"),
            (
                "tier2 = { ca_file = '/x' }",
                "tier2.ca_file",
                "spec.tier2.caBundle",
            ),
        ] {
            let error = UserConfig::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("key {key} ")) && error.contains(instead),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_syntax_error_names_the_line() {
        let error = UserConfig::parse("[tier0]\ncluster_max_bytes = 1\n[log\n").unwrap_err();
        assert!(
            matches!(&error, ConfigError::Syntax { line: 3, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_budget_that_cannot_be_shared_is_refused() {
        for text in [
            "[tier0]\ncluster_max_bytes = 0",
            "[tier0]\ncluster_max_bytes = '12Gi'",
            "tier0 = 3",
        ] {
            let error = UserConfig::parse(text).unwrap_err();
            assert!(
                matches!(error, ConfigError::WrongValue { .. }),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused_with_both_sizes() {
        let error = UserConfig::parse(&"#".repeat(MAX_FILE_BYTES + 1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("16385") && error.contains("16384"),
            "{error}"
        );
        assert!(UserConfig::parse(&"#".repeat(MAX_FILE_BYTES)).is_ok());
    }
}
