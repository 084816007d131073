//! `trim`.

use aof2_admin_api::report::StreamTrimReport;

use crate::cli::{Connection, TrimArguments};
use crate::exit::{Failure, Outcome};
use crate::render;

pub async fn run(connection: &Connection, arguments: TrimArguments) -> Result<Outcome, Failure> {
    let TrimArguments {
        stream,
        before,
        yes,
    } = arguments;
    let admin = super::admin(connection)?;
    let report = match yes {
        false => admin.possible_trim(&stream, before).await?,
        true => admin.trim(&stream, before).await?,
    };
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&page(&report))?;
    }
    Ok(Outcome::Clean)
}

fn page(report: &StreamTrimReport) -> String {
    let StreamTrimReport {
        stream,
        first_sequence,
        records,
        segments,
        node_bytes,
        objects,
        sealed_sequence: _,
        is_done,
    } = report;
    if *records == 0 {
        return format!("stream {stream} begins at sequence {first_sequence}; nothing to trim");
    }
    let bytes = render::bytes(*node_bytes);
    let (from, to) = (first_sequence - records, first_sequence - 1);
    let mut what = format!(
        "{records} records, sequences {from} to {to}; {segments} whole segments with {bytes} on this node"
    );
    if *objects > 0 {
        what += &format!(
            "\nin Tier 2: {objects} objects, deleted after tier2.delete_grace unless a snapshot names them"
        );
    }
    match is_done {
        true => format!("stream {stream} begins at sequence {first_sequence} now\ntrimmed: {what}"),
        false => format!(
            "stream {stream} would begin at sequence {first_sequence}\nlost: {what}\nnothing is changed; to give up these records, run `aof2-admin trim {stream} --before {first_sequence} --yes`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trim_says_what_goes_before_it_does_it() {
        let mut report = StreamTrimReport {
            stream: "orders".into(),
            first_sequence: 100,
            records: 60,
            segments: 2,
            node_bytes: 3 << 20,
            objects: 0,
            sealed_sequence: 200,
            is_done: false,
        };
        assert_eq!(
            page(&report),
            "stream orders would begin at sequence 100\n\
             lost: 60 records, sequences 40 to 99; 2 whole segments with 3.0 MiB on this node\n\
             nothing is changed; to give up these records, run `aof2-admin trim orders --before 100 --yes`"
        );
        report.is_done = true;
        assert_eq!(
            page(&report),
            "stream orders begins at sequence 100 now\n\
             trimmed: 60 records, sequences 40 to 99; 2 whole segments with 3.0 MiB on this node"
        );
        report.objects = 2;
        assert!(
            page(&report).ends_with(
                "on this node\nin Tier 2: 2 objects, deleted after tier2.delete_grace unless a snapshot names them"
            ),
            "{}",
            page(&report)
        );
        report.records = 0;
        assert_eq!(
            page(&report),
            "stream orders begins at sequence 100; nothing to trim"
        );
    }
}
