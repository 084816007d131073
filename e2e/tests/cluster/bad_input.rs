//! What is wrong only once it is tried: the cluster says so in words that name the thing, its value and the remedy.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_crds::{Aof2ClusterStatus, ConditionType, WaitReason};
use aof2_e2e::cluster::{Cluster, Draft};
use aof2_e2e::s3::{BUCKET, S3Server, WRONG_CREDENTIALS};
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait;
use serde_json::{Value, json};

use crate::setup;

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_bucket_that_cannot_be_used_is_named_with_the_reason() -> Result<(), Failure> {
    scenario::run("bad-bucket", Duration::from_secs(240), async |scenario| {
        let ((_operator, observer), s3) =
            tokio::try_join!(scenario.install_operator(), scenario.install_s3())?;
        let tier2 = |prefix: &str, key: &str, value: Value| {
            let mut tier2 = s3.tier2(prefix);
            tier2[key] = value;
            tier2
        };
        let nobody = "http://nobody.invalid:7070";
        let cases: [(&str, Value, &[&str]); 3] = [
            (
                "no-bucket",
                tier2("a/", "bucket", json!("no-such-bucket")),
                &["BucketMissing", "no-such-bucket"],
            ),
            (
                "no-access",
                tier2(
                    "b/",
                    "credentials",
                    json!({"secretRef": {"name": WRONG_CREDENTIALS}}),
                ),
                &["AccessDenied", BUCKET],
            ),
            (
                "no-answer",
                tier2("c/", "endpoint", json!(nobody)),
                &["Tier2Unreachable", nobody],
            ),
        ];
        // All at once: each takes as long as its time-outs.
        for (name, tier2, _) in &cases {
            scenario
                .apply(&one_pod(scenario, name).with("/spec/tier2", tier2.clone()))
                .await?;
        }
        // What only a kubelet and a quota can say, meanwhile.
        let waiting: [(&str, Value, &[&str]); 2] = [
            (
                "no-secret",
                tier2("d/", "credentials", json!({"secretRef": {"name": "typo"}})),
                &["no-secret-0 waits for Secret typo (not found)"],
            ),
            (
                "no-key",
                without_key(scenario, &s3).await?,
                &["holds no secret_access_key", "Secret half"],
            ),
        ];
        for (name, tier2, _) in &waiting {
            scenario
                .apply(&one_pod(scenario, name).with("/spec/tier2", tier2.clone()))
                .await?;
        }
        for (name, _, says) in &cases {
            let message =
                wait_for_condition(&scenario.cluster(name), ConditionType::Healthy, says).await?;
            scenario.say(format!("{name}: {message}"));
        }
        for (name, _, says) in &waiting {
            wait_for_summary(&scenario.cluster(name), says).await?;
        }
        forbid_pods(scenario).await?;
        let refused = "no-quota";
        scenario.apply(&one_pod(scenario, refused)).await?;
        wait_for_summary(
            &scenario.cluster(refused),
            &["does not create no-quota-0 (exceeded quota: none"],
        )
        .await?;
        scenario.ensure_safe(&observer)?;
        Ok(())
    })
}

