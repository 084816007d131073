//! A warm file at another level: the same blocks, compressed again into a file next to it, which takes its place once it is durable and
//! verified. The object in Tier 2 stays as it is (ADR 11).
//!
//! Order: new file -> sync -> decompress and compare -> `CompressionStarted` -> rename -> sync of the directory -> `CompressionDone`.
//! Between the two records the manifest says that the file is as long as before, or as the new one is; which of them a killed process
//! left is found by `settle`. Either file stands for the segment, and there is one at every moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::checksum::{Crc64Nvme, crc32c};
use aof2_format::warm::{BlockEntry, HEADER_BYTES, WarmHeader, WarmSummary, encode_tail};
use thiserror::Error;

use super::compress::{self, CompressError, Ready, fresh_file, warm_path};
use super::warm::{self, FileSource, WarmError, WarmFacts, verify};
use crate::error::{StoreError, with_causes};
use crate::io::{Disk, DiskFile, temporary_path};
use crate::objects::Source;
use crate::port::{Port, SealedSegment, TierRecord};

/// Of zstd, as in the configuration.
pub const LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

#[derive(Debug, Error)]
pub enum RecompressError {
    /// Nothing is made of what is no verified copy.
    #[error("copy in Tier 1 cannot be used")]
    Copy(#[source] WarmError),
    #[error(transparent)]
    File(CompressError),
    #[error("zstd does not compress block {block}: {problem}")]
    Codec { block: usize, problem: String },
    #[error("cannot write to the manifest")]
    Manifest(#[source] StoreError),
    /// Evicted or trimmed meanwhile.
    #[error("copy left Tier 1 meanwhile")]
    Gone,
    #[error("engine stops")]
    Stopping,
}

impl From<CompressError> for RecompressError {
    fn from(error: CompressError) -> RecompressError {
        RecompressError::File(error)
    }
}

/// A file that may take the place of the present one.
pub struct Prepared {
    path: PathBuf,
    pub before: WarmFacts,
    ready: Ready,
}

/// What goes on while a file is compressed.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Asked before each block.
    pub is_stopping: &'a dyn Fn() -> bool,
    /// Told of the bytes of each.
    pub on_read: &'a dyn Fn(u64),
}

/// What came of compressing again.
pub enum Made {
    /// The same file, byte for byte.
    Same(WarmFacts),
    Other(Prepared),
}

/// Neither the file nor the manifest is touched yet.
pub fn prepare(
    disk: &dyn Disk,
    path: &Path,
    segment: &SealedSegment,
    level: i32,
    watch: Watch<'_>,
) -> Result<Made, RecompressError> {
    let name = path.display().to_string();
    let opened = disk.open_read(path).and_then(FileSource::new);
    let source = opened.map_err(|source| {
        RecompressError::Copy(WarmError::Read {
            name: name.clone(),
            source,
        })
    })?;
    compress::look_for_bytes(disk, path, source.size_bytes())?;
    let mut before = None;
    let ready = compress::prepare(disk, path, temporary_of(path), segment, |temporary| {
        let copied = Copy {
            source: &source,
            name: &name,
            segment,
            level,
            watch,
        };
        let (file, found) = copied.write(disk, temporary)?;
        before = Some(found);
        Ok::<_, RecompressError>(file)
    })?;
    let Some(before) = before else {
        unreachable!("a file was made of the one that was read")
    };
    if before == ready.facts {
        ready.discard(disk);
        return Ok(Made::Same(before));
    }
    Ok(Made::Other(Prepared {
        path: path.to_owned(),
        before,
        ready,
    }))
}

/// Not the one of whoever makes a copy where there is none.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".again");
    temporary_path(Path::new(&name))
}

impl Prepared {
    /// Puts the new file in the place of the old one, and records it. The caller keeps others from dropping or making the copy meanwhile.
    pub fn swap(
        self,
        port: &dyn Port,
        segment: &SealedSegment,
    ) -> Result<WarmFacts, RecompressError> {
        let Prepared {
            path: _,
            before: _,
            ready,
        } = self;
        let disk = &*port.environment().disk;
        let known = port.sealed_segment(&segment.stream, segment.segment_id);
        let Some(known) = known.filter(|known| known.copies.warm.is_some()) else {
            ready.discard(disk);
            return Err(RecompressError::Gone);
        };
        if !known.moves.is_compressing_again
            && let Err(error) = commit(port, segment, TierRecord::CompressionStarted)
        {
            ready.discard(disk);
            return Err(error);
        }
        let facts = ready.publish(disk)?;
        record(port, segment, facts)?;
        Ok(facts)
    }

    /// Where the file lies that would be replaced.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn after(&self) -> WarmFacts {
        self.ready.facts
    }
}

fn commit(
    port: &dyn Port,
    segment: &SealedSegment,
    record: TierRecord,
) -> Result<(), RecompressError> {
    port.commit(&segment.stream, segment.segment_id, record)
        .map_err(RecompressError::Manifest)
}

/// How long the file is from here on.
pub fn record(
    port: &dyn Port,
    segment: &SealedSegment,
    facts: WarmFacts,
) -> Result<(), RecompressError> {
    let done = TierRecord::CompressionDone {
        compressed_bytes: facts.size_bytes,
        dictionary_id: 0,
    };
    commit(port, segment, done)
}

