//! The JSON of each release, read by this one: during a rollout versions differ, and none may misread another.
//!
//! Files of a released version are never edited. `AOF2_WRITE_GOLDEN=1` writes those that are missing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use aof2_admin_api::report::{
    CompactionReport, CompactionRunReport, ConfigChange, ConfigReport, ConfigVerdict, DamagedRange,
    JournalReport, LastMergeReport, ManifestReport, ReadsReport, Reload, RetentionLimits,
    SegmentReport, ShortenedRetention, StreamVerbReport, Tier0Report, Tier1Report, Tier2Report,
};
use aof2_admin_api::storage::{
    ClassPrice, ClassStorage, Compression, RetentionForecast, RetentionTakes, RuleForecast,
    ShortenedForecast, StorageGrowth, StorageReport, StorageUsage, StreamStorage, TierStorage,
};
use aof2_admin_api::tier1::{
    Tier1Finding, Tier1FindingKind, Tier1Leftover, Tier1LeftoverKind, Tier1Stats, Tier1StreamStats,
    Tier1Verb, Tier1Work,
};
use aof2_admin_api::{
    ClaimState, DrainPhase, DrainReason, DrainStatus, Dump, ErrorBody, ErrorReason, LaggingStream,
    PostRestart, PreRestart, Refusal, RefusalReason, SegmentCopy, SegmentState, StreamReport,
    Tier2Reason, WouldBlockKind,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden/0.1.0")
        .join(format!("{name}.json"))
}

fn golden(name: &str) -> String {
    std::fs::read_to_string(path(name))
        .unwrap_or_else(|error| panic!("{}: {error}", path(name).display()))
}

/// The value is written as the golden text, and the golden text reads as the value.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let written = serde_json::to_string_pretty(value).expect("JSON") + "\n";
    if std::env::var_os("AOF2_WRITE_GOLDEN").is_some() && !path(name).exists() {
        std::fs::write(path(name), &written).expect("a golden file");
    }
    let text = golden(name);
    assert_eq!(written, text, "{name} is written differently now");
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&read, value, "{name} is read differently now");
}

fn drained() -> DrainStatus {
    DrainStatus {
        phase: DrainPhase::Drained,
        token: Some("0192f0aa-0000-7000-8000-00000000000a".to_string()),
        expires_at: Some("2026-11-25T04:00:00Z".to_string()),
        ..DrainStatus::default()
    }
}

fn dump() -> Dump {
    Dump {
        version: "0.1.0".to_string(),
        node: "orders-0".to_string(),
        node_id: "0192f0aa-0000-7000-8000-000000000002".to_string(),
        volume_id: "0192f0aa-0000-7000-8000-000000000003".to_string(),
        cluster_id: "0192f0aa-0000-7000-8000-000000000001".to_string(),
        process_start: "2026-11-25T03:48:06.123456Z".to_string(),
        ready: true,
        refusal: None,
        config: ConfigReport {
            revision: "9f31c2aa".to_string(),
            restart_pending: true,
            error: Some("aof2.toml:4:1: unknown key".to_string()),
            error_revision: Some("77ab10de".to_string()),
            reloads: 3,
        },
        tier0: Tier0Report {
            total_bytes: 1,
            evictable_bytes: Some(24),
            cluster_max_bytes: 2,
            instance_quota_bytes: 3,
            activation_queue_depth: Some(4),
            storage_bytes: 5,
        },
        tier1: Tier1Report {
            total_bytes: 6,
            max_bytes: 7,
            hydration_latency_p99_ms: Some(8.5),
        },
        tier2: Some(Tier2Report {
            reachable: false,
            probed: true,
            reason: Some(Tier2Reason::AccessDenied),
            message: Some("access is denied".to_string()),
            pending_uploads: 9,
            pending_upload_bytes: 10,
            upload_retry_attempts: 11,
            uploaded_segments: 12,
            uploaded_bytes: 13,
            pending_claims: 14,
            objects: Some(28),
            object_bytes: Some(29),
            objects_of_unknown_size: 30,
            deletion: None,
            orphans: None,
        }),
        manifest: ManifestReport {
            replay_version: 1,
            min_reader_version: "0.1.0".to_string(),
            records: 15,
        },
        journal: JournalReport {
            files: 16,
            bytes: 17,
            rounds: 18,
            checkpoints: 19,
        },
        flush_failures: 20,
        reads: Some(ReadsReport {
            tier0_bytes: 25,
            lower_bytes: 26,
            waited_bytes: 27,
        }),
        would_block: BTreeMap::from([(WouldBlockKind::Admission, 21), (WouldBlockKind::Tail, 0)]),
        disk_full_refusals: 23,
        drain: drained(),
        streams: 22,
        damage: BTreeMap::new(),
        retention: None,
        compaction: None,
        operator_epoch: 1_795_400_003,
    }
}

