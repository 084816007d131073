//! Rules that the compiler does not know: which words a part of the code must not say, and why.
//!
//! A rule reads what is compiled into the product: no comments, no test modules, no test doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

struct Rule {
    /// Files and folders, from the root of the repository.
    under: &'static [&'static str],
    /// Parts of those where the word may stand.
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const PURE: &[&str] = &[
    "engine/core/src/drain/machine.rs",
    "engine/core/src/coordinator/memo.rs",
    "engine/core/src/coordinator/plan",
    "engine/core/src/snapshot/session.rs",
    "engine/core/src/manifest/state.rs",
    "engine/core/src/residency",
    "operator/src/cluster/build",
    "operator/src/cluster/config",
    "operator/src/cluster/identity.rs",
    "operator/src/cluster/memo.rs",
    "operator/src/cluster/plan",
    "operator/src/cluster/pod.rs",
    "operator/src/cluster/status",
    "operator/src/cluster/validate/mod.rs",
    "operator/src/config_rollout",
    "operator/src/machine",
    "operator/src/names.rs",
    "operator/src/rollout",
    "operator/src/snapshot/conditions.rs",
    "operator/src/snapshot/facts.rs",
    "operator/src/snapshot/passes.rs",
    "operator/src/snapshot/plan",
    "operator/src/snapshot/schedule.rs",
];

const ONE_MACHINE: &str =
    "a machine knows the grammar in machine/ and no other machine: a new kind edits none of them";

