//! `snapshot take`, `list`, `show`, `verify` and `delete`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use aof2_admin_api::client::{Client, ClientError};
use aof2_admin_api::{
    ErrorReason, SegmentDeleteNote, SnapshotDeleteReport, SnapshotLevel, SnapshotPhase,
    SnapshotReport, SnapshotSeal, SnapshotVerdict, VerifyProgress,
};

use crate::cli::{Connection, SnapshotVerb, TakeArguments, VerifyLevel};
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(connection: &Connection, verb: SnapshotVerb) -> Result<Outcome, Failure> {
    match verb {
        SnapshotVerb::Take(arguments) => take(connection, arguments).await,
        SnapshotVerb::List { stream } => {
            let reports = super::admin(connection)?
                .snapshots(stream.as_deref(), None)
                .await?;
            print_all(connection, &reports)?;
            Ok(Outcome::Clean)
        }
        SnapshotVerb::Show { stream, id } => {
            let report = super::admin(connection)?
                .snapshot_status(&stream, &id)
                .await?;
            if connection.json {
                render::json(&report)?;
            } else {
                render::line(&page(&report))?;
            }
            Ok(Outcome::Clean)
        }
        SnapshotVerb::Delete { stream, id } => delete(connection, &stream, &id).await,
        SnapshotVerb::Verify {
            stream,
            id,
            level,
            deadline,
        } => {
            let level = match level {
                VerifyLevel::L0 => SnapshotLevel::L0,
                VerifyLevel::L1 => SnapshotLevel::L1,
                VerifyLevel::L2 => SnapshotLevel::L2,
            };
            let client = super::admin(connection)?;
            let verdict = verify(&client, &stream, &id, level, deadline).await?;
            if connection.json {
                render::json(&verdict)?;
            } else {
                render::line(&verdict_page(&verdict))?;
            }
            Ok(if verdict.verified {
                Outcome::Clean
            } else {
                Outcome::Negative
            })
        }
    }
}

async fn delete(connection: &Connection, stream: &str, id: &str) -> Result<Outcome, Failure> {
    let report = super::admin(connection)?
        .delete_snapshot(stream, id)
        .await?;
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&told_of_deletion(&report))?;
    }
    Ok(Outcome::Clean)
}

fn told_of_deletion(report: &SnapshotDeleteReport) -> String {
    let SnapshotDeleteReport {
        stream,
        snapshot_id,
        bytes,
        waits_for,
        note,
    } = report;
    let snapshot = format!("snapshot {snapshot_id} of stream {stream}");
    match (waits_for, note) {
        (Some(why), _) => {
            format!("{snapshot} is deleted; the engine retries to delete its catalogue: {why}")
        }
        (None, None) => format!(
            "{snapshot} deleted, its catalogue of {}",
            render::bytes(*bytes)
        ),
        (None, Some(SegmentDeleteNote::KeptAsVersion)) => format!(
            "{snapshot} deleted; the bucket keeps its catalogue as an old version until a rule of the bucket removes it"
        ),
        (None, Some(SegmentDeleteNote::Missing)) => {
            format!("{snapshot} has no catalogue in the bucket: it was deleted before")
        }
        (None, Some(SegmentDeleteNote::Unknown(note))) => format!("{snapshot} is gone: {note}"),
    }
}

async fn take(connection: &Connection, arguments: TakeArguments) -> Result<Outcome, Failure> {
    let TakeArguments {
        streams,
        all,
        request,
        sealed_only,
        no_wait,
        deadline,
    } = arguments;
    let client = super::admin(connection)?;
    let streams = if all {
        let streams = client.streams().await?;
        streams.into_iter().map(|stream| stream.name).collect()
    } else {
        streams
    };
    let seal = if sealed_only {
        SnapshotSeal::Never
    } else {
        SnapshotSeal::IfDirty
    };
    let mut reports = Vec::with_capacity(streams.len());
    let request = request.unwrap_or_default();
    for stream in &streams {
        reports.push(client.snapshot(stream, &request, seal).await?);
    }
    let until = Instant::now() + deadline;
    while !no_wait && reports.iter().any(|it| !is_over(it)) && Instant::now() < until {
        show_progress(&reports);
        tokio::time::sleep(POLL_INTERVAL).await;
        for report in reports.iter_mut().filter(|report| !is_over(report)) {
            *report = follow(&client, report, seal).await?;
        }
    }
    end_progress();
    print_all(connection, &reports)?;
    let is_good = |report: &SnapshotReport| report.phase == SnapshotPhase::Done;
    Ok(if no_wait || reports.iter().all(is_good) {
        Outcome::Clean
    } else {
        Outcome::Negative
    })
}

