//! The tables in the `.md` beside each source are the constants in it.

use aof2_format::field::Row;
use aof2_format::{
    compaction, journal, journal_frame, journal_mark, manifest_base, manifest_chunk,
    manifest_record, producer_changes, record_batch, segment, snapshot_deletion, start_sequence,
    stream_catalog, stream_header, warm,
};

type Layouts = &'static [(&'static str, &'static [Row], usize)];

const DOCUMENTS: &[(&str, &str, Layouts)] = &[
    (
        "record_batch.md",
        include_str!("../src/record_batch.md"),
        &[
            (
                "header",
                record_batch::header::ROWS,
                record_batch::header::BYTES,
            ),
            ("gap", record_batch::gap::ROWS, record_batch::gap::BYTES),
        ],
    ),
    (
        "segment.md",
        include_str!("../src/segment.md"),
        &[
            ("header", segment::header::ROWS, segment::header::BYTES),
            ("seal", segment::seal::ROWS, segment::seal::BYTES),
        ],
    ),
    (
        "stream_header.md",
        include_str!("../src/stream_header.md"),
        &[(
            "header",
            stream_header::header::ROWS,
            stream_header::header::BYTES,
        )],
    ),
    (
        "journal.md",
        include_str!("../src/journal.md"),
        &[
            ("header", journal::header::ROWS, journal::header::BYTES),
            ("commit", journal::commit::ROWS, journal::commit::BYTES),
            (
                "frame",
                journal_frame::frame::ROWS,
                journal_frame::frame::BYTES,
            ),
            (
                "position",
                journal_frame::position::ROWS,
                journal_frame::position::BYTES,
            ),
        ],
    ),
    (
        "journal_mark.md",
        include_str!("../src/journal_mark.md"),
        &[("slot", journal_mark::slot::ROWS, journal_mark::slot::BYTES)],
    ),
    (
        "stream_catalog.md",
        include_str!("../src/stream_catalog.md"),
        &[(
            "entry",
            stream_catalog::entry::ROWS,
            stream_catalog::entry::BYTES,
        )],
    ),
    (
        "manifest_chunk.md",
        include_str!("../src/manifest_chunk.md"),
        &[
            (
                "header",
                manifest_chunk::header::ROWS,
                manifest_chunk::header::BYTES,
            ),
            (
                "commit",
                manifest_chunk::commit::ROWS,
                manifest_chunk::commit::BYTES,
            ),
        ],
    ),
    (
        "manifest_base.md",
        include_str!("../src/manifest_base.md"),
        &[
            (
                "header",
                manifest_base::header::ROWS,
                manifest_base::header::BYTES,
            ),
            (
                "chunk",
                manifest_base::chunk::ROWS,
                manifest_base::chunk::BYTES,
            ),
            (
                "part",
                manifest_base::part::ROWS,
                manifest_base::part::BYTES,
            ),
        ],
    ),
    (
        "manifest_record.md",
        include_str!("../src/manifest_record.md"),
        &[(
            "header",
            manifest_record::header::ROWS,
            manifest_record::header::BYTES,
        )],
    ),
    (
        "snapshot_deletion.md",
        include_str!("../src/snapshot_deletion.md"),
        &[(
            "blob",
            snapshot_deletion::blob::ROWS,
            snapshot_deletion::blob::BYTES,
        )],
    ),
    (
        "start_sequence.md",
        include_str!("../src/start_sequence.md"),
        &[(
            "blob",
            start_sequence::blob::ROWS,
            start_sequence::blob::BYTES,
        )],
    ),
    (
        "compaction.md",
        include_str!("../src/compaction.md"),
        &[
            (
                "header",
                compaction::header::ROWS,
                compaction::header::BYTES,
            ),
            (
                "output",
                compaction::output::ROWS,
                compaction::output::BYTES,
            ),
            ("input", compaction::input::ROWS, compaction::input::BYTES),
        ],
    ),
    (
        "producer_changes.md",
        include_str!("../src/producer_changes.md"),
        &[
            (
                "header",
                producer_changes::header::ROWS,
                producer_changes::header::BYTES,
            ),
            (
                "producer",
                producer_changes::producer::ROWS,
                producer_changes::producer::BYTES,
            ),
            (
                "run",
                producer_changes::run::ROWS,
                producer_changes::run::BYTES,
            ),
        ],
    ),
    (
        "warm.md",
        include_str!("../src/warm.md"),
        &[
            ("header", warm::header::ROWS, warm::header::BYTES),
            ("entry", warm::entry::ROWS, warm::entry::BYTES),
            ("footer", warm::footer::ROWS, warm::footer::BYTES),
        ],
    ),
];

