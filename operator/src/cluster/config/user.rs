//! The user's `aof2.toml`. The engine knows the keys; the operator only looks for its own among them.

use toml::{Table, Value};

pub use aof2_admin_api::schema::MAX_FILE_BYTES;
use aof2_admin_api::schema::{Instead, OPERATOR_KEYS, SHARED_TABLES};

/// Why a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "the file has {bytes} bytes, the limit is {MAX_FILE_BYTES}; remove comments and keys at their defaults"
    )]
    TooLarge { bytes: usize },
    #[error("the file holds NUL bytes, as UTF-16 without a mark does; save it as UTF-8")]
    NotUtf8,
    #[error("line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("key {key} belongs to the operator; {instead}")]
    Owned { key: String, instead: Instead },
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
        if text.contains('\0') {
            return Err(ConfigError::NotUtf8);
        }
        // Editors of Windows put a mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
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

fn owned(key: &str, instead: Instead) -> ConfigError {
    let key = key.to_owned();
    ConfigError::Owned { key, instead }
}

fn is_in(table: &Table, name: &str, key: &str) -> bool {
    let inner = key
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('.'));
    inner.is_some_and(|inner| table.contains_key(inner))
}

fn refuse_owned(table: &Table) -> Result<(), ConfigError> {
    for (key, instead) in OPERATOR_KEYS {
        let Some((name, inner)) = key.split_once('.') else {
            continue;
        };
        match table.get(name) {
            None => {}
            Some(Value::Table(given)) if given.contains_key(inner) => {
                return Err(owned(key, *instead));
            }
            // Without a key that this operator knows: an engine of another version may know it.
            Some(Value::Table(given))
                if !SHARED_TABLES.contains(&name)
                    && !OPERATOR_KEYS.iter().any(|(key, _)| is_in(given, name, key)) =>
            {
                return Err(owned(name, Instead::Nothing));
            }
            Some(Value::Table(_)) => {}
            // The operator writes into it.
            Some(value) => {
                return Err(ConfigError::WrongValue {
                    key: name.to_owned(),
                    value: value.to_string(),
                    expected: "a table",
                });
            }
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
            ("[cluster]\nname = 'x'", "cluster.name", "metadata.name"),
            ("[cluster]\ncolour = 'x'", "cluster", "the operator sets it"),
            ("[listen]", "listen", "the operator sets it"),
            (
                "[storage]\ndirectory = '/x'",
                "storage.directory",
                "spec.storage.tier0",
            ),
            (
                "[tier0]\ninstance_quota_bytes = 1",
                "tier0.instance_quota_bytes",
                "tier0.cluster_max_bytes",
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
    fn files_of_windows_are_taken_and_utf_16_is_named() {
        let text = "[log]\r\nlevel = \"debug\"\r\n";
        let parsed = UserConfig::parse(&format!("\u{feff}{text}")).unwrap();
        assert_eq!(parsed, UserConfig::parse(text).unwrap());
        let wide: String = text.chars().flat_map(|it| [it, '\0']).collect();
        let error = UserConfig::parse(&wide).unwrap_err().to_string();
        assert!(
            error.contains("UTF-16") && error.contains("save it as UTF-8"),
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
