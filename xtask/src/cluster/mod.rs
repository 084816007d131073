//! A Kubernetes cluster for the demo and the tests, by whichever provider this machine allows.
//!
//! - `Foreign`: a cluster that the user names by `AOF2_KUBECONFIG`, with a registry in `AOF2_REGISTRY`. The ambient KUBECONFIG
//!   is never looked at: tests must not run into a cluster that somebody forgot about.
//! - `Kind`: where a Docker engine answers and kind is installed.
//! - `Local`: namespaces and processes of this machine, nothing else needed. See `local`.

mod foreign;
mod kind;
mod local;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::command::{find_program, output, succeeds};
use crate::console::say;
use crate::image::oci::Image;
use crate::places;
use crate::prerequisites::{self, Need};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Local,
    Kind,
    Foreign,
}

impl Provider {
    pub fn name(self) -> &'static str {
        match self {
            Provider::Local => "local",
            Provider::Kind => "kind",
            Provider::Foreign => "foreign",
        }
    }

    /// What tests cannot do on this provider; they report themselves as skipped.
    fn cannot(self) -> &'static str {
        match self {
            Provider::Local => "",
            Provider::Kind => "read the audit log",
            Provider::Foreign => "cut the power of nodes, read the audit log, dial pod addresses",
        }
    }
}

/// What `up` may be told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    pub nodes: Option<u32>,
    pub audit: bool,
}

/// A cluster that answers.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    pub provider: Provider,
    pub kubeconfig: PathBuf,
    /// What image references begin with.
    pub image_prefix: String,
    pub audit_log: Option<PathBuf>,
    /// What belongs to this cluster: a local one's logs and process records, and diagnostics of tests.
    pub folder: PathBuf,
}

impl Cluster {
    /// Gives every node `images`, or the registry of a foreign cluster.
    pub fn load(&self, images: &[Image]) -> Result<()> {
        match self.provider {
            Provider::Local => local::load(&self.name, images),
            Provider::Kind => kind::load(&self.name, images),
            Provider::Foreign => images.iter().try_for_each(crate::image::registry::push),
        }
    }

    pub fn kubectl(&self) -> Result<Command> {
        let mut kubectl = Command::new(places::bin()?.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig);
        Ok(kubectl)
    }

    /// How the tests and the demo find the cluster. Documented in e2e/cluster/README.md.
    pub fn environment(&self) -> Result<Vec<(&'static str, String)>> {
        let path = |path: &PathBuf| path.display().to_string();
        let mut environment = vec![
            ("AOF2_E2E_PROVIDER", self.provider.name().to_owned()),
            ("AOF2_E2E_KUBECONFIG", path(&self.kubeconfig)),
            ("AOF2_E2E_BIN", path(&places::bin()?)),
            ("AOF2_E2E_IMAGE_PREFIX", self.image_prefix.clone()),
            ("AOF2_E2E_CLUSTER_DIR", path(&self.folder)),
        ];
        environment.extend(
            self.audit_log
                .as_ref()
                .map(|log| ("AOF2_E2E_AUDIT_LOG", path(log))),
        );
        Ok(environment)
    }
}

pub fn up(name: &str, wishes: Wishes) -> Result<Cluster> {
    check_name(name)?;
    let cluster = match provider() {
        Provider::Foreign => {
            let cluster = foreign::find(name)?;
            prerequisites::ensure(Need::Clients)?;
            cluster
        }
        Provider::Kind => {
            prerequisites::ensure(Need::Clients)?;
            kind::up(name, wishes)?
        }
        Provider::Local => {
            local::check_machine()?;
            prerequisites::ensure(Need::LocalCluster)?;
            local::up(name, wishes)?
        }
    };
    let cannot = cluster.provider.cannot();
    if !cannot.is_empty() {
        say(format_args!(
            "provider {}: tests that {cannot} are reported as skipped",
            cluster.provider.name()
        ));
    }
    Ok(cluster)
}

