//! `aof2-demo`: the first run as a scenario, printed with times, on the cluster that `cargo xtask demo` brought up.

mod afterwards;
mod config;
mod snapshots;
mod upgrade;
mod year;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aof2_e2e::cluster::Cluster;
use aof2_e2e::collector::Collector;
use aof2_e2e::environment::{ENGINE_VERSION, Environment};
use aof2_e2e::gitops::Pipeline;
use aof2_e2e::helm::Operator;
use aof2_e2e::namespace::Namespace;
use aof2_e2e::s3::{BUCKET, S3Server};
use aof2_e2e::scenario::Scenario;
use aof2_e2e::turns;
use aof2_e2e::wait;
use aof2_e2e::writer;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

const NAMESPACE: &str = "aof2-demo";
/// Who may create pods there has the keys of every cluster: no cluster is in it.
const OPERATOR_NAMESPACE: &str = "aof2-demo-system";
const CLUSTER: &str = "orders";
const REPLICAS: u32 = 3;
/// Records a second and stream while it runs.
const RATE: u32 = 20;
/// Confirmed acknowledgements a second and pod once it is over: in a week they fill a tenth of each pod's Tier 0 share.
const PACE_AFTERWARDS: u32 = 4;
const ENOUGH_RECORDS: u64 = 10_000;
const SOAK: &str = "10s";
/// The handbook watches for 30 minutes; a would-block rate needs 60 s to be judged.
const OBSERVATION: &str = "70s";

/// A clock that prints.
struct Progress(Instant);

impl Progress {
    fn say(&self, text: impl AsRef<str>) {
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
    let progress = Progress(Instant::now());
    let environment = Environment::from_env()?;
    let client = environment.client().await?;
    say_nodes(&progress, &client).await?;
    afterwards::end_an_earlier_demo(&progress, &environment, &client).await?;
    let namespace = Namespace::ensure(&client, NAMESPACE).await?;
    let scenario = Scenario::new(environment, client, namespace);
    let outcome = play(&progress, &scenario).await;
    if outcome.is_err() {
        let path = scenario
            .namespace
            .write_diagnostics(&scenario.environment)
            .await?;
        progress.say(format!(
            "it did not go as it should; what was there lies in {}",
            path.display()
        ));
    }
    outcome
}

async fn play(progress: &Progress, scenario: &Scenario) -> Result<()> {
    let Scenario {
        environment,
        client,
        namespace,
        ..
    } = scenario;
    let s3 = S3Server::install(environment, client, &namespace.name).await?;
    progress.say(format!(
        "an S3 server in it: versitygw at {}, bucket {BUCKET}",
        s3.endpoint()
    ));
    Namespace::ensure(client, OPERATOR_NAMESPACE).await?;
    let watched = format!("watch.namespace={NAMESPACE}");
    let operator = Operator::install(environment, client, OPERATOR_NAMESPACE, &[&watched]).await?;
    progress.say(format!(
        "the operator, by `helm install {} charts/aof2-operator --namespace {OPERATOR_NAMESPACE} --set {watched}`",
        operator.release
    ));

    let collector = scenario.start_collector().await?;
    let (cluster, pipeline) = create(scenario, &s3, &collector).await?;
    progress.say(format!("the GitOps tree, by `kubectl kustomize | kubectl apply --server-side`: the Aof2Cluster {CLUSTER} with {REPLICAS} pods, in each an engine {ENGINE_VERSION} beside a writer"));
    cluster
        .wait_ready(REPLICAS, Duration::from_secs(180))
        .await?;
    show(progress, scenario, &["get", "aof2,pods"]).await?;

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
    progress.say(format!("records flow: {} streams, {RATE} records a second each; a record counts once a collector outside the pods has it", streams.len()));

    upgrade::play(progress, &cluster, &pipeline, &streams, &collector).await?;
    config::play(progress, scenario, &cluster, &pipeline).await?;
    snapshots::play(progress, scenario, &s3).await?;
    wait_for_enough(progress, &collector).await?;
    let verdict = scenario.verify(&cluster, REPLICAS, &collector).await?;
    progress.say("every acknowledged record read back from the engines:");
    println!("{verdict}");
    ensure!(verdict.is_clean(), "acknowledged records are missing");
    ensure!(
        verdict.acknowledged >= ENOUGH_RECORDS,
        "only {} records",
        verdict.acknowledged
    );
    let year = year::play(progress, scenario, &s3).await?;
    show(progress, scenario, &["get", "aof2,pods"]).await?;
    afterwards::hand_over(progress, environment, collector)?;
    afterwards::say_how_to_play(environment);
    println!("{year}");
    Ok(())
}

async fn say_nodes(progress: &Progress, client: &kube::Client) -> Result<()> {
    for node in Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        let version = node
            .status
            .and_then(|status| status.node_info)
            .map(|info| info.kubelet_version)
            .unwrap_or_default();
        progress.say(format!(
            "a real Kubernetes: {} runs {version}",
            node.metadata.name.unwrap_or_default()
        ));
    }
    Ok(())
}

async fn create(
    scenario: &Scenario,
    s3: &S3Server,
    collector: &Collector,
) -> Result<(Cluster, Pipeline)> {
    let overlay = json!({
        "replicas": REPLICAS,
        "tier2": s3.tier2("demo/orders/"),
        "storage": {"tier0": {"size": "8Gi"}, "pvcRetention": {"whenDeleted": "Delete"}},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": null},
        "upgrade": {"seal": {"uploadTimeout": "1m", "drainTimeout": "20s"}, "postRestart": {"soak": SOAK}},
        "configRollout": {"observationWindow": OBSERVATION, "progressDeadline": "8m"},
        "podTemplate": writer::pod_template(&scenario.environment, collector.address(), RATE),
    });
    let pipeline = Pipeline::new(&scenario.environment, NAMESPACE, &overlay)?;
    pipeline.apply().await?;
    Ok((scenario.cluster(CLUSTER), pipeline))
}

async fn wait_for_enough(progress: &Progress, collector: &Collector) -> Result<()> {
    if collector.total() < ENOUGH_RECORDS {
        progress.say(format!(
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

async fn show(progress: &Progress, scenario: &Scenario, question: &[&str]) -> Result<()> {
    progress.say(format!("$ kubectl -n {NAMESPACE} {}", question.join(" ")));
    let answer = scenario
        .kubectl
        .run(&[&["-n", NAMESPACE], question].concat())
        .await?;
    print!("{answer}");
    Ok(())
}
