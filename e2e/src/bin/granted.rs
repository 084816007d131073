//! `aof2-granted`: what the chart grants the operator against what operators did in this cluster's audit log. Run after the scenarios:
//! a right that no scenario used is one too many, and a request that was refused is one too few.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aof2_e2e::audit::{AuditLog, Request};
use aof2_e2e::environment::Environment;
use aof2_e2e::helm;
use aof2_e2e::kubectl::Program;
use serde_json::Value;

/// Name of the operator's ServiceAccount in every namespace of a scenario.
const ACCOUNT: &str = ":aof2-operator";

/// What no scenario waits for; the plans that ask for it have tests of their own.
const TAKES_TOO_LONG: &[(&str, &str)] = &[
    // After 48 snapshots of one schedule.
    ("aof2snapshots", "delete"),
    // Of snapshots whose deletion takes their catalogues along.
    ("aof2snapshots", "patch"),
    // When a cluster shrinks to its last pod, which streams must have left before.
    ("poddisruptionbudgets", "delete"),
    // When one operator says the same again a minute later.
    ("events", "patch"),
];

fn main() -> std::process::ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let environment = Environment::from_env()?;
    let requests = AuditLog::from_the_start(environment.audit_log()?).requests_by(ACCOUNT)?;
    ensure!(
        !requests.is_empty(),
        "no operator did anything: the scenarios did not run in this cluster"
    );
    let granted = granted(&environment).await?;
    let mut used: BTreeSet<Right> = requests.iter().map(right).collect();
    // Server-side apply of what is not there yet is asked for both rights, and logged as a patch that created.
    let created = requests.iter().filter(|request| request.code == 201);
    used.extend(created.map(|request| (right(request).0, "create".to_owned())));
    let refused: BTreeSet<Right> = requests
        .iter()
        .filter(|request| request.is_forbidden)
        .map(right)
        // An operator that is uninstalled loses its Role a moment before it ends.
        .filter(|right| !granted.contains(right))
        .collect();
    let unused: Vec<&Right> = granted
        .difference(&used)
        .filter(|(resource, verb)| !TAKES_TOO_LONG.contains(&(resource.as_str(), verb.as_str())))
        .collect();
    println!(
        "{} rights granted, {} requests by operators",
        granted.len(),
        requests.len()
    );
    ensure!(
        refused.is_empty(),
        "operators asked for what the chart does not grant: {refused:?}"
    );
    ensure!(
        unused.is_empty(),
        "granted and used by no scenario: {unused:?}"
    );
    Ok(())
}

/// Resource, with its subresource, and verb.
type Right = (String, String);

fn right(request: &Request) -> Right {
    let resource = match request.subresource.as_str() {
        "" => request.resource.clone(),
        subresource => format!("{}/{subresource}", request.resource),
    };
    (resource, request.verb.clone())
}

/// From the rendered chart, so that the chart is what is judged.
async fn granted(environment: &Environment) -> Result<BTreeSet<Right>> {
    let chart = helm::chart();
    let chart = chart
        .to_str()
        .context("the path of the chart is not UTF-8")?;
    let rendered = Program::helm(environment)
        .run(&[
            "template",
            "aof2-operator",
            chart,
            "--show-only",
            "templates/rbac.yaml",
        ])
        .await?;
    let json = Program::kubectl(environment)
        .run_with(
            &["create", "--dry-run=client", "-o", "json", "-f", "-"],
            Some(rendered.as_bytes()),
        )
        .await?;
    let mut rights = BTreeSet::new();
    // Several objects come one after the other, or as a List.
    for document in serde_json::Deserializer::from_str(&json).into_iter::<Value>() {
        let document = document?;
        let items = document["items"].as_array().cloned();
        for object in items.unwrap_or_else(|| vec![document]) {
            for rule in object["rules"].as_array().into_iter().flatten() {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert((resource.clone(), verb));
                    }
                }
            }
        }
    }
    ensure!(!rights.is_empty(), "the chart grants nothing: {json}");
    Ok(rights)
}

fn texts(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten();
    values
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