/// What `cluster up NAME` needs that takes long, without the cluster.
/// Names everything that this machine lacks and that no later step can install, before anything is compiled.
pub fn check() -> Result<()> {
    let missing = match provider() {
        Provider::Foreign | Provider::Kind => prerequisites::missing(Need::Clients),
        Provider::Local => {
            let machine = local::check_machine().err();
            let mut missing: Vec<String> =
                machine.map(|error| error.to_string()).into_iter().collect();
            missing.extend(prerequisites::missing(Need::LocalCluster));
            missing
        }
    };
    prerequisites::none(&missing)
}

pub fn prepare() -> Result<()> {
    match provider() {
        Provider::Foreign | Provider::Kind => prerequisites::ensure(Need::Clients),
        Provider::Local => {
            local::check_machine()?;
            prerequisites::ensure(Need::LocalCluster)
        }
    }
}

pub fn down(name: &str) -> Result<()> {
    check_name(name)?;
    match provider() {
        Provider::Foreign => {
            say("the cluster of AOF2_KUBECONFIG is not ours to take down; nothing was done");
            Ok(())
        }
        Provider::Kind => kind::down(name),
        Provider::Local => local::down(name),
    }
}

/// The cluster if it answers.
pub fn find(name: &str) -> Result<Option<Cluster>> {
    check_name(name)?;
    match provider() {
        Provider::Foreign => foreign::find(name).map(Some),
        Provider::Kind => kind::find(name),
        Provider::Local => local::find(name),
    }
}

pub fn status(name: &str, as_json: bool) -> Result<()> {
    let Some(cluster) = find(name)? else {
        bail!("cluster {name} is not running; start it: cargo xtask cluster up --name {name}");
    };
    let nodes = output(cluster.kubectl()?.args([
        "get",
        "nodes",
        "--request-timeout=10s",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type==\"Ready\")].status} {.status.nodeInfo.kubeletVersion} {.status.nodeInfo.containerRuntimeVersion}{\"\\n\"}{end}",
    ]))
    .with_context(|| format!("the API server of cluster {name} does not answer"))?;
    let server = output(cluster.kubectl()?.args(["version", "-o", "json"]))?;
    let server: serde_json::Value = serde_json::from_str(&server)?;
    let server = server["serverVersion"]["gitVersion"]
        .as_str()
        .unwrap_or("unknown");
    if as_json {
        let nodes: Vec<_> = nodes
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                json!({"name": words.first(), "ready": words.get(1) == Some(&"True"), "kubelet": words.get(2), "runtime": words.get(3)})
            })
            .collect();
        let status = json!({
            "name": cluster.name, "provider": cluster.provider.name(), "kubernetes": server, "nodes": nodes,
            "kubeconfig": cluster.kubeconfig, "bin": places::bin()?, "image_prefix": cluster.image_prefix,
            "audit_log": cluster.audit_log, "folder": cluster.folder,
        });
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    println!(
        "cluster {} ({}), Kubernetes {server}",
        cluster.name,
        cluster.provider.name()
    );
    for line in nodes.lines() {
        println!(
            "  node {}",
            line.replacen(" True ", " Ready ", 1)
                .replacen(" False ", " NotReady ", 1)
        );
    }
    if let Some(log) = &cluster.audit_log {
        println!("  audit log {}", log.display());
    }
    if cluster.provider == Provider::Local {
        let folder = cluster.folder.display();
        println!("  logs {folder}/log, a shell in a node: {folder}/on-node 1 bash");
    }
    println!("export KUBECONFIG={}", cluster.kubeconfig.display());
    println!("export PATH={}:$PATH", places::bin()?.display());
    Ok(())
}

fn provider() -> Provider {
    if std::env::var_os("AOF2_KUBECONFIG").is_some() {
        return Provider::Foreign;
    }
    // A docker client without an engine behind it is common; only the server's part of the answer counts.
    let engine_answers = || {
        find_program("docker").is_some()
            && succeeds(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))
    };
    if find_program("kind").is_some() && engine_answers() {
        Provider::Kind
    } else {
        Provider::Local
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 20
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !fits {
        bail!("cluster name `{name}`: give 1 to 20 of a-z, 0-9 and -, the first a letter");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_the_clusters_folder_is_refused() {
        for bad in [
            "",
            "../x",
            "a/b",
            "Demo",
            "-x",
            "a.b",
            "aaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["demo", "test", "a-1"] {
            check_name(good).unwrap();
        }
    }
}
