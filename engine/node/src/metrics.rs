//! The node's numbers in OpenMetrics, under the handbook's names.
//!
//! Each scrape takes one reading and builds the text from it: no number is kept twice.

use std::sync::atomic::AtomicU64;

use aof2_core::Metrics;
use aof2_core::snapshot::SnapshotCounts;
use aof2_core::tier::Tier2Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::data_plane::DataPlane;
use crate::node::{Node, Phase};

/// Seconds; from a page in the cache to a cold object store.
const HYDRATION_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

pub fn encode(node: &Node) -> Result<String, std::fmt::Error> {
    let mut page = Page(Registry::with_prefix("aof2"));
    let settings = node.config.settings();
    let phase = node.phase();
    page.0.register(
        "build",
        "Version of this engine.",
        Info::new([("version", node.version)]),
    );
    page.gauge(
        "ready",
        "1 once recovery is done and until the process ends.",
        u64::from(matches!(&*phase, Phase::Serving(_))),
    );
    page.gauge(
        "refused",
        "1 while the data is refused.",
        u64::from(matches!(&*phase, Phase::Refused(_))),
    );
    let report = node.config.report();
    page.counter(
        "config_reloads",
        "Configuration files that took effect while running.",
        report.reloads,
    );
    page.gauge(
        "config_restart_pending",
        "1 while a key waits for a restart.",
        u64::from(report.restart_pending),
    );
    page.gauge(
        "config_rejected",
        "1 while the newest configuration file is refused.",
        u64::from(report.error.is_some()),
    );
    page.gauge(
        "tier0_cluster_max_bytes",
        "Tier 0 budget of the cluster.",
        settings.tier0.cluster_max_bytes,
    );
    page.gauge(
        "tier0_instance_quota_bytes",
        "This node's share of it.",
        settings.tier0.instance_quota_bytes,
    );
    match &*phase {
        Phase::Serving(plane) => serving(&mut page, plane),
        Phase::Recovering(_) | Phase::Refused(_) | Phase::Closed => {}
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &page.0)?;
    Ok(text)
}

