//! Names of revisions and sums of files against those that `golden/revisions.py` computed.

use aof2_admin_api::revision::{Altered, POD_KEYS, POD_TABLES, check, hash, with_sum};
use aof2_admin_api::schema::{OPERATOR_KEYS, SHARED_TABLES};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    name: String,
    /// What the user and the place of Tier 2 make.
    text: String,
    revision: String,
    /// What a pod gets.
    file: String,
    sum: String,
}

fn entries() -> Vec<Entry> {
    serde_json::from_str(include_str!("../golden/revisions.json")).expect("JSON")
}

#[test]
fn revisions_have_the_names_that_an_independent_writer_computed() {
    for entry in entries() {
        let table = entry.text.parse().expect("TOML");
        assert_eq!(hash(&table), entry.revision, "{}", entry.name);
    }
}

#[test]
fn a_pods_file_is_taken_with_its_sum_and_without() {
    for entry in entries() {
        assert_eq!(check(&entry.file), Ok(()), "{}", entry.name);
        let summed = with_sum(&entry.file);
        let expected = format!("# sha256 of what follows: {}\n{}", entry.sum, entry.file);
        assert_eq!(summed, expected);
        assert_eq!(check(&summed), Ok(()), "{}", entry.name);
    }
}

/// An older operator writes no sum: its revision alone is checked.
#[test]
fn without_a_sum_every_key_of_the_revision_is_bound() {
    for entry in entries() {
        let changed = format!("{}\n[append]\nmax_record_bytes = 1\n", entry.file);
        let found = check(&changed).expect_err("another key");
        assert!(
            matches!(&found, Altered::Keys { said, found } if *said == entry.revision && found != said),
            "{}: {found:?}",
            entry.name
        );
    }
    let text = &entries()
        .into_iter()
        .find(|entry| entry.name == "a bucket")
        .expect("an entry")
        .file;
    for (from, to) in [
        ("acme", "other"),
        ("s3.test", "s3.attacker.test"),
        ("prod/orders/", "prod/other/"),
        ("region = \"eu\"\n", ""),
    ] {
        assert!(check(&text.replace(from, to)).is_err(), "{from}");
    }
}

#[test]
fn a_sum_binds_the_keys_of_the_pod_the_order_and_the_last_line() {
    for entry in entries() {
        let text = with_sum(&entry.file);
        for (from, to) in [
            ("4294967296", "4294967297"),
            ("operator.aof2.dev", "somebody.test"),
            ("[node]", "# a comment\n[node]"),
        ] {
            assert_eq!(
                check(&text.replace(from, to)),
                Err(Altered::Text),
                "{}: {from}",
                entry.name
            );
        }
        for end in 0..text.len() {
            let torn = text.get(..end).expect("ASCII");
            // Less than the sum's line says nothing: such a file has no key at all.
            let is_empty = end < text.find('\n').expect("a line");
            assert!(check(torn).is_err() || is_empty, "{}: {torn}", entry.name);
        }
    }
}

/// Two pods' files, each for itself whole: half of one and half of the other.
#[test]
fn a_half_updated_file_is_neither_of_the_two() {
    let entries = entries();
    let [.., one, other, _] = entries.as_slice() else {
        panic!("entries");
    };
    let (one, other) = (with_sum(&one.file), with_sum(&other.file));
    for at in 1..one.len().min(other.len()) {
        let mixed = format!("{}{}", &one[..at], &other[at..]);
        let is_one_of_them = mixed == one || mixed == other;
        assert_eq!(check(&mixed).is_ok(), is_one_of_them, "{mixed}");
    }
}

/// Whoever adds a key of the operator decides whether a change of it is a change of the configuration.
#[test]
fn each_key_of_the_operator_is_in_a_revision_or_beside_it() {
    let in_a_revision = [
        "tier2.endpoint",
        "tier2.region",
        "tier2.bucket",
        "tier2.prefix",
        "tier2.addressing",
        "tier2.checksum",
    ];
    for (key, _) in OPERATOR_KEYS {
        let (table, name) = key.split_once('.').expect("a table");
        let is_beside = POD_TABLES.contains(&table) || POD_KEYS.contains(&(table, name));
        assert_ne!(is_beside, in_a_revision.contains(key), "{key}");
    }
    for table in POD_TABLES {
        assert!(
            !SHARED_TABLES.contains(table),
            "{table} holds keys of the user"
        );
    }
}

#[test]
fn what_is_no_file_of_an_operator_is_left_to_the_reader() {
    for text in [
        "",
        "[log]\nlevel = \"info\"\n",
        "[operator",
        "[operator]\nrevision = 5\n",
        "operator = 1\n",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
}
