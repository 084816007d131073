//! What this node says about itself: the answers of `dump`, `streams`, `segments` and the verbs around a restart.

use std::collections::BTreeMap;

use aof2_admin_api::report::{
    CompactionReport, DamagedRange, DeletionReport, FailedStreamsReport, JournalReport,
    LastMergeReport, ManifestReport, OrphansReport, ReadsReport, RetentionReport,
    RetentionRuleReport, SegmentReport, Tier0Report, Tier1Report, Tier2Report, WaitingObjects,
};
use aof2_admin_api::{
    ClaimState, Dump, PostRestart, PreRestart, SegmentCopy, SegmentState, StreamReport,
    WouldBlockKind,
};
use aof2_core::compaction::CompactionStatus;
use aof2_core::config::RetentionRule;
use aof2_core::deletion::orphans::OrphanStatus;
use aof2_core::deletion::{DeletionStatus, Waiting};
use aof2_core::failures::FailedStreams;
use aof2_core::retention::RetentionStatus;
use aof2_core::tier::Tier2Status;
use aof2_core::{ReadError, SegmentInfo, Store, StreamInfo};

use crate::data_plane::{DataPlane, tier2_reason};
use crate::node::{Node, Phase};
use crate::probes;
use crate::storage_report::time;

/// Lowest version of an engine that reads what this one writes: there has been one format so far.
const MIN_READER_VERSION: &str = "0.1.0";

/// An operator reads at most 256 KiB of an answer; `streams` lists all damage.
const MAX_DAMAGE: usize = 64;
const MAX_DAMAGED_STREAMS: usize = 1000;

/// `Err` says what failed.
pub async fn dump(node: &Node) -> Result<Dump, String> {
    let ready = probes::not_ready(node).await.is_none();
    let settings = node.config.settings();
    let mut dump = Dump {
        version: node.version.to_string(),
        node: settings.node_name.clone(),
        cluster_id: settings.cluster.id.clone(),
        process_start: node.process_start.to_string(),
        ready,
        config: node.config.report(),
        tier0: Tier0Report {
            cluster_max_bytes: settings.tier0.cluster_max_bytes,
            instance_quota_bytes: settings.tier0.instance_quota_bytes,
            storage_bytes: settings.storage.capacity_bytes,
            ..Tier0Report::default()
        },
        tier1: Tier1Report {
            max_bytes: settings.tier1.max_bytes,
            ..Tier1Report::default()
        },
        operator_epoch: node.epochs.highest(),
        ..Dump::default()
    };
    match &*node.phase() {
        Phase::Recovering(_) | Phase::Closed => {}
        Phase::Refused(refusal) => dump.refusal = Some(refusal.clone()),
        Phase::Serving(plane) => {
            let plane = plane.clone();
            return node
                .reading(move || {
                    fill(&mut dump, &plane);
                    dump
                })
                .await;
        }
    }
    Ok(dump)
}

