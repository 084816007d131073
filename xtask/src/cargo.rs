//! One way to build the workspace. Always the whole of it: `-p one-crate` unifies features differently and compiles the
//! dependencies a second time.

mod progress;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::places;

/// What a release is made of.
const RELEASED: &[&str] = &["aof2-node", "aof2-ctl", "aof2-operator"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// What images are made of: no test double is compiled.
    Programs,
    /// And all tests. Programs are the same code, with test doubles compiled beside it that nothing calls: features are one set
    /// for a build, and a second build of the engine for the images of tests would cost minutes.
    All,
    /// One program, and nothing that it does not need.
    Only(&'static str),
}

/// A test program that cargo made.
#[derive(Debug, Clone)]
pub struct TestProgram {
    pub package: String,
    pub target: String,
    /// From a package's `tests/`, not from its sources.
    pub is_integration: bool,
    pub executable: PathBuf,
    /// Where cargo would run it.
    pub folder: PathBuf,
}

#[derive(Default)]
pub struct Built {
    pub programs: BTreeMap<String, PathBuf>,
    pub tests: Vec<TestProgram>,
}

impl Built {
    pub fn program(&self, name: &str) -> Result<&PathBuf> {
        self.programs
            .get(name)
            .with_context(|| format!("the workspace has no program named {name}"))
    }
}

/// A cargo that sees the environment the user gave, not what `cargo run` added for us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(places::root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let added_by_cargo = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_PRIMARY_",
            "CARGO_CRATE_",
            "CARGO_BIN_",
        ];
        if added_by_cargo.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // It would replace the flags that make our programs static.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("AOF2_ENGINE_VERSION");
    command
}

/// Builds the workspace; `engine_version` replaces the version that the engine's programs tell.
pub fn build(targets: Targets, engine_version: Option<&str>) -> Result<Built> {
    let mut command = cargo();
    command.args([
        "build",
        "--workspace",
        "--message-format=json-render-diagnostics",
    ]);
    match targets {
        Targets::Programs => command.arg("--bins"),
        Targets::All => command.arg("--all-targets"),
        Targets::Only(program) => command.args(["--bin", program]),
    };
    if std::env::var_os("CI").is_some() {
        command.arg("--locked");
    }
    if let Some(version) = engine_version {
        command.env("AOF2_ENGINE_VERSION", version);
    }
    let what = match targets {
        Targets::Programs => "building the programs".to_owned(),
        Targets::All => "building programs and tests".to_owned(),
        Targets::Only(program) => format!("building {program}"),
    };
    let messages = progress::run(&mut command, &what, &log(targets))?;
    let mut built = Built::default();
    if targets == Targets::Programs {
        return programs_of(&messages);
    }
    for line in messages.lines() {
        if let Ok(message) = serde_json::from_str::<Value>(line) {
            note_artifact(&mut built, &message);
        }
    }
    Ok(built)
}

/// The programs of a release for one platform. The same sources give the same bytes wherever they lie: no path of this machine is in them.
pub fn build_release(triple: &str, linker: Option<&str>) -> Result<Built> {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--locked",
        "--bins",
        "--target",
        triple,
    ]);
    command.arg("--message-format=json-render-diagnostics");
    for package in RELEASED {
        command.args(["--package", package]);
    }
    let target = target_folder();
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    let places = [
        (places::root(), "/aof2"),
        (target.clone(), "/target"),
        (home, "/cargo"),
    ];
    let flags: Vec<String> = places
        .iter()
        .map(|(from, to)| format!("\"--remap-path-prefix={}={to}\"", from.display()))
        .collect();
    command.args([
        "--config",
        &format!("target.{triple}.rustflags=[{}]", flags.join(",")),
    ]);
    let of_c: Vec<String> = places
        .iter()
        .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
        .collect();
    command.env(
        format!("CFLAGS_{}", triple.replace('-', "_")),
        of_c.join(" "),
    );
    if let Some(linker) = linker {
        let variable = triple.replace('-', "_").to_uppercase();
        command.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
    }
    let log = target.join(format!("xtask-release-{triple}.log"));
    let what = format!("building the release for {triple}");
    let messages = progress::run(&mut command, &what, &log)?;
    programs_of(&messages)
}

