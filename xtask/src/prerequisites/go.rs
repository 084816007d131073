//! Programs built from the Go module proxy: Kubernetes itself, its add-ons, and the tools of the tests.
//!
//! A program is built again when what it is made from changed: a stamp beside it holds the hash of its module's files and of
//! the flags. All builds share one set of flags, or the Go build cache would be of no use from one to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command::{find_program, output};
use crate::console::{say, timed};
use crate::places;

/// Oldest Go that builds every module.
const GO_MINOR: u32 = 26;
const FLAGS: &[&str] = &["-trimpath", "-mod=readonly", "-buildvcs=false"];

const KUBERNETES: &str = "e2e/cluster/kubernetes";
const ADDONS: &str = "e2e/cluster/addons";
const TOOLS: &str = "e2e/tools";

#[derive(Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    module: &'static str,
    package: &'static str,
}

const fn program(name: &'static str, module: &'static str, package: &'static str) -> Program {
    Program {
        name,
        module,
        package,
    }
}

const KUBECTL: Program = program("kubectl", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl");
const HELM: Program = program("helm", TOOLS, "helm.sh/helm/v4/cmd/helm");
const CRANE: Program = program(
    "crane",
    TOOLS,
    "github.com/google/go-containerregistry/cmd/crane",
);
const VERSITYGW: Program = program(
    "versitygw",
    TOOLS,
    "github.com/versity/versitygw/cmd/versitygw",
);

impl Program {
    /// The API server first: it compiles what the others share.
    pub const ALL: [Program; 13] = [
        program(
            "kube-apiserver",
            KUBERNETES,
            "k8s.io/kubernetes/cmd/kube-apiserver",
        ),
        program(
            "kube-controller-manager",
            KUBERNETES,
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ),
        program(
            "kube-scheduler",
            KUBERNETES,
            "k8s.io/kubernetes/cmd/kube-scheduler",
        ),
        program("kubelet", KUBERNETES, "k8s.io/kubernetes/cmd/kubelet"),
        program("kube-proxy", KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy"),
        KUBECTL,
        program("etcd", KUBERNETES, "go.etcd.io/etcd/server/v3"),
        program("coredns", ADDONS, "./coredns"),
        program(
            "local-path-provisioner",
            ADDONS,
            "github.com/rancher/local-path-provisioner",
        ),
        program("pause", ADDONS, "./pause"),
        VERSITYGW,
        HELM,
        CRANE,
    ];
    pub const CLIENTS: [Program; 4] = [KUBECTL, VERSITYGW, HELM, CRANE];
    /// What a test of one crate may start.
    pub const SERVERS: [Program; 1] = [VERSITYGW];

    /// The hash of all that decides what the built program is.
    fn stamp(&self, root: &Path, go_version: &str) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{go_version} {FLAGS:?} {} {}",
            self.package,
            self.linker_flags(root)?
        ));
        let module = root.join(self.module);
        let mut files = vec![module.join("go.mod"), module.join("go.sum")];
        if let Some(folder) = self.package.strip_prefix("./") {
            files.extend(sources(&module.join(folder))?);
        }
        for file in files {
            hash.update(
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?,
            );
        }
        Ok(hex::encode(hash.finalize()))
    }

    fn linker_flags(&self, root: &Path) -> Result<String> {
        if self.module != KUBERNETES {
            return Ok("-s -w".into());
        }
        // Unstamped, a kubelet says v0.0.0-master and clients misjudge the server.
        let version = kubernetes_version(root)?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        let base = "k8s.io/component-base/version";
        Ok(format!(
            "-s -w -X {base}.gitVersion={version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor} \
             -X {base}.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion={version}"
        ))
    }
}

/// The Kubernetes that go.mod names, for example `v1.36.3`.
fn kubernetes_version(root: &Path) -> Result<String> {
    let path = root.join(KUBERNETES).join("go.mod");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .or_else(|| {
            text.lines()
                .find_map(|line| line.strip_prefix("require k8s.io/kubernetes "))
        })
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .with_context(|| format!("{} requires no k8s.io/kubernetes", path.display()))
}

/// Go is there and new enough. Nothing here can install it.
pub fn check() -> Result<()> {
    let go = find()?;
    go_version(&go).map(drop)
}

fn find() -> Result<PathBuf> {
    find_program("go").context(format!(
        "Go is missing; install Go 1.{GO_MINOR} or later (https://go.dev/dl)"
    ))
}

pub fn are_built(programs: &[Program]) -> bool {
    places::bin().is_ok_and(|bin| {
        programs
            .iter()
            .all(|program| bin.join(program.name).is_file())
    })
}

/// Builds what is missing or out of date into the cache's `bin/`.
pub fn ensure(programs: &[Program]) -> Result<()> {
    let root = places::root();
    let bin = places::bin()?;
    let go = find()?;
    let go_version = go_version(&go)?;
    let stamps = bin.join(".stamps");
    let is_current = |program: &Program| -> Result<bool> {
        let built = fs::read_to_string(stamps.join(program.name)).unwrap_or_default();
        Ok(bin.join(program.name).is_file() && built == program.stamp(&root, &go_version)?)
    };
    let mut stale = Vec::new();
    for program in programs {
        if !is_current(program)? {
            stale.push(*program);
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let _lock = places::lock(&bin.join(".lock"), "it builds the same programs")?;
    fs::create_dir_all(&stamps)?;
    say(format_args!(
        "building {} Go programs into {}",
        stale.len(),
        bin.display()
    ));
    for (index, program) in stale.iter().enumerate() {
        if is_current(program)? {
            continue; // whoever held the lock built it
        }
        timed(
            format_args!(
                "go build {} ({} of {})",
                program.name,
                index + 1,
                stale.len()
            ),
            || build(program, &go, &root, &bin),
        )?;
        fs::write(
            stamps.join(program.name),
            program.stamp(&root, &go_version)?,
        )?;
    }
    Ok(())
}

fn build(program: &Program, go: &Path, root: &Path, bin: &Path) -> Result<()> {
    // Made beside and moved into place: a running program keeps its old file, and half a file never counts as built.
    let made = bin.join(format!(".{}.new", program.name));
    output(
        Command::new(go)
            .arg("build")
            .args(FLAGS)
            .args(["-ldflags", &program.linker_flags(root)?, "-o"])
            .arg(&made)
            .arg(program.package)
            .current_dir(root.join(program.module))
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env_remove("GOFLAGS")
            .env_remove("GOWORK"),
    )
    .with_context(|| format!("cannot build {} from {}", program.name, program.module))?;
    fs::rename(&made, bin.join(program.name))?;
    Ok(())
}

fn go_version(go: &Path) -> Result<String> {
    let said = output(Command::new(go).arg("version").env("GOTOOLCHAIN", "local"))?;
    let version = said
        .split_whitespace()
        .nth(2)
        .unwrap_or_default()
        .to_owned();
    let minor = version
        .strip_prefix("go1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(minor) if minor >= GO_MINOR => Ok(version),
        _ => bail!(
            "{} is {version}; Go 1.{GO_MINOR} or later is needed (https://go.dev/dl)",
            go.display()
        ),
    }
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "go"));
    files.sort();
    Ok(files)
}
