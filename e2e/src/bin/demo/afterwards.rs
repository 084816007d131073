//! What a demo leaves behind, and how the next one clears it away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use aof2_e2e::collector::Collector;
use aof2_e2e::environment::{ENGINE_VERSION, Environment};
use aof2_e2e::{pods, wait};
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::Api;

use crate::{CLUSTER, NAMESPACE, OPERATOR_NAMESPACE, PACE_AFTERWARDS, Progress};

/// The scenario begins anew: its namespace goes, and the collector that a demo before left running.
pub async fn end_an_earlier_demo(
    progress: &Progress,
    environment: &Environment,
    client: &kube::Client,
) -> Result<()> {
    if let Some(process) = recorded_collector(environment) {
        Command::new("kill")
            .arg(process.to_string())
            .status()
            .context("cannot run kill")?;
    }
    let namespaces: Api<NamespaceObject> = Api::all(client.clone());
    for name in [NAMESPACE, OPERATOR_NAMESPACE] {
        if namespaces.get_opt(name).await?.is_none() {
            continue;
        }
        progress.say(format!("namespace {name} of an earlier demo is removed"));
        namespaces
            .delete(name, &kube::api::DeleteParams::background())
            .await?;
        wait::until_none(
            "the earlier demo to be gone",
            Duration::from_secs(180),
            async || {
                Ok(namespaces
                    .get_opt(name)
                    .await?
                    .map(|_| "its namespace is still there".to_owned()))
            },
        )
        .await?;
    }
    Ok(())
}

/// Leaves a collector behind, or the writers would wait for ever. It only counts, and slowly.
pub fn hand_over(
    progress: &Progress,
    environment: &Environment,
    collector: Collector,
) -> Result<()> {
    let address = collector.address();
    drop(collector);
    let process = start_collector(environment, address)?;
    progress.say(format!(
        "the writers go on at {PACE_AFTERWARDS} records a second and pod; process {process} takes their acknowledgements until `cargo xtask demo --down`"
    ));
    Ok(())
}

fn start_collector(environment: &Environment, address: SocketAddr) -> Result<u32> {
    use std::os::unix::process::CommandExt;
    let program = std::env::current_exe()?.with_file_name("aof2-collector");
    let log = std::fs::File::create(environment.cluster_folder.join("log/demo-collector.log"))?;
    let child = Command::new(&program)
        .args([
            "--listen",
            &address.to_string(),
            "--pace",
            &PACE_AFTERWARDS.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let process = child.id();
    let started =
        started_at(process).context("the collector ended at once; see log/demo-collector.log")?;
    let record = collector_record(environment);
    std::fs::create_dir_all(record.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(record, format!("{process} {started}\n"))?;
    Ok(process)
}

/// `run/*.pid` of a cluster's folder hold "process start-time"; taking the cluster down ends what they name.
fn collector_record(environment: &Environment) -> PathBuf {
    environment.cluster_folder.join("run/demo-collector.pid")
}

/// The collector that an earlier demo left, if it still runs and its number was not given to another process.
fn recorded_collector(environment: &Environment) -> Option<u32> {
    let record = std::fs::read_to_string(collector_record(environment)).ok()?;
    let (process, started) = record.trim().split_once(' ')?;
    let process = process.parse().ok()?;
    (started_at(process)? == started).then_some(process)
}

/// Field 22 of `/proc/PID/stat`.
fn started_at(process: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(19)
        .map(str::to_owned)
}

pub fn say_how_to_play(environment: &Environment) {
    let engine = pods::ENGINE_CONTAINER;
    println!("
the cluster stays up; play with it:
  export KUBECONFIG={} PATH={}:$PATH
  kubectl -n {NAMESPACE} get aof2 -w
  kubectl -n {NAMESPACE} exec {CLUSTER}-0 -c {engine} -- /usr/bin/aof2-admin dump
  kubectl -n {NAMESPACE} exec {CLUSTER}-0 -c {engine} -- /usr/bin/aof2-admin tail {CLUSTER}-0-a
  kubectl -n {NAMESPACE} patch aof2 {CLUSTER} --type merge -p '{{\"spec\":{{\"version\":\"{ENGINE_VERSION}\"}}}}'
  kubectl -n {NAMESPACE} get aof2snap
  kubectl -n {NAMESPACE} describe aof2 {CLUSTER}
  cargo xtask demo --down", environment.kubeconfig.display(), environment.programs.display());
}
