//! A log that is many times as long as its Tier 0: a cluster with budgets of a few MiB, and how its records are spread over the tiers.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use aof2_admin_api::report::{Dump, SegmentReport};
use aof2_admin_api::{SegmentCopy, SegmentState, WouldBlockKind};
use serde_json::json;

use crate::cluster::Cluster;
use crate::engine::{DATA_SOCKET, Engine};
use crate::kubectl::Output;
use crate::oracle::{self, Verdict};
use crate::s3::S3Server;
use crate::scenario::Scenario;

pub const CLUSTER: &str = "ledger";
pub const STREAM: &str = "ledger";
pub const TIER0_BYTES: u64 = 48 << 20;
pub const TIER1_BYTES: u64 = 24 << 20;
const RECORD_BYTES: u64 = 16 << 10;

pub struct Year {
    pub cluster: Cluster,
    pub engine: Engine,
    /// Acknowledgements, one in each line.
    list: String,
}

/// Records by the nearest place that has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub hot: u64,
    pub warm: u64,
    pub cold: u64,
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hot, warm, cold } = self;
        write!(f, "hot {hot}, warm {warm}, cold {cold}")
    }
}

/// Records that make `times` the budget of Tier 0.
pub const fn records(times: u64) -> u64 {
    times * TIER0_BYTES / RECORD_BYTES
}

impl Year {
    /// One pod without an application: records come by `aof2-admin load` in it.
    pub async fn begin(scenario: &Scenario, s3: &S3Server) -> Result<Self> {
        let file = format!(
            "[tier0]\ncluster_max_bytes = {TIER0_BYTES}\n[tier1]\nmax_bytes = {TIER1_BYTES}\n"
        );
        let config = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": scenario.namespace.name, "name": "ledger-aof2"},
            "data": {"aof2.toml": file},
        });
        let apply = ["apply", "--server-side", "-f", "-"];
        scenario
            .kubectl
            .run_with(&apply, Some(config.to_string().as_bytes()))
            .await?;
        let source = json!({"configMapRef": {"name": "ledger-aof2", "key": "aof2.toml"}});
        let draft = scenario
            .draft(CLUSTER)
            .with("/spec/replicas", json!(1))
            .with("/spec/storage/tier0/size", json!("2Gi"))
            .with("/spec/configFrom", source)
            .with("/spec/tier2", s3.tier2("year/ledger/"));
        let cluster = scenario.apply(&draft).await?;
        cluster.wait_ready(1, Duration::from_secs(120)).await?;
        Ok(Self {
            engine: cluster.engine(&cluster.pod(0)),
            cluster,
            list: String::new(),
        })
    }

    /// Appends so many records, `rate` a second, and keeps the list.
    pub async fn write(&mut self, records: u64, rate: u64) -> Result<()> {
        let output = self.load(records, rate, &[]).await?;
        ensure!(
            output.success,
            "`aof2-admin load` ended with {:?}: {}",
            output.code,
            output.stderr
        );
        Ok(())
    }

    /// The same, with more arguments; how it ended is in the output.
    pub async fn load(&mut self, records: u64, rate: u64, more: &[&str]) -> Result<Output> {
        let [count, size, rate] = [records, RECORD_BYTES, rate].map(|it| it.to_string());
        let arguments = [
            "load",
            "--socket",
            DATA_SOCKET,
            "--stream",
            STREAM,
            "--rate",
            &rate,
            "--size",
            &size,
            "--count",
            &count,
            "--collector",
            "-",
        ];
        let output = self
            .engine
            .admin(&[&arguments, more].concat(), None)
            .await?;
        self.list.push_str(&output.stdout);
        Ok(output)
    }

    pub fn acknowledged(&self) -> usize {
        self.list.lines().count()
    }

    /// Reads every record of the stream, wherever it is, and compares the acknowledged ones.
    pub async fn verify(&self) -> Result<Verdict> {
        oracle::verify_lines(&self.engine, &self.list).await
    }

    pub async fn places(&self) -> Result<Places> {
        let mut places = Places::default();
        for segment in self.segments().await? {
            let has = |copy| segment.copies.contains(&copy);
            let place = match (has(SegmentCopy::Hot), has(SegmentCopy::Warm)) {
                (true, _) => &mut places.hot,
                (false, true) => &mut places.warm,
                (false, false) => &mut places.cold,
            };
            *place += segment.records;
        }
        Ok(places)
    }

    /// Those that hold its records.
    pub async fn segments(&self) -> Result<Vec<SegmentReport>> {
        let arguments = ["segments", "--stream", STREAM, "--json"];
        let output = self.engine.admin(&arguments, None).await?;
        ensure!(output.success, "aof2-admin segments: {}", output.stderr);
        let mut segments: Vec<SegmentReport> = serde_json::from_str(&output.stdout)?;
        let is_over = |state: &_| matches!(state, SegmentState::Trimmed | SegmentState::Replaced);
        segments.retain(|segment| !is_over(&segment.state));
        Ok(segments)
    }
}

/// Appends that were refused for want of room.
pub fn refused(dump: &Dump) -> u64 {
    let refused = dump.would_block.get(&WouldBlockKind::Admission);
    refused.copied().unwrap_or_default()
}
