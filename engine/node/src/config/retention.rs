//! `[[retention]]`: what of a stream is kept.

use std::time::Duration;

use aof2_core::config::RetentionRule;
use aof2_core::pattern;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::check;
use super::error::Problem;
use super::value::{Kind, Value, format_duration};

pub const KEY: &str = "retention";

const MAX_RULES: usize = 64;
const MIB: u64 = 1 << 20;
const HOUR: u64 = 3600;

const AGE: Kind = Kind::Duration {
    min: Duration::from_secs(1),
    // A hundred years.
    max: Duration::from_secs(876_000 * HOUR),
};
const BYTES: Kind = Kind::Bytes {
    min: MIB,
    max: i64::MAX as u64,
};
const PATTERN: Kind = Kind::Text {
    max_bytes: pattern::MAX_BYTES,
};

/// Where in the file, of which key, and what.
pub type Found = (usize, String, Problem);

pub fn read(at: usize, value: &DeValue<'_>) -> Result<Vec<RetentionRule>, Vec<Found>> {
    let wrong = |at: usize, found: &DeValue<'_>| {
        let problem = Problem::WrongType {
            expected: Kind::Rules.expectation(),
            found: found.type_str().to_string(),
        };
        vec![(at, KEY.to_string(), problem)]
    };
    let DeValue::Array(entries) = value else {
        return Err(wrong(at, value));
    };
    let mut rules: Vec<RetentionRule> = Vec::new();
    let mut problems = Vec::new();
    for entry in entries {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            problems.extend(wrong(at, entry.get_ref()));
            continue;
        };
        match rule(at, table) {
            Ok(rule) => {
                problems.extend(unused(&rules, &rule).map(|found| conflict(at, "streams", found)));
                rules.push(rule);
            }
            Err(found) => problems.extend(found),
        }
    }
    if rules.len() > MAX_RULES {
        let message = format!(
            "`{KEY}` has {} rules, limit {MAX_RULES}; use patterns for several streams",
            rules.len()
        );
        problems.push((at, KEY.to_string(), Problem::Conflict { message }));
    }
    if problems.is_empty() {
        Ok(rules)
    } else {
        Err(problems)
    }
}

fn rule(at: usize, table: &DeTable<'_>) -> Result<RetentionRule, Vec<Found>> {
    let mut rule = RetentionRule {
        streams: String::new(),
        max_age: None,
        max_bytes: None,
    };
    let mut problems = Vec::new();
    for (name, value) in table {
        let read = field(&mut rule, name.get_ref(), value);
        let place = match &read {
            Err(Problem::UnknownKey { .. }) => name.span().start,
            Ok(()) | Err(_) => value.span().start,
        };
        problems.extend(
            read.err()
                .map(|problem| found(place, name.get_ref(), problem)),
        );
    }
    if !table.keys().any(|name| name.get_ref() == "streams") {
        let why = "a rule names its streams, such as `streams = \"orders-*\"`".to_string();
        problems.push(found(at, "streams", Problem::Missing { why }));
    }
    if problems.is_empty() {
        Ok(rule)
    } else {
        Err(problems)
    }
}