fn fill(dump: &mut Dump, plane: &DataPlane) {
    let metrics = plane.store.metrics();
    let identity = plane.store.identity();
    dump.node_id = identity.node_id.clone();
    dump.volume_id = identity.volume_id.clone();
    dump.tier0.total_bytes = metrics.tier0_total_bytes;
    dump.tier0.evictable_bytes = Some(metrics.tier0_evictable_bytes);
    dump.tier0.instance_quota_bytes = metrics.tier0_instance_quota_bytes;
    dump.tier0.cluster_max_bytes = metrics.tier0_cluster_max_bytes;
    dump.tier1.total_bytes = plane
        .tier2_status()
        .map_or(0, |tier2| tier2.moves.tier1_bytes);
    if let Some(fetched) = plane.fetch_status() {
        dump.tier0.activation_queue_depth = Some(fetched.waiting + plane.waiting_on_demand());
        dump.tier1.hydration_latency_p99_ms = fetched.p99.map(|p99| p99.as_secs_f64() * 1e3);
    }
    dump.tier2 = tier2(plane);
    dump.manifest = ManifestReport {
        replay_version: metrics.manifest_replay_version,
        min_reader_version: MIN_READER_VERSION.to_string(),
        records: metrics.manifest_records,
    };
    dump.journal = JournalReport {
        files: metrics.journal_files,
        bytes: metrics.journal_bytes,
        rounds: metrics.journal_rounds,
        checkpoints: metrics.checkpoints,
    };
    dump.retention = Some(retention(plane.retention_status()));
    dump.compaction = Some(compaction(plane.compaction_status()));
    dump.flush_failures = metrics.flush_failures;
    dump.reads = Some(ReadsReport {
        tier0_bytes: metrics.served.tier0_bytes,
        lower_bytes: metrics.served.lower_bytes,
        waited_bytes: metrics.served.waited_bytes,
    });
    dump.would_block = metrics
        .would_block
        .iter()
        .map(|(kind, count)| (would_block_kind(*kind), *count))
        .collect();
    dump.disk_full_refusals = metrics.disk_full_refusals;
    dump.drain = plane.drain_status();
    dump.streams = metrics.streams;
    let streams = plane.store.streams().into_iter();
    dump.damage = streams
        .filter_map(|stream| Some((stream.name.to_string(), stream.damage?)))
        .take(MAX_DAMAGE)
        .collect();
}

fn compaction(status: CompactionStatus) -> CompactionReport {
    let CompactionStatus {
        is_enabled,
        merges,
        inputs,
        read_bytes,
        written_bytes,
        failures,
        last,
        end,
    } = status;
    CompactionReport {
        enabled: is_enabled,
        merges,
        inputs,
        read_bytes,
        written_bytes,
        failures,
        last: last.map(|last| LastMergeReport {
            stream: last.stream.to_string(),
            at: time(last.at_unix_nanos),
            inputs: last.inputs,
            failure: last.failure,
        }),
        end,
    }
}

fn retention(status: RetentionStatus) -> RetentionReport {
    let RetentionStatus {
        suspended,
        rules,
        failed,
    } = status;
    let rule = |(rule, fitting_streams): (RetentionRule, Option<u64>)| {
        let RetentionRule {
            streams,
            max_age,
            max_bytes,
        } = rule;
        RetentionRuleReport {
            streams,
            max_age_seconds: max_age.map(|age| age.as_secs()),
            max_bytes,
            fitting_streams,
        }
    };
    RetentionReport {
        suspended,
        rules: rules.into_iter().map(rule).collect(),
        failed: failed_streams(failed),
    }
}

fn failed_streams(failed: FailedStreams) -> FailedStreamsReport {
    let FailedStreams { streams, named } = failed;
    FailedStreamsReport { streams, named }
}

/// `None` without Tier 2.
pub fn tier2(plane: &DataPlane) -> Option<Tier2Report> {
    let Tier2Status {
        health,
        moves,
        upload_retry_attempts,
        unconfirmed_claims,
        objects,
        unreadable_claims,
    } = plane.tier2_status()?;
    Some(Tier2Report {
        reachable: health.reachable,
        probed: health.probed,
        reason: health.reason.map(tier2_reason),
        message: health
            .message
            .or(moves.failure)
            .or_else(|| unreadable_claims.into_values().next()),
        pending_uploads: moves.pending_uploads,
        pending_upload_bytes: moves.pending_upload_bytes,
        upload_retry_attempts,
        uploaded_segments: moves.uploaded_segments,
        uploaded_bytes: moves.uploaded_bytes,
        pending_claims: unconfirmed_claims,
        objects: objects.map(|it| it.count),
        object_bytes: objects.map(|it| it.bytes),
        objects_of_unknown_size: objects.map_or(0, |it| it.of_unknown_size),
        deletion: plane.deletion_status().map(deletion),
        orphans: plane.orphan_status().map(orphans),
    })
}

