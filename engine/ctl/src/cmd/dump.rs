//! `dump`: the engine in one page.

use std::collections::BTreeMap;

use aof2_admin_api::report::{
    CompactionReport, DeletionReport, FailedStreamsReport, LastMergeReport, OrphansReport,
    RetentionReport, RetentionRuleReport, Tier2Report, WaitingObjects,
};
use aof2_admin_api::{Dump, Refusal};

use crate::cli::Connection;
use crate::exit::{Failure, Outcome};
use crate::render;

pub async fn run(connection: &Connection) -> Result<Outcome, Failure> {
    let dump = super::admin(connection)?.dump().await?;
    if connection.json {
        render::json(&dump)?;
    } else {
        render::line(&render::pairs(rows(&dump)))?;
    }
    Ok(Outcome::Clean)
}

fn rows(dump: &Dump) -> Vec<(&'static str, String)> {
    let Dump {
        version,
        node,
        node_id,
        volume_id,
        cluster_id,
        process_start,
        ready,
        refusal,
        config,
        tier0,
        tier1,
        tier2,
        manifest,
        journal,
        flush_failures,
        reads,
        would_block,
        disk_full_refusals,
        drain,
        streams,
        damage,
        retention,
        compaction,
        operator_epoch,
    } = dump;
    let mut rows = vec![
        (
            "node",
            format!(
                "{node}, aof2-engine {version}, up since {}",
                render::moment(process_start, jiff::Timestamp::now())
            ),
        ),
        ("ready", ready_line(*ready, refusal.as_ref())),
        ("streams", streams.to_string()),
    ];
    let damaged = damage.iter();
    rows.extend(damaged.map(|(stream, what)| ("DAMAGED", format!("{stream}: {what}"))));
    rows.extend([
        (
            "tier 0",
            render::share(tier0.total_bytes, tier0.instance_quota_bytes),
        ),
        (
            "",
            format!(
                "cluster limit {}, volume {}",
                limit(tier0.cluster_max_bytes),
                limit(tier0.storage_bytes)
            ),
        ),
    ]);
    let evictable = tier0.evictable_bytes.map(render::bytes);
    rows.extend(evictable.map(|bytes| ("", format!("{bytes} can be evicted"))));
    let queued = tier0.activation_queue_depth;
    rows.extend(queued.map(|queued| ("", format!("{queued} hydrations queued"))));
    rows.push(("tier 1", render::share(tier1.total_bytes, tier1.max_bytes)));
    let latency = tier1.hydration_latency_p99_ms;
    rows.extend(latency.map(|p99| ("", format!("hydration p99 {p99:.1} ms"))));
    match tier2 {
        // An engine without a data plane reports none of its tiers.
        None if !*ready => rows.push(("tier 2", "unknown, the engine does not serve".into())),
        None => rows.push(("tier 2", "not configured".into())),
        Some(tier2) => rows.extend(tier2_rows(tier2)),
    }
    let read = reads.as_ref().map(|reads| {
        format!(
            "{} from tier 0, {} from lower tiers, {} after a wait for tier 2; since start",
            render::bytes(reads.tier0_bytes),
            render::bytes(reads.lower_bytes),
            render::bytes(reads.waited_bytes)
        )
    });
    rows.extend(read.map(|read| ("read", read)));
    rows.extend(retention.iter().flat_map(retention_rows));
    rows.extend(compaction.iter().flat_map(compaction_rows));
    let refused: Vec<String> = would_block
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(kind, count)| format!("{kind} {count}"))
        .chain((*disk_full_refusals > 0).then(|| format!("DiskFull {disk_full_refusals}")))
        .collect();
    let drain_line = match (&drain.reason, &drain.message) {
        (Some(reason), Some(message)) => format!("{:?} ({reason:?}: {message})", drain.phase),
        (Some(reason), None) => format!("{:?} ({reason:?})", drain.phase),
        (None, Some(message)) => format!("{:?} ({message})", drain.phase),
        (None, None) => format!("{:?}", drain.phase),
    };
    let revision = if config.revision.is_empty() {
        "none"
    } else {
        &config.revision
    };
    let restart = if config.restart_pending {
        ", restart pending"
    } else {
        ""
    };
    rows.extend([
        ("flush failures", format!("{flush_failures} since start")),
        (
            "refused appends",
            if refused.is_empty() {
                "none".into()
            } else {
                format!("{} since start", refused.join(", "))
            },
        ),
        ("drain", drain_line),
        (
            "journal",
            format!(
                "{} files; since start {} written, {} rounds, {} checkpoints",
                journal.files,
                render::bytes(journal.bytes),
                journal.rounds,
                journal.checkpoints
            ),
        ),
        (
            "manifest",
            format!(
                "{} records since start, replay version {}, readable by version {} and later",
                manifest.records, manifest.replay_version, manifest.min_reader_version
            ),
        ),
        (
            "config",
            format!(
                "revision {revision}, {} reloads since start{restart}",
                config.reloads
            ),
        ),
    ]);
    if let Some(error) = &config.error {
        rows.push(("config REJECTED", error.clone()));
    }
    rows.extend([
        ("cluster id", known(cluster_id)),
        ("node id", known(node_id)),
        ("volume id", known(volume_id)),
        ("operator epoch", operator_epoch.to_string()),
    ]);
    rows
}

