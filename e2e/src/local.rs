//! What only the local provider lets a test reach: its nodes are namespaces of this machine, so an engine is a process that can
//! be killed, and a volume a folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;

use crate::environment::Environment;

/// Where a node's /var/lib lies in the cluster's folder. There is one node unless somebody adds more.
const NODE_VAR_LIB: &str = "node1/lib";

/// Port of the engines' admin API.
const ADMIN_PORT: u16 = 7421;
const FILTER: &str = "aof2_e2e";

/// The folder behind a volume claim.
pub async fn volume_folder(
    environment: &Environment,
    client: &kube::Client,
    namespace: &str,
    claim: &str,
) -> Result<PathBuf> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let volume = claims
        .get(claim)
        .await?
        .spec
        .and_then(|spec| spec.volume_name)
        .context("the claim is not bound")?;
    let volume = Api::<PersistentVolume>::all(client.clone())
        .get(&volume)
        .await?;
    let path = volume
        .spec
        .and_then(|spec| spec.local)
        .context("not a local volume")?
        .path;
    let inside = path
        .strip_prefix("/var/lib/")
        .with_context(|| format!("{path} is not below /var/lib"))?;
    let folder = environment.cluster_folder.join(NODE_VAR_LIB).join(inside);
    ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    Ok(folder)
}

/// Ends the engine of one pod as a crash does, by SIGKILL.
pub fn kill_engine(namespace: &str, pod: &str) -> Result<()> {
    let process = engine_of(namespace, pod)?;
    let status = Command::new("kill")
        .args(["-KILL", &process.to_string()])
        .status()
        .context("cannot run kill")?;
    ensure!(
        status.success(),
        "cannot kill process {process}, the engine of {namespace}/{pod}"
    );
    Ok(())
}

/// A table of the packet filter in a pod, gone with this value.
pub struct ClosedPort {
    process: u32,
}

/// Nobody reaches the admin API of one engine any more; its data socket and its probes go on.
pub fn close_admin_port(namespace: &str, pod: &str) -> Result<ClosedPort> {
    let process = engine_of(namespace, pod)?;
    let rules = format!(
        "add table inet {FILTER}\n\
         add chain inet {FILTER} input {{ type filter hook input priority 0; }}\n\
         add rule inet {FILTER} input tcp dport {ADMIN_PORT} drop"
    );
    filter(process, &rules)?;
    Ok(ClosedPort { process })
}

impl Drop for ClosedPort {
    fn drop(&mut self) {
        // Without the pod there is no table either.
        let _ = filter(self.process, &format!("delete table inet {FILTER}"));
    }
}

/// In the network namespace of a process.
fn filter(process: u32, rules: &str) -> Result<()> {
    let output = Command::new("nsenter")
        .args(["--net", "--target", &process.to_string(), "nft", rules])
        .output()
        .context("cannot run nsenter")?;
    ensure!(
        output.status.success(),
        "nft in the network of process {process}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The process whose program is the engine's and whose environment names the pod.
fn engine_of(namespace: &str, pod: &str) -> Result<u32> {
    let wanted = [
        format!("POD_NAME={pod}"),
        format!("POD_NAMESPACE={namespace}"),
    ];
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // A process may end while we look at it.
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        if !read("cmdline").starts_with(b"/usr/bin/aof2-engine\0") {
            continue;
        }
        let environment = read("environ");
        let has = |variable: &String| {
            environment
                .split(|byte| *byte == 0)
                .any(|found| found == variable.as_bytes())
        };
        if wanted.iter().all(has) {
            return Ok(process);
        }
    }
    bail!("no process of this machine is the engine of {namespace}/{pod}")
}
