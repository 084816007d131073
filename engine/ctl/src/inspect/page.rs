//! Pages and lines for people.

use serde_json::Value;

use super::chunk::{Chunk, Record};
use crate::render::{self, Column};

pub fn page(chunk: &Chunk) -> String {
    let columns = [
        Column::Number("RECORD"),
        Column::Text("TIME"),
        Column::Number("EPOCH"),
        Column::Number("SEGMENT"),
        Column::Text("EVENT"),
        Column::Text("FIELDS"),
    ];
    let Chunk {
        file,
        stream,
        epoch,
        chunk: number,
        commits,
        records,
        unfinished_bytes,
        damage,
        base,
        total_records,
    } = chunk;
    let shown = match records.len() as u64 {
        all if all == *total_records => format!("{all} records"),
        some => format!("{some} of {total_records} records"),
    };
    let mut part = match base {
        Some(base) => format!("{file}\nstream {stream}, epoch {epoch}, {}\n", base.line()),
        None => format!(
            "{file}\nstream {stream}, epoch {epoch}, chunk {number}: {shown} in {commits} commits\n"
        ),
    };
    if let Some(damage) = damage {
        part += &format!("DAMAGED: {damage}\n");
    } else if *unfinished_bytes > 0 {
        part += &format!("{unfinished_bytes} bytes after the last commit are unfinished\n");
    }
    let rows = records.iter().map(|record| {
        vec![
            record.manifest_sequence.to_string(),
            record.time.clone(),
            record.epoch.to_string(),
            record.segment_id.to_string(),
            event_name(record),
            fields_line(&record.fields),
        ]
    });
    if !records.is_empty() {
        part += &render::table(&columns, rows);
    }
    part.trim_end().to_owned()
}

/// `key=value key=value`.
pub fn fields_line(fields: &Value) -> String {
    let Value::Object(fields) = fields else {
        return String::new();
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect();
    pairs.join(" ")
}

fn event_name(record: &Record) -> String {
    match record.event {
        "Unknown" => format!("type {}", record.type_id),
        known => known.to_owned(),
    }
}

/// One record of a manifest that is followed.
pub fn line(stream: &str, record: &Record) -> String {
    let Record {
        manifest_sequence,
        time,
        epoch,
        segment_id,
        fields,
        ..
    } = record;
    let event = event_name(record);
    let line = format!(
        "{time} {stream} {manifest_sequence} {event} epoch={epoch} segment={segment_id} {}",
        fields_line(fields)
    );
    line.trim_end().to_owned()
}