/// `(offset, bytes, field)` of each row of the table below a heading; the last row has only the end.
fn rows_of(document: &str, heading: &str) -> Vec<(usize, Option<usize>, String)> {
    document
        .split_once(&format!("\n## `{heading}`\n"))
        .unwrap_or_else(|| panic!("no heading for {heading}"))
        .1
        .lines()
        .skip_while(|line| !line.starts_with("| offset |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (
                cells[1].parse().expect("an offset"),
                cells[2].parse().ok(),
                cells[3].to_owned(),
            )
        })
        .collect()
}

#[test]
fn every_table_is_the_layout_that_is_compiled() {
    for (name, document, layouts) in DOCUMENTS {
        assert!(
            document.contains("v0 (draft)"),
            "{name} must say that it is a draft"
        );
        let headings = document
            .lines()
            .filter(|line| line.starts_with("## `"))
            .count();
        assert_eq!(headings, layouts.len(), "{name}: every table is tested");
        for (heading, rows, total) in *layouts {
            let mut expected: Vec<_> = rows
                .iter()
                .map(|row| (row.offset, Some(row.bytes), row.field.to_lowercase()))
                .collect();
            expected.push((*total, None, String::new()));
            assert_eq!(rows_of(document, heading), expected, "{name}, {heading}");
        }
    }
}

#[test]
fn the_manifest_vocabulary_is_the_documented_one() {
    let document = include_str!("../src/manifest_record.md");
    let rows: Vec<(u16, &str)> = document
        .lines()
        .skip_while(|line| !line.starts_with("| type |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].parse().expect("a type id"), cells[2])
        })
        .collect();
    let known: Vec<_> = support::manifest_records()
        .iter()
        .map(|record| (record.event.type_id(), record.event.name()))
        .collect();
    assert_eq!(rows, known[..16]);
}

/// Fields of the JSON things: the table below each heading against a value's own JSON.
#[test]
fn the_json_tables_are_the_fields_that_are_written() {
    let documents = [
        (
            "claim",
            include_str!("../src/claim.md"),
            "`Claim`: `claims/<stream>/<20-digit epoch>`",
        ),
        (
            "cluster",
            include_str!("../src/claim.md"),
            "`ClusterMarker`: `cluster.json`",
        ),
        (
            "volume",
            include_str!("../src/volume.md"),
            "`VolumeIdentity`",
        ),
        (
            "mark",
            include_str!("../src/mark.md"),
            "`VolumeMark`: `marks/<volume id>/<20-digit mark>`",
        ),
        (
            "clock_reading",
            include_str!("../src/clock_reading.md"),
            "`ClockReading`: `clock.json`",
        ),
        (
            "recovery",
            include_str!("../src/snapshot.md"),
            "`RecoveryNotes`: `recovery/<stream>.json`",
        ),
        (
            "snapshot_note",
            include_str!("../src/snapshot.md"),
            "`SnapshotNote`: blob of the `CustomEvent` with schema 2",
        ),
    ];
    for (golden, document, heading) in documents {
        let fields: Vec<&str> = document
            .split_once(&format!("## {heading}\n"))
            .unwrap_or_else(|| panic!("no heading {heading}"))
            .1
            .lines()
            .skip_while(|line| !line.starts_with("| field |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.split('|').nth(1).expect("a field").trim())
            .collect();
        let bytes = support::golden(golden);
        let text = std::str::from_utf8(&bytes).unwrap();
        let positions: Vec<usize> = fields
            .iter()
            .map(|field| {
                text.find(&format!("\"{field}\":"))
                    .expect("the field is written")
            })
            .collect();
        assert!(positions.is_sorted(), "{golden}: {fields:?}");
        assert_eq!(
            text.matches("\":").count(),
            fields.len(),
            "{golden}: no other field is written"
        );
    }
}

/// The catalogue is nested: its tables are compared as sets, its order by the golden bytes.
#[test]
fn the_catalogue_tables_are_the_fields_that_are_written() {
    let document = include_str!("../src/snapshot.md");
    let fields_of = |heading: &str| -> Vec<String> {
        let mut fields: Vec<String> = document
            .split_once(&format!("# {heading}\n"))
            .unwrap_or_else(|| panic!("no heading {heading}"))
            .1
            .lines()
            .skip_while(|line| !line.starts_with("| field |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.split('|').nth(1).expect("a field").trim().to_owned())
            .collect();
        fields.sort();
        fields
    };
    let value: serde_json::Value =
        serde_json::from_slice(&support::golden("snapshot")).expect("JSON");
    let keys = |value: &serde_json::Value| -> Vec<String> {
        let mut keys: Vec<String> = value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    };
    let catalogue = "`Catalogue`: `snapshots/<stream>/<snapshot id>.json`";
    assert_eq!(fields_of(catalogue), keys(&value));
    assert_eq!(fields_of("`segments[]`"), keys(&value["segments"][0]));
    assert_eq!(fields_of("`chunks[]`"), keys(&value["chunks"][0]));
}

mod support;
