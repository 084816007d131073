//! What Tier 1 holds, stream by stream.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use aof2_format::warm::{HEADER_BYTES, WarmHeader};

use super::check::{Finding, finding_of};
use super::inventory::Inventory;
use crate::io::Disk;
use crate::jobs::warm::{FileSource, WarmError, read_index_of};
use crate::objects::Source;
use crate::port::SealedSegment;

/// Of the copies that a manifest names. Sums are of those whose file could be looked at; the others are among the findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    pub stream: Arc<str>,
    pub files: u64,
    /// Of the files.
    pub bytes: u64,
    /// Of the segments in them.
    pub raw_bytes: u64,
    pub records: u64,
    /// Those that Tier 0 has too.
    pub hot_files: u64,
    /// Those that Tier 2 has too.
    pub cold_files: u64,
    pub cold_bytes: u64,
    /// Those that no other tier has.
    pub last_files: u64,
    pub last_bytes: u64,
    /// Independent zstd frames.
    pub blocks: u64,
    /// Files by the uncompressed bytes at which their blocks were cut.
    pub block_bytes: BTreeMap<u32, u64>,
    /// Files that need a dictionary.
    pub with_dictionary: u64,
    /// Copies whose file is not there, or whose header or index is damaged. Blocks are not read here.
    pub findings: Vec<Finding>,
}

/// Reads header, footer and index of each file.
pub fn stats(disk: &dyn Disk, inventory: &Inventory) -> Vec<StreamStats> {
    let mut all: Vec<StreamStats> = Vec::new();
    for (segment, path) in &inventory.named {
        if all.last().is_none_or(|last| last.stream != segment.stream) {
            all.push(StreamStats {
                stream: segment.stream.clone(),
                ..StreamStats::default()
            });
        }
        let Some(stream) = all.last_mut() else {
            continue;
        };
        match look(disk, path, segment) {
            Ok(file) => stream.add(segment, file),
            Err(error) => stream.findings.push(finding_of(path, segment, &error)),
        }
    }
    all
}

struct Looked {
    bytes: u64,
    blocks: u64,
    block_bytes: u32,
    dictionary_id: u32,
}

fn look(disk: &dyn Disk, path: &Path, segment: &SealedSegment) -> Result<Looked, WarmError> {
    let name = path.display().to_string();
    let read = |source| WarmError::Read {
        name: name.clone(),
        source,
    };
    let source = disk.open_read(path).and_then(FileSource::new);
    let source = source.map_err(read)?;
    let index = read_index_of(&source, &name, segment)?;
    let mut head = vec![0; HEADER_BYTES];
    source.read_at(0, &mut head).map_err(read)?;
    let header = WarmHeader::decode(&head).map_err(|source| WarmError::Damaged {
        name: name.clone(),
        source,
    })?;
    Ok(Looked {
        bytes: source.size_bytes(),
        blocks: index.blocks.len() as u64,
        block_bytes: header.block_bytes,
        dictionary_id: header.dictionary_id,
    })
}

impl StreamStats {
    fn add(&mut self, segment: &SealedSegment, file: Looked) {
        let Looked {
            bytes,
            blocks,
            block_bytes,
            dictionary_id,
        } = file;
        let copies = &segment.copies;
        let is_cold = copies.cold.is_some();
        let is_last = !is_cold && !copies.hot;
        self.files += 1;
        self.bytes += bytes;
        self.raw_bytes += segment.bytes;
        self.records += segment.records;
        self.hot_files += u64::from(copies.hot);
        self.cold_files += u64::from(is_cold);
        self.cold_bytes += if is_cold { bytes } else { 0 };
        self.last_files += u64::from(is_last);
        self.last_bytes += if is_last { bytes } else { 0 };
        self.blocks += blocks;
        *self.block_bytes.entry(block_bytes).or_default() += 1;
        self.with_dictionary += u64::from(dictionary_id != 0);
    }
}