#[test]
fn dump_is_as_released() {
    check("dump", &dump());
}

#[test]
fn compaction_is_as_released() {
    let last = LastMergeReport {
        stream: "orders-0-a".to_string(),
        at: "2026-11-25T04:00:00Z".to_string(),
        inputs: 4,
        failure: Some("volume is full".to_string()),
    };
    let report = CompactionReport {
        enabled: true,
        merges: 1,
        inputs: 5,
        read_bytes: 6,
        written_bytes: 7,
        failures: 8,
        last: Some(last),
        end: Some("no stream has enough".to_string()),
    };
    check("compaction", &report);
    let run = CompactionRunReport {
        id: 3,
        stream: Some("orders-0-a".to_string()),
        has_ended: true,
        inputs: 5,
        outputs: 1,
        read_bytes: 6,
        written_bytes: 7,
        failures: 1,
        failure: Some("volume is full".to_string()),
        end: Some("no stream has enough".to_string()),
    };
    check("compaction-run", &run);
    let replaced = SegmentReport {
        stream: "orders-0-a".to_string(),
        segment_id: 3,
        state: SegmentState::Replaced,
        ..SegmentReport::default()
    };
    check("segment-replaced", &replaced);
}

#[test]
fn a_refusing_engines_dump_is_as_released() {
    let refusal = Refusal {
        reason: RefusalReason::VolumeLost,
        message: "the volume is lost".to_string(),
        streams: vec!["orders-0-a".to_string()],
        cluster_id: Some("0192f0aa-0000-7000-8000-000000000001".to_string()),
    };
    check(
        "dump-refusing",
        &Dump {
            ready: false,
            refusal: Some(refusal),
            tier2: None,
            ..dump()
        },
    );
}

#[test]
fn a_dump_with_damage_is_as_released() {
    let damage = BTreeMap::from([("orders-0-a".to_string(), "checksum".to_string())]);
    check("dump-damaged", &Dump { damage, ..dump() });
}

#[test]
fn drain_is_as_released_in_every_phase() {
    check("drain-drained", &drained());
    check("drain-open", &DrainStatus::default());
    let lagging = LaggingStream {
        stream: "orders-0-a".to_string(),
        acked: 10,
        sealed_uploaded: 7,
    };
    let uploading = DrainStatus {
        phase: DrainPhase::Uploading,
        lagging: vec![lagging],
        lagging_total: 1,
        reason: Some(DrainReason::Tier2Unreachable),
        message: Some("no connection".to_string()),
        ..DrainStatus::default()
    };
    check("drain-uploading", &uploading);
}

