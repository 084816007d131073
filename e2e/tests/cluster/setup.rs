//! What most tests begin with: an operator, an S3 server, and a cluster whose writers append.

use std::time::Duration;

use anyhow::Result;
use aof2_e2e::cluster::Cluster;
use aof2_e2e::collector::Collector;
use aof2_e2e::helm::Operator;
use aof2_e2e::s3::S3Server;
use aof2_e2e::safety::Observer;
use aof2_e2e::scenario::Scenario;
use aof2_e2e::turns::{self, Counts};
use aof2_e2e::wait;
use aof2_e2e::writer;
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

/// `orders` with Tier 2 and a writer in each pod that appends `rate` records a second to each of its streams.
pub async fn orders(scenario: &Scenario, replicas: u32, rate: u32) -> Result<Running> {
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
    Ok(running)
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
