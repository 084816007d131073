//! `aof2-demo`: the first run as a story, told with times, on the cluster that `cargo xtask demo` brought up.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aof2_e2e::cluster::Cluster;
use aof2_e2e::collector::Collector;
use aof2_e2e::environment::{ENGINE_VERSION, Environment, NEXT_ENGINE_VERSION};
use aof2_e2e::helm::Operator;
use aof2_e2e::namespace::Namespace;
use aof2_e2e::pods;
use aof2_e2e::s3::{BUCKET, S3Server};
use aof2_e2e::scenario::Scenario;
use aof2_e2e::turns;
use aof2_e2e::wait;
use aof2_e2e::writer;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Node};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

const NAMESPACE: &str = "aof2-demo";
const CLUSTER: &str = "orders";
const REPLICAS: u32 = 3;
/// Records a second and stream while the story is told.
const RATE: u32 = 20;
/// Confirmed acknowledgements a second and pod once it is over: in a week they fill a tenth of each pod's Tier 0 share.
const PACE_AFTERWARDS: u32 = 4;
const ENOUGH_RECORDS: u64 = 10_000;
const SOAK: &str = "10s";

/// A clock that prints.
struct Story(Instant);

impl Story {
    fn tell(&self, text: impl AsRef<str>) {
        println!(
            "[{:6.1} s] {}",
            self.0.elapsed().as_secs_f64(),
            text.as_ref()
        );
    }
}

fn main() -> std::process::ExitCode {
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
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
    let story = Story(Instant::now());
    let environment = Environment::from_env()?;
    let client = environment.client().await?;
    tell_of_nodes(&story, &client).await?;
    end_of_an_earlier_demo(&story, &environment, &client).await?;
    let namespace = Namespace::ensure(&client, NAMESPACE).await?;
    let scenario = Scenario::new(environment, client, namespace);
    let outcome = tell(&story, &scenario).await;
    if outcome.is_err() {
        let path = scenario
            .namespace
            .write_diagnostics(&scenario.environment)
            .await?;
        story.tell(format!(
            "it did not go as it should; what was there lies in {}",
            path.display()
        ));
    }
    outcome
}

async fn tell(story: &Story, scenario: &Scenario) -> Result<()> {
    let Scenario {
        environment,
        client,
        namespace,
        ..
    } = scenario;
    let s3 = S3Server::install(environment, client, &namespace.name).await?;
    story.tell(format!(
        "an S3 server in it: versitygw at {}, bucket {BUCKET}",
        s3.endpoint()
    ));
    let operator = Operator::install(environment, client, &namespace.name, &[]).await?;
    story.tell(format!(
        "the operator, by `helm install {} charts/aof2-operator --namespace {NAMESPACE}`",
        operator.release
    ));

    let collector = scenario.start_collector().await?;
    let cluster = create(scenario, &s3, &collector).await?;
    story.tell(format!("`kubectl apply` of the Aof2Cluster {CLUSTER}: {REPLICAS} pods, in each an engine {ENGINE_VERSION} beside a writer"));
    cluster
        .wait_ready(REPLICAS, Duration::from_secs(180))
        .await?;
    show(story, scenario, &["get", "aof2,pods"]).await?;

    let streams: Vec<String> = writer::streams(CLUSTER, REPLICAS)
        .into_iter()
        .map(|(stream, _)| stream)
        .collect();
    wait::until_none(
        "records in every stream",
        Duration::from_secs(60),
        async || {
            let silent = turns::silent(
                streams.iter().map(String::as_str),
                &turns::Counts::new(),
                &collector.lines(),
            );
            Ok((!silent.is_empty()).then(|| format!("none in {silent:?}")))
        },
    )
    .await?;
    story.tell(format!("records flow: {} streams, {RATE} records a second each; a record counts once a collector outside the pods has it", streams.len()));

    upgrade(story, &cluster, &streams, &collector).await?;
    wait_for_enough(story, &collector).await?;
    let verdict = scenario.verify(&cluster, REPLICAS, &collector).await?;
    story.tell("every acknowledged record read back from the engines:");
    println!("{verdict}");
    ensure!(verdict.is_clean(), "acknowledged records are missing");
    ensure!(
        verdict.acknowledged >= ENOUGH_RECORDS,
        "only {} records",
        verdict.acknowledged
    );
    show(story, scenario, &["get", "aof2,pods"]).await?;
    hand_over(story, environment, collector)?;
    say_how_to_play(environment);
    Ok(())
}