/// Without test doubles: only dev-dependencies may bring them.
fn programs_of(messages: &str) -> Result<Built> {
    let mut built = Built::default();
    let mut with_doubles = Vec::new();
    for line in messages.lines() {
        if let Ok(message) = serde_json::from_str::<Value>(line) {
            note_artifact(&mut built, &message);
            with_doubles.extend(crate_with_test_doubles(&message));
        }
    }
    if !with_doubles.is_empty() {
        bail!(
            "built with the feature `testing`, so with test doubles: {}; only dev-dependencies may enable it",
            with_doubles.join(", ")
        );
    }
    Ok(built)
}

/// Whether a build of these ended well in this target folder, so that the next compiles only what has changed.
pub fn was_built(targets: Targets) -> bool {
    progress::last_duration(&log(targets)).is_some()
}

fn log(targets: Targets) -> PathBuf {
    target_folder().join(match targets {
        Targets::Programs => "xtask-programs.log".to_owned(),
        Targets::All => "xtask-tests.log".to_owned(),
        Targets::Only(program) => format!("xtask-{program}.log"),
    })
}

/// Where cargo builds, as far as the environment says it.
pub fn target_folder() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    places::root().join(named.map_or_else(|| "target".into(), PathBuf::from))
}

fn note_artifact(built: &mut Built, message: &Value) {
    if message["reason"] != "compiler-artifact" {
        return;
    }
    let (Some(executable), Some(target)) = (
        message["executable"].as_str(),
        message["target"]["name"].as_str(),
    ) else {
        return;
    };
    let is_kind = |wanted: &str| {
        message["target"]["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == wanted))
    };
    let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.parent().map(PathBuf::from).unwrap_or_default();
    if message["profile"]["test"] == true {
        built.tests.push(TestProgram {
            package: package_name(message["package_id"].as_str().unwrap_or_default()),
            target: target.to_owned(),
            is_integration: is_kind("test"),
            executable: executable.into(),
            folder,
        });
    } else if is_kind("bin") {
        built.programs.insert(target.to_owned(), executable.into());
    }
}

/// The crate of ours that was compiled with its feature `testing`, if this tells of one.
fn crate_with_test_doubles(message: &Value) -> Option<String> {
    let package = message["package_id"].as_str()?;
    let features = message["features"].as_array()?;
    let is_ours = package.starts_with("path+file:");
    (is_ours && features.iter().any(|feature| feature == "testing")).then(|| package_name(package))
}

/// `path+file:///repo/crds#aof2-crds@0.1.0`, or `path+file:///repo/xtask#0.1.0` where the folder has the package's name.
fn package_name(id: &str) -> String {
    let (location, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => location.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn package_ids_of_both_shapes_give_the_name() {
        assert_eq!(
            package_name("path+file:///repo/crds#aof2-crds@0.1.0"),
            "aof2-crds"
        );
        assert_eq!(package_name("path+file:///repo/xtask#0.1.0"), "xtask");
    }

    #[test]
    fn a_crate_of_ours_with_test_doubles_is_noticed() {
        let message = |features: &[&str]| json!({"reason": "compiler-artifact", "package_id": "path+file:///r/engine/core#aof2-core@0.1.0", "features": features});
        assert_eq!(
            crate_with_test_doubles(&message(&["default", "testing"])).as_deref(),
            Some("aof2-core")
        );
        assert_eq!(crate_with_test_doubles(&message(&["default"])), None);
    }

    #[test]
    fn programs_and_tests_are_told_apart_and_libraries_left_out() {
        let mut built = Built::default();
        for (kind, test, executable) in [
            ("bin", false, Some("/a")),
            ("bin", true, Some("/b")),
            ("test", true, Some("/c")),
            ("lib", false, None),
        ] {
            note_artifact(
                &mut built,
                &json!({
                    "reason": "compiler-artifact", "package_id": "path+file:///r/x#x@1", "manifest_path": "/r/x/Cargo.toml",
                    "target": {"name": "t", "kind": [kind]}, "profile": {"test": test}, "executable": executable,
                }),
            );
        }
        assert_eq!(built.programs.len(), 1);
        let integration: Vec<bool> = built.tests.iter().map(|test| test.is_integration).collect();
        assert_eq!(integration, [false, true]);
    }
}