fn retention_rows(report: &RetentionReport) -> Vec<(&'static str, String)> {
    let RetentionReport {
        suspended,
        rules,
        failed,
    } = report;
    let mut rows = vec![];
    for (index, rule) in rules.iter().enumerate() {
        let RetentionRuleReport {
            streams,
            max_age_seconds,
            max_bytes,
            fitting_streams,
        } = rule;
        let age = max_age_seconds.map(|seconds| {
            let age = std::time::Duration::from_secs(seconds);
            format!("at most {}", aof2_node::config::format_duration(age))
        });
        let bytes = max_bytes.map(|bytes| format!("at most {}", render::bytes(bytes)));
        let limits: Vec<String> = age.into_iter().chain(bytes).collect();
        let limits = match limits.is_empty() {
            true => "everything".to_owned(),
            false => limits.join(" and "),
        };
        let fitting =
            fitting_streams.map_or_else(String::new, |count| format!(", {count} streams"));
        let name = if index == 0 { "retention" } else { "" };
        rows.push((name, format!("{streams} keeps {limits}{fitting}")));
    }
    rows.extend(suspended.iter().map(|why| ("SUSPENDED", why.clone())));
    rows.extend(failed_rows("NOT TRIMMED", failed));
    rows
}

/// One line for each stream that is named.
fn failed_rows(
    what: &'static str,
    failed: &FailedStreamsReport,
) -> impl Iterator<Item = (&'static str, String)> {
    let FailedStreamsReport { streams, named } = failed;
    let more = streams.saturating_sub(named.len() as u64);
    let named = named
        .iter()
        .map(|(stream, why)| format!("stream {stream}: {why}"));
    let more = (more > 0).then(|| format!("more streams: {more}"));
    named.chain(more).map(move |line| (what, line))
}

fn ready_line(ready: bool, refusal: Option<&Refusal>) -> String {
    match refusal {
        None => render::yes_no(ready),
        Some(Refusal {
            reason,
            message,
            streams,
            cluster_id,
        }) => {
            let mut line = format!("NO, {reason}: {message}");
            if !streams.is_empty() {
                line += &format!(" [streams: {}]", streams.join(", "));
            }
            if let Some(cluster_id) = cluster_id {
                line += &format!(" [cluster {cluster_id}]");
            }
            line
        }
    }
}

