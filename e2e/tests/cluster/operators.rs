//! What the operator does about itself: who acts when several run, and the one Secret that it writes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_crds::ConditionType;
use aof2_e2e::audit::AuditLog;
use aof2_e2e::helm::Operator;
use aof2_e2e::json::text;
use aof2_e2e::safety::Observer;
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait::{self, Look};
use jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::setup::{self, pods_of};

const LEASE: &str = "aof2-operator";
const LIMIT: Duration = Duration::from_secs(120);
/// The kubelet brings a new Secret within two minutes.
const RELOAD_LIMIT: Duration = Duration::from_secs(180);

#[test]
fn one_of_three_operators_acts_and_one_other_takes_over() -> Result<(), Failure> {
    scenario::run("lease", Duration::from_secs(300), async |scenario| {
        let audit = AuditLog::from_now(scenario.environment.audit_log()?)?;
        let operator = Operator::install(
            &scenario.environment,
            &scenario.client,
            &scenario.namespace.name,
            &["replicas=3"],
        )
        .await?;
        let observer = Observer::start(
            &scenario.client,
            &scenario.namespace.name,
            &operator.identity,
            audit.clone(),
        );
        let cluster = scenario
            .apply(&scenario.draft("orders").with("/spec/replicas", json!(1)))
            .await?;
        cluster.wait_ready(1, setup::READY_LIMIT).await?;
        let (leader, epoch) = lease(scenario).await?;
        scenario.say(format!("{leader} acts, epoch {epoch}"));
        ensure!(cluster.status().await?.operator_epoch == epoch);

        // Without a word, as a node that loses power: its Lease has to run out.
        let pod = leader.split('_').next().unwrap_or_default();
        pods_of(scenario)
            .delete(pod, &DeleteParams::default().grace_period(0))
            .await?;
        let killed = Timestamp::now();
        let (next, next_epoch) = wait::until("another operator to act", LIMIT, async || {
            let (holder, epoch) = lease(scenario).await?;
            Ok(match holder != leader && !holder.is_empty() {
                true => Look::Done((holder, epoch)),
                false => Look::Waiting(format!("{holder} holds the Lease")),
            })
        })
        .await?;
        scenario.say(format!(
            "{next} acts after {} s, epoch {next_epoch}",
            Timestamp::now().duration_since(killed).as_secs()
        ));
        // Both others wanted it: the one whose update came second was told so (409), and took no epoch.
        ensure!(
            next_epoch == epoch + 1,
            "the epoch went from {epoch} to {next_epoch}"
        );
        cluster.patch_spec(json!({"replicas": 2})).await?;
        cluster.wait_ready(2, setup::READY_LIMIT).await?;
        cluster
            .wait_status("the new operator's epoch", LIMIT, |status| {
                (status.operator_epoch == next_epoch).then_some(())
            })
            .await?;
        let (holder, last) = lease(scenario).await?;
        ensure!(
            (holder.as_str(), last) == (next.as_str(), next_epoch),
            "the Lease went on to {holder}, epoch {last}"
        );
        scenario.ensure_safe(&observer)?;
        Ok(())
    })
}

#[test]
fn a_certificate_that_was_overwritten_or_deleted_is_written_again_unread() -> Result<(), Failure> {
    scenario::run("certificate", Duration::from_secs(480), async |scenario| {
        let running = setup::orders(scenario, 1, 20).await?;
        let namespace = scenario.namespace.name.as_str();
        let secret = engine_secret(scenario).await?;
        // Somebody puts another certificate in its place: creating fails with a 409, and it is replaced without being read.
        for (case, verb) in [("overwritten", "update"), ("deleted", "create")] {
            let audit = AuditLog::from_now(scenario.environment.audit_log()?)?;
            let before = running.lines();
            scenario
                .kubectl
                .run(&["-n", namespace, "delete", "secret", &secret])
                .await?;
            if verb == "update" {
                put_junk(scenario, &secret).await?;
            }
            scenario
                .kubectl
                .run(&["-n", namespace, "delete", "pod", "orders-0"])
                .await?;
            wait::until_none(
                &format!("a Secret that was {case} to be written again"),
                LIMIT,
                async || {
                    let user = &running.operator.identity;
                    let writes =
                        audit.writes(namespace, user, Timestamp::UNIX_EPOCH, Timestamp::MAX)?;
                    let is_written = writes.iter().any(|request| {
                        (request.resource.as_str(), request.verb.as_str()) == ("secrets", verb)
                    });
                    Ok((!is_written).then(|| format!("no {verb} of a Secret by {user}")))
                },
            )
            .await?;
            // Reached again: the engine took the new files up, and the operator has nothing to wait for.
            running
                .cluster
                .wait_status("to be healthy again", RELOAD_LIMIT, |status| {
                    let is_healthy = aof2_e2e::cluster::is_true(status, ConditionType::Healthy)
                        && aof2_e2e::cluster::is_true(status, ConditionType::CertificatesValid);
                    (is_healthy && status.waits.is_empty()).then_some(())
                })
                .await?;
            running
                .wait_for_appends("appends all the while", &before)
                .await?;
            scenario.say(format!("{case}: written by {verb}, and trusted"));
        }
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}

/// Holder, its pod and process, and operator epoch.
async fn lease(scenario: &Scenario) -> Result<(String, i64)> {
    let namespace = &scenario.namespace.name;
    let text_of = scenario
        .kubectl
        .run(&["-n", namespace, "get", "lease", LEASE, "-o", "json"])
        .await?;
    let lease: Value = serde_json::from_str(&text_of)?;
    let epoch = lease["metadata"]["annotations"]
        .as_object()
        .and_then(|annotations| {
            annotations
                .iter()
                .find(|(key, _)| key.ends_with("operator-epoch"))
        })
        .context("the Lease has no epoch")?;
    Ok((
        text(&lease["spec"]["holderIdentity"]).to_owned(),
        text(epoch.1).parse()?,
    ))
}

/// A Secret of the right keys, with contents that no engine can serve with.
async fn put_junk(scenario: &Scenario, name: &str) -> Result<()> {
    let junk = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": scenario.namespace.name},
        // Of the operator's own type, which cannot be changed later: a Secret of another type is somebody else's, and is left alone.
        "type": "aof2.dev/engine-tls",
        "stringData": {"tls.crt": "junk", "tls.key": "junk", "ca.crt": "junk"},
    });
    scenario
        .kubectl
        .run_with(&["create", "-f", "-"], Some(junk.to_string().as_bytes()))
        .await?;
    Ok(())
}

/// Name of the Secret that the engine's pod mounts as its certificate.
async fn engine_secret(scenario: &Scenario) -> Result<String> {
    let pod = pods_of(scenario).get("orders-0").await?;
    let volumes = pod.spec.and_then(|spec| spec.volumes).unwrap_or_default();
    volumes
        .into_iter()
        .find(|volume| volume.name == "aof2-tls")
        .and_then(|volume| volume.secret?.secret_name)
        .context("orders-0 mounts no certificate")
}
