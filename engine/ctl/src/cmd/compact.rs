//! `compact`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use aof2_admin_api::report::CompactionRunReport;

use crate::cli::{CompactArguments, Connection};
use crate::exit::{Failure, Outcome};
use crate::render;

const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn run(connection: &Connection, arguments: CompactArguments) -> Result<Outcome, Failure> {
    let admin = super::admin(connection)?;
    let mut report = admin.compact(arguments.stream.as_deref()).await?;
    let is_shown = !connection.json && std::io::stderr().is_terminal();
    while !report.has_ended {
        tokio::time::sleep(LOOK_EVERY).await;
        report = admin.compaction(report.id).await?;
        if is_shown {
            // Nobody reads standard error: the result is on standard output.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", progress(&report));
        }
    }
    if is_shown {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&page(&report))?;
    }
    Ok(match report.failures {
        0 => Outcome::Clean,
        _ => Outcome::Negative,
    })
}

fn progress(report: &CompactionRunReport) -> String {
    format!(
        "{} segments merged to {}, {} written",
        report.inputs,
        report.outputs,
        render::bytes(report.written_bytes)
    )
}

fn page(report: &CompactionRunReport) -> String {
    let CompactionRunReport {
        id: _,
        stream: _,
        has_ended: _,
        inputs,
        outputs,
        read_bytes,
        written_bytes,
        failures,
        failure,
        end,
    } = report;
    let mut line = match inputs {
        0 => "nothing merged".to_owned(),
        _ => format!(
            "{inputs} segments merged to {outputs}, {} read, {} written",
            render::bytes(*read_bytes),
            render::bytes(*written_bytes)
        ),
    };
    if *failures > 0 {
        let why = failure.as_deref().unwrap_or("no reason was reported");
        line.push_str(&format!("; failed merges: {failures}, the last one: {why}"));
    }
    if let Some(end) = end {
        line.push_str(&format!("\n{end}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pass_did_is_told_and_why_it_did_no_more() {
        let nothing = CompactionRunReport {
            id: 1,
            has_ended: true,
            end: Some("no stream has enough".to_owned()),
            ..CompactionRunReport::default()
        };
        assert_eq!(page(&nothing), "nothing merged\nno stream has enough");
        let some = CompactionRunReport {
            inputs: 12,
            outputs: 3,
            read_bytes: 4 << 20,
            written_bytes: 5 << 20,
            failures: 1,
            failure: Some("volume is full".to_owned()),
            ..nothing
        };
        assert_eq!(
            page(&some),
            "12 segments merged to 3, 4.0 MiB read, 5.0 MiB written; failed merges: 1, the last one: volume is full\nno stream has enough"
        );
        assert_eq!(progress(&some), "12 segments merged to 3, 5.0 MiB written");
    }
}