async fn tell_of_nodes(story: &Story, client: &kube::Client) -> Result<()> {
    for node in Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        let version = node
            .status
            .and_then(|status| status.node_info)
            .map(|info| info.kubelet_version)
            .unwrap_or_default();
        story.tell(format!(
            "a real Kubernetes: {} runs {version}",
            node.metadata.name.unwrap_or_default()
        ));
    }
    Ok(())
}

/// The story begins anew: its namespace goes, and the collector that a demo before left running.
async fn end_of_an_earlier_demo(
    story: &Story,
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
    if namespaces.get_opt(NAMESPACE).await?.is_none() {
        return Ok(());
    }
    story.tell("an earlier demo is cleared away");
    namespaces
        .delete(NAMESPACE, &kube::api::DeleteParams::background())
        .await?;
    wait::until_none(
        "the earlier demo to be gone",
        Duration::from_secs(180),
        async || {
            Ok(namespaces
                .get_opt(NAMESPACE)
                .await?
                .map(|_| "its namespace is still there".to_owned()))
        },
    )
    .await
}

async fn create(scenario: &Scenario, s3: &S3Server, collector: &Collector) -> Result<Cluster> {
    let draft = scenario
        .draft(CLUSTER)
        .with("/spec/replicas", json!(REPLICAS))
        .with("/spec/storage/tier0/size", json!("8Gi"))
        .with("/spec/tier2", s3.tier2("demo/orders/"))
        .with("/spec/upgrade/postRestart/soak", json!(SOAK))
        .with(
            "/spec/podTemplate",
            writer::pod_template(&scenario.environment, collector.address(), RATE),
        );
    scenario.apply(&draft).await
}

async fn upgrade(
    story: &Story,
    cluster: &Cluster,
    streams: &[String],
    collector: &Collector,
) -> Result<()> {
    let before = cluster.uids().await?;
    cluster
        .patch_spec(json!({"version": NEXT_ENGINE_VERSION}))
        .await?;
    story.tell(format!(
        "spec.version {ENGINE_VERSION} -> {NEXT_ENGINE_VERSION}; STATUS says:"
    ));
    let tell = |summary: &str| story.tell(format!("  {summary}"));
    let order = turns::follow(
        cluster,
        NEXT_ENGINE_VERSION,
        streams,
        Duration::from_secs(600),
        || collector.lines(),
        tell,
    )
    .await?;
    cluster
        .wait_upgraded(NEXT_ENGINE_VERSION, Duration::from_secs(60))
        .await?;
    cluster.ensure_all_replaced(&before).await?;
    story.tell(format!("upgraded: {} went one after the other, and records were acknowledged in every stream in each one's turn", order.join(", ")));
    Ok(())
}

async fn wait_for_enough(story: &Story, collector: &Collector) -> Result<()> {
    if collector.total() < ENOUGH_RECORDS {
        story.tell(format!(
            "{} records so far; waiting for {ENOUGH_RECORDS}",
            collector.total()
        ));
    }
    // A few more than that, since a line that was sent twice is one record.
    wait::until_none("enough records", Duration::from_secs(600), async || {
        Ok((collector.total() < ENOUGH_RECORDS + 200).then(|| format!("{}", collector.total())))
    })
    .await
}

async fn show(story: &Story, scenario: &Scenario, question: &[&str]) -> Result<()> {
    story.tell(format!("$ kubectl -n {NAMESPACE} {}", question.join(" ")));
    let answer = scenario
        .kubectl
        .run(&[&["-n", NAMESPACE], question].concat())
        .await?;
    print!("{answer}");
    Ok(())
}

/// Leaves a collector behind, or the writers would wait for ever. It only counts, and slowly.
fn hand_over(story: &Story, environment: &Environment, collector: Collector) -> Result<()> {
    let address = collector.address();
    drop(collector);
    let process = start_collector(environment, address)?;
    story.tell(format!(
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

fn say_how_to_play(environment: &Environment) {
    let engine = pods::ENGINE_CONTAINER;
    println!("
the cluster stays up; play with it:
  export KUBECONFIG={} PATH={}:$PATH
  kubectl -n {NAMESPACE} get aof2 -w
  kubectl -n {NAMESPACE} exec {CLUSTER}-0 -c {engine} -- /usr/bin/aof2-admin dump
  kubectl -n {NAMESPACE} exec {CLUSTER}-0 -c {engine} -- /usr/bin/aof2-admin tail {CLUSTER}-0-a
  kubectl -n {NAMESPACE} patch aof2 {CLUSTER} --type merge -p '{{\"spec\":{{\"version\":\"{ENGINE_VERSION}\"}}}}'
  cargo xtask demo --down", environment.kubeconfig.display(), environment.programs.display());
}