#[test]
fn evidence_around_a_restart_is_as_released() {
    let pre = PreRestart {
        node: "orders-0".to_string(),
        version: "0.1.0".to_string(),
        process_start: "2026-11-25T03:48:06Z".to_string(),
        ready: true,
        flush_failures: 1,
        streams: 2,
        unsealed_bytes: 3,
        pending_uploads: 4,
        tier2_reachable: Some(true),
    };
    check("pre-restart", &pre);
    let post = PostRestart {
        node: "orders-0".to_string(),
        version: "0.1.1".to_string(),
        process_start: "2026-11-25T03:49:06Z".to_string(),
        ready: true,
        replay_progress: 1.0,
        replayed_bytes: 1,
        manifest_replay_version: 2,
        min_reader_version: "0.1.0".to_string(),
        flush_failures: 3,
        caught_up: false,
        damaged_streams: vec!["orders-0-b".to_string()],
    };
    check("post-restart", &post);
}

#[test]
fn streams_segments_and_verbs_are_as_released() {
    let stream = StreamReport {
        name: "orders-0-a".to_string(),
        epoch: 1,
        first_sequence: 2,
        next_sequence: 3,
        durable_sequence: 4,
        sealed_sequence: 5,
        uploaded_sequence: 6,
        segments: 7,
        bytes: 8,
        damage: Some("checksum".to_string()),
        damaged_ranges: Vec::new(),
        claim: ClaimState::Claimed,
    };
    let range = DamagedRange {
        segment_id: 9,
        from_sequence: 10,
        to_sequence: 11,
        what: "checksum".to_string(),
        remedy: "put it back".to_string(),
    };
    let damaged = StreamReport {
        damaged_ranges: vec![range],
        ..stream.clone()
    };
    check("streams-damaged", &vec![damaged]);
    check("streams", &vec![stream]);
    let segment = SegmentReport {
        stream: "orders-0-a".to_string(),
        segment_id: 1,
        base_sequence: 2,
        records: 3,
        bytes: 4,
        state: SegmentState::Uploaded,
        copies: Vec::new(),
        key: Some("prod/orders/segments/orders-0-a/1.aofz".to_string()),
        compressed_bytes: None,
        first_at: None,
        last_at: None,
        kept_by: None,
    };
    let copied = SegmentReport {
        copies: vec![SegmentCopy::Hot, SegmentCopy::Warm, SegmentCopy::Cold],
        ..segment.clone()
    };
    check("segments-copies", &vec![copied]);
    check("segments", &vec![segment]);
    check(
        "seal",
        &StreamVerbReport {
            streams: BTreeMap::from([("orders-0-a".to_string(), 5)]),
        },
    );
}

#[test]
fn files_of_tier_1_are_as_released() {
    let finding = Tier1Finding {
        kind: Tier1FindingKind::Missing,
        path: "/var/lib/aof2/warm/warm/orders/x.aofz".to_string(),
        stream: Some("orders".to_string()),
        segment_id: Some(3),
        first_sequence: Some(200),
        end_sequence: Some(300),
        what: "cannot read x: no such file".to_string(),
        remedy: "do this".to_string(),
    };
    let leftover = Tier1Leftover {
        kind: Tier1LeftoverKind::Unfinished,
        path: "/var/lib/aof2/warm/warm/orders/x.aofz.tmp".to_string(),
        bytes: 7,
    };
    let stream = Tier1StreamStats {
        stream: "orders".to_string(),
        files: 12,
        bytes: 1_200,
        raw_bytes: 4_800,
        records: 300,
        hot_files: 1,
        cold_files: 10,
        cold_bytes: 1_000,
        last_files: 1,
        last_bytes: 100,
        blocks: 24,
        block_bytes: BTreeMap::from([(65_536, 12)]),
        dictionary_files: 0,
    };
    check(
        "tier1-stats",
        &Tier1Stats {
            streams: vec![stream],
            findings: vec![finding.clone()],
            leftovers: vec![leftover.clone()],
        },
    );
    let work = Tier1Work {
        id: 1,
        verb: Tier1Verb::Verify,
        files: 12,
        bytes: 1_200,
        has_ended: false,
        ..Tier1Work::default()
    };
    check("tier1-verify-begun", &work);
    check(
        "tier1-recompress-ended",
        &Tier1Work {
            verb: Tier1Verb::Recompress,
            level: Some(19),
            done_files: 12,
            done_bytes: 1_200,
            gone_files: 1,
            replaced_files: 8,
            replaced_bytes: 800,
            new_bytes: 600,
            same_files: 2,
            busy_files: 1,
            findings: vec![finding],
            more_findings: 2,
            leftovers: vec![leftover],
            failure: Some("no room".to_string()),
            has_ended: true,
            ..work
        },
    );
}

