//! What a person would ask the cluster after a failure, asked before the cluster goes.

use std::fs;
use std::path::Path;

use crate::cluster::Cluster;
use crate::command::output;
use crate::console::{say, section};

/// The most lines of one answer.
const LINES: usize = 150;

const QUESTIONS: &[&str] = &[
    "get pods,statefulsets,deployments,pvc,aof2clusters -A -o wide",
    "get events -A --sort-by=.lastTimestamp",
    "logs -A -l app.kubernetes.io/name=aof2-operator --all-containers --tail=100 --prefix",
    "logs -A -l app.kubernetes.io/name=aof2 --all-containers --tail=60 --prefix",
];

/// Prints what the cluster and the tests have to say, and keeps the tests' own files in `kept`.
pub fn print(cluster: &Cluster, kept: &Path) {
    section("diagnostics");
    for question in QUESTIONS {
        println!("--- kubectl {question}");
        let answer = cluster.kubectl().and_then(|mut kubectl| {
            output(
                kubectl
                    .args(question.split(' '))
                    .arg("--request-timeout=20s"),
            )
        });
        match answer {
            Ok(answer) => println!("{}", tail(&answer)),
            Err(error) => println!("{error:#}"),
        }
    }
    // The tests write one file per failed test before they remove its namespace.
    let Ok(files) = fs::read_dir(cluster.folder.join("log/e2e")) else {
        return;
    };
    fs::create_dir_all(kept).ok();
    for file in files.flatten() {
        let copy = kept.join(file.file_name());
        if let Ok(text) = fs::read_to_string(file.path()) {
            println!(
                "--- {} (kept as {})\n{}",
                file.file_name().to_string_lossy(),
                copy.display(),
                tail(&text)
            );
        }
        fs::copy(file.path(), copy).ok();
    }
    say(format_args!(
        "diagnostics of the tests are kept in {}",
        kept.display()
    ));
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
