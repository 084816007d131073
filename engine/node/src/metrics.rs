//! The node's numbers in OpenMetrics, under the handbook's names.
//!
//! Each scrape takes one reading and builds the text from it: no number is kept twice.

use std::sync::atomic::AtomicU64;

use aof2_core::Metrics;
use aof2_core::deletion::DeletionStatus;
use aof2_core::fetch::FetchStatus;
use aof2_core::snapshot::SnapshotCounts;
use aof2_core::tier::Tier2Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::data_plane::DataPlane;
use crate::node::{Node, Phase};

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
    page.gauge(
        "retention_suspended",
        "1 while nothing leaves by age because the clock is not trusted",
        u64::from(plane.retention_status().suspended.is_some()),
    );
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
    if let Some(fetched) = plane.fetch_status() {
        of_fetches(page, &fetched);
    }
    if let Some(Tier2Status {
        health,
        moves,
        upload_retry_attempts,
        unconfirmed_claims,
        unreadable_claims,
    }) = plane.tier2_status()
    {
        if let Some(deletion) = plane.deletion_status() {
            of_deletions(page, &deletion);
        }
        page.gauge(
            "tier2_reachable",
            "1 while Tier 2 answers",
            u64::from(health.reachable),
        );
        page.gauge(
            "tier2_breaker_open",
            "1 while the engine backs off from Tier 2",
            u64::from(health.breaker_open),
        );
        page.counter(
            "tier2_upload_retry_attempts",
            "Retried Tier 2 requests since start",
            upload_retry_attempts,
        );
        page.gauge(
            "tier1_total_bytes",
            "Bytes of compressed segments in Tier 1",
            moves.tier1_bytes,
        );
        page.counters(
            "evicted_segments",
            "Segment copies evicted since start, by tier",
            "tier",
            [
                ("0", moves.evicted_segments),
                ("1", moves.evicted_warm_segments),
            ],
        );
        page.counters(
            "evicted_bytes",
            "Bytes of segment copies evicted since start, by tier",
            "tier",
            [("0", moves.evicted_bytes), ("1", moves.evicted_warm_bytes)],
        );
        page.counters(
            "hydrated_segments",
            "Segments hydrated since start, by result",
            "result",
            [
                ("done", moves.hydrated_segments),
                ("failed", moves.failed_hydrations),
            ],
        );
        page.counter(
            "hydrated_bytes",
            "Bytes of segments hydrated since start",
            moves.hydrated_bytes,
        );
        page.gauge(
            "hydrations_waiting",
            "Segments waiting to be hydrated",
            moves.waiting_hydrations,
        );
        page.gauge(
            "tier2_pending_uploads",
            "Sealed segments waiting for upload",
            moves.pending_uploads,
        );
        page.gauge(
            "tier2_pending_upload_bytes",
            "Bytes of sealed segments waiting for upload",
            moves.pending_upload_bytes,
        );
        page.counter(
            "tier2_uploaded_segments",
            "Segments uploaded and verified since start",
            moves.uploaded_segments,
        );
        page.counter(
            "tier2_uploaded_bytes",
            "Compressed bytes uploaded and verified since start",
            moves.uploaded_bytes,
        );
        page.gauge(
            "tier2_unconfirmed_claims",
            "Streams whose claim Tier 2 has not confirmed since start",
            unconfirmed_claims,
        );
        page.gauge(
            "tier2_unreadable_claims",
            "Unreadable claims of any node, whose streams wait",
            unreadable_claims.len() as u64,
        );
        page.gauge(
            "tier2_volume_check_owed",
            "1 while Tier 2 has not confirmed this volume and new streams and uploads wait",
            u64::from(owes_volume_check),
        );
    }
}

fn of_deletions(page: &mut Page, deletion: &DeletionStatus) {
    page.counter(
        "tier2_deleted_objects",
        "Objects of trimmed segments deleted since start",
        deletion.deleted_objects,
    );
    page.counter(
        "tier2_deleted_bytes",
        "Bytes of objects of trimmed segments deleted since start",
        deletion.deleted_bytes,
    );
    page.gauges(
        "tier2_undeleted_bytes",
        "Bytes of objects of trimmed segments that are still in Tier 2, by what keeps them",
        "reason",
        deletion
            .waiting
            .iter()
            .map(|(reason, waiting)| (*reason, waiting.bytes)),
    );
    page.gauge(
        "tier2_deletion_failed",
        "1 while objects of trimmed segments cannot be deleted",
        u64::from(deletion.failure.is_some()),
    );
}

fn of_fetches(page: &mut Page, fetched: &FetchStatus) {
    let FetchStatus {
        waiting,
        under_way,
        cache_bytes,
        cache_hits,
        warm_blocks,
        cold_blocks,
        cold_bytes,
        failed,
        refused,
        fetched,
        fetch_time,
        p99,
    } = fetched;
    page.gauge(
        "activation_queue_depth",
        "Reads from Tier 2 waiting for their turn",
        *waiting,
    );
    page.gauge(
        "tier2_reads_running",
        "Reads from Tier 2 in progress",
        *under_way,
    );
    page.gauge(
        "block_cache_bytes",
        "Bytes of blocks read from Tier 1 and Tier 2 in memory",
        *cache_bytes,
    );
    page.counters(
        "blocks_read",
        "Blocks of segments outside Tier 0 read since start, by source",
        "source",
        [
            ("cache", *cache_hits),
            ("tier1", *warm_blocks),
            ("tier2", *cold_blocks),
        ],
    );
    page.counter(
        "tier2_read_bytes",
        "Compressed bytes read from Tier 2 since start",
        *cold_bytes,
    );
    page.counters(
        "tier2_reads",
        "Reads from Tier 2 since start, by result",
        "result",
        [
            ("done", *fetched),
            ("failed", *failed),
            ("refused", *refused),
        ],
    );
    page.counter(
        "hydration_milliseconds",
        "Time of completed reads from Tier 2 since start, from the request of a reader on",
        u64::try_from(fetch_time.as_millis()).unwrap_or(u64::MAX),
    );
    if let Some(p99) = p99 {
        page.gauge(
            "hydration_latency_p99_milliseconds",
            "99th percentile of reads from Tier 2 in the last 5 to 10 minutes",
            u64::try_from(p99.as_millis()).unwrap_or(u64::MAX),
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

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let family = Family::<[(&'static str, &'static str); 1], Gauge<i64>>::default();
        for (key, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&[(label, key)]).set(value);
        }
        self.0.register(name, help, family);
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
