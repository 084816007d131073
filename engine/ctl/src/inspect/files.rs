//! Manifests on a volume.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aof2_core::pattern;
use aof2_format::names::file;

use super::base;
use super::chunk::{Chunk, decode_chunk};
use crate::exit::Failure;

/// Chunks are rolled far below this.
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// Chunk files by the directory that they lie in, oldest first.
pub fn chunk_files(
    place: &Path,
    only: Option<&str>,
) -> Result<BTreeMap<PathBuf, Vec<PathBuf>>, Failure> {
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
                .is_some_and(|stream| only.is_none_or(|only| pattern::fits(only, stream.as_str())))
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
        let chunks = list(&directory)?;
        if !chunks.is_empty() {
            found.insert(directory, chunks);
        }
    }
    Ok(found)
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", path.display()))
}

/// The base first: what it stands for comes before the chunks.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut chunks = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let entry = entry.map_err(|error| unreadable(directory, error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(file::parse_manifest_chunk);
        if number.is_some() || name == file::MANIFEST_BASE {
            chunks.push((number.map(|(epoch, chunk)| (chunk, epoch)), entry.path()));
        }
    }
    chunks.sort();
    Ok(chunks.into_iter().map(|(_, path)| path).collect())
}

pub fn nothing_found(place: &Path, only: Option<&str>) -> Failure {
    let place = place.display();
    Failure::Usage(match only {
        Some(only) => format!(
            "{place}: no manifest chunk (*.mlog) and no manifest base of a stream that matches {only:?} found"
        ),
        None => format!("{place}: no manifest chunk (*.mlog) and no manifest base found"),
    })
}

/// As it is now: a running engine prunes chunks.
pub fn read_directory(directory: &Path, place: &Path) -> Result<Vec<Chunk>, Failure> {
    // A place that is a file stands for itself alone.
    match place.is_file() {
        true => read_all(&[place.to_path_buf()]),
        false => read_all(&list(directory)?),
    }
}

/// The files of one directory, oldest first.
pub fn read_all(files: &[PathBuf]) -> Result<Vec<Chunk>, Failure> {
    let mut chunks = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let is_newest = index + 1 == files.len();
        chunks.push(match base::is_one(file) {
            true => base::read(file, files)?,
            false => read_chunk(file, is_newest)?,
        });
    }
    Ok(chunks)
}

fn read_chunk(path: &Path, is_newest: bool) -> Result<Chunk, Failure> {
    let bytes = read_file(path, "chunk", MAX_CHUNK_BYTES)?;
    Ok(decode_chunk(&path.display().to_string(), &bytes, is_newest))
}

/// Of a `what`, which is never larger than `limit_bytes`.
pub fn read_file(path: &Path, what: &str, limit_bytes: u64) -> Result<Vec<u8>, Failure> {
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
