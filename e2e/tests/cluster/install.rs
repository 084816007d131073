//! What a platform engineer sees after `helm install` and the first `kubectl apply`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aof2_crds::ConditionType;
use aof2_e2e::audit::AuditLog;
use aof2_e2e::cluster::is_true;
use aof2_e2e::pods::{self, ENGINE_CONTAINER};
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait::{self, Look};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;

use crate::setup::{self, Running};

/// How long the operator is watched at rest.
const REST: Duration = Duration::from_secs(35);
const REPORTED_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_installed_cluster_serves_and_its_operator_writes_nothing_at_rest() -> Result<(), Failure> {
    scenario::run("install", Duration::from_secs(240), async |scenario| {
        let running = setup::orders(scenario, 3, 20).await?;
        ensure_columns(scenario).await?;
        ensure_disruption_budget(scenario).await?;
        ensure_pods_are_confined(scenario, &running).await?;
        ensure_rest(scenario, &running).await?;
        ensure!(
            running.ensure_nothing_lost(scenario).await? == 0,
            "the operator removed a pod"
        );
        ensure_series_go_with_the_cluster(scenario, &running).await?;
        Ok(())
    })
}

/// What monitoring is told: a cluster that was deleted must not look like one without pods.
async fn ensure_series_go_with_the_cluster(scenario: &Scenario, running: &Running) -> Result<()> {
    let path = format!(
        "/api/v1/namespaces/{}/services/{}-metrics:http-metrics/proxy/metrics",
        running.operator.namespace, running.operator.deployment
    );
    let scrape = ["get", "--raw", path.as_str()];
    let series = format!(
        r#"aof2_cluster_ready_replicas{{namespace="{}",cluster="orders"}} 3"#,
        scenario.namespace.name
    );
    let text = scenario.kubectl.run(&scrape).await?;
    ensure!(text.contains(&series), "{series} is missing in:\n{text}");
    let namespace = ["-n", scenario.namespace.name.as_str()];
    let delete = ["delete", "aof2", "orders", "--wait=false"];
    scenario
        .kubectl
        .run(&[&namespace[..], &delete].concat())
        .await?;
    wait::until("its series to go", REPORTED_LIMIT, async || {
        let text = scenario.kubectl.run(&scrape).await?;
        let left = text
            .lines()
            .find(|line| line.contains("cluster=\"orders\""));
        Ok(match left {
            None => Look::Done(()),
            Some(line) => Look::Waiting(line.to_owned()),
        })
    })
    .await
}

async fn ensure_columns(scenario: &Scenario) -> Result<()> {
    let table = scenario
        .kubectl
        .run(&["-n", &scenario.namespace.name, "get", "aof2"])
        .await?;
    scenario.say(format!("kubectl get aof2:\n{table}"));
    let (header, row) = table
        .split_once('\n')
        .context("kubectl get aof2 printed one line")?;
    let columns: Vec<&str> = header.split_whitespace().collect();
    ensure!(
        columns
            == [
                "NAME", "READY", "VERSION", "TIER0%", "SNAPSHOT", "STATUS", "AGE"
            ],
        "columns are {columns:?}"
    );
    ensure!(
        row.split_whitespace().take(3).eq(["orders", "3", "0.1.0"]),
        "the row is {row}"
    );
    Ok(())
}

async fn ensure_disruption_budget(scenario: &Scenario) -> Result<()> {
    let budgets: Api<PodDisruptionBudget> =
        Api::namespaced(scenario.client.clone(), &scenario.namespace.name);
    let list = budgets
        .list(&kube::api::ListParams::default().labels("aof2.dev/cluster=orders"))
        .await?;
    let spec = list
        .items
        .into_iter()
        .next()
        .and_then(|budget| budget.spec)
        .context("orders has no PodDisruptionBudget")?;
    ensure!(
        spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow"),
        "{spec:?}"
    );
    Ok(())
}

/// The namespace enforces Pod Security `restricted`, so that the pods run at all says most of it.
async fn ensure_pods_are_confined(scenario: &Scenario, running: &Running) -> Result<()> {
    for pod in pods::list(
        &scenario.client,
        &scenario.namespace.name,
        &running.cluster.name,
    )
    .await?
    {
        let name = pods::name(&pod);
        let spec = pod.spec.context("a pod without a spec")?;
        ensure!(
            spec.automount_service_account_token == Some(false),
            "{name} gets a token of the API server"
        );
        let containers = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        let engine = containers
            .into_iter()
            .find(|container| container.name == ENGINE_CONTAINER)
            .context("no engine in the pod")?;
        let read_only = engine
            .security_context
            .as_ref()
            .and_then(|context| context.read_only_root_filesystem);
        ensure!(
            read_only == Some(true),
            "the root file system of {name}'s engine is not read-only"
        );
        let variables: Vec<&str> = engine
            .env
            .iter()
            .flatten()
            .map(|variable| variable.name.as_str())
            .collect();
        ensure!(
            variables == ["POD_NAME", "POD_NAMESPACE"],
            "the engine of {name} gets {variables:?}"
        );
    }
    Ok(())
}

/// Any change of the object makes the operator look.
async fn have_looked_at(scenario: &Scenario, value: &str) -> Result<()> {
    let annotation = format!("e2e.aof2.dev/look={value}");
    let line = [
        "annotate",
        "--overwrite",
        "aof2",
        "orders",
        annotation.as_str(),
    ];
    let namespace = ["-n", scenario.namespace.name.as_str()];
    scenario
        .kubectl
        .run(&[&namespace[..], &line].concat())
        .await?;
    Ok(())
}

/// Until status holds what every engine reports: the pods serve a moment before their first streams are seen.
async fn wait_said_everything(running: &Running) -> Result<()> {
    let streams = running.streams().len();
    running
        .cluster
        .wait_status("all is reported", REPORTED_LIMIT, |status| {
            let seen: i64 = status.nodes.iter().map(|node| node.streams).sum();
            let is_said = [
                ConditionType::Healthy,
                ConditionType::ConfigApplied,
                ConditionType::VersionConverged,
                ConditionType::CertificatesValid,
            ]
            .into_iter()
            .all(|kind| is_true(status, kind));
            (is_said && usize::try_from(seen) == Ok(streams)).then_some(())
        })
        .await
}

/// No write for half a minute while writers append; only the Lease, which shows that the log sees this identity at all.
async fn ensure_rest(scenario: &Scenario, running: &Running) -> Result<()> {
    have_looked_at(scenario, "before").await?;
    wait_said_everything(running).await?;
    let log = AuditLog::from_now(scenario.environment.audit_log()?)?;
    let before = running.lines();
    let (start, from) = (Instant::now(), Timestamp::now());
    // The poll of a settled cluster may lie outside of the rest, so a look is asked for.
    have_looked_at(scenario, "during").await?;
    while start.elapsed() < REST {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let writes = log.writes(
            &scenario.namespace.name,
            &running.operator.identity,
            from,
            Timestamp::now(),
        )?;
        let (leases, others): (Vec<_>, Vec<_>) = writes
            .into_iter()
            .partition(|write| write.resource == "leases");
        ensure!(others.is_empty(), "the operator wrote at rest: {others:?}");
        ensure!(
            start.elapsed() < REST / 2 || !leases.is_empty(),
            "the audit log shows no renewal of the Lease by {}",
            running.operator.identity
        );
    }
    let silent = running.silent_since(&before, &running.lines());
    ensure!(
        silent.is_empty(),
        "no acknowledgement in {silent:?} while the operator rested"
    );
    scenario.say(format!("no write in {} s", REST.as_secs()));
    Ok(())
}
