//! `streams` and `segments`.

use aof2_admin_api::report::SegmentReport;
use aof2_admin_api::{SegmentCopy, StreamReport};

use crate::cli::Connection;
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

pub async fn streams(connection: &Connection) -> Result<Outcome, Failure> {
    let streams = super::admin(connection)?.streams().await?;
    if connection.json {
        render::json(&streams)?;
    } else {
        render::line(&stream_table(&streams))?;
    }
    Ok(Outcome::Clean)
}

pub async fn segments(connection: &Connection, stream: Option<&str>) -> Result<Outcome, Failure> {
    let segments = super::admin(connection)?.segments(stream).await?;
    if connection.json {
        render::json(&segments)?;
    } else {
        render::line(&segment_table(&segments))?;
    }
    Ok(Outcome::Clean)
}

fn stream_table(streams: &[StreamReport]) -> String {
    let columns = [
        Column::Text("STREAM"),
        Column::Number("FIRST"),
        Column::Number("NEXT"),
        Column::Number("DURABLE"),
        Column::Number("SEALED"),
        Column::Number("UPLOADED"),
        Column::Number("SEGMENTS"),
        Column::Number("BYTES"),
        Column::Text("CLAIM"),
        Column::Number("EPOCH"),
        Column::Text("DAMAGE"),
    ];
    let rows = streams.iter().map(|stream| {
        let StreamReport {
            name,
            epoch,
            first_sequence,
            next_sequence,
            durable_sequence,
            sealed_sequence,
            uploaded_sequence,
            segments,
            bytes,
            damage,
            damaged_ranges: _,
            claim,
        } = stream;
        let mut row = vec![name.clone()];
        row.extend(
            [
                first_sequence,
                next_sequence,
                durable_sequence,
                sealed_sequence,
                uploaded_sequence,
                segments,
            ]
            .map(u64::to_string),
        );
        row.extend([
            render::bytes(*bytes),
            claim.to_string(),
            epoch.to_string(),
            damage.clone().unwrap_or_else(|| "none".into()),
        ]);
        row
    });
    render::table(&columns, rows)
}

fn segment_table(segments: &[SegmentReport]) -> String {
    let columns = [
        Column::Text("STREAM"),
        Column::Number("SEGMENT"),
        Column::Number("BASE"),
        Column::Number("RECORDS"),
        Column::Number("BYTES"),
        Column::Text("STATE"),
        Column::Text("COPIES"),
        Column::Text("KEY"),
    ];
    let rows = segments.iter().map(|segment| {
        let SegmentReport {
            stream,
            segment_id,
            base_sequence,
            records,
            bytes,
            state,
            copies,
            key,
            compressed_bytes: _,
            first_at: _,
            last_at: _,
            kept_by: _,
        } = segment;
        let copies: Vec<&str> = copies.iter().map(SegmentCopy::as_str).collect();
        vec![
            stream.clone(),
            segment_id.to_string(),
            base_sequence.to_string(),
            records.to_string(),
            render::bytes(*bytes),
            state.to_string(),
            match copies.is_empty() {
                true => "-".to_owned(),
                false => copies.join(","),
            },
            key.clone().unwrap_or_else(|| "-".into()),
        ]
    });
    render::table(&columns, rows)
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::{ClaimState, SegmentState};

    use super::*;

    #[test]
    fn a_stream_is_one_line() {
        let streams = [StreamReport {
            name: "orders-0-a".into(),
            epoch: 1,
            next_sequence: 1200,
            durable_sequence: 1200,
            sealed_sequence: 1000,
            uploaded_sequence: 900,
            segments: 3,
            bytes: 5 << 20,
            claim: ClaimState::Claimed,
            ..StreamReport::default()
        }];
        assert_eq!(
            stream_table(&streams),
            "STREAM      FIRST  NEXT  DURABLE  SEALED  UPLOADED  SEGMENTS    BYTES  CLAIM    EPOCH  DAMAGE\n\
             orders-0-a      0  1200     1200    1000       900         3  5.0 MiB  Claimed      1  none"
        );
    }

    #[test]
    fn a_segment_that_is_not_uploaded_has_no_key() {
        let segments = [SegmentReport {
            stream: "a".into(),
            segment_id: 1,
            base_sequence: 5,
            records: 2,
            bytes: 100,
            state: SegmentState::Active,
            copies: vec![SegmentCopy::Hot],
            ..SegmentReport::default()
        }];
        assert_eq!(
            segment_table(&segments),
            "STREAM  SEGMENT  BASE  RECORDS  BYTES  STATE   COPIES  KEY\n\
             a             1     5        2  100 B  Active  Hot     -"
        );
    }
}