fn tier2_rows(tier2: &Tier2Report) -> Vec<(&'static str, String)> {
    let Tier2Report {
        reachable,
        probed,
        reason,
        message,
        pending_uploads,
        pending_upload_bytes,
        upload_retry_attempts,
        uploaded_segments,
        uploaded_bytes,
        pending_claims,
        objects,
        object_bytes,
        objects_of_unknown_size,
        deletion,
        orphans,
    } = tier2;
    let probe = if *probed {
        ""
    } else {
        ", conditional writes not verified yet"
    };
    let why = match (reason, message) {
        (Some(reason), Some(message)) => format!(", {reason}: {message}"),
        (Some(reason), None) => format!(", {reason}"),
        (None, Some(message)) => format!(", {message}"),
        (None, None) => String::new(),
    };
    let state = match reason {
        // It answers, and the answer is no.
        Some(reason) if reason.is_refusal() => format!("REFUSES{why}"),
        _ if !reachable => format!("NOT REACHABLE{why}"),
        _ if why.is_empty() => format!("reachable{probe}"),
        // One object, or what lies before it on this node.
        _ => format!("reachable{probe}, but not everything succeeds{why}"),
    };
    let held = objects.zip(*object_bytes).map(|(objects, bytes)| {
        let unsized_objects = match objects_of_unknown_size {
            0 => String::new(),
            count => format!(", {count} of unknown size among them"),
        };
        let bytes = render::bytes(bytes);
        ("", format!("{objects} objects, {bytes}{unsized_objects}"))
    });
    let mut rows = vec![("tier 2", state)];
    rows.extend(held);
    rows.extend([
        (
            "",
            format!(
                "{uploaded_segments} segments uploaded since start, {}",
                render::bytes(*uploaded_bytes)
            ),
        ),
        (
            "",
            format!(
                "{pending_uploads} uploads pending, {}; {pending_claims} claims pending; {upload_retry_attempts} retries since start",
                render::bytes(*pending_upload_bytes)
            ),
        ),
    ]);
    rows.extend(deletion.iter().flat_map(deletion_rows));
    rows.extend(orphans.iter().flat_map(orphan_rows));
    rows
}

fn orphan_rows(orphans: &OrphansReport) -> Vec<(&'static str, String)> {
    let OrphansReport {
        objects,
        bytes,
        is_cut,
        waiting,
        deleted_objects,
        deleted_bytes,
        kept_versions,
        failed,
    } = orphans;
    let mut rows = vec![];
    if let Some((objects @ 1.., bytes)) = objects.zip(*bytes) {
        let least = if *is_cut { "at least " } else { "" };
        let bytes = render::bytes(bytes);
        rows.push((
            "ORPHANS",
            format!("{least}{objects} objects, {bytes}, that no manifest and no catalogue names; tier2.orphans = \"Delete\" deletes them"),
        ));
    }
    if !waiting.is_empty() {
        let waiting = by_reason(waiting);
        rows.push((
            "",
            format!("unknown objects that are no orphans, or not yet: {waiting}"),
        ));
    }
    if *deleted_objects > 0 {
        let bytes = render::bytes(*deleted_bytes);
        rows.push((
            "",
            format!("{deleted_objects} orphans deleted since start, {bytes}"),
        ));
    }
    if *kept_versions > 0 {
        let told = "orphans deleted since start whose bytes the bucket keeps as old versions";
        rows.push(("", format!("{kept_versions} {told}")));
    }
    rows.extend(failed_rows("NO SEARCH", failed));
    rows
}

fn by_reason(waiting: &BTreeMap<String, WaitingObjects>) -> String {
    let waiting = waiting.iter().map(|(reason, waiting)| {
        let bytes = render::bytes(waiting.bytes);
        format!("{} for {reason} ({bytes})", waiting.objects)
    });
    waiting.collect::<Vec<_>>().join(", ")
}

fn compaction_rows(compaction: &CompactionReport) -> Vec<(&'static str, String)> {
    let CompactionReport {
        enabled,
        merges,
        inputs,
        read_bytes: _,
        written_bytes,
        failures,
        last,
        end,
    } = compaction;
    let state = if *enabled { "on" } else { "off" };
    let mut rows = vec![(
        "compaction",
        format!(
            "{state}; {inputs} segments merged to {merges} since start, {} written, {failures} failures",
            render::bytes(*written_bytes)
        ),
    )];
    rows.extend(last.iter().map(|last| {
        let LastMergeReport {
            stream,
            at,
            inputs,
            failure,
        } = last;
        let at = render::moment(at, jiff::Timestamp::now());
        let line = match failure {
            None => format!("last merge {at}: {inputs} segments of stream {stream}"),
            Some(why) => {
                format!("last merge {at}: {inputs} segments of stream {stream} failed: {why}")
            }
        };
        ("", line)
    }));
    rows.extend(end.iter().map(|end| ("", end.clone())));
    rows
}

