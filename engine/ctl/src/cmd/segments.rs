//! `segments list` and `segments delete`.

use aof2_admin_api::report::{SegmentDeleteReport, SegmentReport};
use aof2_admin_api::{SegmentCopy, SegmentDeleteNote};

use crate::cli::{Connection, SegmentsVerb};
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

pub async fn run(connection: &Connection, verb: SegmentsVerb) -> Result<Outcome, Failure> {
    match verb {
        SegmentsVerb::List { stream } => list(connection, &stream).await,
        SegmentsVerb::Delete {
            stream,
            segment,
            tier,
        } => delete(connection, &stream, segment, tier).await,
    }
}

async fn list(connection: &Connection, stream: &str) -> Result<Outcome, Failure> {
    let segments = super::admin(connection)?.segments(Some(stream)).await?;
    if connection.json {
        render::json(&segments)?;
    } else {
        render::line(&table(&segments))?;
    }
    Ok(Outcome::Clean)
}

async fn delete(
    connection: &Connection,
    stream: &str,
    segment: u64,
    tier: u8,
) -> Result<Outcome, Failure> {
    let admin = super::admin(connection)?;
    let report = admin.delete_segment(stream, segment, tier).await?;
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&told(&report))?;
    }
    Ok(Outcome::Clean)
}

fn told(report: &SegmentDeleteReport) -> String {
    let SegmentDeleteReport {
        stream,
        segment_id,
        tier,
        bytes,
        waits_for,
        note,
    } = report;
    let copy = format!("copy of segment {segment_id} of stream {stream} in Tier {tier}");
    match (waits_for, note) {
        (Some(why), _) => format!("{copy} waits: {why}"),
        (None, None) => format!("{copy} deleted, {}", render::bytes(*bytes)),
        (None, Some(SegmentDeleteNote::KeptAsVersion)) => format!(
            "{copy} deleted; the bucket keeps its bytes as an old version until a rule of the bucket removes it"
        ),
        (None, Some(SegmentDeleteNote::Missing)) => {
            format!("{copy} is not there: it was removed before, or never came there")
        }
        (None, Some(SegmentDeleteNote::Unknown(note))) => format!("{copy} is gone: {note}"),
    }
}

fn table(segments: &[SegmentReport]) -> String {
    let columns = [
        Column::Number("SEGMENT"),
        Column::Number("FIRST"),
        Column::Number("LAST"),
        Column::Text("FROM"),
        Column::Text("TO"),
        Column::Number("BYTES"),
        Column::Number("COMPRESSED"),
        Column::Text("STATE"),
        Column::Text("COPIES"),
        Column::Text("KEPT BY"),
    ];
    let unknown = || "-".to_owned();
    let rows = segments.iter().map(|segment| {
        let SegmentReport {
            stream: _,
            segment_id,
            base_sequence,
            records,
            bytes,
            state,
            copies,
            key: _,
            compressed_bytes,
            first_at,
            last_at,
            kept_by,
        } = segment;
        let copies: Vec<&str> = copies.iter().map(SegmentCopy::as_str).collect();
        let last = records.checked_sub(1).map(|more| base_sequence + more);
        vec![
            segment_id.to_string(),
            base_sequence.to_string(),
            last.map_or_else(unknown, |last| last.to_string()),
            first_at.clone().unwrap_or_else(unknown),
            last_at.clone().unwrap_or_else(unknown),
            render::bytes(*bytes),
            compressed_bytes.map_or_else(unknown, render::bytes),
            state.to_string(),
            match copies.is_empty() {
                true => unknown(),
                false => copies.join(","),
            },
            kept_by.clone().unwrap_or_else(unknown),
        ]
    });
    render::table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::SegmentState;

    use super::*;

    #[test]
    fn a_trimmed_segment_is_listed_with_what_keeps_it() {
        let segments = [
            SegmentReport {
                segment_id: 1,
                records: 5,
                bytes: 8192,
                state: SegmentState::Trimmed,
                copies: vec![SegmentCopy::Cold],
                compressed_bytes: Some(1024),
                first_at: Some("2026-11-30T09:00:00.000Z".into()),
                last_at: Some("2026-11-30T09:00:01.000Z".into()),
                kept_by: Some("snapshot 4294967297".into()),
                ..SegmentReport::default()
            },
            SegmentReport {
                segment_id: 2,
                base_sequence: 5,
                bytes: 100,
                copies: vec![SegmentCopy::Hot],
                ..SegmentReport::default()
            },
        ];
        let listed = table(&segments);
        let lines: Vec<Vec<&str>> = listed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0][..4], ["SEGMENT", "FIRST", "LAST", "FROM"]);
        assert_eq!(lines[1][..3], ["1", "0", "4"]);
        assert!(
            listed
                .lines()
                .nth(1)
                .is_some_and(|line| line.ends_with("Trimmed  Cold    snapshot 4294967297")),
            "{listed}"
        );
        assert_eq!(lines[2][..4], ["2", "5", "-", "-"]);
    }

    #[test]
    fn a_deletion_says_what_it_waits_for() {
        let mut report = SegmentDeleteReport {
            stream: "a".into(),
            segment_id: 3,
            tier: 2,
            bytes: 0,
            waits_for: Some("grace until 2026-12-01T09:00:00Z".into()),
            note: None,
        };
        assert_eq!(
            told(&report),
            "copy of segment 3 of stream a in Tier 2 waits: grace until 2026-12-01T09:00:00Z"
        );
        (report.bytes, report.waits_for) = (2048, None);
        assert_eq!(
            told(&report),
            "copy of segment 3 of stream a in Tier 2 deleted, 2.0 KiB"
        );
        report.bytes = 0;
        for (note, said) in [
            (
                SegmentDeleteNote::KeptAsVersion,
                "Tier 2 deleted; the bucket keeps its bytes",
            ),
            (
                SegmentDeleteNote::Missing,
                "Tier 2 is not there: it was removed before",
            ),
        ] {
            report.note = Some(note);
            assert!(told(&report).contains(said), "{}", told(&report));
        }
    }
}
