//! `AOF2_SEGMENT_TARGET_BYTES=2097152` outranks `segment.target_bytes` of the file.
//!
//! Keys of the operator cannot be set so: in a pod the file alone says who the engine is. Names that are no key are left alone,
//! for the environment is shared with others.

use super::error::{ConfigError, ConfigErrors, Problem};
use super::keys::{KEYS, KeySpec, Owner};
use super::value::{Kind, Value, parse_duration};

/// Name of the variable that sets a key.
pub fn variable(spec: &KeySpec) -> String {
    format!("AOF2_{}", spec.key.replace('.', "_").to_uppercase())
}

/// Checked values of the variables that name a key of the user.
pub fn overrides(
    variables: &[(String, String)],
) -> Result<Vec<(&'static str, Value)>, ConfigErrors> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for spec in KEYS
        .iter()
        .filter(|spec| spec.owner == Owner::User && !spec.kind.is_tables())
    {
        let name = variable(spec);
        let Some((_, text)) = variables.iter().find(|(found, _)| *found == name) else {
            continue;
        };
        match check(spec.kind, text) {
            Ok(value) => values.push((spec.key, value)),
            Err(problem) => {
                let file = format!("environment variable {name}");
                errors.push(ConfigError {
                    file,
                    line: 0,
                    column: 0,
                    key: spec.key.to_string(),
                    problem,
                });
            }
        }
    }
    if errors.is_empty() {
        Ok(values)
    } else {
        Err(ConfigErrors(errors))
    }
}

fn check(kind: Kind, text: &str) -> Result<Value, Problem> {
    let value = match kind {
        Kind::Bytes { .. } | Kind::Count { .. } => text.parse().ok().map(Value::Integer),
        Kind::Duration { .. } => parse_duration(text).map(Value::Duration),
        Kind::Text { .. } | Kind::Uuid | Kind::Path | Kind::Address | Kind::OneOf(_) => {
            Some(Value::Text(text.to_string()))
        }
        Kind::Switch => text.parse().ok().map(Value::Switch),
        // Tables have no form in a variable.
        Kind::Rules | Kind::Prices => None,
    };
    match value {
        None => Err(Problem::WrongType {
            expected: kind.expectation(),
            found: format!("\"{text}\""),
        }),
        Some(value) if !kind.admits(&value) => Err(Problem::OutOfRange {
            value: value.to_string(),
            allowed: kind.range(),
        }),
        Some(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Vec<(&'static str, Value)>, Vec<String>> {
        let owned: Vec<_> = variables
            .iter()
            .map(|(name, text)| ((*name).to_string(), (*text).to_string()))
            .collect();
        overrides(&owned).map_err(|errors| errors.messages())
    }

    #[test]
    fn a_users_key_is_set_and_checked_like_in_a_file() {
        let values = read(&[
            ("AOF2_SEGMENT_TARGET_BYTES", "2097152"),
            ("AOF2_CHECKPOINT_INTERVAL", "2s"),
            ("HOME", "x"),
        ]);
        assert_eq!(
            values.expect("valid"),
            [
                ("segment.target_bytes", Value::Integer(2 << 20)),
                (
                    "checkpoint.interval",
                    Value::Duration(Duration::from_secs(2))
                )
            ]
        );
        assert_eq!(
            read(&[("AOF2_JOURNAL_FILES", "many")]).expect_err("no number"),
            [
                "environment variable AOF2_JOURNAL_FILES: `journal.files` must be an integer; found \"many\""
            ]
        );
        assert_eq!(
            read(&[("AOF2_JOURNAL_FILES", "1")]).expect_err("too few"),
            [
                "environment variable AOF2_JOURNAL_FILES: `journal.files` = 1 is out of range; allowed: 2 to 1024"
            ]
        );
    }

    #[test]
    fn keys_of_the_operator_and_names_of_others_are_left_alone() {
        let others = [
            ("AOF2_TIER2_BUCKET", "mine"),
            ("AOF2_CLUSTER_ID", "x"),
            ("AOF2_OPERATOR_SERVICE_HOST", "10.0.0.1"),
        ];
        assert_eq!(read(&others), Ok(Vec::new()));
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let mut names: Vec<String> = KEYS.iter().map(variable).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
