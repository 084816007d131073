//! What the engine, its tools and the documents say is plain technical English. A table names words that read badly and better ones.
//!
//! Read are string literals and command help of `engine/`, without tests and test doubles, and the pages of the repository.
//! Decisions (`docs/adr`) stay as they were made.

use std::path::{Path, PathBuf};

/// Of an `#[error("...")]` template: a line of a terminal, with room for the values.
const MAX_TEMPLATE: usize = 200;

/// Word or phrase, and what to write instead. Whole words; case does not count.
const WORDS: &[(&str, &str)] = &[
    ("told", "reported, notified, received"),
    ("taken back", "rolled back, cancelled"),
    ("anew", "again"),
    ("for good", "permanently"),
    ("looked at again", "checked again"),
    ("something else is wanted", "name the field that changed"),
    ("works by", "runs"),
    ("work by", "run"),
    ("beside", "next to, in parallel, in addition to"),
    ("any more", "no longer"),
    ("all the same", "leave it out, or say: nevertheless"),
    ("by itself", "automatically"),
    ("by themselves", "automatically"),
    ("put back", "restored"),
    ("taken over", "X owns it now"),
    ("put away", "moved to quarantine"),
    ("cannot be understood", "is invalid, is damaged"),
    ("is not known", "is unknown"),
    ("are not known", "are unknown"),
    ("not told", "not configured, unknown"),
    ("something else", "name it"),
    ("somebody", "name who: a person, another writer"),
    ("nobody", "say what does not exist"),
    ("go on", "continue"),
    ("goes on", "continues"),
    ("went on", "continued"),
    ("going on", "continuing"),
    ("mend", "fix, repair"),
    ("admits again", "accepts appends again"),
    ("admit again", "accept appends again"),
    ("is tried again", "is retried; or: the engine retries"),
    ("asked to end", "shutdown requested"),
    ("want of", "name what is missing"),
    ("does so", "say what it does"),
    ("in force", "in use"),
    ("is away", "is unreachable"),
    ("will say so", "say where to look"),
    ("says so", "say where to look"),
    ("hydrate it", "no tool does that yet"),
];

/// How a message of the programs does not begin: the object is its subject.
const OPENINGS: &[(&str, &str)] = &[
    ("it ", "name the object"),
    ("its ", "name the object"),
    ("they ", "name the object"),
    ("there is ", "name the object"),
    ("there are ", "name the object"),
    ("what ", "name the object"),
    ("cannot tell ", "name the object"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files with this ending below a folder, or the file itself; no tests, no test doubles, no examples.
fn files(path: &str, ending: &str) -> Vec<String> {
    let mut open = vec![PathBuf::from(path)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        let full = root().join(&path);
        if full.is_dir() {
            let entries = std::fs::read_dir(&full).expect("a folder");
            open.extend(entries.map(|entry| path.join(entry.expect("an entry").file_name())));
            continue;
        }
        let text = path.to_string_lossy();
        let skipped = [
            "/tests/",
            "/tests.rs",
            "/testing.rs",
            "/suite.rs",
            "/examples/",
            "/adr/",
            "docs/plan.md",
            "io/fault.rs",
            "objects/memory.rs",
        ];
        if text.ends_with(ending) && !skipped.iter().any(|part| text.contains(part)) {
            found.push(text.into_owned());
        }
    }
    assert!(!found.is_empty(), "no {ending} below {path}");
    found.sort();
    found
}

fn product(file: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).expect("a source");
    let end = text
        .find("\n#[cfg(test)]\nmod tests {")
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// Line and text of each string literal; continued lines are joined.
fn literals(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find("\"'").map_or(1, |at| at + 3)
        } else if let Some(hashes) = raw_opening(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &rest[hashes + 2..];
            let length = body.find(&end).expect("a raw string ends");
            found.push((line, body[..length].to_owned()));
            hashes + 2 + length + end.len()
        } else if first == '"' {
            let (text, length) = quoted(&rest[1..]);
            found.push((line, text));
            length + 1
        } else {
            first.len_utf8()
        };
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    found
}

/// Hashes of a raw string that begins here.
fn raw_opening(rest: &str) -> Option<usize> {
    let behind = rest.strip_prefix('r')?;
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    behind[hashes..].starts_with('"').then_some(hashes)
}

/// Text up to the closing quote, and its length in the source with that quote.
fn quoted(source: &str) -> (String, usize) {
    let (mut text, mut at) = (String::new(), 0);
    loop {
        let next = source[at..].chars().next().expect("a string ends");
        at += next.len_utf8();
        match next {
            '"' => return (text, at),
            '\\' => {
                let escaped = source[at..].chars().next().expect("an escape");
                at += escaped.len_utf8();
                match escaped {
                    '\n' => at += source[at..].len() - source[at..].trim_start().len(),
                    'n' => text.push('\n'),
                    other => text.push(other),
                }
            }
            other => text.push(other),
        }
    }
}

/// Command help: documentation comments of a command line.
fn help(source: &str) -> Vec<(usize, String)> {
    source
        .lines()
        .enumerate()
        .filter_map(|(at, line)| {
            Some((
                at + 1,
                line.trim_start().strip_prefix("///")?.trim().to_owned(),
            ))
        })
        .collect()
}

/// Prose of a page: lines without `code`, and without fenced blocks that a shell or a program reads.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fence = None;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                None => Some(kind.to_owned()),
                Some(_) => None,
            };
            continue;
        }
        if fence.as_deref().is_some_and(|kind| kind != "mermaid") {
            continue;
        }
        let plain: Vec<&str> = line.split('`').step_by(2).collect();
        lines.push((at + 1, plain.join("`")));
    }
    lines
}

