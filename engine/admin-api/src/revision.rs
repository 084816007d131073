//! What binds an engine's file to the operator that wrote it.
//!
//! - `operator.revision` is a hash of the parsed keys that all pods have in common: comments, order and spelling do not matter, and
//!   neither does the version of the program.
//! - The first line of a file may hold the SHA-256 of all that follows, so that the pod's own keys are bound too. An older engine
//!   takes it for a comment; an older operator writes none.
//!
//! Both find what was changed by mistake, and a file that is torn or half updated. They hold no secret: who may write the file can compute them.
//!
//! Versions skew during a rollout, so the form that is hashed never changes, and no key of the user becomes one of [`POD_KEYS`].

use sha2::{Digest, Sha256};
use toml::{Table, Value};

/// Told as the revision of a file that is not what the operator wrote: no verdict on any revision.
pub const ALTERED: &str = "altered";

/// Keys of the operator beside a revision, in tables that hold keys of a revision too.
pub const POD_KEYS: &[(&str, &str)] = &[
    ("tier0", "instance_quota_bytes"),
    ("tier2", "credentials_directory"),
    ("tier2", "ca_file"),
];
/// Tables beside a revision as a whole.
pub const POD_TABLES: &[&str] = &["operator", "cluster", "node", "listen", "tls", "storage"];

const SUM: &str = "# sha256 of what follows: ";

/// How a file differs from what its operator wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Altered {
    /// From the sum in its first line.
    Text,
    /// From its revision.
    Keys {
        /// `operator.revision`.
        said: String,
        /// What its keys hash to.
        found: String,
    },
}

/// 8 hex digits. Of a revision's keys.
pub fn hash(table: &Table) -> String {
    let mut canonical = String::new();
    write_table(&mut canonical, table);
    digits(&Sha256::digest(canonical)[..4])
}

/// The file with its sum in front.
pub fn with_sum(text: &str) -> String {
    format!("{SUM}{}\n{text}", digits(&Sha256::digest(text)))
}

/// Whether the file is what its operator wrote, as far as it says so: one without a sum is checked by its revision alone, and one that
/// is not TOML or has no revision by its sum alone.
pub fn check(text: &str) -> Result<(), Altered> {
    if let Some(rest) = text.strip_prefix(SUM) {
        let (sum, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        if sum != digits(&Sha256::digest(rest)) {
            return Err(Altered::Text);
        }
    }
    let Ok(table) = text.parse::<Table>() else {
        return Ok(());
    };
    let said = table
        .get("operator")
        .and_then(|table| table.get("revision"));
    let Some(said) = said.and_then(Value::as_str) else {
        return Ok(());
    };
    let mut forms = of_all_pods(&table);
    if forms.iter().any(|form| hash(form) == said) {
        return Ok(());
    }
    Err(Altered::Keys {
        said: said.to_owned(),
        found: forms.pop().as_ref().map(hash).unwrap_or_default(),
    })
}

/// The file without the keys of its pod. A table that held those alone may stand in the revision or not: an empty table of the user is
/// part of its name. The likeliest form is the last.
fn of_all_pods(table: &Table) -> Vec<Table> {
    let mut rest = table.clone();
    rest.retain(|name, _| !POD_TABLES.contains(&name));
    let mut emptied = Vec::new();
    for (name, key) in POD_KEYS {
        let Some(Value::Table(table)) = rest.get_mut(*name) else {
            continue;
        };
        if table.remove(*key).is_some() && table.is_empty() {
            emptied.push(*name);
        }
    }
    let mut forms = vec![rest];
    for name in emptied {
        let without: Vec<Table> = forms
            .iter()
            .map(|form| {
                let mut form = form.clone();
                form.remove(name);
                form
            })
            .collect();
        forms.extend(without);
    }
    forms
}

/// Sorted keys, one form per value, types told apart. This form is part of every revision's name: it must not change.
fn write_table(out: &mut String, table: &Table) {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| *key);
    out.push('{');
    for (key, value) in keys {
        out.push_str(&format!("{key:?}:"));
        write_value(out, value);
        out.push(',');
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => out.push_str(&format!("{text:?}")),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&format!("f{number:?}")),
        Value::Boolean(flag) => out.push_str(&flag.to_string()),
        Value::Datetime(time) => out.push_str(&format!("t{time}")),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_value(out, item);
                out.push(',');
            }
            out.push(']');
        }
        Value::Table(table) => write_table(out, table),
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