fn deletion(status: DeletionStatus) -> DeletionReport {
    let DeletionStatus {
        deleted_objects,
        deleted_bytes,
        kept_versions,
        missing_objects,
        deleted_snapshots,
        waiting,
        failure,
        failed,
    } = status;
    DeletionReport {
        deleted_objects,
        deleted_bytes,
        kept_versions,
        missing_objects,
        deleted_snapshots,
        waiting: by_reason(waiting),
        failure,
        failed: failed_streams(failed),
    }
}

fn orphans(status: OrphanStatus) -> OrphansReport {
    let OrphanStatus {
        found,
        is_cut,
        waiting,
        deleted,
        kept_versions,
        // With the others, by name.
        failure: _,
        failed,
    } = status;
    OrphansReport {
        objects: found.map(|it| it.objects),
        bytes: found.map(|it| it.bytes),
        is_cut,
        waiting: by_reason(waiting),
        deleted_objects: deleted.objects,
        deleted_bytes: deleted.bytes,
        kept_versions,
        failed: failed_streams(failed),
    }
}

fn by_reason(waiting: BTreeMap<&'static str, Waiting>) -> BTreeMap<String, WaitingObjects> {
    let waiting = waiting.into_iter().map(|(reason, waiting)| {
        let Waiting { objects, bytes } = waiting;
        (reason.to_owned(), WaitingObjects { objects, bytes })
    });
    waiting.collect()
}

fn would_block_kind(kind: aof2_core::WouldBlockKind) -> WouldBlockKind {
    match kind {
        aof2_core::WouldBlockKind::Admission => WouldBlockKind::Admission,
        aof2_core::WouldBlockKind::Rollover => WouldBlockKind::Rollover,
        aof2_core::WouldBlockKind::Hydration => WouldBlockKind::Hydration,
        aof2_core::WouldBlockKind::Flush => WouldBlockKind::Flush,
        aof2_core::WouldBlockKind::Tail => WouldBlockKind::Tail,
    }
}

/// `Err` says what failed.
pub async fn pre_restart(node: &Node) -> Result<PreRestart, String> {
    let mut report = PreRestart {
        node: node.config.settings().node_name,
        version: node.version.to_string(),
        process_start: node.process_start.to_string(),
        ready: probes::not_ready(node).await.is_none(),
        ..PreRestart::default()
    };
    if let Some(plane) = node.plane() {
        let asked = plane.clone();
        let metrics = node.reading(move || asked.store.metrics()).await?;
        report.flush_failures = metrics.flush_failures;
        report.streams = metrics.streams;
        report.unsealed_bytes = metrics.unsealed_bytes;
        report.pending_uploads = metrics.pending_upload_segments;
        let tier2 = node.reading(move || plane.tier2_status()).await?;
        report.tier2_reachable = tier2.map(|tier2| tier2.health.reachable);
    }
    Ok(report)
}

/// `Err` says what failed.
pub async fn post_restart(node: &Node) -> Result<PostRestart, String> {
    let ready = probes::not_ready(node).await.is_none();
    let mut report = PostRestart {
        node: node.config.settings().node_name,
        version: node.version.to_string(),
        process_start: node.process_start.to_string(),
        ready,
        min_reader_version: MIN_READER_VERSION.to_string(),
        ..PostRestart::default()
    };
    match &*node.phase() {
        Phase::Recovering(progress) => {
            report.replay_progress = progress.fraction();
            report.replayed_bytes = progress.done_bytes();
        }
        Phase::Refused(_) | Phase::Closed => {}
        Phase::Serving(plane) => {
            let store = plane.store.clone();
            let (metrics, streams) = node
                .reading(move || (store.metrics(), store.streams()))
                .await?;
            report.replay_progress = 1.0;
            report.replayed_bytes = metrics.replay.journal_bytes + metrics.replay.segment_bytes;
            report.manifest_replay_version = metrics.manifest_replay_version;
            report.flush_failures = metrics.flush_failures;
            let damaged = streams.into_iter().filter(|stream| stream.damage.is_some());
            report.damaged_streams = damaged
                .map(|stream| stream.name.to_string())
                .take(MAX_DAMAGED_STREAMS)
                .collect();
            report.caught_up = ready && report.damaged_streams.is_empty();
        }
    }
    Ok(report)
}

