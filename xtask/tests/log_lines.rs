//! Lines of the log: a text and fields, each once. A field that is called as the text is takes its place in JSON.

use std::path::Path;

const FOLDERS: &[&str] = &["engine", "listen/src", "operator/src"];

/// The calls of the macros of `tracing` in a source, with the line that each is on.
fn calls(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for level in ["trace", "debug", "info", "warn", "error"] {
        let begin = format!("tracing::{level}!(");
        for (at, _) in source.match_indices(&begin) {
            let body = &source[at + begin.len()..];
            let mut depth = 1;
            let end = body.find(|letter| {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                depth == 0
            });
            let line = source[..at].matches('\n').count() + 1;
            found.push((line, &body[..end.unwrap_or(body.len())]));
        }
    }
    found
}

/// A text in quotation marks, and a field `message` in front of it.
fn says_its_message_twice(call: &str) -> bool {
    let Some((fields, _)) = call.split_once('"') else {
        return false;
    };
    fields.split(',').any(|field| {
        let name = field.split('=').next().unwrap_or_default();
        name.trim().trim_start_matches(['%', '?']) == "message"
    })
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_line_of_the_log_has_a_field_in_the_place_of_its_text() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in FOLDERS {
        sources(&root.join(folder), &mut files);
    }
    let mut lines = 0;
    let mut broken = Vec::new();
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source");
        for (line, call) in calls(&source) {
            lines += 1;
            if says_its_message_twice(call) {
                broken.push(format!("{}:{line}: {call}", file.display()));
            }
        }
    }
    assert!(lines > 100, "only {lines} lines were found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_second_message_is_noticed() {
    let source = r#"tracing::warn!(stream = %name(x), message, "a text"); tracing::info!(message = %it, "b {message}");
        tracing::info!(error = message, "c"); tracing::error!(message);"#;
    let twice: Vec<bool> = calls(source)
        .into_iter()
        .map(|(_, call)| says_its_message_twice(call))
        .collect();
    assert_eq!(twice.iter().filter(|twice| **twice).count(), 2);
    assert_eq!(twice.len(), 4);
}
