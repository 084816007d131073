//! The arrows of ARCHITECTURE.md, held against what the manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom among our crates, by any kind of dependency. A crate that is not here may depend on none of ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("aof2-core", &["aof2-format"]),
    ("aof2-s3", &["aof2-core", "aof2-format"]),
    (
        "aof2-node",
        &[
            "aof2-admin-api",
            "aof2-core",
            "aof2-format",
            "aof2-listen",
            "aof2-s3",
        ],
    ),
    (
        "aof2-ctl",
        &[
            "aof2-admin-api",
            "aof2-core",
            "aof2-format",
            "aof2-node",
            "aof2-s3",
        ],
    ),
    (
        "aof2-operator",
        &["aof2-admin-api", "aof2-crds", "aof2-listen"],
    ),
    ("aof2-e2e", &["aof2-admin-api", "aof2-crds"]),
];

/// Crates from outside that must not be reachable, however indirectly, from those named.
const UNREACHABLE: &[(&str, &[&str])] = &[
    // The engine runs without Kubernetes.
    ("aof2-node", &["kube", "k8s-openapi"]),
    ("aof2-ctl", &["kube", "k8s-openapi"]),
    // The store is threads and files; runtimes and clients are its callers' business.
    ("aof2-core", &["tokio", "hyper", "aws-sdk-s3"]),
    // Bytes to values and back: no clock, no I/O, no async.
    (
        "aof2-format",
        &["tokio", "futures", "jiff", "rustix", "tracing"],
    ),
    // The operator knows an engine by its admin API alone.
    ("aof2-operator", &["aof2-core", "aof2-node", "aof2-format"]),
];

#[test]
fn our_crates_depend_on_each_other_only_along_the_arrows() {
    let workspace = Workspace::load();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut broken = Vec::new();
    for (package, dependencies) in &workspace.declared {
        let may = allowed.get(package.as_str()).copied().unwrap_or_default();
        for dependency in dependencies
            .iter()
            .filter(|name| workspace.declared.contains_key(*name))
            // A crate that enables a feature of its own for its tests.
            .filter(|name| *name != package)
        {
            if !may.contains(&dependency.as_str()) {
                broken.push(format!("{package} -> {dependency}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "against the arrows of ARCHITECTURE.md: {}",
        broken.join(", ")
    );
}

#[test]
fn the_table_of_arrows_names_crates_that_exist() {
    let workspace = Workspace::load();
    for name in ALLOWED
        .iter()
        .flat_map(|(from, to)| to.iter().chain([from]))
    {
        assert!(
            workspace.declared.contains_key(*name),
            "there is no crate {name}"
        );
    }
}

#[test]
fn what_must_stay_apart_is_not_reachable_by_any_path() {
    let workspace = Workspace::load();
    let mut broken = Vec::new();
    for (package, forbidden) in UNREACHABLE {
        let reached = workspace.reachable_from(package);
        assert!(
            !reached.is_empty(),
            "nothing is reachable from {package}, not even itself"
        );
        broken.extend(
            forbidden
                .iter()
                .filter(|name| reached.contains(**name))
                .map(|name| format!("{package} reaches {name}")),
        );
    }
    assert!(broken.is_empty(), "{}", broken.join(", "));
}

/// Cargo leaves the features of dev-dependencies out when it builds programs alone, which is how images are made.
#[test]
fn only_tests_ask_for_the_test_doubles() {
    let workspace = Workspace::load();
    let (for_tests, for_the_product): (Vec<_>, Vec<_>) = workspace
        .asks_for_testing
        .iter()
        .partition(|(_, kind)| kind == "dev");
    assert!(!for_tests.is_empty(), "nothing asks for {TESTING}");
    assert!(
        for_the_product.is_empty(),
        "the product contains test doubles: {for_the_product:?}"
    );
}

/// The feature of our crates that compiles test doubles.
const TESTING: &str = "testing";

struct Workspace {
    /// Who enables [`TESTING`] of whom (or of itself, by another feature), and by which kind of dependency.
    asks_for_testing: Vec<(String, String)>,
    /// Each of our crates with the names of all it declares, dev-dependencies included.
    declared: BTreeMap<String, BTreeSet<String>>,
    /// The resolved graph by package id, dev-dependencies left out.
    edges: BTreeMap<String, Vec<String>>,
    names: BTreeMap<String, String>,
}

impl Workspace {
    fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "metadata",
                "--format-version=1",
                "--offline",
                "--filter-platform=x86_64-unknown-linux-gnu",
            ])
            .current_dir(root)
            .output()
            .expect("cargo starts");
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Value =
            serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let list = |value: &Value| value.as_array().expect("a list").clone();

        let members: BTreeSet<String> = list(&metadata["workspace_members"])
            .iter()
            .map(text)
            .collect();
        let mut declared = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut asks_for_testing = Vec::new();
        for package in list(&metadata["packages"]) {
            let (id, name) = (text(&package["id"]), text(&package["name"]));
            if members.contains(&id) {
                let dependencies = list(&package["dependencies"]);
                for one in dependencies
                    .iter()
                    .filter(|one| enables_testing(&one["features"]))
                {
                    let kind = one["kind"].as_str().unwrap_or("normal").to_owned();
                    asks_for_testing.push((format!("{name} -> {}", text(&one["name"])), kind));
                }
                let features = package["features"].as_object().expect("features");
                for (feature, _) in features
                    .iter()
                    .filter(|(_, enables)| enables_testing(enables))
                {
                    asks_for_testing.push((format!("{name}: feature {feature}"), "feature".into()));
                }
                declared.insert(
                    name.clone(),
                    dependencies.iter().map(|one| text(&one["name"])).collect(),
                );
            }
            names.insert(id, name);
        }
        let mut edges = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let runs_with = |dependency: &&Value| {
                list(&dependency["dep_kinds"])
                    .iter()
                    .any(|kind| kind["kind"].is_null())
            };
            let dependencies = list(&node["deps"]);
            let to = dependencies
                .iter()
                .filter(runs_with)
                .map(|dependency| text(&dependency["pkg"]))
                .collect();
            edges.insert(text(&node["id"]), to);
        }
        Self {
            asks_for_testing,
            declared,
            edges,
            names,
        }
    }

    fn reachable_from(&self, package: &str) -> BTreeSet<String> {
        let mut waiting: Vec<&String> = self
            .names
            .iter()
            .filter(|(_, name)| *name == package)
            .map(|(id, _)| id)
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(self.edges.get(id).into_iter().flatten());
            }
        }
        seen.into_iter().map(|id| self.names[id].clone()).collect()
    }
}

/// Of a list of features: `testing`, or `crate/testing`.
fn enables_testing(features: &Value) -> bool {
    features.as_array().expect("a list").iter().any(|feature| {
        let feature = feature.as_str().expect("a string");
        feature.rsplit('/').next() == Some(TESTING)
    })
}