#[test]
fn verdicts_and_refusals_are_as_released() {
    let change = ConfigChange {
        key: "tier0.cluster_max_bytes".to_string(),
        from: "1".to_string(),
        to: "2".to_string(),
        reload: Reload::Hot,
    };
    check(
        "config-verdict",
        &ConfigVerdict {
            valid: true,
            errors: Vec::new(),
            changes: vec![change],
            shortened_retention: Some(vec![ShortenedRetention {
                streams: "orders-*".to_string(),
                from: RetentionLimits::default(),
                to: RetentionLimits {
                    max_age: Some("720h".to_string()),
                    max_bytes: Some(1 << 30),
                },
            }]),
        },
    );
    let invalid = ConfigVerdict {
        errors: vec!["aof2.toml:1:1: bad".to_string()],
        ..ConfigVerdict::default()
    };
    check("config-verdict-invalid", &invalid);
    check(
        "error",
        &ErrorBody {
            reason: ErrorReason::StaleOperatorEpoch,
            message: "operator epoch 6 is older".to_string(),
        },
    );
}

fn takes(first: u64) -> RetentionTakes {
    RetentionTakes {
        segments: first,
        records: first + 1,
        bytes: first + 2,
        cold_bytes: first + 3,
    }
}

fn forecast(first: u64) -> RetentionForecast {
    RetentionForecast {
        now: takes(first),
        in_7_days: takes(first + 4),
        in_30_days: takes(first + 8),
    }
}

fn storage_usage() -> StorageUsage {
    let tier = |objects| TierStorage {
        objects,
        bytes: objects + 1,
    };
    StorageUsage {
        streams: 1,
        records: 2,
        readable_bytes: 3,
        hot: tier(4),
        warm: tier(6),
        cold: tier(8),
        classes: vec![ClassStorage {
            class: Some("STANDARD".to_string()),
            objects: 8,
            bytes: 9,
            monthly_cost: Some(1.25),
        }],
        objects_of_unknown_size: 0,
        compression: Some(Compression {
            uncompressed_bytes: 30,
            compressed_bytes: 20,
            ratio: 1.5,
        }),
        growth: Some(StorageGrowth {
            bytes_per_day: 10,
            window_seconds: 604_800,
            streams: 1,
        }),
        oldest_record_at: Some("2026-11-25T04:00:00.000Z".to_string()),
        retention: forecast(11),
        proposed_retention: None,
        monthly_cost: Some(1.25),
    }
}

fn storage_report() -> StorageReport {
    StorageReport {
        node: "orders-0".to_string(),
        at: "2026-12-02T04:00:00.000Z".to_string(),
        total: storage_usage(),
        orphans: None,
        streams: vec![StreamStorage {
            name: "orders-0-a".to_string(),
            start_sequence: 1,
            usage: storage_usage(),
        }],
        rest: None,
        rules: vec![RuleForecast {
            streams: "orders-*".to_string(),
            max_age_seconds: Some(2_592_000),
            max_bytes: None,
            fitting_streams: 1,
            takes: forecast(11),
        }],
        proposed_rules: None,
        shortened: None,
        suspended: None,
        prices: vec![ClassPrice {
            class: "STANDARD".to_string(),
            per_gib_month: 0.023,
        }],
        warnings: Vec::new(),
    }
}