fn deletion_rows(deletion: &DeletionReport) -> Vec<(&'static str, String)> {
    let DeletionReport {
        deleted_objects,
        deleted_bytes,
        kept_versions,
        missing_objects,
        deleted_snapshots,
        waiting,
        failure,
        failed,
    } = deletion;
    let mut rows = vec![];
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            rows.push(("", format!("{count} objects {what}")));
        }
    };
    let bytes = render::bytes(*deleted_bytes);
    note(*deleted_objects, &format!("deleted since start, {bytes}"));
    note(
        *kept_versions,
        "deleted since start whose bytes the bucket keeps as old versions",
    );
    note(
        *missing_objects,
        "not there when they were to be deleted, since start",
    );
    if *deleted_snapshots > 0 {
        let told = format!("{deleted_snapshots} snapshots deleted since start");
        rows.push(("", told));
    }
    if !waiting.is_empty() {
        let waiting = by_reason(waiting);
        rows.push(("", format!("trimmed objects that wait: {waiting}")));
    }
    if failed.is_empty() {
        // An engine that names one stream.
        rows.extend(failure.iter().map(|why| ("NOT DELETED", why.clone())));
    }
    rows.extend(failed_rows("NOT DELETED", failed));
    rows
}

fn limit(bytes: u64) -> String {
    if bytes == 0 {
        "not configured".into()
    } else {
        render::bytes(bytes)
    }
}

