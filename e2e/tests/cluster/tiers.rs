//! A log that grows past its disk: bytes go down by themselves, nothing is refused while the bucket answers, every record is read back
//! from wherever it is, also after the engine was killed, and after an outage that filled Tier 0.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aof2_e2e::scenario::{self, Failure, Scenario};
use aof2_e2e::wait;
use aof2_e2e::year::{self, Year};
use kube::api::DeleteParams;

use crate::setup;

/// Records a second: 3 MiB, which an S3 server on the same two cores takes.
const RATE: u64 = 200;
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_log_of_many_times_its_tier_0_goes_down_and_is_read_from_every_tier() -> Result<(), Failure> {
    scenario::run("tiers", Duration::from_secs(420), async |scenario| {
        let ((_operator, observer), s3) =
            tokio::try_join!(scenario.install_operator(), scenario.install_s3())?;
        let mut year = Year::begin(scenario, &s3).await?;
        year.write(year::records(4), RATE).await?;
        let dump = year.engine.dump().await?;
        ensure!(year::refused(&dump) == 0, "refused: {:?}", dump.would_block);
        settled(scenario, &year).await?;
        read_back(scenario, &year).await?;

        s3.turn_off().await?;
        let given_up = year.load(year::records(2), 0, &["--give-up", "5s"]).await?;
        ensure!(given_up.code == Some(3), "it went on: {}", given_up.stderr);
        for part in [
            "Tier 0",
            "wait for their upload",
            "Tier 2 does not take them",
        ] {
            ensure!(
                given_up.stderr.contains(part),
                "no `{part}`: {}",
                given_up.stderr
            );
        }
        let full = year.cluster.wait_status("a full Tier 0", LIMIT, |status| {
            let fullest = status.tier0.as_ref()?.fullest_node.as_ref()?;
            (fullest.used_percent >= 90).then_some(fullest.used_percent)
        });
        scenario.say(format!("the bucket is away, TIER0% {}", full.await?));
        s3.turn_on().await?;
        year.write(year::records(1), RATE).await?;
        settled(scenario, &year).await?;

        let pod = year.engine.pod.clone();
        let before = year.cluster.uids().await?;
        let at_once = DeleteParams::default().grace_period(0);
        setup::pods_of(scenario).delete(&pod, &at_once).await?;
        wait::until_none("another pod", LIMIT, async || {
            let now = year.cluster.uids().await?;
            let is_new = now
                .get(&pod)
                .is_some_and(|uid| before.get(&pod) != Some(uid));
            Ok((!is_new).then(|| format!("{now:?}")))
        })
        .await?;
        // The operator may still say what it saw before.
        wait::until_none("the engine to serve", LIMIT, async || {
            Ok(match year.engine.dump().await {
                Ok(dump) if dump.ready => None,
                Ok(_) => Some("not ready".to_owned()),
                Err(error) => Some(format!("{error:#}")),
            })
        })
        .await?;
        scenario.say(format!("{pod} started with most of it cold"));
        read_back(scenario, &year).await?;
        ensure!(scenario.ensure_safe(&observer)? == 0, "a pod was removed");
        Ok(())
    })
}

/// The budgets hold, and `kubectl get aof2` says so.
async fn settled(scenario: &Scenario, year: &Year) -> Result<()> {
    let used = year
        .cluster
        .wait_status("Tier 0 to settle", LIMIT, |status| {
            let fullest = status.tier0.as_ref()?.fullest_node.as_ref()?;
            let is_calm = fullest.used_percent <= 90 && status.tier1.as_ref()?.used_percent <= 90;
            (is_calm && fullest.used_percent >= 40).then_some(fullest.used_percent)
        });
    let used = used.await?;
    let stored = year.engine.dump().await?.tier2;
    let objects = stored.and_then(|tier2| tier2.objects);
    let objects = objects.context("the engine does not know its objects")?;
    // In powers of two, and merges and deletions are slower than this wait.
    let shown = year
        .cluster
        .wait_status("the objects of the bucket", LIMIT, |status| {
            let tier2 = status.tier2.as_ref()?;
            let shown = u64::try_from(tier2.objects).ok()?;
            let bytes = tier2.bytes.as_ref()?.bytes();
            let is_near = shown <= objects * 4 / 3 && objects < shown * 2;
            let is_whole = is_near && bytes.is_power_of_two() && tier2.stale_since.is_none();
            is_whole.then(|| format!("{shown} objects and {bytes} bytes"))
        });
    scenario.say(format!(
        "{} acknowledged, TIER0% {used}, in the bucket at least {}",
        year.acknowledged(),
        shown.await?
    ));
    Ok(())
}

async fn read_back(scenario: &Scenario, year: &Year) -> Result<()> {
    let places = year.places().await?;
    let before = year.engine.dump().await?.reads.unwrap_or_default();
    let verdict = year.verify().await?;
    scenario.say(format!("{verdict} ({places})"));
    ensure!(verdict.is_clean() && verdict.acknowledged > 0, "{verdict}");
    ensure!(places.cold > places.hot, "{places}");
    let after = year.engine.dump().await?.reads.unwrap_or_default();
    ensure!(
        after.waited_bytes > before.waited_bytes,
        "{before:?}, {after:?}"
    );
    Ok(())
}
