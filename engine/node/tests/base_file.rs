//! `config/base/aof2.toml` is the documentation of every key that a user may set: nothing is missing, wrong or left over.

use aof2_admin_api::report::Reload;
use aof2_node::config::keys::KEYS;
use aof2_node::config::{self, KeySpec, Mode, Owner};

const BASE: &str = include_str!("../../../config/base/aof2.toml");

fn user_keys() -> impl Iterator<Item = &'static KeySpec> {
    KEYS.iter().filter(|spec| matches!(spec.owner, Owner::User))
}

/// The line of a key, by its table and name.
fn line_of(spec: &KeySpec) -> Option<&'static str> {
    if spec.kind.is_tables() {
        // Tables that may stand there several times have no default: an example is commented out.
        let example = format!("# [[{}]]", spec.key);
        return BASE.lines().find(|line| line.starts_with(&example));
    }
    let (table, name) = spec.key.split_once('.')?;
    let mut current = "";
    BASE.lines().find(|line| {
        if let Some(table) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            current = table;
        }
        current == table && line.split('=').next().is_some_and(|key| key.trim() == name)
    })
}

#[test]
fn the_base_file_is_valid_and_says_the_defaults() {
    let base = config::parse("config/base/aof2.toml", BASE, Mode::User).expect("the file is valid");
    let defaults = config::parse("empty", "", Mode::User).expect("an empty file is valid");
    for spec in user_keys() {
        assert_eq!(
            base.value(spec.key),
            defaults.value(spec.key),
            "{}",
            spec.key
        );
    }
}

#[test]
fn every_key_of_a_user_is_in_it_with_its_class() {
    for spec in user_keys() {
        let line =
            line_of(spec).unwrap_or_else(|| panic!("{} is not in config/base/aof2.toml", spec.key));
        let class = match spec.reload {
            Reload::Hot => "hot",
            Reload::Restart => "restart",
            Reload::Unknown => panic!("{} has no class", spec.key),
        };
        assert!(
            line.contains(&format!("# {class};")),
            "{}: {line}",
            spec.key
        );
    }
}

#[test]
fn an_operator_owned_key_added_to_it_is_refused_naming_the_field() {
    let text = format!("{BASE}\n[cluster]\nname = \"orders\"\n");
    let errors =
        config::parse("aof2.toml", &text, Mode::User).expect_err("the key is the operator's");
    let said = errors.messages().join("\n");
    assert!(
        said.contains("cluster") && said.contains("metadata.name"),
        "{said}"
    );
}
