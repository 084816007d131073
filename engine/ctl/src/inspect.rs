//! `manifest-inspect`: the manifest records of a data directory or of one chunk file, read only and without the engine.
//!
//! The engine may be running: what lies behind the last whole commit of a newest chunk may just be on its way there, or still in
//! the journal alone. It is shown, and is not a finding. Damage anywhere else is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aof2_format::compaction::{self, Compaction, Inputs};
use aof2_format::cut::{self, StreamCut};
use aof2_format::manifest_chunk::{DATA_OFFSET, ManifestChunkHeader};
use aof2_format::manifest_record::{HydrationSource, LocalCopy, ManifestEvent, ManifestRecord};
use aof2_format::names::file;
use aof2_format::producer_changes::{self, ProducerChanges};
use aof2_format::snapshot::{NOTE_SCHEMA_ID, SnapshotId, SnapshotNote};
use aof2_format::start_sequence::{self, StartSequence};
use aof2_format::{Damage, Seed, manifest_chunk};
use clap::Parser;
use serde::Serialize;
use serde_json::{Value, json};

use self::base::Base;
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

mod base;

/// Chunks are rolled far below this.
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// Print the manifest records of a data directory or of a chunk file. Reads only, and does not disturb a running engine.
///
/// Exit codes: 0 ok, 1 damage was found, 2 usage.
#[derive(Debug, Parser)]
#[command(
    name = "manifest-inspect",
    disable_version_flag = true,
    max_term_width = 110
)]
pub struct Arguments {
    /// Print the version and exit.
    #[arg(long, short = 'V')]
    pub version: bool,
    /// A data directory, a stream's directory, a chunk file (.mlog), or a stream's manifest/base.
    #[arg(value_name = "DIR|FILE", required_unless_present = "version")]
    pub place: Option<PathBuf>,
    /// Print only this stream of a data directory.
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// One chunk as it was read.
#[derive(Debug, Serialize)]
pub struct Chunk {
    pub file: String,
    pub stream: String,
    pub epoch: u32,
    pub chunk: u64,
    pub commits: u64,
    pub records: Vec<Record>,
    /// Bytes behind the last whole commit that are not zero.
    pub unfinished_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Of a base: what it stands for. Its records are those that no chunk file in its directory holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

#[derive(Debug, Serialize)]
pub struct Record {
    pub manifest_sequence: u64,
    pub time: String,
    pub epoch: u32,
    pub segment_id: u64,
    pub type_id: u16,
    pub event: &'static str,
    pub fields: Value,
}

pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let Some(place) = &arguments.place else {
        return Err(Failure::Usage(
            "give a data directory or a chunk file".into(),
        ));
    };
    let only = arguments.stream.as_deref();
    // Once more: a running engine may have pruned a chunk since the directory was listed.
    let chunks = read_all(place, only).or_else(|_| read_all(place, only))?;
    if arguments.json {
        render::json(&chunks)?;
    } else {
        render::line(&page(&chunks))?;
    }
    let is_damaged = chunks.iter().any(|chunk| chunk.damage.is_some());
    Ok(if is_damaged {
        Outcome::Negative
    } else {
        Outcome::Clean
    })
}

fn read_all(place: &Path, only: Option<&str>) -> Result<Vec<Chunk>, Failure> {
    let files = chunk_files(place, only)?;
    if files.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: no manifest chunk (*.mlog) and no manifest base found",
            place.display()
        )));
    }
    let mut chunks = Vec::new();
    for files in files.values() {
        for (index, file) in files.iter().enumerate() {
            let is_newest = index + 1 == files.len();
            chunks.push(match base::is_one(file) {
                true => base::read(file, files)?,
                false => read_chunk(file, is_newest)?,
            });
        }
    }
    Ok(chunks)
}