#[test]
fn a_storage_report_is_as_released() {
    let report = storage_report();
    check("storage-report", &report);
    let unknown = StorageUsage {
        classes: vec![ClassStorage {
            objects: 8,
            bytes: 9,
            ..ClassStorage::default()
        }],
        objects_of_unknown_size: 1,
        compression: None,
        growth: None,
        oldest_record_at: None,
        proposed_retention: Some(forecast(23)),
        monthly_cost: None,
        ..storage_usage()
    };
    let proposed = StorageReport {
        total: unknown.clone(),
        streams: Vec::new(),
        rest: Some(unknown),
        rules: Vec::new(),
        proposed_rules: Some(report.rules.clone()),
        shortened: Some(vec![ShortenedForecast {
            change: ShortenedRetention {
                streams: "orders-*".to_string(),
                from: RetentionLimits::default(),
                to: RetentionLimits {
                    max_age: Some("720h".to_string()),
                    max_bytes: None,
                },
            },
            takes: forecast(31),
        }]),
        suspended: Some("the clock is not trusted".to_string()),
        prices: Vec::new(),
        warnings: vec!["a rule fits no stream".to_string()],
        ..report
    };
    check("storage-report-proposed", &proposed);
}

#[test]
fn a_storage_report_of_another_release_reads() {
    let text = golden("storage-report");
    let later = text.replace(
        "\"streams\": 1,",
        "\"streams\": 1, \"glacial\": {\"bytes\": 1},",
    );
    assert_ne!(later, text);
    let read: StorageReport = serde_json::from_str(&later).expect("reads");
    assert_eq!(read, storage_report());
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for part in ["total", "streams"] {
        let usage = match part {
            "total" => &mut json["total"],
            _ => &mut json["streams"][0],
        };
        let fields = usage.as_object_mut().expect("an object");
        for optional in [
            "classes",
            "compression",
            "growth",
            "retention",
            "monthly_cost",
        ] {
            assert!(fields.remove(optional).is_some(), "{part}: {optional}");
        }
    }
    for optional in ["rules", "prices"] {
        let fields = json.as_object_mut().expect("an object");
        assert!(fields.remove(optional).is_some(), "{optional}");
    }
    let read: StorageReport = serde_json::from_value(json).expect("reads");
    assert_eq!(read.total.growth, None);
    assert_eq!(
        read.streams[0].usage.retention,
        RetentionForecast::default()
    );
}

#[test]
fn fields_and_words_of_a_later_release_are_ignored_or_read_as_unknown() {
    let later = golden("dump").replacen('{', "{\n  \"field_of_later\": {\"a\": [1]},", 1);
    assert_eq!(serde_json::from_str::<Dump>(&later).expect("reads"), dump());
    let drain: DrainStatus =
        serde_json::from_str(r#"{"phase": "Compacting", "reason": "MoonIsFull"}"#).expect("reads");
    assert_eq!(
        (drain.phase, drain.reason),
        (DrainPhase::Unknown, Some(DrainReason::from("MoonIsFull")))
    );
    let error: ErrorBody =
        serde_json::from_str(r#"{"reason": "OutOfCoffee", "message": "m"}"#).expect("reads");
    assert_eq!(error.reason, ErrorReason::Unknown("OutOfCoffee".into()));
    let reload: Reload = serde_json::from_str("\"Reboot\"").expect("reads");
    assert_eq!(reload, Reload::Unknown);
}

#[test]
fn a_dump_without_the_optional_fields_reads() {
    let mut json: serde_json::Value = serde_json::from_str(&golden("dump")).expect("JSON");
    let fields = json.as_object_mut().expect("an object");
    for optional in [
        "node_id",
        "volume_id",
        "cluster_id",
        "tier1",
        "tier2",
        "journal",
        "operator_epoch",
    ] {
        assert!(
            fields.remove(optional).is_some(),
            "{optional} is in the golden file"
        );
    }
    let read: Dump = serde_json::from_value(json).expect("reads");
    assert_eq!(
        (read.tier2, read.operator_epoch, read.node_id.as_str()),
        (None, 0, "")
    );
}