fn known(id: &str) -> String {
    if id.is_empty() {
        "unknown".into()
    } else {
        id.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::report::WaitingObjects;
    use aof2_admin_api::{RefusalReason, Tier2Reason, WouldBlockKind};

    use super::*;

    #[test]
    fn a_page_says_first_what_is_wrong() {
        let dump = Dump {
            node: "orders-0".into(),
            version: "0.1.0".into(),
            refusal: Some(Refusal {
                reason: RefusalReason::VolumeLost,
                message: "the volume is empty".into(),
                streams: vec!["a".into(), "b".into()],
                cluster_id: None,
            }),
            tier2: Some(Tier2Report {
                reason: Some(Tier2Reason::AccessDenied),
                message: Some("bucket orders".into()),
                ..Tier2Report::default()
            }),
            damage: [("orders".to_owned(), "segment 3".to_owned())].into(),
            would_block: [(WouldBlockKind::Admission, 3), (WouldBlockKind::Tail, 0)].into(),
            ..Dump::default()
        };
        let page = render::pairs(rows(&dump));
        assert!(
            page.contains("NO, VolumeLost: the volume is empty [streams: a, b]"),
            "{page}"
        );
        assert!(
            page.contains("REFUSES, AccessDenied: bucket orders"),
            "{page}"
        );
        assert!(
            page.contains("Admission 3 since start\n"),
            "kinds that never refused are left out: {page}"
        );
        assert!(page.contains("orders: segment 3\n"), "{page}");
    }

    #[test]
    fn tier_2_that_refuses_is_told_from_one_that_does_not_answer_and_from_one_that_is_well() {
        let line = |reachable, reason: Option<Tier2Reason>, message: Option<&str>| {
            let report = Tier2Report {
                reachable,
                probed: true,
                reason,
                message: message.map(str::to_owned),
                ..Tier2Report::default()
            };
            tier2_rows(&report).swap_remove(0).1
        };
        let full = "the bucket is full; raise the quota";
        assert_eq!(
            line(false, Some(Tier2Reason::QuotaExceeded), Some(full)),
            format!("REFUSES, QuotaExceeded: {full}")
        );
        assert_eq!(
            line(false, Some(Tier2Reason::Tier2Unreachable), Some("timeout")),
            "NOT REACHABLE, Tier2Unreachable: timeout"
        );
        assert_eq!(line(false, None, None), "NOT REACHABLE");
        assert_eq!(line(true, None, None), "reachable");
        assert_eq!(
            line(true, None, Some("claim archived")),
            "reachable, but not everything succeeds, claim archived"
        );
        for reason in Tier2Reason::KNOWN {
            let is_told = line(false, Some(reason.clone()), Some("why")).contains(reason.as_str());
            assert!(is_told, "{reason}");
        }
    }

    #[test]
    fn what_is_kept_is_told_and_why_nothing_goes() {
        let rule = |streams: &str| RetentionRuleReport {
            streams: streams.into(),
            ..RetentionRuleReport::default()
        };
        let dump = Dump {
            retention: Some(RetentionReport {
                suspended: Some("clock is 9 h 0 min ahead".into()),
                failed: FailedStreamsReport {
                    streams: 1,
                    named: [("a".to_owned(), "no room".to_owned())].into(),
                },
                rules: vec![
                    rule("audit-*"),
                    RetentionRuleReport {
                        max_age_seconds: Some(720 * 3600),
                        max_bytes: Some(1 << 30),
                        fitting_streams: Some(4),
                        ..rule("*")
                    },
                ],
            }),
            ..Dump::default()
        };
        let page = render::pairs(rows(&dump));
        assert!(page.contains("audit-* keeps everything\n"), "{page}");
        assert!(
            page.contains("* keeps at most 720h and at most 1.0 GiB, 4 streams\n"),
            "{page}"
        );
        assert!(page.contains("clock is 9 h 0 min ahead\n"), "{page}");
        assert!(page.contains("NOT TRIMMED"), "{page}");
        assert!(page.contains("stream a: no room\n"), "{page}");
    }

    #[test]
    fn objects_that_wait_are_told_with_what_keeps_them() {
        let waiting = |objects, bytes| WaitingObjects { objects, bytes };
        let dump = Dump {
            tier2: Some(Tier2Report {
                deletion: Some(DeletionReport {
                    deleted_objects: 3,
                    deleted_bytes: 1 << 20,
                    waiting: [
                        ("Grace".to_owned(), waiting(2, 1 << 20)),
                        ("Snapshot".to_owned(), waiting(1, 2048)),
                    ]
                    .into(),
                    kept_versions: 4,
                    missing_objects: 5,
                    deleted_snapshots: 6,
                    failure: Some("stream a: access is denied".into()),
                    failed: FailedStreamsReport {
                        streams: 3,
                        named: [
                            ("a".to_owned(), "access is denied".to_owned()),
                            ("b".to_owned(), "no room".to_owned()),
                        ]
                        .into(),
                    },
                }),
                orphans: Some(OrphansReport {
                    objects: Some(6),
                    bytes: Some(1 << 20),
                    is_cut: true,
                    waiting: [("Age".to_owned(), waiting(7, 2048))].into(),
                    deleted_objects: 8,
                    deleted_bytes: 1024,
                    kept_versions: 9,
                    failed: FailedStreamsReport {
                        streams: 1,
                        named: [("c".to_owned(), "cut short".to_owned())].into(),
                    },
                }),
                ..Tier2Report::default()
            }),
            ..Dump::default()
        };
        let page = render::pairs(rows(&dump));
        for told in [
            "at least 6 objects, 1.0 MiB, that no manifest and no catalogue names; tier2.orphans = \"Delete\" deletes them\n",
            "unknown objects that are no orphans, or not yet: 7 for Age (2.0 KiB)\n",
            "8 orphans deleted since start, 1.0 KiB\n",
            "9 orphans deleted since start whose bytes the bucket keeps as old versions\n",
            "stream c: cut short\n",
            "3 objects deleted since start, 1.0 MiB\n",
            "trimmed objects that wait: 2 for Grace (1.0 MiB), 1 for Snapshot (2.0 KiB)\n",
            "4 objects deleted since start whose bytes the bucket keeps as old versions\n",
            "5 objects not there when they were to be deleted, since start\n",
            "6 snapshots deleted since start\n",
            "NOT DELETED",
            "stream a: access is denied\n",
            "stream b: no room\n",
            "more streams: 1\n",
        ] {
            assert!(page.contains(told), "{told}: {page}");
        }
    }

    #[test]
    fn tier_2_of_an_engine_that_does_not_serve_is_unknown() {
        let tier2 = |ready| {
            let dump = Dump {
                ready,
                ..Dump::default()
            };
            let found = rows(&dump).into_iter().find(|(name, _)| *name == "tier 2");
            found.expect("a row").1
        };
        assert_eq!(tier2(true), "not configured");
        assert_eq!(tier2(false), "unknown, the engine does not serve");
    }
}
