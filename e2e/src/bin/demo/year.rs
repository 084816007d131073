//! The last chapter: a year in three minutes. A second cluster writes twenty times its Tier 0, and all of it is read back.

use anyhow::{Result, ensure};
use aof2_e2e::s3::S3Server;
use aof2_e2e::scenario::Scenario;
use aof2_e2e::year::{self, CLUSTER, Year};

use crate::{Progress, show};

const TIMES: u64 = 20;
/// Records a second: 6 MiB, which an S3 server on the same two cores takes.
const RATE: u64 = 400;

/// Answers the line that the demo ends with.
pub async fn play(progress: &Progress, scenario: &Scenario, s3: &S3Server) -> Result<String> {
    let records = year::records(TIMES);
    progress.say(format!(
        "a year in three minutes: the Aof2Cluster {CLUSTER} has {} MiB of Tier 0 and {} MiB of Tier 1, and gets {TIMES} times its Tier 0, {records} records",
        year::TIER0_BYTES >> 20,
        year::TIER1_BYTES >> 20
    ));
    let mut ledger = Year::begin(scenario, s3).await?;
    ledger.write(records, RATE).await?;
    let dump = ledger.engine.dump().await?;
    let refused = year::refused(&dump);
    progress.say(format!(
        "  {} records acknowledged, {refused} refused; Tier 0 holds {} MiB, Tier 1 {} MiB, the rest is in the bucket alone",
        ledger.acknowledged(),
        dump.tier0.total_bytes >> 20,
        dump.tier1.total_bytes >> 20
    ));
    show(progress, scenario, &["get", "aof2"]).await?;
    let places = ledger.places().await?;
    let verdict = ledger.verify().await?;
    ensure!(verdict.is_clean(), "{verdict}");
    let year::Places { hot, warm, cold } = places;
    ensure!(cold > hot && cold > warm, "{places}");
    progress.say("every record of the year read back, from all three tiers");
    let line = verdict.to_string();
    let read = format!("read {}", verdict.read);
    Ok(line.replacen(&read, &format!("{read} ({places})"), 1))
}
