//! How results are printed: tables for a tired reader, JSON for programs.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::{Failure, of_output};

/// Prints a value as indented JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| of_output(error.into()))?;
    line(&text)
}

pub fn line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(of_output)
}

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Text(&'static str),
    /// Right-aligned, so that digits stand below each other.
    Number(&'static str),
}

/// A table without lines, with one header row.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(name) => Cell::new(name),
        Column::Number(name) => Cell::new(name).set_alignment(CellAlignment::Right),
    }));
    for row in rows {
        table.add_row(
            row.into_iter()
                .zip(columns)
                .map(|(text, column)| match column {
                    Column::Text(_) => Cell::new(text),
                    Column::Number(_) => Cell::new(text).set_alignment(CellAlignment::Right),
                }),
        );
    }
    trimmed(&table)
}

/// Names and values, one below the other.
pub fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    trimmed(&table)
}

/// The preset pads each line by one space on the left.
fn trimmed(table: &Table) -> String {
    let lines: Vec<String> = table
        .lines()
        .map(|line| {
            line.strip_prefix(' ')
                .unwrap_or(&line)
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n")
}

/// `12.0 GiB`; exact below 1 KiB.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// `3.1 GiB of 4.0 GiB (78 %)`.
pub fn share(used: u64, limit: u64) -> String {
    match limit {
        0 => format!("{}, no limit", bytes(used)),
        _ => format!(
            "{} of {} ({:.0} %)",
            bytes(used),
            bytes(limit),
            used as f64 * 100.0 / limit as f64
        ),
    }
}

/// RFC 3339 with milliseconds, UTC.
pub fn time(unix_nanos: i64) -> String {
    match jiff::Timestamp::from_nanosecond(unix_nanos.into()) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => format!("{unix_nanos} ns"),
    }
}

/// A reported time for people: to the second, with the distance from `now`. JSON has its nanoseconds.
pub fn moment(rfc3339: &str, now: jiff::Timestamp) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(at) if at > now => format!("{at:.0} (in {})", length(at.as_second() - now.as_second())),
        Ok(at) => format!("{at:.0} ({} ago)", age(rfc3339, now)),
        Err(_) => rfc3339.to_owned(),
    }
}

/// How long ago a reported time is: `12 s`, `3 min`, `5 h`, `2 d`.
pub fn age(rfc3339: &str, now: jiff::Timestamp) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(at) => length((now.as_second() - at.as_second()).max(0)),
        Err(_) => rfc3339.to_owned(),
    }
}

/// `12 s`, `3 min`, `5 h`, `2 d`.
pub fn length(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A payload for people: its text, or its first bytes in hexadecimal digits.
pub fn payload(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => {
            let shown = &payload[..payload.len().min(32)];
            let more = if shown.len() < payload.len() {
                "..."
            } else {
                ""
            };
            format!("0x{}{more} ({} B)", hex::encode(shown), payload.len())
        }
    }
}

pub fn yes_no(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_second_with_its_age() {
        let now = "2026-11-26T22:00:00Z".parse().unwrap();
        let shown = [
            "2026-11-26T21:59:48.795775592Z",
            "2026-11-26T21:57:00Z",
            "2026-11-26T17:00:00Z",
            "2026-11-24T10:00:00Z",
            "2026-11-26T22:00:25.5Z",
            "-",
        ]
        .map(|text| moment(text, now));
        assert_eq!(
            shown,
            [
                "2026-11-26T21:59:48Z (12 s ago)",
                "2026-11-26T21:57:00Z (3 min ago)",
                "2026-11-26T17:00:00Z (5 h ago)",
                "2026-11-24T10:00:00Z (2 d ago)",
                "2026-11-26T22:00:25Z (in 25 s)",
                "-",
            ]
        );
        assert_eq!(age("2026-11-26T21:58:01Z", now), "119 s");
    }

    #[test]
    fn bytes_carry_the_largest_unit_that_keeps_a_digit() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 12 << 30, u64::MAX]
            .into_iter()
            .map(bytes)
            .collect();
        assert_eq!(
            shown,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1.5 KiB",
                "1.0 MiB",
                "12.0 GiB",
                "16384.0 PiB"
            ]
        );
    }

    #[test]
    fn a_share_says_how_full_it_is() {
        assert_eq!(share(3 << 30, 4 << 30), "3.0 GiB of 4.0 GiB (75 %)");
        assert_eq!(share(1 << 20, 0), "1.0 MiB, no limit");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(1_764_043_200_123_456_789), "2025-11-25T04:00:00.123Z");
    }

    #[test]
    fn a_payload_that_is_no_text_is_shown_in_hexadecimal() {
        assert_eq!(payload("größer".as_bytes()), "größer");
        assert_eq!(payload(b"a\nb"), "0x610a62 (3 B)");
        assert_eq!(
            payload(&[0xFF; 40]),
            format!("0x{}... (40 B)", "ff".repeat(32))
        );
    }

    #[test]
    fn numbers_stand_below_each_other() {
        let columns = [Column::Text("STREAM"), Column::Number("RECORDS")];
        let rows = [
            vec!["a".to_owned(), "7".to_owned()],
            vec!["orders".to_owned(), "12345678".to_owned()],
        ];
        assert_eq!(
            table(&columns, rows),
            "STREAM   RECORDS\na              7\norders  12345678"
        );
    }
}
