//! `hydrate`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use aof2_admin_api::report::HydrationReport;

use crate::cli::{Connection, HydrateArguments};
use crate::exit::{Failure, Outcome};
use crate::render;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Characters of the progress bar.
const WIDTH: u64 = 30;

pub async fn run(connection: &Connection, arguments: HydrateArguments) -> Result<Outcome, Failure> {
    let HydrateArguments {
        stream,
        from,
        to,
        tier,
        wait,
    } = arguments;
    let admin = super::admin(connection)?;
    let mut report = admin.hydrate(&stream, from, to, tier).await?;
    let is_shown = wait && !connection.json && std::io::stderr().is_terminal();
    while wait && !report.has_ended() {
        tokio::time::sleep(LOOK_EVERY).await;
        report = admin.hydration(report.id).await?;
        if is_shown {
            // Nobody reads standard error: the result is on standard output.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", bar(&report));
        }
    }
    if is_shown {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&line(&stream, tier, &report))?;
    }
    Ok(match report.failed_segments {
        0 => Outcome::Clean,
        _ => Outcome::Negative,
    })
}

fn bar(report: &HydrationReport) -> String {
    let ended = report.done_segments + report.failed_segments;
    let filled = ended * WIDTH / report.segments.max(1);
    let marks = "#".repeat(filled as usize);
    format!(
        "[{marks:<width$}] {ended} of {} segments, {}",
        report.segments,
        render::bytes(report.done_bytes),
        width = WIDTH as usize
    )
}

fn line(stream: &str, tier: u8, report: &HydrationReport) -> String {
    let HydrationReport {
        id,
        segments,
        bytes,
        done_segments,
        done_bytes,
        failed_segments,
        failure,
    } = report;
    if *segments == 0 {
        return format!("stream {stream}: everything of the range is in Tier {tier} already");
    }
    let mut line = match report.has_ended() {
        true => format!(
            "stream {stream}: {done_segments} of {segments} segments came back to Tier {tier}, {}",
            render::bytes(*done_bytes)
        ),
        false => format!(
            "stream {stream}: {segments} segments come back to Tier {tier}, at most {} (hydration {id})",
            render::bytes(*bytes)
        ),
    };
    if *failed_segments > 0 {
        let why = failure.as_deref().unwrap_or("no reason was reported");
        line.push_str(&format!(", {failed_segments} failed: {why}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_a_hydration_has_its_words() {
        let report = HydrationReport {
            id: 3,
            segments: 4,
            bytes: 8 << 20,
            ..HydrationReport::default()
        };
        assert_eq!(
            line("a", 1, &report),
            "stream a: 4 segments come back to Tier 1, at most 8.0 MiB (hydration 3)"
        );
        let ended = HydrationReport {
            done_segments: 3,
            done_bytes: 3 << 20,
            failed_segments: 1,
            failure: Some("object x is missing".to_owned()),
            ..report
        };
        assert_eq!(
            line("a", 1, &ended),
            "stream a: 3 of 4 segments came back to Tier 1, 3.0 MiB, 1 failed: object x is missing"
        );
        assert_eq!(
            bar(&ended),
            format!("[{}] 4 of 4 segments, 3.0 MiB", "#".repeat(30))
        );
        assert_eq!(
            line("a", 0, &HydrationReport::default()),
            "stream a: everything of the range is in Tier 0 already"
        );
    }
}
