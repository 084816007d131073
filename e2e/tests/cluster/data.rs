//! The data path as an application and an on-call use it, and the oracle's own test: it must be able to fail.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_e2e::cluster::Cluster;
use aof2_e2e::collector::Acknowledgement;
use aof2_e2e::engine::Engine;
use aof2_e2e::environment::{ENGINE_VERSION, NEXT_ENGINE_VERSION};
use aof2_e2e::json::{condition, is, text};
use aof2_e2e::kubectl::Output;
use aof2_e2e::local;
use aof2_e2e::oracle;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait;
use aof2_e2e::writer;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::setup;

#[test]
fn what_is_appended_is_read_back_and_what_may_not_be_is_refused_in_words() -> Result<(), Failure> {
    scenario::run("data", Duration::from_secs(240), async |scenario| {
        let running = setup::orders(scenario, 2, 5).await?;
        let first = running.cluster.engine("orders-0");
        let lines: String = (0..100)
            .map(|number| format!("record {number}\n"))
            .collect();
        let output = first
            .admin(&["append", "invoices"], Some(lines.as_bytes()))
            .await?;
        ensure!(output.success, "append failed: {output:?}");
        let read = first.admin(&["read", "invoices", "--raw"], None).await?;
        ensure!(read.stdout == lines, "read back: {}", read.stdout);
        let some = first
            .admin(
                &["read", "invoices", "--raw", "--from", "40", "--limit", "2"],
                None,
            )
            .await?;
        ensure!(
            some.stdout == "record 40\nrecord 41\n",
            "read back: {}",
            some.stdout
        );

        // Sent again with the same numbers, nothing is written twice.
        for _ in 0..2 {
            let arguments = [
                "append",
                "payments",
                "--payload",
                "once",
                "--producer-id",
                "7",
                "--producer-seq",
                "0",
            ];
            let output = first.admin(&arguments, None).await?;
            ensure!(output.success, "{output:?}");
        }
        let payments = first.admin(&["read", "payments", "--raw"], None).await?;
        ensure!(
            payments.stdout == "once\n",
            "read back: {}",
            payments.stdout
        );

        let second = running.cluster.engine("orders-1");
        ensure_refused(
            &second
                .admin(&["append", "invoices", "--payload", "x"], None)
                .await?,
            &["invoices", "orders-0"],
        )?;
        ensure_refused(
            &first
                .admin(&["append", "Invoices", "--payload", "x"], None)
                .await?,
            &["Invoices"],
        )?;
        let large = "x".repeat((1 << 20) + 1) + "\n";
        ensure_refused(
            &first
                .admin(&["append", "invoices"], Some(large.as_bytes()))
                .await?,
            &["1048577", "1048576"],
        )?;

        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

fn ensure_refused(output: &Output, says: &[&str]) -> Result<()> {
    ensure!(output.code == Some(4), "not refused: {output:?}");
    for words in says {
        ensure!(
            output.stderr.contains(words),
            "the refusal does not say `{words}`: {}",
            output.stderr
        );
    }
    Ok(())
}

#[test]
fn the_oracle_finds_what_is_lost_reordered_or_never_was() -> Result<(), Failure> {
    scenario::run("oracle", Duration::from_secs(360), async |scenario| {
        let (_operator, observer) = scenario.install_operator().await?;
        let collector = scenario.start_collector().await?;
        // Without Tier 2 nothing remembers the streams of a volume that lost its files.
        let draft = scenario
            .draft("orders")
            .with("/spec/replicas", json!(1))
            .with(
                "/spec/podTemplate",
                writer::pod_template(&scenario.environment, collector.address(), 50),
            );
        let cluster = scenario.apply(&draft).await?;
        cluster.wait_ready(1, setup::READY_LIMIT).await?;
        wait::until_none(
            "500 acknowledgements",
            Duration::from_secs(60),
            async || Ok((collector.total() < 500).then(|| format!("{}", collector.total()))),
        )
        .await?;
        let engine = cluster.engine("orders-0");
        let list: Vec<Acknowledgement> = collector
            .acknowledgements("orders-0-a")?
            .into_iter()
            .collect();
        let clean = oracle::verify_one(&engine, &list).await?;
        ensure!(
            clean.is_clean() && clean.read as usize == list.len(),
            "{clean}"
        );

        ensure_lies_are_found(&engine, &list).await?;
        ensure_a_deleted_claim_keeps_its_pod(scenario, &cluster).await?;
        let list: Vec<Acknowledgement> = collector
            .acknowledgements("orders-0-a")?
            .into_iter()
            .collect();
        ensure_lost_files_are_found(scenario, &cluster, &engine, &list).await?;
        scenario.ensure_safe(&observer)?;
        Ok(())
    })
}

async fn ensure_lies_are_found(engine: &Engine, list: &[Acknowledgement]) -> Result<()> {
    let last = list.last().context("an empty list")?;
    let mut never_was = list.to_vec();
    let beyond = last.sequence + 1_000_000;
    never_was.push(Acknowledgement {
        sequence: beyond,
        producer_seq: beyond,
        ..last.clone()
    });
    let verdict = oracle::verify_one(engine, &never_was).await?;
    ensure!(verdict.lost == 1, "a record that never was: {verdict}");

    let mut other_payload = list.to_vec();
    other_payload[3].sha256 = "00".repeat(32);
    let verdict = oracle::verify_one(engine, &other_payload).await?;
    ensure!(
        verdict.lost == 1,
        "a record with another payload: {verdict}"
    );

    let mut swapped = list.to_vec();
    (swapped[3].sequence, swapped[4].sequence) = (list[4].sequence, list[3].sequence);
    let verdict = oracle::verify_one(engine, &swapped).await?;
    ensure!(
        verdict.reordered > 0,
        "two records at each other's places: {verdict}"
    );
    Ok(())
}

/// A claim that was deleted is held by its pod alone: no upgrade takes that pod, and STATUS says so at once.
async fn ensure_a_deleted_claim_keeps_its_pod(
    scenario: &Scenario,
    cluster: &Cluster,
) -> Result<()> {
    let limit = Duration::from_secs(90);
    let before = cluster.uids().await?;
    let namespace = scenario.namespace.name.as_str();
    let delete = [
        "-n",
        namespace,
        "delete",
        "pvc",
        "tier0-orders-0",
        "--wait=false",
    ];
    scenario.kubectl.run(&delete).await?;
    let is_said = |object: &Value| {
        let summary = text(&object["status"]["summary"]);
        (summary.contains("tier0-orders-0") && is(object, "Healthy", "False")).then_some(())
    };
    cluster
        .wait_json("the deleted claim in STATUS", limit, is_said)
        .await?;
    cluster
        .patch_spec(json!({"version": NEXT_ENGINE_VERSION}))
        .await?;
    // For several looks.
    let is_held = |object: &Value| {
        let rollout = &object["status"]["rollout"];
        let since: Timestamp = text(&rollout["since"]).parse().ok()?;
        let held_for = Timestamp::now().duration_since(since).as_secs();
        (rollout["step"] == "Preflight" && held_for >= 10).then_some(())
    };
    cluster
        .wait_json("the upgrade to be held", limit, is_held)
        .await?;
    ensure!(cluster.uids().await? == before, "the pod was removed");
    scenario.say("the claim was deleted, and the upgrade is held");
    cluster
        .patch_spec(json!({"version": ENGINE_VERSION}))
        .await?;
    let is_over = |object: &Value| object["status"]["rollout"].is_null().then_some(());
    cluster
        .wait_json("the upgrade to end", limit, is_over)
        .await?;
    ensure!(cluster.uids().await? == before, "the pod was removed");
    Ok(())
}

/// Breaks durability on purpose: the volume's files go while the engine is down.
async fn ensure_lost_files_are_found(
    scenario: &Scenario,
    cluster: &Cluster,
    engine: &Engine,
    list: &[Acknowledgement],
) -> Result<()> {
    let namespace = &scenario.namespace.name;
    let volume = local::volume_folder(
        &scenario.environment,
        &scenario.client,
        namespace,
        "tier0-orders-0",
    )
    .await?;
    let files = std::fs::read_dir(&volume)?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(!files.is_empty(), "{} is empty", volume.display());
    // The running engine holds its files open; the one that starts after it finds none.
    for file in files {
        let path = file.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?
        } else {
            std::fs::remove_file(&path)?
        }
    }
    local::kill_engine(namespace, "orders-0")?;
    scenario.say("removed the volume's files and killed the engine");
    cluster.wait_ready(1, setup::READY_LIMIT).await?;
    let verdict = wait::until("a verdict", Duration::from_secs(60), async || {
        Ok(wait::Look::Done(oracle::verify_one(engine, list).await?))
    })
    .await?;
    scenario.say(format!("after its files were removed: {verdict}"));
    ensure!(verdict.lost > 0 && !verdict.is_clean(), "{verdict}");
    // Without Tier 2 the volume's own identity is what tells.
    let is_noticed = |object: &Value| {
        let healthy = condition(object, "Healthy")?;
        (healthy["reason"] == "VolumeReplaced" || healthy["reason"] == "VolumeAtRisk")
            .then(|| text(&object["status"]["nodes"][0]["volumeID"]).to_owned())
    };
    let recorded = cluster
        .wait_json(
            "the other volume to be noticed",
            Duration::from_secs(90),
            is_noticed,
        )
        .await?;
    ensure!(!recorded.is_empty(), "no volume is recorded");
    Ok(())
}
