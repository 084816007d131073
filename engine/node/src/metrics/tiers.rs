//! What the tiers below Tier 0 do.

use aof2_core::deletion::orphans::OrphanStatus;
use aof2_core::deletion::{DeletionStatus, Waiting};
use aof2_core::fetch::FetchStatus;
use aof2_core::tier::{Objects, Tier2Status};

use super::page::Page;
use crate::data_plane::DataPlane;

/// Nothing without Tier 2.
pub(super) fn below(page: &mut Page, plane: &DataPlane, owes_volume_check: bool) {
    if let Some(fetched) = plane.fetch_status() {
        of_fetches(page, &fetched, plane.waiting_on_demand());
    }
    if let Some(Tier2Status {
        health,
        moves,
        upload_retry_attempts,
        unconfirmed_claims,
        objects,
        unreadable_claims,
    }) = plane.tier2_status()
    {
        if let Some(deletion) = plane.deletion_status() {
            of_deletions(page, &deletion);
        }
        if let Some(orphans) = plane.orphan_status() {
            of_orphans(page, &orphans);
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
            "Segments waiting to be hydrated on request",
            moves.waiting_hydrations,
        );
        page.counter(
            "hydrated_on_demand_segments",
            "Segments hydrated since start because readers had them again and again",
            moves.on_demand_segments,
        );
        page.counter(
            "hydrated_on_demand_milliseconds",
            "Time of hydrations on demand since start, from when a segment was wanted and had room until it was there",
            moves.on_demand_millis,
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
        if let Some(Objects {
            count,
            bytes,
            of_unknown_size,
        }) = objects
        {
            page.gauge(
                "tier2_objects",
                "Objects of segments in Tier 2, trimmed ones included",
                count,
            );
            page.gauge(
                "tier2_objects_of_unknown_size",
                "Objects of segments of this node in Tier 2 whose size the manifest does not say; they are not part of tier2_total_bytes",
                of_unknown_size,
            );
            page.gauge(
                "tier2_total_bytes",
                "Bytes of the objects of segments in Tier 2 of known size",
                bytes,
            );
        }
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
        "Objects of trimmed segments deleted since start and not there afterwards",
        deletion.deleted_objects,
    );
    page.counter(
        "tier2_deleted_bytes",
        "Bytes of objects of trimmed segments deleted since start and not there afterwards",
        deletion.deleted_bytes,
    );
    page.counter(
        "tier2_deleted_kept_versions",
        "Objects of trimmed segments deleted since start whose bytes the bucket keeps as old versions",
        deletion.kept_versions,
    );
    page.counter(
        "tier2_missing_objects",
        "Objects of trimmed segments that were not there when they were to be deleted, since start",
        deletion.missing_objects,
    );
    page.counter(
        "tier2_deleted_snapshots",
        "Snapshots deleted since start whose catalogue is no longer in the bucket",
        deletion.deleted_snapshots,
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
        u64::from(deletion.failed.streams > 0),
    );
    page.gauge(
        "tier2_deletion_failed_streams",
        "Streams whose objects of trimmed segments could not be deleted in their last turn",
        deletion.failed.streams,
    );
}

fn of_orphans(page: &mut Page, orphans: &OrphanStatus) {
    let OrphanStatus {
        found,
        is_cut,
        waiting: _,
        deleted,
        kept_versions,
        failure: _,
        failed,
    } = orphans;
    // Not before each stream was listed.
    if let Some(Waiting { objects, bytes }) = found {
        page.gauge(
            "tier2_orphan_objects",
            "Objects of segments that no manifest and no catalogue names, by the last listing",
            *objects,
        );
        page.gauge(
            "tier2_orphan_bytes",
            "Bytes of objects of segments that no manifest and no catalogue names, by the last listing",
            *bytes,
        );
        page.gauge(
            "tier2_orphans_cut",
            "1 while there are more such objects than the engine keeps in mind and counts",
            u64::from(*is_cut),
        );
    }
    page.counter(
        "tier2_deleted_orphan_objects",
        "Objects that no manifest and no catalogue names deleted since start and not there afterwards",
        deleted.objects,
    );
    page.counter(
        "tier2_deleted_orphan_bytes",
        "Bytes of objects that no manifest and no catalogue names deleted since start and not there afterwards",
        deleted.bytes,
    );
    page.counter(
        "tier2_deleted_orphan_kept_versions",
        "Objects that no manifest and no catalogue names deleted since start whose bytes the bucket keeps as old versions",
        *kept_versions,
    );
    page.gauge(
        "tier2_orphan_search_failed_streams",
        "Streams whose objects could not be listed, or whose orphans could not be deleted, in their last turn",
        failed.streams,
    );
}

fn of_fetches(page: &mut Page, fetched: &FetchStatus, waiting_on_demand: u64) {
    let FetchStatus {
        waiting,
        // No reader waits for these.
        ahead: _,
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
        "Reads from Tier 2 and segments that come back on demand waiting for their turn",
        *waiting + waiting_on_demand,
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
        "Time of completed reads from Tier 2 since start, from the request of a reader on; those of hydrations on demand from their turn on",
        u64::try_from(fetch_time.as_millis()).unwrap_or(u64::MAX),
    );
    if let Some(p99) = p99 {
        page.gauge(
            "hydration_latency_p99_milliseconds",
            "99th percentile of reads from Tier 2 in the last 5 to 10 minutes, those of hydrations on demand included",
            u64::try_from(p99.as_millis()).unwrap_or(u64::MAX),
        );
    }
}
