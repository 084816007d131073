//! `snapshot take`, `list`, `show` and `verify`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use aof2_admin_api::client::{Client, ClientError};
use aof2_admin_api::{
    ErrorReason, SnapshotLevel, SnapshotPhase, SnapshotReport, SnapshotSeal, SnapshotVerdict,
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
        SnapshotVerb::Verify { stream, id, level } => {
            let level = match level {
                VerifyLevel::L0 => SnapshotLevel::L0,
                VerifyLevel::L1 => SnapshotLevel::L1,
            };
            let verdict = super::admin(connection)?
                .verify_snapshot(&stream, &id, level, None)
                .await?;
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
    if !std::io::stderr().is_terminal() {
        return;
    }
    let count = |phase| reports.iter().filter(|it| it.phase == phase).count();
    let why = reports
        .iter()
        .filter(|report| !is_over(report))
        .find_map(|report| report.reason.as_ref());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    // Nobody reads standard error: the result is on standard output.
    let _ = write!(
        std::io::stderr(),
        "\r\x1b[K{} of {} done; {} pending, {} uploading, {} publishing, {} failed{why}",
        count(SnapshotPhase::Done),
        reports.len(),
        count(SnapshotPhase::Pending),
        count(SnapshotPhase::Uploading),
        count(SnapshotPhase::Publishing),
        count(SnapshotPhase::Failed),
    );
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
    } = verdict;
    let mut rows = vec![
        ("stream", stream.clone()),
        ("snapshot", snapshot_id.clone()),
        ("verified", render::yes_no(*verified)),
        ("level", format!("{level:?}")),
    ];
    if let Some(reason) = reason {
        rows.push(("reason", reason.to_string()));
    }
    if let Some(message) = message {
        rows.push(("message", message.clone()));
    }
    rows.extend(missing.iter().map(|key| ("missing", key.clone())));
    rows.push(("objects checked", objects_checked.to_string()));
    if *level == SnapshotLevel::L1 {
        rows.push(("records replayed", records_replayed.to_string()));
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
