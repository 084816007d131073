//! No schema of a `CustomEvent` without a row in the list that tools read.

use std::path::Path;

use aof2_format::custom_event::{SCHEMAS, decode, name};

/// `(pub const ...SCHEMA_ID: u32 = N;)` of every source.
fn declared() -> Vec<u32> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(sources).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        for line in text.lines().filter(|line| line.starts_with("pub const")) {
            if let Some((_, number)) = line.split_once("SCHEMA_ID: u32 = ") {
                let number = number.trim_end_matches(';');
                ids.push(number.parse().expect("a number"));
            }
        }
    }
    ids.sort_unstable();
    ids
}

#[test]
fn every_schema_has_a_name_and_a_decoder() {
    let listed: Vec<u32> = SCHEMAS.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed, declared());
    for (id, known) in SCHEMAS {
        assert_eq!(name(id), Some(known));
        let decoded = decode(id, b"nothing of the kind");
        assert!(decoded.is_some_and(|decoded| decoded.is_err()), "{known}");
    }
    assert_eq!((name(0), decode(0, &[])), (None, None));
}