#[test]
fn a_prefix_that_another_cluster_uses_is_refused_naming_that_cluster() -> Result<(), Failure> {
    scenario::run("prefix", Duration::from_secs(240), async |scenario| {
        let ((_operator, observer), s3) =
            tokio::try_join!(scenario.install_operator(), scenario.install_s3())?;
        let first = apply_with_prefix(scenario, &s3, "first").await?;
        first.wait_ready(1, setup::READY_LIMIT).await?;
        let owner = first.status().await?.cluster_id;
        let second = apply_with_prefix(scenario, &s3, "second").await?;
        let message = second
            .wait_status("to be refused the prefix", LIMIT, |status| {
                status
                    .waits
                    .iter()
                    .find(|wait| wait.reason == WaitReason::PrefixInUse)
                    .map(|wait| wait.message.clone())
            })
            .await?;
        scenario.say(&message);
        for words in [
            owner.as_str(),
            "spec.tier2.prefix",
            "aof2.dev/adopt-cluster-id",
        ] {
            ensure!(
                message.contains(words),
                "the message does not say `{words}`: {message}"
            );
        }
        scenario.ensure_safe(&observer)?;
        Ok(())
    })
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused_with_line_and_nearest_key() -> Result<(), Failure>
{
    scenario::run("bad-config", Duration::from_secs(240), async |scenario| {
        let (_operator, observer) = scenario.install_operator().await?;
        let cases: [(&str, &str, &[&str]); 4] = [
            (
                "unknown-key",
                "[tier0]\ncluster_max_byte = 1\n",
                &["line 2", "cluster_max_byte", "tier0.cluster_max_bytes"],
            ),
            (
                "wrong-type",
                "[append]\nmax_record_bytes = \"large\"\n",
                &["line 2", "append.max_record_bytes"],
            ),
            (
                "out-of-range",
                "[tier1]\n\ncompression_level = 99\n",
                &["line 3", "tier1.compression_level", "99"],
            ),
            (
                "owned-key",
                "[cluster]\nname = \"mine\"\n",
                &["cluster", "operator"],
            ),
        ];
        for (name, toml, _) in &cases {
            apply_config(scenario, name, toml).await?;
            let draft = one_pod(scenario, name).with(
                "/spec/configFrom/configMapRef",
                json!({"name": name, "key": "aof2.toml"}),
            );
            scenario.apply(&draft).await?;
        }
        for (name, _, says) in &cases {
            let message =
                wait_for_condition(&scenario.cluster(name), ConditionType::ConfigApplied, says)
                    .await?;
            scenario.say(format!("{name}: {message}"));
        }
        // Mended, it starts: nothing was spoilt.
        apply_config(
            scenario,
            "unknown-key",
            "[tier0]\ncluster_max_bytes = 1073741824\n",
        )
        .await?;
        let mended = scenario.cluster("unknown-key");
        mended.wait_ready(1, setup::READY_LIMIT).await?;
        let dump = mended.engine("unknown-key-0").dump().await?;
        ensure!(
            dump.tier0.cluster_max_bytes == 1 << 30,
            "the engine has {:?}",
            dump.tier0
        );
        scenario.ensure_safe(&observer)?;
        Ok(())
    })
}

/// Keys of which one is missing.
async fn without_key(scenario: &Scenario, s3: &S3Server) -> Result<Value> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "half", "namespace": scenario.namespace.name},
        "stringData": {"access_key_id": "half"},
    });
    apply(scenario, &secret).await?;
    let mut tier2 = s3.tier2("e/");
    tier2["credentials"] = json!({"secretRef": {"name": "half"}});
    Ok(tier2)
}

/// Pods that are there stay; no other one is created.
async fn forbid_pods(scenario: &Scenario) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": scenario.namespace.name},
        "spec": {"hard": {"pods": "1"}},
    });
    apply(scenario, &quota).await?;
    let get = [
        "-n",
        &scenario.namespace.name,
        "get",
        "quota",
        "none",
        "-o",
        "jsonpath={.status.used.pods}",
    ];
    wait::until_none("the quota to count", LIMIT, async || {
        let used = scenario.kubectl.run(&get).await?;
        Ok(used
            .trim()
            .is_empty()
            .then_some("it counts nothing yet".to_owned()))
    })
    .await
}

async fn apply(scenario: &Scenario, object: &Value) -> Result<()> {
    let arguments = ["apply", "--server-side", "-f", "-"];
    let text = object.to_string();
    scenario
        .kubectl
        .run_with(&arguments, Some(text.as_bytes()))
        .await?;
    Ok(())
}

/// Until STATUS says all of this.
async fn wait_for_summary(cluster: &Cluster, says: &[&str]) -> Result<()> {
    let is_said = |status: &Aof2ClusterStatus| {
        says.iter()
            .all(|words| status.summary.contains(words))
            .then_some(())
    };
    cluster
        .wait_status(&format!("STATUS to say {says:?}"), LIMIT, is_said)
        .await
}

fn one_pod(scenario: &Scenario, name: &str) -> Draft {
    scenario.draft(name).with("/spec/replicas", json!(1))
}

async fn apply_with_prefix(scenario: &Scenario, s3: &S3Server, name: &str) -> Result<Cluster> {
    scenario
        .apply(&one_pod(scenario, name).with("/spec/tier2", s3.tier2("shared/")))
        .await
}

async fn apply_config(scenario: &Scenario, name: &str, toml: &str) -> Result<()> {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": scenario.namespace.name},
        "data": {"aof2.toml": toml},
    });
    apply(scenario, &map).await
}

/// Until the condition is False with a message that says all of this; returns the message.
async fn wait_for_condition(
    cluster: &Cluster,
    kind: ConditionType,
    says: &[&str],
) -> Result<String> {
    let found = |status: &Aof2ClusterStatus| {
        let condition = status
            .conditions
            .iter()
            .find(|found| found.type_ == kind.as_str() && found.status == "False")?;
        says.iter()
            .all(|words| condition.message.contains(words))
            .then(|| condition.message.clone())
    };
    cluster
        .wait_status(
            &format!("{kind} to be False and to say {says:?}"),
            LIMIT,
            found,
        )
        .await
}