pub fn streams(store: &Store) -> Vec<StreamReport> {
    store.streams().into_iter().map(stream).collect()
}

fn stream(info: StreamInfo) -> StreamReport {
    let StreamInfo {
        name,
        epoch,
        first_sequence,
        next_sequence,
        durable_sequence,
        sealed_sequence,
        uploaded_sequence,
        segments,
        bytes,
        damage,
        damaged_ranges,
        claim,
    } = info;
    StreamReport {
        name: name.to_string(),
        epoch,
        first_sequence,
        next_sequence,
        durable_sequence,
        sealed_sequence,
        uploaded_sequence,
        segments,
        bytes,
        damage,
        damaged_ranges: damaged_ranges.into_iter().map(damaged_range).collect(),
        claim: match claim {
            aof2_core::ClaimState::Local => ClaimState::Local,
            aof2_core::ClaimState::Claimed => ClaimState::Claimed,
            aof2_core::ClaimState::ClaimPending => ClaimState::ClaimPending,
            aof2_core::ClaimState::Superseded => ClaimState::Superseded,
        },
    }
}

fn damaged_range(range: aof2_core::DamagedRange) -> DamagedRange {
    let aof2_core::DamagedRange {
        segment_id,
        from_sequence,
        to_sequence,
        what,
        remedy,
    } = range;
    DamagedRange {
        segment_id,
        from_sequence,
        to_sequence,
        what,
        remedy,
    }
}

/// Of one stream, or of all.
pub fn segments(plane: &DataPlane, stream: Option<&str>) -> Result<Vec<SegmentReport>, ReadError> {
    let store = &plane.store;
    let names = match stream {
        Some(stream) => vec![stream.to_string()],
        None => store
            .streams()
            .into_iter()
            .map(|stream| stream.name.to_string())
            .collect(),
    };
    let mut reports = Vec::new();
    for name in names {
        for info in store.trimmed_segments(&name)? {
            let kept_by = plane.keeper(&name, info.segment_id);
            reports.push(SegmentReport {
                kept_by,
                ..segment(info)
            });
        }
        reports.extend(store.segments(&name)?.into_iter().map(segment));
    }
    Ok(reports)
}

fn segment(info: SegmentInfo) -> SegmentReport {
    let SegmentInfo {
        stream,
        segment_id,
        base_sequence,
        records,
        bytes,
        state,
        copies,
        key,
        times,
        compressed_bytes,
    } = info;
    let state = match state {
        // A segment that rolled is active to readers until its seal is committed.
        aof2_core::SegmentState::Active | aof2_core::SegmentState::Sealing => SegmentState::Active,
        aof2_core::SegmentState::Sealed => SegmentState::Sealed,
        aof2_core::SegmentState::Warm => SegmentState::Warm,
        aof2_core::SegmentState::Uploaded => SegmentState::Uploaded,
        aof2_core::SegmentState::Trimmed => SegmentState::Trimmed,
        aof2_core::SegmentState::Replaced => SegmentState::Replaced,
    };
    SegmentReport {
        stream: stream.to_string(),
        segment_id,
        base_sequence,
        records,
        bytes,
        state,
        copies: [
            (copies.hot, SegmentCopy::Hot),
            (copies.warm.is_some(), SegmentCopy::Warm),
            (copies.cold.is_some(), SegmentCopy::Cold),
        ]
        .into_iter()
        .filter_map(|(is_there, copy)| is_there.then_some(copy))
        .collect(),
        key,
        compressed_bytes,
        first_at: times.map(|times| time(times.first_unix_nanos)),
        last_at: times.map(|times| time(times.last_unix_nanos)),
        kept_by: None,
    }
}