const RULES: &[Rule] = &[
    Rule {
        under: &["engine/core/src"],
        except: &["engine/core/src/io"],
        forbidden: &[
            "parking_lot::",
            "std::sync::Mutex",
            "std::sync::Condvar",
            "std::sync::mpsc",
            "std::sync::{Mutex",
            "thread::spawn",
            "thread::scope",
            "thread::Builder",
            "thread::sleep",
            "thread::yield_now",
            "Instant::now",
            "SystemTime::now",
        ],
        reason: "threads start, wait and read the clock through io alone, so that a test can run them one at a time (docs/adr/0008)",
    },
    Rule {
        under: &["engine/core/src"],
        // A bucket that is a folder: its files are not the volume's.
        except: &["engine/core/src/io", "engine/core/src/objects/directory.rs"],
        forbidden: &["std::fs", "File::open", "OpenOptions::new", "unsafe "],
        reason: "files are touched in io alone, where faults and power cuts are injected",
    },
    Rule {
        under: &[
            "engine/core/src",
            "engine/s3/src",
            "engine/node/src",
            "engine/ctl/src",
        ],
        except: &[
            "engine/core/src/io/fault.rs",
            "engine/core/src/objects/memory.rs",
        ],
        forbidden: &[
            "io::fault",
            "FaultDisk",
            "objects::memory",
            "MemoryStore",
            "suite::",
            "::suite",
            "tier::testing",
            "core::testing",
            "crate::testing",
        ],
        reason: "test doubles are behind the feature `testing`, which no program of the product has",
    },
    Rule {
        under: &["engine/core/src"],
        except: &["engine/core/src/io"],
        forbidden: &["SystemDisk", "SystemClock", "SystemRng", "SystemThreads"],
        reason: "whoever opens the store hands its Environment down: a part that takes the system's own is one that no test can hold",
    },
    Rule {
        under: &["engine/format/src"],
        except: &[],
        forbidden: &["std::fs", "std::io", "std::time", "std::thread"],
        reason: "a format is bytes to values and back",
    },
    Rule {
        under: PURE,
        except: &[],
        forbidden: &[
            "::now()",
            "tokio::",
            ".await",
            "async fn",
            "kube::Api",
            "kube::Client",
            "Api<",
            "thread::",
            "sleep(",
        ],
        reason: "a plan is a function of facts and a time: no client, no clock, no waiting",
    },
    Rule {
        under: &[
            "operator/src/cluster/observe.rs",
            "operator/src/cluster/reader.rs",
            "operator/src/snapshot/observe.rs",
        ],
        except: &[],
        forbidden: &[
            ".door",
            "Memory",
            ".validate(",
            ".verify_snapshot(",
            ".drain(",
        ],
        reason: "observe only reads: what is asked or done is in ask.rs and apply.rs",
    },
    Rule {
        under: &["operator/src/rollout"],
        except: &[],
        forbidden: &["crate::cluster", "crate::config_rollout", "crate::snapshot"],
        reason: ONE_MACHINE,
    },
    Rule {
        under: &["operator/src/config_rollout"],
        except: &[],
        forbidden: &["crate::cluster", "crate::rollout", "crate::snapshot"],
        reason: ONE_MACHINE,
    },
    Rule {
        under: &["operator/src"],
        except: &["operator/src/kube"],
        forbidden: &[
            "PatchParams",
            "PostParams",
            "DeleteParams",
            "EvictParams",
            ".patch_status(",
            "Request::builder",
        ],
        reason: "only kube/ writes to Kubernetes: field manager, preconditions and the Lease's epoch are set there",
    },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files below a folder, or the file itself, without tests and test doubles.
fn sources(path: &str) -> Vec<String> {
    let mut open = vec![PathBuf::from(path)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        let full = root().join(&path);
        if full.is_dir() {
            let entries = std::fs::read_dir(&full).expect("a folder");
            open.extend(entries.map(|entry| path.join(entry.expect("an entry").file_name())));
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_test = ["tests.rs", "testing.rs", "suite.rs", "samples.rs"].contains(&&*name)
            || path.iter().any(|part| part == "tests");
        if name.ends_with(".rs") && !is_test {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    assert!(!found.is_empty(), "no source below {path}");
    found.sort();
    found
}

/// Lines with their numbers, without comments and what follows the test module's attribute.
fn code(file: &str) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(root().join(file)).expect("a source");
    let product = text
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    product
        .lines()
        .enumerate()
        .map(|(at, line)| {
            let code = line.split("//").next().unwrap_or_default();
            (at + 1, code.to_owned())
        })
        .collect()
}

fn broken(rule: &Rule) -> Vec<String> {
    let mut broken = Vec::new();
    for file in rule.under.iter().flat_map(|path| sources(path)) {
        if rule.except.iter().any(|except| file.starts_with(except)) {
            continue;
        }
        for (at, line) in code(&file) {
            for word in rule.forbidden.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{file}:{at}: {word}: {}", rule.reason));
            }
        }
    }
    broken
}

#[test]
fn no_part_of_the_code_says_what_it_must_not() {
    let broken: Vec<String> = RULES.iter().flat_map(broken).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_rule_notices() {
    let rule = Rule {
        under: &["engine/core/src/io"],
        except: &["engine/core/src/io/disk.rs"],
        forbidden: &["Instant::now"],
        reason: "an example",
    };
    let found = broken(&rule);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("engine/core/src/io/clock.rs:"),
        "{found:?}"
    );
}

/// First segments of a path, or of the paths of a group in braces.
fn names(path: &str) -> Vec<String> {
    let segment = |text: &str| -> String {
        let letters = text.trim_start().chars();
        letters
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![segment(path)];
    };
    let (mut names, mut depth) = (vec![segment(group)], 1);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(segment(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Which top modules of a crate import which.
fn imports(crate_root: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(crate_root) {
        let inner = &file[crate_root.len() + 1..];
        let module = inner.split('/').next().unwrap_or_default();
        let module = module.trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&&*module) {
            continue;
        }
        let text: String = code(&file)
            .into_iter()
            .map(|(_, line)| line + "\n")
            .collect();
        let theirs = imports.entry(module.clone()).or_default();
        let named = text.split("crate::").skip(1).flat_map(names);
        theirs.extend(named.filter(|name| *name != module));
    }
    imports
}

/// Modules from which `module` can be reached again.
fn is_in_a_circle(imports: &BTreeMap<String, BTreeSet<String>>, module: &str) -> bool {
    let mut open: Vec<&String> = imports.get(module).into_iter().flatten().collect();
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == module {
            return true;
        }
        if seen.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    false
}

/// Modules that import each other in a circle, as far as that is not mended yet. A module leaves this list and never joins it.
const CIRCLES: &[(&str, &[&str])] = &[
    ("engine/core/src", &[]),
    ("engine/node/src", &[]),
    ("engine/ctl/src", &[]),
    ("operator/src", &[]),
];

#[test]
fn no_more_modules_import_each_other_in_a_circle() {
    for (crate_root, known) in CIRCLES {
        let imports = imports(crate_root);
        let found: Vec<&str> = imports
            .keys()
            .map(String::as_str)
            .filter(|module| is_in_a_circle(&imports, module))
            .collect();
        assert_eq!(found, *known, "{crate_root}");
    }
}