fn field(
    rule: &mut RetentionRule,
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<(), Problem> {
    let value = value.get_ref();
    match name {
        "streams" => {
            if let Value::Text(text) = check(PATTERN, value)? {
                if let Some(rule) = pattern::problem(&text) {
                    let message = format!("`{KEY}.streams` = \"{text}\" fits no stream; {rule}");
                    return Err(Problem::Conflict { message });
                }
                rule.streams = text;
            }
        }
        "max_age" => {
            if let Value::Duration(age) = check(AGE, value)? {
                rule.max_age = Some(age);
            }
        }
        "max_bytes" => {
            if let Value::Integer(bytes) = check(BYTES, value)? {
                rule.max_bytes = Some(bytes);
            }
        }
        other => {
            const KNOWN: [(&str, &str); 3] = [
                ("max_age", "retention.max_age"),
                ("max_bytes", "retention.max_bytes"),
                ("streams", "retention.streams"),
            ];
            let mut known = KNOWN.into_iter();
            let nearest = known.find(|(name, _)| super::nearest::is_near(other, name));
            return Err(Problem::UnknownKey {
                nearest: nearest.map(|(_, key)| key),
            });
        }
    }
    Ok(())
}

/// Why a rule behind these is never used.
fn unused(before: &[RetentionRule], rule: &RetentionRule) -> Option<String> {
    let first = before
        .iter()
        .find(|earlier| earlier.streams == rule.streams || earlier.streams == "*")?;
    Some(format!(
        "`{KEY}.streams` = \"{}\" is never used, since \"{}\" stands before it and the first rule counts; put it in front or remove it",
        rule.streams, first.streams
    ))
}

fn found(at: usize, name: &str, problem: Problem) -> Found {
    (at, format!("{KEY}.{name}"), problem)
}

fn conflict(at: usize, name: &str, message: String) -> Found {
    found(at, name, Problem::Conflict { message })
}

/// As a file has them.
pub fn pairs(rule: &RetentionRule) -> Vec<String> {
    let RetentionRule {
        streams,
        max_age,
        max_bytes,
    } = rule;
    let age = max_age.map(|age| format!("max_age = \"{}\"", format_duration(age)));
    let bytes = max_bytes.map(|bytes| format!("max_bytes = {bytes}"));
    [Some(format!("streams = \"{streams}\"")), age, bytes]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::{Mode, parse};

    fn refusal(text: &str) -> String {
        parse("aof2.toml", text, Mode::User)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn rules_are_read_in_their_order_and_read_back() {
        let text = "[[retention]]\nstreams = \"audit-*\"\n\n[[retention]]\nstreams = \"*\"\nmax_age = \"720h\"\nmax_bytes = 1073741824\n";
        let settings = parse("aof2.toml", text, Mode::User).expect("valid");
        let rules = &settings.retention;
        assert_eq!(rules.len(), 2);
        assert_eq!((rules[0].max_age, rules[0].max_bytes), (None, None));
        assert_eq!(rules[1].max_age.map(|age| age.as_secs()), Some(720 * 3600));
        assert_eq!(rules[1].max_bytes, Some(1 << 30));
        let again = parse("effective", &settings.to_toml(), Mode::StandAlone).expect("valid");
        assert_eq!(again.retention, settings.retention);
        let none = parse("aof2.toml", "", Mode::User).expect("valid");
        let changes = crate::config::changes(&none, &settings);
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].key.as_str(), changes[0].to.as_str()),
            (
                "retention",
                "[{streams = \"audit-*\"}, {streams = \"*\", max_age = \"720h\", max_bytes = 1073741824}]"
            )
        );
        assert_eq!(
            none.with_hot_keys_of(&settings).expect("hot").retention,
            settings.retention
        );
    }

    #[test]
    fn a_bad_rule_is_refused_with_key_value_and_remedy() {
        for (text, told) in [
            (
                "[[retention]]\nmax_age = \"1h\"\n",
                "aof2.toml:1:1: `retention.streams` is missing: a rule names its streams, such as `streams = \"orders-*\"`",
            ),
            (
                "[[retention]]\nstreams = \"Orders\"\n",
                "aof2.toml:2:11: `retention.streams` = \"Orders\" fits no stream; use lower-case letters, digits, hyphens and `*`",
            ),
            (
                "[[retention]]\nstreams = \"a\"\nmax_age = \"0s\"\n",
                "aof2.toml:3:11: `retention.max_age` = 0s is out of range; allowed: 1s to 876000h",
            ),
            (
                "[[retention]]\nstreams = \"a\"\nmax_age = 30\n",
                "aof2.toml:3:11: `retention.max_age` must be a duration string, such as \"30s\", \"10m\" or \"250ms\"; found integer 30",
            ),
            (
                "[[retention]]\nstreams = \"a\"\nmax_bytes = 5\n",
                "aof2.toml:3:13: `retention.max_bytes` = 5 is out of range; allowed: 1048576 (1 MiB) to 9223372036854775807",
            ),
            (
                "[[retention]]\nstreams = \"a\"\nmaxage = \"1h\"\n",
                "aof2.toml:3:1: unknown key `retention.maxage`; the nearest known key is `retention.max_age`",
            ),
            (
                "[[retention]]\nstreams = \"*\"\n[[retention]]\nstreams = \"a\"\nmax_age = \"1h\"\n",
                "aof2.toml:3:1: `retention.streams` = \"a\" is never used, since \"*\" stands before it and the first rule counts; put it in front or remove it",
            ),
            (
                "[retention]\nstreams = \"a\"\n",
                "aof2.toml:1:2: `retention` must be tables, each `[[retention]]`; found table",
            ),
        ] {
            assert_eq!(refusal(text), told, "{text}");
        }
        let many: String = (0..65)
            .map(|number| format!("[[retention]]\nstreams = \"s{number}\"\n"))
            .collect();
        let told = refusal(&many);
        assert!(
            told.contains("`retention` has 65 rules, limit 64"),
            "{told}"
        );
    }
}
