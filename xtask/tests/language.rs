//! The words of texts for people, which no compiler knows: what the operator says, and what CRDs, chart and configuration explain.
//! `operator/src/machine/language.rs` checks how messages are built; here are words that have a plainer one.

use std::path::{Path, PathBuf};

/// A word, and what to write in its place.
const WORDS: &[(&str, &str)] = &[
    ("anew", "again, or a new one"),
    ("beside", "next to"),
    ("for good", "permanently"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("is not known", "is unknown"),
    ("look at", "the command to run"),
    ("looked at", "reconciled"),
    ("looking again", "reconciling again"),
    ("something else", "what it is, such as: spec changed"),
    ("story", "scenario"),
    ("taken back", "rolled back"),
    ("takes back", "rolls back"),
    ("told", "reported, notified or configured"),
    ("what is not", "a sentence about the thing itself"),
    ("work by", "run"),
    ("works by", "runs"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut open = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "no file below {folder}");
    found.sort();
    found
}

/// Whether a file of the operator is code of its tests.
fn is_test(path: &Path) -> bool {
    let is_named = ["tests.rs", "testing.rs", "language.rs"]
        .iter()
        .any(|name| path.ends_with(name));
    is_named || path.iter().any(|part| part == "tests")
}

/// String literals with the line in which they begin, without comments and what follows the test module's attribute.
fn literals(text: &str) -> Vec<(usize, String)> {
    let product = text
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let letters: Vec<char> = product.chars().collect();
    let (mut at, mut line) = (0, 1);
    let mut found = Vec::new();
    while at < letters.len() {
        match letters[at] {
            '\n' => line += 1,
            '/' if letters.get(at + 1) == Some(&'/') => {
                while at < letters.len() && letters[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            // A letter in quotes; a lifetime has no second quote.
            '\'' if letters.get(at + 1) == Some(&'\\') => at += 2,
            '\'' if letters.get(at + 2) == Some(&'\'') => at += 2,
            '"' => {
                let begin = line;
                let mut literal = String::new();
                at += 1;
                while at < letters.len() && letters[at] != '"' {
                    if letters[at] == '\\' {
                        at += 1;
                    }
                    line += usize::from(letters[at] == '\n');
                    literal.push(letters[at]);
                    at += 1;
                }
                found.push((begin, literal));
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whole words only.
fn words_in(text: &str) -> Vec<&'static (&'static str, &'static str)> {
    let plain: String = text
        .to_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_alphanumeric() || letter == '_' {
                letter
            } else {
                ' '
            }
        })
        .collect();
    let spaced = format!(
        " {} ",
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    WORDS
        .iter()
        .filter(|(word, _)| spaced.contains(&format!(" {word} ")))
        .collect()
}

fn report(path: &Path, line: usize, text: &str) -> Vec<String> {
    let place = path.strip_prefix(root()).unwrap_or(path).display();
    let say = |(word, better): &(&str, &str)| {
        format!(
            "{place}:{line}: `{word}`; better: {better}. {}",
            text.trim()
        )
    };
    words_in(text).into_iter().map(say).collect()
}

#[test]
fn messages_of_the_operator_use_plain_words() {
    let mut found = Vec::new();
    for path in files("operator/src", &[".rs"]) {
        if is_test(&path) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        for (line, literal) in literals(&text) {
            found.extend(report(&path, line, &literal));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn descriptions_of_crds_chart_and_configuration_use_plain_words() {
    let mut found = Vec::new();
    let folders = [
        ("crds/generated", &[".yaml"][..]),
        ("charts", &[".yaml", ".txt", ".tpl", ".json"]),
        ("config", &[".yaml", ".toml", ".json"]),
    ];
    for (folder, endings) in folders {
        for path in files(folder, endings) {
            let text = std::fs::read_to_string(&path).expect("a text");
            // A description may be broken inside a phrase.
            let lines: Vec<&str> = text.lines().collect();
            for (at, two) in lines.windows(2).enumerate() {
                let here = report(&path, at + 1, two[0]);
                let both = format!("{} {}", two[0], two[1]);
                let is_broken = here.is_empty() && words_in(two[1]).is_empty();
                found.extend(here);
                if is_broken {
                    found.extend(report(&path, at + 1, &both));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_word_is_found_in_a_literal_and_nowhere_else() {
    let text = "let told = 'a'; // it was told\nlet a = \"as \\\"it\\\" was Told\";\nlet b = \"foretold\";\n#[cfg(test)]\nmod tests {\n\"told\"";
    let found: Vec<(usize, usize)> = literals(text)
        .iter()
        .map(|(line, literal)| (*line, words_in(literal).len()))
        .collect();
    assert_eq!(found, [(2, 1), (3, 0)]);
    assert_eq!(words_in("the config that it\n  works by")[0].0, "works by");
}
