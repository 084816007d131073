//! What an engine says when it ends over its configuration, told in terms of the user's file.
//!
//! The engine reads the file that the operator rendered for its pod; places in it mean nothing to a user, who wrote another one.

use aof2_admin_api::{Termination, TerminationReason};

/// Whether an engine ended because its file is not the one that the operator wrote: no verdict on what the user wrote.
pub fn is_altered(termination: &str) -> bool {
    serde_json::from_str::<Termination>(termination.trim())
        .is_ok_and(|said| said.reason == TerminationReason::ConfigAltered)
}

/// `termination` in words; with the line of the user's file `text` where the key stands in it. What is not the engine's JSON is
/// quoted as it is.
pub fn explain(termination: &str, source: Option<(&str, &str)>) -> String {
    let termination = termination.trim();
    let Ok(said) = serde_json::from_str::<Termination>(termination) else {
        return termination.to_owned();
    };
    let message = without_places(&said.message);
    let message = match said.reason.as_str() {
        "" => message,
        reason => format!("{reason}: {message}"),
    };
    let line = source.and_then(|(name, text)| line_of(text, &said.key).map(|line| (name, line)));
    match line {
        Some((name, line)) => format!("ConfigMap {name}, line {line}: {message}"),
        None => message,
    }
}

/// Leaves out each `<path>.toml:<line>:<column>: `, the place in the rendered file.
fn without_places(message: &str) -> String {
    let is_place = |word: &str| {
        word.starts_with('/')
            && word
                .split_once(".toml:")
                .is_some_and(|(_, place)| place.trim_end_matches(':').split(':').all(is_number))
    };
    message
        .split(' ')
        .filter(|word| !is_place(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Line, from 1, of a dotted key `table.name` or of a table.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = toml::de::DeTable::parse(text).ok()?;
    let (table, name) = key.split_once('.').unwrap_or((key, ""));
    let (table_name, value) = root
        .get_ref()
        .iter()
        .find(|(found, _)| found.get_ref() == table)?;
    let start = match value.get_ref() {
        toml::de::DeValue::Table(entries) if !name.is_empty() => entries
            .iter()
            .find(|(found, _)| found.get_ref() == name)
            .map(|(found, _)| found.span().start)?,
        _ => table_name.span().start,
    };
    let before = text.as_bytes().get(..start)?;
    Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[tier0]\ncluster_max_byte = 1\n";

    #[test]
    fn a_refusal_names_the_line_of_the_users_file_and_not_the_rendered_one() {
        let termination = r#"{"key":"tier0.cluster_max_byte","message":"/etc/aof2/config/orders-0.toml:23:1: unknown key `tier0.cluster_max_byte`; the nearest known key is `tier0.cluster_max_bytes`","reason":"UnknownKey"}"#;
        assert_eq!(
            explain(termination, Some(("orders-aof2", FILE))),
            "ConfigMap orders-aof2, line 3: UnknownKey: unknown key `tier0.cluster_max_byte`; the nearest known key is `tier0.cluster_max_bytes`"
        );
    }

    #[test]
    fn an_unknown_table_has_the_line_of_its_header() {
        let termination = r#"{"key":"tier9","message":"/x/a.toml:1:1: unknown table `[tier9]`","reason":"UnknownKey"}"#;
        let said = explain(termination, Some(("m", "\n[tier9]\na = 1\n")));
        assert_eq!(
            said,
            "ConfigMap m, line 2: UnknownKey: unknown table `[tier9]`"
        );
    }

    #[test]
    fn a_key_that_is_not_the_users_has_no_line_and_other_words_are_quoted() {
        let termination = r#"{"key":"listen.admin_address","message":"/x/a.toml:1:1: `listen.admin_address` is in use","reason":"Conflict"}"#;
        assert_eq!(
            explain(termination, Some(("m", FILE))),
            "Conflict: `listen.admin_address` is in use"
        );
        assert_eq!(explain(" killed \n", None), "killed");
    }
}
