//! What was found in Tier 1, as the admin API and the tools say it.

use aof2_admin_api::tier1::{
    Tier1Finding, Tier1FindingKind, Tier1Leftover, Tier1LeftoverKind, Tier1Stats, Tier1StreamStats,
    Tier1Verb, Tier1Work,
};
use aof2_core::tier::{LocalKind, LocalStatus};
use aof2_core::tier1::{
    Finding, FindingKind, FoundSegment, Inventory, Leftover, LeftoverKind, Report, StreamStats,
};

pub fn stats(streams: Vec<StreamStats>, inventory: &Inventory) -> Tier1Stats {
    let mut told = Tier1Stats {
        leftovers: inventory.leftovers.iter().map(leftover).collect(),
        ..Tier1Stats::default()
    };
    for found in streams {
        let StreamStats {
            stream,
            files,
            bytes,
            raw_bytes,
            records,
            hot_files,
            cold_files,
            cold_bytes,
            last_files,
            last_bytes,
            blocks,
            block_bytes,
            with_dictionary,
            findings,
        } = found;
        told.findings.extend(findings.iter().map(finding));
        told.streams.push(Tier1StreamStats {
            stream: stream.to_string(),
            files,
            bytes,
            raw_bytes,
            records,
            hot_files,
            cold_files,
            cold_bytes,
            last_files,
            last_bytes,
            blocks,
            block_bytes,
            dictionary_files: with_dictionary,
        });
    }
    let foreign = inventory.foreign.iter();
    let foreign = foreign.map(|(path, bytes)| finding(&Finding::of_foreign(path, *bytes)));
    told.findings.extend(foreign);
    told
}

/// Of a request that an engine or a tool works on.
pub fn work(status: &LocalStatus) -> Tier1Work {
    let LocalStatus {
        id,
        kind,
        report,
        has_ended,
    } = status;
    let Report {
        files,
        bytes,
        done_files,
        done_bytes,
        gone_files,
        replaced_files,
        replaced_bytes,
        new_bytes,
        same_files,
        busy_files,
        findings,
        more_findings,
        leftovers,
        failure,
    } = report;
    let (verb, level) = match kind {
        LocalKind::Verify => (Tier1Verb::Verify, None),
        LocalKind::Recompress { level } => (Tier1Verb::Recompress, Some(*level)),
    };
    Tier1Work {
        id: *id,
        verb,
        level,
        files: *files,
        bytes: *bytes,
        done_files: *done_files,
        done_bytes: *done_bytes,
        gone_files: *gone_files,
        replaced_files: *replaced_files,
        replaced_bytes: *replaced_bytes,
        new_bytes: *new_bytes,
        same_files: *same_files,
        busy_files: *busy_files,
        findings: findings.iter().map(finding).collect(),
        more_findings: *more_findings,
        leftovers: leftovers.iter().map(leftover).collect(),
        failure: failure.clone(),
        has_ended: *has_ended,
    }
}

fn finding(found: &Finding) -> Tier1Finding {
    let Finding {
        kind,
        path,
        segment,
        what,
        remedy,
    } = found;
    let of = |of: fn(&FoundSegment) -> u64| segment.as_ref().map(of);
    Tier1Finding {
        kind: match kind {
            FindingKind::Missing => Tier1FindingKind::Missing,
            FindingKind::Unreadable => Tier1FindingKind::Unreadable,
            FindingKind::Damaged => Tier1FindingKind::Damaged,
            FindingKind::OtherLength => Tier1FindingKind::OtherLength,
            FindingKind::Foreign => Tier1FindingKind::Foreign,
        },
        path: path.display().to_string(),
        stream: segment.as_ref().map(|it| it.stream.to_string()),
        segment_id: of(|it| it.segment_id),
        first_sequence: of(|it| it.sequences.start),
        end_sequence: of(|it| it.sequences.end),
        what: what.clone(),
        remedy: remedy.clone(),
    }
}

fn leftover(found: &Leftover) -> Tier1Leftover {
    let Leftover { kind, path, bytes } = found;
    Tier1Leftover {
        kind: match kind {
            LeftoverKind::Unfinished => Tier1LeftoverKind::Unfinished,
            LeftoverKind::Dropped => Tier1LeftoverKind::Dropped,
            LeftoverKind::Unrecorded => Tier1LeftoverKind::Unrecorded,
        },
        path: path.display().to_string(),
        bytes: *bytes,
    }
}