fn has_word(text: &str, word: &str) -> bool {
    let text = text.to_lowercase();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

fn bad_words(file: &str, lines: &[(usize, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, text) in lines {
        for (word, better) in WORDS {
            if has_word(text, word) {
                found.push(format!("{file}:{at}: {word:?}: {better}: {text}"));
            }
        }
    }
    found
}

/// A literal that people read: several words, and no code.
fn is_text(literal: &str) -> bool {
    literal.trim().contains(' ') && !literal.contains("::")
}

/// Without what stands in braces: names of values.
fn without_values(text: &str) -> String {
    let mut depth = 0;
    let mut kept = String::new();
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            other if depth == 0 => kept.push(other),
            _ => {}
        }
    }
    kept
}

fn engine() -> Vec<String> {
    let mut found = Vec::new();
    for part in ["admin-api", "core", "ctl", "format", "node", "s3"] {
        found.extend(files(&format!("engine/{part}/src"), ".rs"));
    }
    found
}

#[test]
fn messages_of_the_engine_and_its_tools_use_plain_words() {
    let mut bad = Vec::new();
    for file in engine() {
        let mut lines = literals(&product(&file));
        lines.retain(|(_, text)| is_text(text));
        for (_, text) in &mut lines {
            *text = without_values(text);
        }
        bad.extend(bad_words(&file, &lines));
        for (at, text) in &lines {
            for (opening, better) in OPENINGS {
                if text.to_lowercase().starts_with(opening) {
                    bad.push(format!(
                        "{file}:{at}: begins with {opening:?}: {better}: {text}"
                    ));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn command_help_uses_plain_words() {
    let mut bad = Vec::new();
    for file in [
        "engine/ctl/src/cli.rs",
        "engine/ctl/src/inspect.rs",
        "engine/ctl/src/inspect/bucket.rs",
        "engine/ctl/src/tier1/cli.rs",
        "engine/node/src/args.rs",
    ] {
        bad.extend(bad_words(file, &help(&product(file))));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn pages_use_plain_words() {
    let mut pages = files("docs", ".md");
    for page in [
        "README",
        "ARCHITECTURE",
        "CONTRIBUTING",
        "CHANGELOG",
        "SECURITY",
    ] {
        pages.push(format!("{page}.md"));
    }
    let mut bad = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(root().join(&page)).expect("a page");
        bad.extend(bad_words(&page, &prose(&text)));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Templates of `#[error("...")]`, with their lines.
fn templates(source: &str) -> Vec<(usize, String)> {
    let starts: Vec<usize> = source
        .match_indices("#[error(")
        .map(|(at, _)| source[..at].matches('\n').count() + 1)
        .collect();
    let literals = literals(source);
    starts
        .into_iter()
        .filter_map(|start| {
            let first = literals.iter().find(|(line, _)| *line >= start)?;
            // `transparent` has none of its own.
            let own = source.lines().nth(start - 1)?;
            (!own.contains("transparent")).then(|| (start, first.1.clone()))
        })
        .collect()
}

fn bad_templates(file: &str, source: &str) -> Vec<String> {
    let mut bad = Vec::new();
    for (at, text) in templates(source) {
        if text.chars().count() > MAX_TEMPLATE {
            bad.push(format!(
                "{file}:{at}: {} characters, at most {MAX_TEMPLATE}: {text}",
                text.chars().count()
            ));
        }
        if text.matches(": ").count() > 1 {
            bad.push(format!("{file}:{at}: more than one colon: {text}"));
        }
        if text.ends_with('.') {
            bad.push(format!("{file}:{at}: ends with a full stop: {text}"));
        }
    }
    bad
}

#[test]
fn a_template_of_an_error_is_short_and_has_one_colon_at_most() {
    let mut bad = Vec::new();
    let mut count = 0;
    for file in engine() {
        let source = product(&file);
        count += templates(&source).len();
        bad.extend(bad_templates(&file, &source));
    }
    assert!(count > 100, "only {count} templates were found");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn the_rules_notice() {
    let source =
        "// told\nfn f() { g('\"'); say(\"was \\\n     told X\"); raw(r#\"a \"told\" b\"#); }\n";
    let lines = literals(source);
    let texts: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["was told X", "a \"told\" b"]);
    assert_eq!(bad_words("f", &lines).len(), 2);
    assert!(!has_word("untold", "told") && has_word("Told.", "told"));

    assert_eq!(without_values("{told} and {:?} {{x}}"), " and  ");

    let page = "so `told` is\n```sh\ntold\n```\n```mermaid\nA --> B: told\n```\nit was told\n";
    let found = bad_words("p", &prose(page));
    assert_eq!(found.len(), 2, "{found:?}");

    let long = format!(
        "#[error(\"{}\")]\nA,\n#[error(transparent)]\nB,\n#[error(\"a: b: c\")]\nC,",
        "x".repeat(201)
    );
    let found = bad_templates("e", &long);
    assert_eq!(found.len(), 2, "{found:?}");
}