/// What takes long is asked for again until there is a verdict.
async fn verify(
    client: &Client,
    stream: &str,
    id: &str,
    level: SnapshotLevel,
    deadline: Duration,
) -> Result<SnapshotVerdict, Failure> {
    let until = Instant::now() + deadline;
    let mut request: Option<String> = None;
    loop {
        let asked = client.verify_snapshot(stream, id, level, None, request.as_deref());
        let verdict = asked.await?;
        let Some(running) = &verdict.running else {
            end_progress();
            return Ok(verdict);
        };
        if Instant::now() >= until {
            end_progress();
            return Ok(verdict);
        }
        show(&how_far(&verdict, running));
        request = Some(running.request.clone());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn how_far(verdict: &SnapshotVerdict, running: &VerifyProgress) -> String {
    match &running.waits_for {
        Some(other) => format!("waits for {other}"),
        None => format!(
            "{} of {} read",
            render::bytes(verdict.bytes_read),
            render::bytes(running.total_bytes)
        ),
    }
}

/// An engine that was started again meanwhile does not know a session that was not over: its request is repeated.
async fn follow(
    client: &Client,
    report: &SnapshotReport,
    seal: SnapshotSeal,
) -> Result<SnapshotReport, Failure> {
    match client
        .snapshot_status(&report.stream, &report.snapshot_id)
        .await
    {
        Err(ClientError::Refused { body, .. }) if body.reason == ErrorReason::NotFound => {
            let again = client.snapshot(&report.stream, &report.request, seal);
            Ok(again.await?)
        }
        answer => Ok(answer?),
    }
}

fn is_over(report: &SnapshotReport) -> bool {
    match report.phase {
        SnapshotPhase::Done | SnapshotPhase::Failed | SnapshotPhase::Unknown => true,
        SnapshotPhase::Pending | SnapshotPhase::Uploading | SnapshotPhase::Publishing => false,
    }
}

/// One line that rewrites itself, for a person who waits.
fn show_progress(reports: &[SnapshotReport]) {
    let count = |phase| reports.iter().filter(|it| it.phase == phase).count();
    let why = reports
        .iter()
        .filter(|report| !is_over(report))
        .find_map(|report| report.reason.as_ref());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    show(&format!(
        "{} of {} done; {} pending, {} uploading, {} publishing, {} failed{why}",
        count(SnapshotPhase::Done),
        reports.len(),
        count(SnapshotPhase::Pending),
        count(SnapshotPhase::Uploading),
        count(SnapshotPhase::Publishing),
        count(SnapshotPhase::Failed),
    ));
}

fn show(line: &str) {
    if std::io::stderr().is_terminal() {
        // Nobody reads standard error: the result is on standard output.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }
}

fn end_progress() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn print_all(connection: &Connection, reports: &[SnapshotReport]) -> Result<(), Failure> {
    if connection.json {
        render::json(&reports)
    } else {
        render::line(&list(reports, jiff::Timestamp::now()))
    }
}

/// What did not go well comes first.
fn list(reports: &[SnapshotReport], now: jiff::Timestamp) -> String {
    if reports.is_empty() {
        return "no snapshots".to_owned();
    }
    let columns = [
        Column::Text("STREAM"),
        Column::Number("SNAPSHOT"),
        Column::Text("PHASE"),
        Column::Number("RECORDS"),
        Column::Number("CHUNK"),
        Column::Number("OFFSET"),
        Column::Text("AGE"),
        Column::Text("REASON"),
    ];
    let mut ordered: Vec<&SnapshotReport> = reports.iter().collect();
    ordered.sort_by_key(|report| report.phase == SnapshotPhase::Done);
    let rows = ordered.into_iter().map(|report| {
        vec![
            report.stream.clone(),
            report.snapshot_id.clone(),
            format!("{:?}", report.phase),
            report.uploaded_sequence.to_string(),
            report.chunk_index.to_string(),
            report.chunk_offset.to_string(),
            render::age(
                report.completed_at.as_ref().unwrap_or(&report.heartbeat),
                now,
            ),
            report
                .reason
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ]
    });
    let table = render::table(&columns, rows);
    let messages: Vec<String> = reports
        .iter()
        .filter(|report| report.phase != SnapshotPhase::Done)
        .filter_map(|report| Some(format!("{}: {}", report.stream, report.message.as_ref()?)))
        .collect();
    match messages.is_empty() {
        true => table,
        false => format!("{table}\n\n{}", messages.join("\n")),
    }
}

fn page(report: &SnapshotReport) -> String {
    let SnapshotReport {
        stream,
        snapshot_id,
        request,
        phase,
        started_at,
        heartbeat,
        completed_at,
        chunk_index,
        chunk_offset,
        durable_sequence,
        uploaded_sequence,
        key,
        digest,
        bytes,
        reason,
        message,
    } = report;
    let now = jiff::Timestamp::now();
    let mut rows = vec![
        ("stream", stream.clone()),
        ("snapshot", snapshot_id.clone()),
        ("phase", format!("{phase:?}")),
    ];
    if let Some(reason) = reason {
        rows.push(("reason", reason.to_string()));
    }
    if let Some(message) = message {
        rows.push(("message", message.clone()));
    }
    rows.extend([
        ("request", request.clone()),
        ("started at", render::moment(started_at, now)),
        ("last progress", render::moment(heartbeat, now)),
    ]);
    if let Some(completed_at) = completed_at {
        rows.push(("completed at", render::moment(completed_at, now)));
    }
    rows.extend([
        (
            "records",
            format!("{uploaded_sequence} of {durable_sequence} durable at its start"),
        ),
        (
            "manifest",
            format!("chunk {chunk_index} up to {chunk_offset}"),
        ),
    ]);
    if !key.is_empty() {
        rows.push(("object", format!("{key} ({})", render::bytes(*bytes))));
        rows.push(("digest", digest.clone()));
    }
    render::pairs(rows)
}

fn verdict_page(verdict: &SnapshotVerdict) -> String {
    let SnapshotVerdict {
        stream,
        snapshot_id,
        level,
        verified,
        digest,
        reason,
        message,
        missing,
        objects_checked,
        records_replayed,
        bytes_read,
        running,
    } = verdict;
    let is_verified = match running {
        None => render::yes_no(*verified),
        Some(running) => format!("not yet, {}", how_far(verdict, running)),
    };
    let mut rows = vec![
        ("stream", stream.clone()),
        ("snapshot", snapshot_id.clone()),
        ("verified", is_verified),
        ("level", format!("{level:?}")),
    ];
    if running.is_some() {
        return render::pairs(rows);
    }
    if let Some(reason) = reason {
        rows.push(("reason", reason.to_string()));
    }
    if let Some(message) = message {
        rows.push(("message", message.clone()));
    }
    rows.extend(missing.iter().map(|key| ("missing", key.clone())));
    rows.push(("objects checked", objects_checked.to_string()));
    if matches!(level, SnapshotLevel::L1 | SnapshotLevel::L2) {
        rows.push(("records replayed", records_replayed.to_string()));
    }
    if *level == SnapshotLevel::L2 {
        rows.push(("segments read", render::bytes(*bytes_read)));
    }
    if !digest.is_empty() {
        rows.push(("digest", digest.clone()));
    }
    render::pairs(rows)
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::{SnapshotReason, VerifyReason};

    use super::*;

    fn report(stream: &str, phase: SnapshotPhase) -> SnapshotReport {
        SnapshotReport {
            stream: stream.into(),
            snapshot_id: "4294967297".into(),
            phase,
            heartbeat: "2026-11-26T22:00:00Z".into(),
            uploaded_sequence: 20,
            chunk_offset: 4900,
            ..SnapshotReport::default()
        }
    }

    #[test]
    fn what_did_not_go_well_stands_first_and_says_why_below() {
        let waits = SnapshotReport {
            reason: Some(SnapshotReason::Tier2Unreachable),
            message: Some("no connection".into()),
            ..report("orders", SnapshotPhase::Uploading)
        };
        let now = "2026-11-26T22:03:00Z".parse().unwrap();
        assert_eq!(
            list(&[report("a", SnapshotPhase::Done), waits], now),
            "STREAM    SNAPSHOT  PHASE      RECORDS  CHUNK  OFFSET  AGE    REASON\n\
             orders  4294967297  Uploading       20      0    4900  3 min  Tier2Unreachable\n\
             a       4294967297  Done            20      0    4900  3 min\n\
             \n\
             orders: no connection"
        );
        assert_eq!(list(&[], now), "no snapshots");
    }

    #[test]
    fn a_verification_that_runs_says_how_far_it_is_and_judges_nothing() {
        let mut verdict = SnapshotVerdict {
            stream: "orders".into(),
            snapshot_id: "4294967297".into(),
            level: SnapshotLevel::L2,
            bytes_read: 3 << 20,
            running: Some(VerifyProgress {
                total_bytes: 12 << 20,
                ..VerifyProgress::default()
            }),
            ..SnapshotVerdict::default()
        };
        let page = |verdict: &SnapshotVerdict| {
            let page = verdict_page(verdict);
            page.lines().nth(2).map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(
            page(&verdict),
            "verified  not yet, 3.0 MiB of 12.0 MiB read"
        );
        verdict.running = Some(VerifyProgress {
            waits_for: Some("snapshot 7 of stream a".into()),
            ..VerifyProgress::default()
        });
        assert_eq!(
            page(&verdict),
            "verified  not yet, waits for snapshot 7 of stream a"
        );
        verdict.running = None;
        verdict.verified = true;
        let page = verdict_page(&verdict);
        assert!(page.contains("verified          yes\n"), "{page}");
        assert!(page.ends_with("segments read     3.0 MiB"), "{page}");
    }

    #[test]
    fn a_verdict_names_every_missing_object() {
        let verdict = SnapshotVerdict {
            stream: "orders".into(),
            snapshot_id: "4294967297".into(),
            reason: Some(VerifyReason::ObjectMissing),
            missing: vec!["segments/a".into(), "segments/b".into()],
            objects_checked: 3,
            ..SnapshotVerdict::default()
        };
        assert_eq!(
            verdict_page(&verdict),
            "stream           orders\n\
             snapshot         4294967297\n\
             verified         no\n\
             level            L0\n\
             reason           ObjectMissing\n\
             missing          segments/a\n\
             missing          segments/b\n\
             objects checked  3"
        );
    }
}