/// Chunk files by the directory that they lie in, oldest first.
fn chunk_files(
    place: &Path,
    only: Option<&str>,
) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>, Failure> {
    let unreadable =
        |path: &Path, error: std::io::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let metadata = fs::metadata(place).map_err(|error| unreadable(place, error))?;
    let parent = place.parent().unwrap_or(Path::new("")).to_path_buf();
    if metadata.is_file() {
        return Ok(BTreeMap::from([(parent, vec![place.to_path_buf()])]));
    }
    let mut directories = vec![place.to_path_buf(), place.join(file::MANIFEST_DIR)];
    let streams = place.join(file::STREAMS_DIR);
    if streams.is_dir() {
        for entry in fs::read_dir(&streams).map_err(|error| unreadable(&streams, error))? {
            let entry = entry.map_err(|error| unreadable(&streams, error))?;
            let name = entry.file_name();
            if name
                .to_str()
                .and_then(file::parse_stream_dir)
                .is_some_and(|stream| only.is_none_or(|only| only == stream.as_str()))
            {
                directories.push(entry.path().join(file::MANIFEST_DIR));
            }
        }
    }
    let mut found = BTreeMap::new();
    for directory in directories
        .into_iter()
        .filter(|directory| directory.is_dir())
    {
        let mut chunks = Vec::new();
        for entry in fs::read_dir(&directory).map_err(|error| unreadable(&directory, error))? {
            let entry = entry.map_err(|error| unreadable(&directory, error))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(file::parse_manifest_chunk);
            if number.is_some() || name == file::MANIFEST_BASE {
                // The base first: what it stands for comes before the chunks.
                chunks.push((number, entry.path()));
            }
        }
        chunks.sort();
        let chunks: Vec<PathBuf> = chunks.into_iter().map(|(_, path)| path).collect();
        if !chunks.is_empty() {
            found.insert(directory, chunks);
        }
    }
    Ok(found)
}

fn read_chunk(path: &Path, is_newest: bool) -> Result<Chunk, Failure> {
    let bytes = read_file(path, "chunk", MAX_CHUNK_BYTES)?;
    Ok(decode_chunk(&path.display().to_string(), &bytes, is_newest))
}

/// Of a `what`, which is never larger than `limit_bytes`.
fn read_file(path: &Path, what: &str, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    let length = fs::metadata(path)
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if length > limit_bytes {
        return Err(unreadable(format!(
            "{length} bytes exceed the limit of a {what}, {limit_bytes}"
        )));
    }
    fs::read(path).map_err(|error| unreadable(error.to_string()))
}

fn decode_chunk(file: &str, bytes: &[u8], is_newest: bool) -> Chunk {
    let mut chunk = Chunk {
        file: file.to_owned(),
        stream: String::new(),
        epoch: 0,
        chunk: 0,
        commits: 0,
        records: Vec::new(),
        unfinished_bytes: 0,
        damage: None,
        base: None,
    };
    let header = match ManifestChunkHeader::decode(bytes) {
        Ok(header) => header,
        // A chunk that was just made: its first commit is still in the journal alone.
        Err(_) if is_newest && used(bytes) == 0 => return chunk,
        Err(damage) => {
            chunk.damage = Some(damage.to_string());
            return chunk;
        }
    };
    chunk.stream = header.stream.to_string();
    chunk.epoch = header.epoch;
    chunk.chunk = header.chunk;
    let seed = Seed::new(header.stream_salt);
    let (mut at, mut chain, mut next) = (
        DATA_OFFSET as usize,
        header.prev_chain,
        header.base_manifest_sequence,
    );
    let mut end = None;
    for commit in manifest_chunk::commits(bytes, at, seed) {
        let commit = match commit {
            Ok(commit) => commit,
            Err(damage) => {
                end = end_of(&damage, &bytes[at..], at);
                break;
            }
        };
        let first = commit.records[0].manifest_sequence;
        if commit.prev_chain != chain || first != next {
            end = Some(format!(
                "offset {at}: commit chain broken (record {first} found, {next} expected)"
            ));
            break;
        }
        chain = commit.chain;
        next = first + commit.records.len() as u64;
        chunk.commits += 1;
        chunk.records.extend(commit.records.iter().map(to_record));
        at += commit.bytes;
    }
    chunk.unfinished_bytes = used(&bytes[at..]);
    // Whatever is behind the last commit of the newest chunk was never part of it.
    chunk.damage = end.filter(|_| !is_newest || chunk.unfinished_bytes == 0);
    chunk
}

