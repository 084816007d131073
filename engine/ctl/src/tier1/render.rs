//! Pages for people.

use aof2_admin_api::tier1::{
    Tier1Finding, Tier1Leftover, Tier1LeftoverKind, Tier1Stats, Tier1StreamStats, Tier1Verb,
    Tier1Work,
};

use crate::render::{Column, bytes, table};

pub fn stats(stats: &Tier1Stats) -> String {
    let Tier1Stats {
        streams,
        findings,
        leftovers,
    } = stats;
    let columns = [
        Column::Text("STREAM"),
        Column::Number("FILES"),
        Column::Number("BYTES"),
        Column::Number("RAW"),
        Column::Number("RATIO"),
        Column::Number("IN TIER 0"),
        Column::Number("IN TIER 2"),
        Column::Number("LAST COPIES"),
        Column::Number("BLOCKS"),
        Column::Text("BLOCK SIZE"),
    ];
    let mut rows: Vec<Vec<String>> = streams.iter().map(row).collect();
    if streams.len() > 1 {
        rows.push(row(&sum(streams)));
    }
    let mut parts = Vec::new();
    match streams.is_empty() {
        true => parts.push("no stream has a copy in Tier 1".to_owned()),
        false => parts.push(table(&columns, rows)),
    }
    parts.extend(below(findings, 0, leftovers));
    parts.join("\n\n")
}

fn row(stream: &Tier1StreamStats) -> Vec<String> {
    let Tier1StreamStats {
        stream,
        files,
        bytes: file_bytes,
        raw_bytes,
        records: _,
        hot_files,
        cold_files,
        cold_bytes: _,
        last_files,
        last_bytes,
        blocks,
        block_bytes,
        dictionary_files: _,
    } = stream;
    let sizes: Vec<String> = block_bytes
        .iter()
        .map(|(size, files)| match block_bytes.len() {
            1 => bytes(u64::from(*size)),
            _ => format!("{} ({files} files)", bytes(u64::from(*size))),
        })
        .collect();
    vec![
        stream.clone(),
        files.to_string(),
        bytes(*file_bytes),
        bytes(*raw_bytes),
        ratio(*raw_bytes, *file_bytes),
        hot_files.to_string(),
        cold_files.to_string(),
        match last_files {
            0 => "0".to_owned(),
            _ => format!("{last_files} ({})", bytes(*last_bytes)),
        },
        blocks.to_string(),
        sizes.join(", "),
    ]
}

fn sum(streams: &[Tier1StreamStats]) -> Tier1StreamStats {
    let mut all = Tier1StreamStats {
        stream: "all".to_owned(),
        ..Tier1StreamStats::default()
    };
    for stream in streams {
        all.files += stream.files;
        all.bytes += stream.bytes;
        all.raw_bytes += stream.raw_bytes;
        all.hot_files += stream.hot_files;
        all.cold_files += stream.cold_files;
        all.last_files += stream.last_files;
        all.last_bytes += stream.last_bytes;
        all.blocks += stream.blocks;
        for (size, files) in &stream.block_bytes {
            *all.block_bytes.entry(*size).or_default() += files;
        }
    }
    all
}

fn ratio(raw: u64, compressed: u64) -> String {
    match compressed {
        0 => "-".to_owned(),
        _ => format!("{:.2}", raw as f64 / compressed as f64),
    }
}

/// Beside a bar.
pub fn so_far(work: &Tier1Work) -> String {
    let mut text = format!(
        "{} of {} files, {} of {}",
        work.done_files,
        work.files,
        bytes(work.done_bytes),
        bytes(work.bytes)
    );
    if work.replaced_files > 0 {
        let (old, new) = (work.replaced_bytes, work.new_bytes);
        text += &format!(", {} became {}", bytes(old), bytes(new));
    }
    text
}

pub fn work(work: &Tier1Work) -> String {
    let mut line = match work.verb {
        Tier1Verb::Recompress => recompressed(work),
        Tier1Verb::Verify | Tier1Verb::Unknown(_) => verified(work),
    };
    if work.gone_files > 0 {
        line += &format!("; {} left Tier 1 meanwhile", files(work.gone_files));
    }
    let mut parts = vec![line];
    parts.extend(below(&work.findings, work.more_findings, &work.leftovers));
    parts.join("\n\n")
}

fn files(count: u64) -> String {
    match count {
        1 => "1 file".to_owned(),
        _ => format!("{count} files"),
    }
}

fn verified(work: &Tier1Work) -> String {
    let read = format!(
        "{} read, {}",
        files(work.done_files),
        bytes(work.done_bytes)
    );
    let findings = work.findings.len() as u64 + work.more_findings;
    match (findings, work.done_files < work.files) {
        (0, false) => format!("{read}: each decompresses to its segment"),
        (0, true) => format!("{read}, of {}", files(work.files)),
        (1, _) => format!("{read}: 1 finding"),
        _ => format!("{read}: {findings} findings"),
    }
}

fn recompressed(work: &Tier1Work) -> String {
    let Tier1Work {
        replaced_bytes: old,
        new_bytes: new,
        ..
    } = *work;
    let level = work
        .level
        .map_or_else(|| "?".to_owned(), |it| it.to_string());
    let mut line = format!(
        "{} of {} compressed again at level {level}",
        work.replaced_files,
        files(work.files)
    );
    if work.replaced_files > 0 {
        let change = 100.0 * (new as f64 - old as f64) / old.max(1) as f64;
        line += &format!(
            ": {} before, {} now ({change:+.1} %)",
            bytes(old),
            bytes(new)
        );
    }
    if work.same_files > 0 {
        line += &format!("; {} the same at this level", files(work.same_files));
    }
    if work.busy_files > 0 {
        line += &format!(
            "; {} left alone before the upload, run the command again for them",
            files(work.busy_files)
        );
    }
    line
}

