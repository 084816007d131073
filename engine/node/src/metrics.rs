//! The node's numbers in OpenMetrics, under the handbook's names.
//!
//! Each scrape takes one reading and builds the text from it: no number is kept twice.

mod compaction;
mod page;
mod tiers;

use aof2_core::Metrics;
use aof2_core::snapshot::SnapshotCounts;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::data_plane::DataPlane;
use crate::node::{Node, Phase};
use page::Page;

pub fn encode(node: &Node) -> Result<String, std::fmt::Error> {
    let mut page = Page(Registry::with_prefix("aof2"));
    let settings = node.config.settings();
    let phase = node.phase();
    page.0.register(
        "build",
        "Version of this engine",
        Info::new([("version", node.version)]),
    );
    page.gauge(
        "ready",
        "1 while the engine serves, 0 during recovery and after a refusal",
        u64::from(matches!(&*phase, Phase::Serving(_))),
    );
    page.gauge(
        "refused",
        "1 while the engine refuses its data",
        u64::from(matches!(&*phase, Phase::Refused(_))),
    );
    let report = node.config.report();
    page.counter(
        "config_reloads",
        "Configuration reloads since start",
        report.reloads,
    );
    page.gauge(
        "config_restart_pending",
        "1 while a changed key needs a restart",
        u64::from(report.restart_pending),
    );
    page.gauge(
        "config_rejected",
        "1 while the newest configuration file is rejected",
        u64::from(report.error.is_some()),
    );
    page.gauge(
        "tier0_cluster_max_bytes",
        "Tier 0 budget of the cluster",
        settings.tier0.cluster_max_bytes,
    );
    page.gauge(
        "tier0_instance_quota_bytes",
        "Share of the Tier 0 budget of this node",
        settings.tier0.instance_quota_bytes,
    );
    let connections = node.connections();
    page.gauges(
        "connections",
        "Open connections",
        "listener",
        connections
            .iter()
            .map(|usage| (usage.listener, usage.open as u64)),
    );
    page.counters(
        "connections_refused",
        "Connections closed since start because of a limit",
        "listener",
        connections
            .iter()
            .map(|usage| (usage.listener, usage.refused)),
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
        served,
        tier0_evictable_bytes,
        duplicates,
        segments_sealed,
        flush_failures,
        would_block,
        disk_full_refusals,
        trimmed_records,
        expired_records,
        pending_claims: _,
        pending_upload_segments: _,
        pending_upload_bytes: _,
        damaged_streams,
        damaged_ranges,
        poisoned,
        owes_volume_check,
        replay,
    } = plane.store.metrics();

    page.gauge("streams", "Streams on this volume", streams);
    page.gauge(
        "tier0_total_bytes",
        "Bytes allocated to segments in Tier 0",
        tier0_total_bytes,
    );
    page.gauge(
        "storage_bytes",
        "Configured size of the volume, 0 if not configured",
        storage_bytes,
    );
    page.gauge(
        "staged_bytes",
        "Bytes of appends waiting for the journal",
        staged_bytes,
    );
    page.gauge(
        "unsealed_bytes",
        "Bytes not yet in a sealed segment",
        unsealed_bytes,
    );
    page.gauge("journal_files", "Journal files", journal_files);
    page.counter(
        "journal_bytes",
        "Bytes written to the journal since start",
        journal_bytes,
    );
    page.counter(
        "journal_rounds",
        "Group commits since start",
        journal_rounds,
    );
    page.counter("checkpoints", "Checkpoints since start", checkpoints);
    page.counter(
        "manifest_records",
        "Records committed to manifests since start",
        manifest_records,
    );
    page.gauge(
        "manifest_replay_version",
        "Manifest schema version of the replay",
        u64::from(manifest_replay_version),
    );
    page.counter(
        "appended_records",
        "Records appended since start",
        records_appended,
    );
    page.counter(
        "appended_bytes",
        "Payload bytes appended since start",
        bytes_appended,
    );
    page.counter("read_records", "Records read since start", records_read);
    page.counters(
        "read_bytes",
        "Bytes of payloads read since start, by source: Tier 0, lower tiers without a wait, Tier 2 after a wait",
        "source",
        [
            ("tier0", served.tier0_bytes),
            ("lower", served.lower_bytes),
            ("waited", served.waited_bytes),
        ],
    );
    page.gauge(
        "tier0_evictable_bytes",
        "Bytes of segments in Tier 0 that Tier 2 has too",
        tier0_evictable_bytes,
    );
    page.counter(
        "duplicate_records",
        "Duplicate records that producers resent since start",
        duplicates,
    );
    page.counter(
        "sealed_segments",
        "Segments sealed since start",
        segments_sealed,
    );
    page.counter(
        "flush_failures",
        "Failed syncs and seals since start",
        flush_failures,
    );
    page.counter(
        "disk_full_refusals",
        "Appends rejected since start because the volume is full",
        disk_full_refusals,
    );
    page.counters(
        "would_block",
        "Appends rejected since start because they would block, by what they wait for",
        "kind",
        would_block
            .into_iter()
            .map(|(kind, count)| (kind.as_str(), count)),
    );
    page.counters(
        "trimmed_records",
        "Records that became unreadable since start because the start of their stream moved",
        "reason",
        [("trim", trimmed_records), ("retention", expired_records)],
    );
    let retention = plane.retention_status();
    page.gauge(
        "retention_suspended",
        "1 while nothing leaves by age because the clock is not trusted",
        u64::from(retention.suspended.is_some()),
    );
    page.gauge(
        "retention_failed_streams",
        "Streams whose start is not moved, or whose trimmed segments do not leave this node",
        retention.failed.streams,
    );
    compaction::of(page, &plane.compaction_status());
    page.gauge("damaged_streams", "Damaged streams", damaged_streams);
    page.gauge(
        "damaged_ranges",
        "Damaged sequence ranges in segments",
        damaged_ranges,
    );
    page.gauge(
        "poisoned",
        "1 after a failed write or sync, until the engine restarts",
        u64::from(poisoned),
    );
    page.gauge(
        "replay_milliseconds",
        "Duration of recovery at this start",
        replay.milliseconds,
    );
    page.gauge(
        "replayed_records",
        "Records replayed at this start",
        replay.records,
    );
    let SnapshotCounts {
        done,
        failed,
        running,
    } = plane.snapshot_counts();
    page.counters(
        "snapshots",
        "Stream snapshots completed or failed since start",
        "result",
        [("done", done), ("failed", failed)],
    );
    page.gauge("snapshots_running", "Stream snapshots in progress", running);
    page.counters(
        "snapshot_verifications",
        "Snapshot verifications since start, error if Tier 2 did not answer",
        "result",
        plane.verifications.by_result(),
    );
    tiers::below(page, plane, owes_volume_check);
}