/// Looks which file a process left that ended between the two records, and says so in the manifest. Before anything else is done with
/// these files.
pub fn settle(port: &dyn Port) {
    for segment in port.compressing_again() {
        let Some(path) = warm_path(&port.tier1_directory(), &segment) else {
            continue;
        };
        let name = path.display().to_string();
        let opened = port.environment().disk.open_read(&path);
        let found = opened
            .and_then(FileSource::new)
            .map_err(|source| WarmError::Read {
                name: name.clone(),
                source,
            })
            .and_then(|source| verify(&source, &name, &segment))
            .map_err(RecompressError::Copy)
            .and_then(|facts| record(port, &segment, facts));
        if let Err(error) = found {
            // Readers find the same, and read Tier 2 where it has the segment.
            let (stream, segment_id) = (&segment.stream, segment.segment_id);
            tracing::warn!(%stream, segment_id, "Tier 1 copy not verified after an interrupted compression: {}", with_causes(&error));
        }
    }
}

/// One file into another.
struct Copy<'a> {
    source: &'a FileSource,
    name: &'a str,
    segment: &'a SealedSegment,
    level: i32,
    watch: Watch<'a>,
}

impl Copy<'_> {
    /// Block by block, each verified. Answers what the source is known by.
    fn write(
        &self,
        disk: &dyn Disk,
        temporary: &Path,
    ) -> Result<(Arc<dyn DiskFile>, WarmFacts), RecompressError> {
        let Copy {
            source,
            name,
            segment,
            level,
            watch,
        } = *self;
        let read = |offset, bytes: &mut [u8]| {
            source.read_at(offset, bytes).map_err(|source| {
                RecompressError::Copy(WarmError::Read {
                    name: name.to_owned(),
                    source,
                })
            })
        };
        let damaged = |source| {
            RecompressError::Copy(WarmError::Damaged {
                name: name.to_owned(),
                source,
            })
        };
        let bad_block = |block, problem| {
            RecompressError::Copy(WarmError::Block {
                name: name.to_owned(),
                block,
                problem,
            })
        };
        let codec = |block, error: std::io::Error| RecompressError::Codec {
            block,
            problem: error.to_string(),
        };
        let index = warm::read_index_of(source, name, segment).map_err(RecompressError::Copy)?;
        let mut head = vec![0; HEADER_BYTES];
        read(0, &mut head)?;
        let header = WarmHeader::decode(&head).map_err(damaged)?;
        warm::same_segment(name, &header, &index.footer, segment).map_err(RecompressError::Copy)?;

        let file = fresh_file(disk, temporary)?;
        let mut end = 0;
        let mut write = |bytes: &[u8]| {
            let written = file.write_all_at(bytes, end);
            end += bytes.len() as u64;
            written.map_err(|source| CompressError::Disk {
                verb: "write",
                path: temporary.to_owned(),
                source,
            })
        };
        let mut whole = Crc64Nvme::default();
        whole.update(&head);
        write(&head)?;
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(|error| codec(0, error))?;
        let mut compressor = zstd::bulk::Compressor::new(level).map_err(|error| codec(0, error))?;
        let mut of_segment = Crc64Nvme::default();
        let mut compressed_offset = HEADER_BYTES as u64;
        let mut entries = Vec::with_capacity(index.blocks.len());
        let mut compressed = Vec::new();
        for (number, entry) in index.blocks.iter().enumerate() {
            if (watch.is_stopping)() {
                return Err(RecompressError::Stopping);
            }
            compressed.resize(entry.compressed_bytes as usize, 0);
            read(entry.compressed_offset, &mut compressed)?;
            whole.update(&compressed);
            (watch.on_read)(compressed.len() as u64);
            let length = index.uncompressed_bytes(number);
            let block = warm::decompress(&mut decompressor, &compressed, entry, length)
                .map_err(|problem| bad_block(number, problem))?;
            of_segment.update(&block);
            let frame = compressor
                .compress(&block)
                .map_err(|error| codec(number, error))?;
            entries.push(BlockEntry {
                compressed_offset,
                compressed_bytes: frame.len() as u32,
                crc32c: crc32c(&block),
                ..*entry
            });
            compressed_offset += frame.len() as u64;
            write(&frame)?;
        }
        let mut tail = vec![0; index.footer.tail_bytes()];
        read(index.footer.tail_offset, &mut tail)?;
        whole.update(&tail);
        let (found, expected) = (of_segment.finish(), segment.crc64);
        if found != expected {
            let [found, expected] = [found, expected].map(|crc| format!("{crc:016x}"));
            let field = "crc64 of the decompressed bytes";
            return Err(RecompressError::Copy(warm::another(
                name, field, found, expected,
            )));
        }
        let footer = &index.footer;
        let summary = WarmSummary {
            segment_id: footer.segment_id,
            epoch: footer.epoch,
            base_sequence: footer.base_sequence,
            end_sequence: footer.end_sequence,
            records: footer.records,
            uncompressed_bytes: footer.uncompressed_bytes,
            crc64: footer.crc64,
            chain: footer.chain,
        };
        write(&encode_tail(&entries, &summary, compressed_offset))?;
        let facts = WarmFacts {
            size_bytes: source.size_bytes(),
            crc64nvme: whole.finish(),
        };
        Ok((file, facts))
    }
}