/// Bytes up to the last that is not zero.
fn used(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

/// `None` where the commits just end.
fn end_of(damage: &Damage, rest: &[u8], at: usize) -> Option<String> {
    (used(rest) > 0).then(|| format!("offset {at}: {damage}"))
}

fn to_record(record: &ManifestRecord) -> Record {
    let ManifestRecord {
        stream_uuid: _,
        segment_id,
        manifest_sequence,
        wall_unix_nanos,
        epoch,
        event,
    } = record;
    Record {
        manifest_sequence: *manifest_sequence,
        time: render::time(*wall_unix_nanos),
        epoch: *epoch,
        segment_id: *segment_id,
        type_id: event.type_id(),
        event: event.name(),
        fields: fields(event),
    }
}

fn undecodable(schema_id: u32, damage: &Damage, blob: &[u8]) -> Value {
    json!({
        "schema_id": schema_id,
        "damage": damage.to_string(),
        "blob": hex::encode(blob),
    })
}

fn fields(event: &ManifestEvent) -> Value {
    match event {
        ManifestEvent::SegmentOpened {
            base_sequence,
            epoch,
        } => json!({"base_sequence": base_sequence, "epoch": epoch}),
        ManifestEvent::SealSegment {
            durable_bytes,
            segment_crc64,
            ext_id,
            watermark,
            flush_failure,
            chain,
            first_unix_nanos,
            last_unix_nanos,
            sealed_unix_nanos,
        } => json!({
            "durable_bytes": durable_bytes,
            "segment_crc64": format!("{segment_crc64:016x}"),
            "ext_id": ext_id,
            "watermark": watermark,
            "flush_failure": flush_failure,
            "chain": format!("{chain:08x}"),
            "first_record_at": render::time(*first_unix_nanos),
            "last_record_at": render::time(*last_unix_nanos),
            "sealed_at": render::time(*sealed_unix_nanos),
        }),
        ManifestEvent::CompressionStarted => json!({}),
        ManifestEvent::CompressionDone {
            compressed_bytes,
            dictionary_id,
        } => {
            json!({"compressed_bytes": compressed_bytes, "dictionary_id": dictionary_id})
        }
        ManifestEvent::CompressionFailed { reason } | ManifestEvent::HydrationFailed { reason } => {
            json!({"reason": format!("{reason:?}"), "reason_code": reason.code()})
        }
        ManifestEvent::UploadStarted { key }
        | ManifestEvent::Tier2DeleteQueued { key }
        | ManifestEvent::Tier2Deleted { key } => json!({"key": key}),
        ManifestEvent::UploadDone { key, etag } => json!({"key": key, "etag": etag}),
        ManifestEvent::UploadFailed { key, reason } => {
            json!({"key": key, "reason": format!("{reason:?}"), "reason_code": reason.code()})
        }
        ManifestEvent::HydrationStarted { source } => json!({
            "source": match source {
                HydrationSource::Tier1 => "tier1",
                HydrationSource::Tier2 => "tier2",
            }
        }),
        ManifestEvent::HydrationDone { copy, bytes }
        | ManifestEvent::LocalEvicted { copy, bytes } => json!({
            "copy": match copy {
                LocalCopy::Hot => "hot",
                LocalCopy::Warm => "warm",
            },
            "bytes": bytes,
        }),
        ManifestEvent::SnapshotMarker {
            chunk_index,
            chunk_offset,
            snapshot_id,
        } => {
            let id = SnapshotId(*snapshot_id);
            json!({
                "snapshot_id": id.to_string(),
                "snapshot": format!("epoch {} number {}", id.epoch(), id.n()),
                "chunk_index": chunk_index,
                "chunk_offset": chunk_offset,
            })
        }
        ManifestEvent::CustomEvent { schema_id, blob }
            if *schema_id == producer_changes::SCHEMA_ID =>
        {
            match ProducerChanges::decode(blob) {
                Ok(changes) => json!({
                    "schema_id": schema_id,
                    "part": changes.part,
                    "producers_changed": changes.producers.len(),
                    "producers_forgotten_before": changes.forgotten_before,
                }),
                Err(damage) => undecodable(*schema_id, &damage, blob),
            }
        }
        ManifestEvent::CustomEvent { schema_id, blob }
            if *schema_id == start_sequence::SCHEMA_ID =>
        {
            match StartSequence::decode(blob) {
                Ok(start) => json!({
                    "schema_id": schema_id,
                    "start_sequence": start.start_sequence,
                    "reason": format!("{:?}", start.reason),
                }),
                Err(damage) => undecodable(*schema_id, &damage, blob),
            }
        }
        ManifestEvent::CustomEvent { schema_id, blob } if *schema_id == compaction::SCHEMA_ID => {
            match Compaction::decode(blob) {
                Ok(event) => compacted(*schema_id, &event),
                Err(damage) => undecodable(*schema_id, &damage, blob),
            }
        }
        ManifestEvent::CustomEvent { schema_id, blob } if *schema_id == cut::SCHEMA_ID => {
            match StreamCut::decode(blob) {
                Ok(cut) => json!({
                    "schema_id": schema_id,
                    "cut_segment": cut.segment_id,
                    "cut_offset": cut.offset,
                    "first_lost": cut.first_lost,
                    "next_sequence": cut.next_sequence,
                    "lost_bytes": cut.lost_bytes,
                    "damage": cut.damage,
                }),
                Err(damage) => undecodable(*schema_id, &damage, blob),
            }
        }
        ManifestEvent::CustomEvent { schema_id, blob } => match SnapshotNote::decode(blob) {
            Ok(note) if *schema_id == NOTE_SCHEMA_ID => json!({
                "schema_id": schema_id,
                "note_of_snapshot": note.snapshot_id.to_string(),
                "request": note.request,
                "key": note.key,
                "digest": note.digest,
                "durable_sequence": note.durable_sequence,
                "uploaded_sequence": note.uploaded_sequence,
            }),
            Ok(_) | Err(_) => json!({"schema_id": schema_id, "blob": hex::encode(blob)}),
        },
        ManifestEvent::Unknown {
            type_id: _,
            payload,
        } => json!({"payload": hex::encode(payload)}),
    }
}

fn compacted(schema_id: u32, event: &Compaction) -> Value {
    let of = |inputs: &Inputs| {
        let Inputs {
            base_sequence,
            end_sequence,
            epoch: _,
            segment_ids,
        } = inputs;
        json!({
            "schema_id": schema_id,
            "base_sequence": base_sequence,
            "end_sequence": end_sequence,
            "inputs": segment_ids,
        })
    };
    let mut fields = match event {
        Compaction::Begun(inputs) | Compaction::Merged(inputs, _) => of(inputs),
        Compaction::Failed { reason } => json!({
            "schema_id": schema_id,
            "reason": format!("{reason:?}"),
            "reason_code": reason.code(),
        }),
        Compaction::GivenUp => json!({"schema_id": schema_id}),
    };
    let (what, output) = match event {
        Compaction::Begun(_) => ("begun", None),
        Compaction::Merged(_, output) => ("merged", Some(output)),
        Compaction::Failed { .. } => ("failed", None),
        Compaction::GivenUp => ("given up", None),
    };
    fields["merge"] = json!(what);
    if let Some(output) = output {
        fields["durable_bytes"] = json!(output.durable_bytes);
        fields["segment_crc64"] = json!(format!("{:016x}", output.segment_crc64));
        fields["object_bytes"] = json!(output.object_bytes);
        fields["chain"] = json!(format!("{:08x}", output.chain));
        fields["first_record_at"] = json!(render::time(output.first_unix_nanos));
        fields["last_record_at"] = json!(render::time(output.last_unix_nanos));
        fields["sealed_at"] = json!(render::time(output.sealed_unix_nanos));
    }
    fields
}

fn page(chunks: &[Chunk]) -> String {
    let columns = [
        Column::Number("RECORD"),
        Column::Text("TIME"),
        Column::Number("EPOCH"),
        Column::Number("SEGMENT"),
        Column::Text("EVENT"),
        Column::Text("FIELDS"),
    ];
    let mut parts = Vec::new();
    for chunk in chunks {
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
        } = chunk;
        let mut part = match base {
            Some(base) => format!("{file}\nstream {stream}, epoch {epoch}, {}\n", base.line()),
            None => format!(
                "{file}\nstream {stream}, epoch {epoch}, chunk {number}: {} records in {commits} commits\n",
                records.len()
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
                if record.event == "Unknown" {
                    format!("type {}", record.type_id)
                } else {
                    record.event.to_owned()
                },
                fields_line(&record.fields),
            ]
        });
        if !records.is_empty() {
            part += &render::table(&columns, rows);
        }
        parts.push(part.trim_end().to_owned());
    }
    parts.join("\n\n")
}

/// `key=value key=value`.
fn fields_line(fields: &Value) -> String {
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

#[cfg(test)]
mod tests;
