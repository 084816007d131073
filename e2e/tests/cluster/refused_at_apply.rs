//! What the API server refuses before any of our programs sees it: the message is all that the user gets.

use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_e2e::cluster::{Cluster, Draft};
use aof2_e2e::helm;
use aof2_e2e::scenario::{self, Failure, Scenario};
use serde_json::{Value, json};

/// Where, what, and what the refusal has to say.
struct Case {
    pointer: &'static str,
    value: Value,
    says: &'static [&'static str],
}

fn case(pointer: &'static str, value: Value, says: &'static [&'static str]) -> Case {
    Case {
        pointer,
        value,
        says,
    }
}

fn tier2() -> Value {
    json!({
        "endpoint": "https://s3.example.com", "region": "eu-central-1", "bucket": "acme-aof2", "prefix": "prod/orders/",
        "credentials": {"secretRef": {"name": "s3"}},
    })
}

fn tier2_with(key: &str, value: Value) -> Value {
    let mut tier2 = tier2();
    tier2[key] = value;
    tier2
}

fn tier2_with_ca_over_http() -> Value {
    let mut tier2 = tier2_with("endpoint", json!("http://s3.example.com"));
    tier2["caBundle"] = json!({"configMapRef": {"name": "s3-ca"}});
    tier2
}

#[test]
fn an_invalid_field_is_refused_in_words_that_name_it() -> Result<(), Failure> {
    scenario::run_by_api_server("refused", Duration::from_secs(60), async |scenario| {
        helm::apply_crds(&scenario.environment).await?;
        let good = scenario.draft("orders").with("/spec/tier2", tier2());
        let output = try_apply(scenario, &good).await?;
        ensure!(
            output.success,
            "a good cluster was refused: {}",
            output.stderr
        );

        let long = "a".repeat(41);
        let cases = [
            case("/metadata/name", json!("9orders"), &["start with a letter"]),
            case(
                "/metadata/name",
                json!(long),
                &["is too long", "at most 40 characters"],
            ),
            case(
                "/spec/replicas",
                json!(0),
                &["spec.replicas", "greater than or equal to 1"],
            ),
            case(
                "/spec/replicas",
                json!(51),
                &["spec.replicas", "less than or equal to 50"],
            ),
            case(
                "/spec/version",
                json!("latest"),
                &["spec.version", "latest"],
            ),
            case(
                "/spec/image/repository",
                json!("example.com/aof2:1"),
                &["spec.image.repository", "spec.version"],
            ),
            case(
                "/spec/upgrade/seal/drainTimeout",
                json!("11m"),
                &["spec.upgrade.seal.drainTimeout", "between 1s and 10m"],
            ),
            case(
                "/spec/upgrade/postRestart/soak",
                json!("soon"),
                &["spec.upgrade.postRestart.soak", "soon"],
            ),
            case(
                "/spec/storage/tier0/size",
                json!("1Mi"),
                &["spec.storage", "at least 64Mi"],
            ),
            case(
                "/spec/storage/tier0/size",
                json!("545Mi"),
                &["spec.storage.tier0.size", "512Mi of journal", "546Mi"],
            ),
            case(
                "/spec/tier2",
                tier2_with("endpoint", json!("s3.example.com")),
                &["spec.tier2.endpoint", "s3.example.com"],
            ),
            case(
                "/spec/tier2",
                tier2_with("endpoint", json!("http://10.0.0.1:9000")),
                &["spec.tier2.addressing", "set addressing: Path"],
            ),
            case(
                "/spec/tier2",
                tier2_with("prefix", json!("prod/orders")),
                &["spec.tier2.prefix", "prod/orders"],
            ),
            case(
                "/spec/tier2",
                tier2_with("bucket", json!("acme.aof2")),
                &["a bucket with dots", "set addressing: Path"],
            ),
            case(
                "/spec/tier2",
                tier2_with_ca_over_http(),
                &["spec.tier2.caBundle has no use with an http:// endpoint"],
            ),
            case(
                "/spec/tier2",
                tier2_with("endpoint", json!("https://s3.example.com/path")),
                &["spec.tier2.endpoint", "without a path"],
            ),
            case(
                "/spec/image/repository",
                json!("example.com/aof2@sha256"),
                &["neither tag nor digest"],
            ),
            case(
                "/spec/upgrade/seal/uploadTimeout",
                json!("25h"),
                &["spec.upgrade.seal.uploadTimeout must lie between 1s and 24h"],
            ),
            case(
                "/spec/upgrade/postRestart/replayStallTimeout",
                json!("9s"),
                &["must lie between 10s and 24h"],
            ),
            case(
                "/spec/podTemplate/metadata/labels",
                json!({"aof2.dev/cluster": "other"}),
                &["keys under aof2.dev/", "choose another prefix"],
            ),
            case(
                "/spec/replica",
                json!(3),
                &["spec.replica", "field not declared in schema"],
            ),
            case(
                "/spec/operation/mode",
                json!("Stopped"),
                &["spec.operation.mode", "Stopped"],
            ),
        ];
        for Case {
            pointer,
            value,
            says,
        } in cases
        {
            let draft = good.clone().with(pointer, value.clone());
            let output = try_apply(scenario, &draft).await?;
            ensure!(!output.success, "{pointer} = {value} was taken");
            for words in says {
                ensure!(
                    output.stderr.contains(words),
                    "the refusal of {pointer} = {value} does not say `{words}`: {}",
                    output.stderr
                );
            }
        }
        Ok(())
    })
}

#[test]
fn what_cannot_change_later_is_refused_with_the_reason() -> Result<(), Failure> {
    scenario::run_by_api_server("immutable", Duration::from_secs(60), async |scenario| {
        helm::apply_crds(&scenario.environment).await?;
        // No operator runs here: nothing acts on it.
        let good = scenario.draft("orders").with("/spec/tier2", tier2());
        scenario.apply(&good).await?;
        let cases = [
            case(
                "/spec/tier2/bucket",
                json!("another-bucket"),
                &["spec.tier2.bucket is immutable"],
            ),
            case(
                "/spec/tier2/prefix",
                json!("prod/other/"),
                &["spec.tier2.prefix is immutable"],
            ),
            case(
                "/spec/storage/tier0/size",
                json!("1Gi"),
                &["a volume cannot shrink from 2Gi to 1Gi"],
            ),
            case(
                "/spec/storage/tier0/storageClassName",
                json!("fast"),
                &["storageClassName is immutable"],
            ),
            case(
                "/spec/storage/tier0/accessMode",
                json!("ReadWriteOnce"),
                &["accessMode is immutable"],
            ),
            case(
                "/spec/storage/tier1",
                json!({"size": "1Gi"}),
                &["spec.storage.tier1 can be neither added nor removed"],
            ),
        ];
        for Case {
            pointer,
            value,
            says,
        } in cases
        {
            let output =
                Cluster::try_apply(&scenario.kubectl, &good.clone().with(pointer, value)).await?;
            ensure!(
                !output.success && says.iter().all(|words| output.stderr.contains(words)),
                "{pointer}: {}",
                output.stderr
            );
        }
        let without = scenario.draft("orders");
        let output = Cluster::try_apply(&scenario.kubectl, &without).await?;
        ensure!(
            !output.success
                && output
                    .stderr
                    .contains("spec.tier2 cannot be added or removed later"),
            "{}",
            output.stderr
        );
        Ok(())
    })
}

async fn try_apply(scenario: &Scenario, draft: &Draft) -> Result<aof2_e2e::kubectl::Output> {
    let arguments = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    scenario
        .kubectl
        .output(&arguments, Some(draft.text().as_bytes()))
        .await
}