fn below(findings: &[Tier1Finding], more: u64, leftovers: &[Tier1Leftover]) -> Vec<String> {
    let mut parts: Vec<String> = findings.iter().map(finding).collect();
    if more > 0 {
        parts.push(format!("{more} more findings are not listed"));
    }
    if !leftovers.is_empty() {
        let lines: Vec<String> = leftovers.iter().map(leftover).collect();
        parts.push(lines.join("\n"));
    }
    parts
}

fn finding(finding: &Tier1Finding) -> String {
    let Tier1Finding {
        kind,
        path,
        stream,
        segment_id,
        first_sequence,
        end_sequence,
        what,
        remedy,
    } = finding;
    let mut line = kind.to_string().to_uppercase();
    if let Some(stream) = stream {
        line += &format!(" stream {stream}");
    }
    if let Some(segment_id) = segment_id {
        line += &format!(", segment {segment_id}");
    }
    if let (Some(first), Some(end)) = (first_sequence, end_sequence) {
        line += &format!(", sequences {first} to {}", end.saturating_sub(1));
    }
    format!("{line}\n  {path}\n  {what}\n  what to do: {remedy}")
}

fn leftover(leftover: &Tier1Leftover) -> String {
    let Tier1Leftover {
        kind,
        path,
        bytes: length,
    } = leftover;
    let fate = match kind {
        Tier1LeftoverKind::Unfinished => "half written, removed by the next start",
        Tier1LeftoverKind::Dropped => "evicted, removed by the next start",
        Tier1LeftoverKind::Unrecorded => "not recorded yet, made again before the upload",
        Tier1LeftoverKind::Unknown(other) => other,
    };
    format!("leftover {path}, {}: {fate}", bytes(*length))
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::tier1::Tier1FindingKind;

    use super::*;

    fn stream(name: &str, files: u64) -> Tier1StreamStats {
        Tier1StreamStats {
            stream: name.to_owned(),
            files,
            bytes: files << 20,
            raw_bytes: (files * 7) << 19,
            records: 100,
            hot_files: 1,
            cold_files: files - 1,
            cold_bytes: (files - 1) << 20,
            last_files: 0,
            last_bytes: 0,
            blocks: 56 * files,
            block_bytes: [(65_536, files)].into(),
            dictionary_files: 0,
        }
    }

    #[test]
    fn streams_stand_below_each_other_with_their_sum_and_what_was_found_behind() {
        let mut found = Tier1Stats {
            streams: vec![stream("orders", 12), stream("payments", 2)],
            ..Tier1Stats::default()
        };
        found.streams[1].block_bytes = [(4_096, 1), (65_536, 1)].into();
        found.streams[1].last_files = 1;
        found.streams[1].last_bytes = 1 << 20;
        found.findings.push(Tier1Finding {
            kind: Tier1FindingKind::Missing,
            path: "/d/warm/x.aofz".into(),
            stream: Some("orders".into()),
            segment_id: Some(3),
            first_sequence: Some(200),
            end_sequence: Some(300),
            what: "cannot read /d/warm/x.aofz: no such file".into(),
            remedy: "do this".into(),
        });
        found.leftovers.push(Tier1Leftover {
            kind: Tier1LeftoverKind::Unfinished,
            path: "/d/warm/y.tmp".into(),
            bytes: 12,
        });
        let page = stats(&found);
        let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "STREAM    FILES     BYTES       RAW  RATIO  IN TIER 0  IN TIER 2  LAST COPIES  BLOCKS  BLOCK SIZE",
                "orders       12  12.0 MiB  42.0 MiB   3.50          1         11            0     672  64.0 KiB",
                "payments      2   2.0 MiB   7.0 MiB   3.50          1          1  1 (1.0 MiB)     112  4.0 KiB (1 files), 64.0 KiB (1 files)",
                "all          14  14.0 MiB  49.0 MiB   3.50          2         12  1 (1.0 MiB)     784  4.0 KiB (1 files), 64.0 KiB (13 files)",
                "",
                "MISSING stream orders, segment 3, sequences 200 to 299",
                "  /d/warm/x.aofz",
                "  cannot read /d/warm/x.aofz: no such file",
                "  what to do: do this",
                "",
                "leftover /d/warm/y.tmp, 12 B: half written, removed by the next start",
            ]
        );
    }

    #[test]
    fn each_end_has_its_words() {
        let verified = Tier1Work {
            verb: Tier1Verb::Verify,
            files: 3,
            bytes: 3 << 20,
            done_files: 3,
            done_bytes: 3 << 20,
            has_ended: true,
            ..Tier1Work::default()
        };
        assert_eq!(
            work(&verified),
            "3 files read, 3.0 MiB: each decompresses to its segment"
        );
        let again = Tier1Work {
            verb: Tier1Verb::Recompress,
            level: Some(19),
            replaced_files: 1,
            replaced_bytes: 2 << 20,
            new_bytes: 1 << 20,
            same_files: 1,
            busy_files: 1,
            gone_files: 1,
            ..verified
        };
        assert_eq!(
            work(&again),
            "1 of 3 files compressed again at level 19: 2.0 MiB before, 1.0 MiB now (-50.0 %); 1 file the same at this level; 1 file left alone before the upload, run the command again for them; 1 file left Tier 1 meanwhile"
        );
        assert_eq!(
            so_far(&again),
            "3 of 3 files, 3.0 MiB of 3.0 MiB, 2.0 MiB became 1.0 MiB"
        );
    }
}
