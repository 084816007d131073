//! What most tests begin with: an operator, an S3 server, and a cluster whose writers append.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::cluster::{Cluster, Draft};
use aof2_e2e::collector::Collector;
use aof2_e2e::gitops::Pipeline;
use aof2_e2e::helm::Operator;
use aof2_e2e::pods;
use aof2_e2e::s3::S3Server;
use aof2_e2e::safety::Observer;
use aof2_e2e::scenario::Scenario;
use aof2_e2e::turns::{self, Counts};
use aof2_e2e::wait;
use aof2_e2e::writer;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

pub const READY_LIMIT: Duration = Duration::from_secs(120);

pub struct Running {
    pub operator: Operator,
    pub observer: Observer,
    pub s3: S3Server,
    pub collector: Collector,
    pub cluster: Cluster,
    pub replicas: u32,
}

/// The same as a pipeline makes it: from the GitOps tree, with an overlay that is small enough for a test.
pub async fn orders_by_pipeline(
    scenario: &Scenario,
    replicas: u32,
    rate: u32,
    spec: serde_json::Value,
) -> Result<(Running, Pipeline)> {
    let ((operator, observer), s3) =
        tokio::try_join!(scenario.install_operator(), scenario.install_s3())?;
    let collector = scenario.start_collector().await?;
    let mut overlay = json!({
        "replicas": replicas,
        "tier2": s3.tier2("prod/orders/"),
        "storage": {"tier0": {"size": "24Gi"}, "pvcRetention": {"whenDeleted": "Delete"}},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": null},
        "podTemplate": writer::pod_template(&scenario.environment, collector.address(), rate),
    });
    if let (Some(overlay), Some(spec)) = (overlay.as_object_mut(), spec.as_object()) {
        overlay.extend(spec.clone());
    }
    let pipeline = Pipeline::new(&scenario.environment, &scenario.namespace.name, &overlay)?;
    pipeline.apply().await?;
    let running = Running {
        operator,
        observer,
        s3,
        collector,
        cluster: scenario.cluster("orders"),
        replicas,
    };
    running.cluster.wait_ready(replicas, READY_LIMIT).await?;
    running
        .wait_for_appends("every writer to append", &Counts::new())
        .await?;
    scenario.say("orders is ready");
    Ok((running, pipeline))
}

/// `orders` with Tier 2 and a writer in each pod that appends `rate` records a second to each of its streams.
pub async fn orders(scenario: &Scenario, replicas: u32, rate: u32) -> Result<Running> {
    let (running, _) = orders_as(scenario, replicas, rate, |draft| draft).await?;
    Ok(running)
}

/// The same, changed by the test before it is applied.
pub async fn orders_as(
    scenario: &Scenario,
    replicas: u32,
    rate: u32,
    change: impl FnOnce(Draft) -> Draft,
) -> Result<(Running, Draft)> {
    let ((operator, observer), s3) =
        tokio::try_join!(scenario.install_operator(), scenario.install_s3())?;
    let collector = scenario.start_collector().await?;
    let draft = scenario
        .draft("orders")
        .with("/spec/replicas", json!(replicas))
        .with("/spec/tier2", s3.tier2("prod/orders/"))
        .with(
            "/spec/podTemplate",
            writer::pod_template(&scenario.environment, collector.address(), rate),
        );
    let draft = change(draft);
    let cluster = scenario.apply(&draft).await?;
    cluster.wait_ready(replicas, READY_LIMIT).await?;
    scenario.say("orders is ready");
    let running = Running {
        operator,
        observer,
        s3,
        collector,
        cluster,
        replicas,
    };
    running
        .wait_for_appends("every writer to append", &Counts::new())
        .await?;
    Ok((running, draft))
}

impl Running {
    pub fn lines(&self) -> Counts {
        self.collector.lines()
    }

    /// Until every stream has more acknowledgements than `before`; returns how many each has then.
    pub async fn wait_for_appends(&self, what: &str, before: &Counts) -> Result<Counts> {
        wait::until_none(what, Duration::from_secs(60), async || {
            let silent = self.silent_since(before, &self.lines());
            Ok((!silent.is_empty()).then(|| format!("no new acknowledgement in {silent:?}")))
        })
        .await?;
        Ok(self.lines())
    }

    pub fn streams(&self) -> Vec<String> {
        writer::streams(&self.cluster.name, self.replicas)
            .into_iter()
            .map(|(stream, _)| stream)
            .collect()
    }

    /// Streams that got no acknowledgement between two countings.
    pub fn silent_since(&self, before: &Counts, now: &Counts) -> Vec<String> {
        turns::silent(self.streams().iter().map(String::as_str), before, now)
    }

    /// What every test ends with: nothing lost, and nothing removed that should not have been. Returns the number of removals.
    pub async fn ensure_nothing_lost(&self, scenario: &Scenario) -> Result<usize> {
        let verdict = scenario
            .verify(&self.cluster, self.replicas, &self.collector)
            .await?;
        scenario.say(verdict.to_string());
        anyhow::ensure!(verdict.is_clean() && verdict.acknowledged > 0, "{verdict}");
        scenario.ensure_safe(&self.observer)
    }
}

pub fn pods_of(scenario: &Scenario) -> Api<Pod> {
    Api::namespaced(scenario.client.clone(), &scenario.namespace.name)
}

pub async fn kill_operator(scenario: &Scenario, running: &Running) -> Result<()> {
    let pods = pods_of(scenario);
    let selected = pods
        .list(&ListParams::default().labels(&running.operator.selector))
        .await?;
    ensure!(
        !selected.items.is_empty(),
        "no pod of the operator matches {}",
        running.operator.selector
    );
    for pod in &selected {
        pods.delete(&pods::name(pod), &DeleteParams::default().grace_period(0))
            .await?;
    }
    scenario.say("operator killed");
    Ok(())
}

/// An Event with this reason was written for the cluster.
pub async fn ensure_event(scenario: &Scenario, reason: &str) -> Result<()> {
    wait::until_none(
        &format!("an Event with reason {reason}"),
        Duration::from_secs(20),
        async || {
            let namespace = &scenario.namespace.name;
            let events = scenario
                .kubectl
                .run(&[
                    "-n",
                    namespace,
                    "get",
                    "events",
                    "--field-selector",
                    "involvedObject.kind=Aof2Cluster",
                ])
                .await?;
            Ok((!events.contains(reason)).then_some(events))
        },
    )
    .await
}
