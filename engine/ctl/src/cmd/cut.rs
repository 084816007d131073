//! `streams cut`.

use aof2_admin_api::report::StreamCutReport;

use crate::cli::{Connection, CutArguments};
use crate::exit::{Failure, Outcome};
use crate::render;

pub async fn run(connection: &Connection, arguments: CutArguments) -> Result<Outcome, Failure> {
    let CutArguments {
        stream,
        at,
        yes,
        no_restart,
    } = arguments;
    let admin = super::admin(connection)?;
    let report = match at.filter(|_| yes) {
        None => admin.possible_cut(&stream).await?,
        Some(at) => admin.cut(&stream, at).await?,
    };
    let restarts = report.is_accepted && !no_restart;
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&page(&report, restarts))?;
    }
    if restarts {
        admin.restart(None).await?;
    }
    Ok(Outcome::Clean)
}

fn page(report: &StreamCutReport, restarts: bool) -> String {
    let StreamCutReport {
        stream,
        damage,
        first_lost,
        next_sequence,
        lost_bytes,
        quarantine,
        is_accepted,
    } = report;
    let most = next_sequence - first_lost;
    let bytes = render::bytes(*lost_bytes);
    let lost = format!(
        "lost: from sequence {first_lost} on, at most {most} records in {bytes}\nnext sequence: {next_sequence}\nquarantine: {quarantine}"
    );
    let next = match (is_accepted, restarts) {
        (false, _) => format!(
            "nothing is changed; to give up these records, run `aof2-admin streams cut {stream} --at {first_lost} --yes`"
        ),
        (true, true) => "the engine restarts and cuts the stream".to_owned(),
        (true, false) => "the next start of the engine cuts the stream".to_owned(),
    };
    format!("stream {stream} is damaged: {damage}\n{lost}\n{next}")
}
