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
];
/// `kubectl logs` takes one namespace only, so the pods are listed first.
const PODS: &[&str] = &[
    "get",
    "pods",
    "-A",
    "-l",
    "app.kubernetes.io/name in (aof2-operator,aof2)",
    "-o",
    r#"jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}"#,
];

/// Prints what the cluster and the tests have to say, and keeps the tests' own files in `kept`.
pub fn print(cluster: &Cluster, kept: &Path) {
    section("diagnostics");
    for question in QUESTIONS {
        let arguments: Vec<&str> = question.split(' ').collect();
        print_answer(&ask(cluster, &arguments), question);
    }
    let pods = ask(cluster, PODS).unwrap_or_default();
    for (namespace, pod) in pods.lines().filter_map(|line| line.split_once(' ')) {
        let question = format!("logs -n {namespace} {pod} --all-containers --tail=100 --prefix");
        let arguments: Vec<&str> = question.split(' ').collect();
        print_answer(&ask(cluster, &arguments), &question);
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

fn ask(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<String> {
    let mut kubectl = cluster.kubectl()?;
    output(kubectl.args(arguments).arg("--request-timeout=20s"))
}

fn print_answer(answer: &anyhow::Result<String>, question: &str) {
    println!("--- kubectl {question}");
    match answer {
        Ok(answer) => println!("{}", tail(answer)),
        Err(error) => println!("{error:#}"),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
