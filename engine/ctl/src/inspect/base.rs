//! A manifest's base beside its chunks.

use std::path::{Path, PathBuf};

use aof2_format::manifest_base::{BaseChunk, MAX_BYTES, ManifestBase};
use aof2_format::names::file;
use serde::Serialize;

use super::chunk::{Chunk, to_record};
use super::files::read_file;
use crate::exit::Failure;
use crate::render;

/// What a base stands for.
#[derive(Debug, Serialize)]
pub struct Base {
    pub created: String,
    /// Of the first record behind it.
    pub next_manifest_sequence: u64,
    pub chain: String,
    /// Records in it, whether they are shown or not.
    pub records: u64,
    pub producer_parts: u64,
    pub chunks: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub chunk: u64,
    pub epoch: u32,
    pub bytes: u64,
    pub crc64: String,
    pub first_manifest_sequence: u64,
    pub next_manifest_sequence: u64,
    /// Its file is beside the base.
    pub is_local: bool,
}

impl Base {
    pub fn line(&self) -> String {
        let Base {
            created: _,
            next_manifest_sequence,
            chain: _,
            records,
            producer_parts,
            chunks,
        } = self;
        let local = chunks.iter().filter(|row| row.is_local);
        format!(
            "base of chunks 0 to {} ({} of them on the volume): {records} of {next_manifest_sequence} records, {producer_parts} parts of producers",
            chunks.len().saturating_sub(1),
            local.count(),
        )
    }
}

pub fn is_one(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == file::MANIFEST_BASE)
}

/// Records that a chunk file of `beside` holds are left to that one.
pub fn read(path: &Path, beside: &[PathBuf]) -> Result<Chunk, Failure> {
    let bytes = read_file(path, "base", MAX_BYTES)?;
    let mut shown = Chunk {
        file: path.display().to_string(),
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
    let base = match ManifestBase::decode(&bytes) {
        Ok(base) => base,
        Err(damage) => {
            shown.damage = Some(damage.to_string());
            return Ok(shown);
        }
    };
    let named: Vec<(u32, u64)> = beside
        .iter()
        .filter_map(|path| file::parse_manifest_chunk(path.file_name()?.to_str()?))
        .collect();
    let rows: Vec<Row> = (0..)
        .zip(&base.chunks)
        .map(|(number, chunk)| row(number, chunk, named.contains(&(chunk.epoch, number))))
        .collect();
    let is_elsewhere = |sequence: u64| {
        let behind = rows.partition_point(|row| row.next_manifest_sequence <= sequence);
        rows.get(behind).is_some_and(|row| row.is_local)
    };
    shown.records = base
        .records
        .iter()
        .filter(|record| !is_elsewhere(record.manifest_sequence))
        .map(to_record)
        .collect();
    shown.total_records = shown.records.len() as u64;
    shown.stream = base.stream.to_string();
    shown.epoch = base.epoch;
    // The last one that it stands for.
    shown.chunk = rows.len().saturating_sub(1) as u64;
    shown.base = Some(Base {
        created: render::time(base.created_unix_nanos),
        next_manifest_sequence: base.next_manifest_sequence(),
        chain: format!("{:08x}", base.chain()),
        records: base.records.len() as u64,
        producer_parts: base.producers.len() as u64,
        chunks: rows,
    });
    Ok(shown)
}

fn row(chunk: u64, found: &BaseChunk, is_local: bool) -> Row {
    let BaseChunk {
        epoch,
        chain: _,
        bytes,
        crc64,
        first_manifest_sequence,
        next_manifest_sequence,
    } = *found;
    Row {
        chunk,
        epoch,
        bytes,
        crc64: format!("{crc64:016x}"),
        first_manifest_sequence,
        next_manifest_sequence,
        is_local,
    }
}