fn serving(page: &mut Page, plane: &DataPlane) {
    let Metrics {
        streams,
        tier0_total_bytes,
        tier0_instance_quota_bytes: _,
        tier0_cluster_max_bytes: _,
        storage_bytes,
        staged_bytes,
        unsealed_bytes,
        journal_files,
        journal_bytes,
        journal_rounds,
        checkpoints,
        manifest_records,
        manifest_replay_version,
        records_appended,
        bytes_appended,
        records_read,
        duplicates,
        segments_sealed,
        flush_failures,
        would_block,
        disk_full_refusals,
        pending_claims: _,
        pending_upload_segments: _,
        pending_upload_bytes: _,
        damaged_streams,
        damaged_ranges,
        poisoned,
        owes_volume_check,
        replay,
    } = plane.store.metrics();

    page.gauge("streams", "Streams on this volume.", streams);
    page.gauge(
        "tier0_total_bytes",
        "Allocated bytes of segments on local disk.",
        tier0_total_bytes,
    );
    page.gauge(
        "tier0_activation_queue_depth",
        "Hydrations that wait for room in Tier 0.",
        0,
    );
    page.gauge(
        "storage_bytes",
        "Size of the volume as told; 0 = not told.",
        storage_bytes,
    );
    page.gauge(
        "staged_bytes",
        "Bytes of appends that wait for the journal.",
        staged_bytes,
    );
    page.gauge(
        "unsealed_bytes",
        "Bytes that no sealed segment holds yet.",
        unsealed_bytes,
    );
    page.gauge(
        "tier1_hydration_latency_p99_ms",
        "99th percentile of hydrations.",
        0,
    );
    page.0.register(
        "tier1_hydration_latency_seconds",
        "Time from asking for a segment to having it in Tier 0.",
        Histogram::new(HYDRATION_BUCKETS),
    );
    page.gauge("journal_files", "Files of the journal.", journal_files);
    page.counter(
        "journal_bytes",
        "Bytes written to the journal.",
        journal_bytes,
    );
    page.counter("journal_rounds", "Group commits.", journal_rounds);
    page.counter("checkpoints", "Checkpoints.", checkpoints);
    page.counter(
        "manifest_records",
        "Records committed to manifests.",
        manifest_records,
    );
    page.gauge(
        "manifest_replay_version",
        "Schema version with which manifests were replayed.",
        u64::from(manifest_replay_version),
    );
    page.counter("appended_records", "Records staged.", records_appended);
    page.counter("appended_bytes", "Payload bytes staged.", bytes_appended);
    page.counter("read_records", "Records read.", records_read);
    page.counter(
        "duplicate_records",
        "Records that a producer had sent before.",
        duplicates,
    );
    page.counter("sealed_segments", "Segments sealed.", segments_sealed);
    page.counter(
        "flush_failures",
        "Failed syncs and failed seals.",
        flush_failures,
    );
    page.counter(
        "disk_full_refusals",
        "Appends refused for want of space.",
        disk_full_refusals,
    );
    page.counters(
        "would_block",
        "Appends that would have blocked, by what they wait for.",
        "kind",
        would_block
            .into_iter()
            .map(|(kind, count)| (kind.as_str(), count)),
    );
    page.gauge(
        "damaged_streams",
        "Streams in which damage was found.",
        damaged_streams,
    );
    page.gauge(
        "damaged_ranges",
        "Damaged places of segments, by sequence, that were found.",
        damaged_ranges,
    );
    page.gauge("poisoned", "1 once a sync failed.", u64::from(poisoned));
    page.gauge(
        "replay_milliseconds",
        "How long recovery took at this start.",
        replay.milliseconds,
    );
    page.gauge(
        "replayed_records",
        "Records that recovery replayed at this start.",
        replay.records,
    );
    let SnapshotCounts {
        done,
        failed,
        running,
    } = plane.snapshot_counts();
    page.counters(
        "snapshots",
        "Snapshots of streams that came to an end.",
        "result",
        [("done", done), ("failed", failed)],
    );
    page.gauge(
        "snapshots_running",
        "Snapshots of streams that did not.",
        running,
    );
    page.counters(
        "snapshot_verifications",
        "Snapshots read back from Tier 2; error = it did not answer.",
        "result",
        plane.verifications.by_result(),
    );
    if let Some(Tier2Status {
        health,
        moves,
        upload_retry_attempts,
        unconfirmed_claims,
        unreadable_claims,
    }) = plane.tier2_status()
    {
        page.gauge(
            "tier2_reachable",
            "1 while Tier 2 answers.",
            u64::from(health.reachable),
        );
        page.gauge(
            "tier2_breaker_open",
            "1 while Tier 2 is left alone after failures.",
            u64::from(health.breaker_open),
        );
        page.counter(
            "tier2_upload_retry_attempts",
            "Repeated attempts at Tier 2.",
            upload_retry_attempts,
        );
        page.gauge(
            "tier2_pending_uploads",
            "Sealed segments that are not uploaded.",
            moves.pending_uploads,
        );
        page.gauge(
            "tier2_pending_upload_bytes",
            "Their bytes.",
            moves.pending_upload_bytes,
        );
        page.counter(
            "tier2_uploaded_segments",
            "Segments uploaded and verified.",
            moves.uploaded_segments,
        );
        page.counter(
            "tier2_uploaded_bytes",
            "Their compressed bytes.",
            moves.uploaded_bytes,
        );
        page.gauge(
            "tier2_unconfirmed_claims",
            "Streams whose claim this process has not seen in Tier 2.",
            unconfirmed_claims,
        );
        page.gauge(
            "tier2_unreadable_claims",
            "Claims of any node that could not be read when last looked at: their streams wait.",
            unreadable_claims.len() as u64,
        );
        page.gauge(
            "tier2_volume_check_owed",
            "1 while Tier 2 has not told whether this volume may be used: new streams and uploads wait.",
            u64::from(owes_volume_check),
        );
    }
}

struct Page(Registry);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.register(name, help, gauge);
    }

    /// `_total` is appended to the name.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let family =
            Family::<[(&'static str, &'static str); 1], Counter<u64, AtomicU64>>::default();
        for (key, value) in values {
            family.get_or_create(&[(label, key)]).inc_by(value);
        }
        self.0.register(name, help, family);
    }
}
