//! A chunk of a manifest: its bytes as records.

use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::{Damage, Seed};
use serde::Serialize;
use serde_json::Value;

use super::base::Base;
use super::event::fields;
use crate::render;

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
    /// Records in it, whether they are shown or not.
    #[serde(skip)]
    pub total_records: u64,
}

#[derive(Debug, Serialize)]
pub struct Record {
    pub manifest_sequence: u64,
    pub time: String,
    #[serde(skip)]
    pub wall_unix_nanos: i64,
    pub epoch: u32,
    pub segment_id: u64,
    pub type_id: u16,
    pub event: &'static str,
    /// Of a `CustomEvent`.
    #[serde(skip)]
    pub schema_id: Option<u32>,
    pub fields: Value,
}

pub fn decode_chunk(file: &str, bytes: &[u8], is_newest: bool) -> Chunk {
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
        total_records: 0,
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
    chunk.total_records = chunk.records.len() as u64;
    chunk.unfinished_bytes = used(&bytes[at..]);
    // Whatever is behind the last commit of the newest chunk was never part of it.
    chunk.damage = end.filter(|_| !is_newest || chunk.unfinished_bytes == 0);
    chunk
}

/// Bytes up to the last that is not zero.
pub fn used(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

/// `None` where the commits just end.
fn end_of(damage: &Damage, rest: &[u8], at: usize) -> Option<String> {
    (used(rest) > 0).then(|| format!("offset {at}: {damage}"))
}

pub fn to_record(record: &ManifestRecord) -> Record {
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
        wall_unix_nanos: *wall_unix_nanos,
        epoch: *epoch,
        segment_id: *segment_id,
        type_id: event.type_id(),
        event: event.name(),
        schema_id: match event {
            ManifestEvent::CustomEvent { schema_id, .. } => Some(*schema_id),
            _ => None,
        },
        fields: fields(event),
    }
}
