//! What a zstd dictionary would save of a stream, measured on its own blocks: trained on those of the older half of the files, tried on
//! those of the newer half. Nothing is kept.

use std::io;
use std::path::{Path, PathBuf};

use aof2_format::StreamName;
use aof2_format::names::file;
use aof2_format::warm::WarmIndex;
use thiserror::Error;

use crate::io::Disk;
use crate::jobs::warm::{FileSource, WarmError, block_of, read_index};
use crate::objects::Source;

/// Uncompressed bytes of each half that are looked at, spread evenly over it.
const HALF_BYTES: u64 = 32 << 20;
/// zstd finds nothing common in fewer.
const LEAST_BLOCKS: usize = 16;

#[derive(Debug, Error)]
pub enum MeasureError {
    #[error("stream {stream} has no file in {}", directory.display())]
    NoFiles { stream: String, directory: PathBuf },
    #[error("cannot list {}", directory.display())]
    List {
        directory: PathBuf,
        source: io::Error,
    },
    #[error(
        "stream {stream} has {blocks} blocks in {files} files of Tier 1; a dictionary needs at least {LEAST_BLOCKS} blocks"
    )]
    TooFew {
        stream: String,
        files: usize,
        blocks: usize,
    },
    #[error(transparent)]
    File(#[from] WarmError),
    #[error("zstd made no dictionary of {blocks} blocks: {cause}")]
    Training { blocks: usize, cause: io::Error },
    #[error("zstd failed on a block: {0}")]
    Codec(io::Error),
}

/// What came out of it. The figures are of the blocks that were tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    pub files: u64,
    pub trained_blocks: u64,
    pub trained_bytes: u64,
    /// Of the dictionary itself, which would be stored once.
    pub dictionary_bytes: u64,
    pub level: i32,
    pub tried_blocks: u64,
    /// Uncompressed.
    pub tried_bytes: u64,
    pub plain_bytes: u64,
    pub with_dictionary_bytes: u64,
}

impl Measure {
    /// Of what the blocks take today, in percent; negative where they would take more.
    pub fn saved_percent(&self) -> f64 {
        let plain = self.plain_bytes.max(1) as f64;
        100.0 - 100.0 * self.with_dictionary_bytes as f64 / plain
    }
}

struct Opened {
    name: String,
    source: FileSource,
    index: WarmIndex,
}

/// Of the files of a stream below `tier1_directory`. They may be read while an engine runs: a file that leaves meanwhile is left out.
pub fn measure(
    disk: &dyn Disk,
    tier1_directory: &Path,
    stream: &StreamName,
    level: i32,
    dictionary_bytes: usize,
) -> Result<Measure, MeasureError> {
    let root = tier1_directory.join(file::WARM_DIR);
    let directory = root.join(file::stream_dir(stream));
    let no_files = || MeasureError::NoFiles {
        stream: stream.to_string(),
        directory: directory.clone(),
    };
    let entries = match disk.list(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_files()),
        listed => listed.map_err(|source| MeasureError::List {
            directory: directory.clone(),
            source,
        })?,
    };
    // Names begin with the first sequence, so that they are in order.
    let names = entries.into_iter().map(|entry| entry.name);
    let mut files = Vec::new();
    for name in names.filter(|name| file::parse_warm(name).is_some()) {
        let path = directory.join(name);
        let name = path.display().to_string();
        let source = match disk.open_read(&path).and_then(FileSource::new) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(WarmError::Read { name, source }.into()),
            Ok(source) => source,
        };
        let index = read_index(&source, &name)?;
        files.push(Opened {
            name,
            source,
            index,
        });
    }
    if files.is_empty() {
        return Err(no_files());
    }
    let of_file = |(file, opened): (usize, &Opened)| {
        (0..opened.index.blocks.len()).map(move |block| (file, block))
    };
    let blocks: Vec<(usize, usize)> = files.iter().enumerate().flat_map(of_file).collect();
    if blocks.len() < LEAST_BLOCKS {
        return Err(MeasureError::TooFew {
            stream: stream.to_string(),
            files: files.len(),
            blocks: blocks.len(),
        });
    }
    let (older, newer) = blocks.split_at(blocks.len() / 2);
    let older = read(&files, older)?;
    let newer = read(&files, newer)?;
    let sizes: Vec<usize> = older.iter().map(Vec::len).collect();
    let samples = older.concat();
    let dictionary = zstd::dict::from_continuous(&samples, &sizes, dictionary_bytes);
    let dictionary = dictionary.map_err(|cause| MeasureError::Training {
        blocks: sizes.len(),
        cause,
    })?;
    let codec = MeasureError::Codec;
    let mut plain = zstd::bulk::Compressor::new(level).map_err(codec)?;
    let mut with = zstd::bulk::Compressor::with_dictionary(level, &dictionary).map_err(codec)?;
    let mut back = zstd::bulk::Decompressor::with_dictionary(&dictionary).map_err(codec)?;
    let mut measure = Measure {
        files: files.len() as u64,
        trained_blocks: sizes.len() as u64,
        trained_bytes: samples.len() as u64,
        dictionary_bytes: dictionary.len() as u64,
        level,
        tried_blocks: newer.len() as u64,
        tried_bytes: 0,
        plain_bytes: 0,
        with_dictionary_bytes: 0,
    };
    for block in &newer {
        measure.tried_bytes += block.len() as u64;
        measure.plain_bytes += plain.compress(block).map_err(codec)?.len() as u64;
        let frame = with.compress(block).map_err(codec)?;
        let again = back.decompress(&frame, block.len()).map_err(codec)?;
        if again != *block {
            let what = "a block does not decompress to its bytes";
            return Err(MeasureError::Codec(io::Error::other(what)));
        }
        measure.with_dictionary_bytes += frame.len() as u64;
    }
    Ok(measure)
}

/// Evenly spread, as many as the limit of bytes allows.
fn read(files: &[Opened], blocks: &[(usize, usize)]) -> Result<Vec<Vec<u8>>, WarmError> {
    let bytes = |(file, block): &(usize, usize)| files[*file].index.uncompressed_bytes(*block);
    let total: u64 = blocks.iter().map(|it| bytes(it) as u64).sum();
    let step = usize::try_from(total.div_ceil(HALF_BYTES)).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for (file, block) in blocks.iter().step_by(step.max(1)) {
        let Opened {
            name,
            source,
            index,
        } = &files[*file];
        let entry = &index.blocks[*block];
        let mut compressed = vec![0; entry.compressed_bytes as usize];
        source
            .read_at(entry.compressed_offset, &mut compressed)
            .map_err(|source| WarmError::Read {
                name: name.clone(),
                source,
            })?;
        let bytes = block_of(index, *block, &compressed);
        found.push(bytes.map_err(|problem| WarmError::Block {
            name: name.clone(),
            block: *block,
            problem,
        })?);
    }
    Ok(found)
}
