//! The manifest's part of a stream's recovery: its base, the chunks behind it, and what the journal has of those.
//!
//! A base counts only together with the chunk behind it. Where one cannot be used and every chunk is there, all of them are replayed and
//! the base goes, so that no later start takes it for what it is not. Where chunks are gone, the stream is damaged: a start never has less
//! than the one before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aof2_format::journal::FileKind;
use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_chunk::{DATA_OFFSET, ManifestChunkHeader};
use aof2_format::names::file;
use aof2_format::stream_header::StreamHeader;
use aof2_format::{Damage, Seed, StreamName};

use super::volume::at;
use crate::error::OpenError;
use crate::io::Disk;
use crate::journal::replay::{FoundManifest, Image};
use crate::manifest::base::{self, BaseOwner, Unreadable, follows};
use crate::manifest::replay::{FoundChunk, Replayed};
use crate::segment::files;

/// What is replayed.
enum Plan {
    /// A base, and the chunks from the one behind it on.
    Behind(ManifestBase),
    /// All chunks.
    All {
        /// A base that cannot be used.
        unusable: Option<String>,
        /// The chunk with a header that such a base names: it was synced before the base was.
        has_header: Option<u64>,
    },
    /// Chunks are gone that no base stands for.
    Damaged(String),
}

pub(super) fn replay(
    disk: &dyn Disk,
    header: &StreamHeader,
    stream_directory: &Path,
    image: &Image,
) -> Result<Replayed, OpenError> {
    let directory = files::manifest(stream_directory);
    let mut chunks = list(disk, header, &directory, image)?;
    let owner = BaseOwner {
        cluster_id: header.cluster_id,
        stream: &header.stream,
        uuid: header.stream_uuid,
        salt: header.stream_salt,
    };
    let path = files::manifest_base(stream_directory);
    let found = match base::read(disk, stream_directory, owner) {
        Ok(base) => Ok(base),
        Err(Unreadable::Damaged(why)) => Err(why),
        Err(Unreadable::Disk(error)) => return Err(at("read", &path)(error)),
    };
    let frames = image.manifests.get(&header.stream_number);
    let frames: Vec<&FoundManifest> = frames.into_iter().flatten().collect();
    let plan = plan(disk, owner, &path, &chunks, &frames, found)?;

    let mut damage = None;
    let mut unusable = None;
    let (onto, first) = match plan {
        Plan::Behind(base) => {
            let is_local = |number: u64, epoch| {
                let found = chunks.get(&number);
                found.is_some_and(|chunk| chunk.epoch == epoch)
            };
            let onto = Replayed::of_base(&base, is_local);
            (onto, base.chunks.len() as u64)
        }
        Plan::All {
            unusable: why,
            has_header,
        } => {
            if let Some(chunk) = has_header.and_then(|number| chunks.get_mut(&number)) {
                chunk.must_reach = chunk.must_reach.max(DATA_OFFSET);
            }
            unusable = why;
            (Replayed::new(), 0)
        }
        Plan::Damaged(why) => {
            damage = Some(why.clone());
            (Replayed::refused(why), 0)
        }
    };
    let mut tail = chunks.split_off(&first);
    let mut missing = None;
    let mut in_journal: BTreeMap<u64, Vec<&FoundManifest>> = BTreeMap::new();
    // What a base stands for is in it.
    for found in frames.into_iter().filter(|it| it.frame.chunk >= first) {
        let frame = &found.frame;
        let Some(chunk) = tail.get_mut(&frame.chunk) else {
            missing = Some(frame.chunk);
            continue;
        };
        chunk.must_reach = chunk.must_reach.max(frame.position + frame.length as u64);
        in_journal.entry(frame.chunk).or_default().push(found);
    }
    let tail: Vec<FoundChunk> = tail.into_values().collect();
    let seed = Seed::new(header.stream_salt);
    let mut replayed = crate::manifest::replay::replay(disk, &tail, &in_journal, seed, onto)
        .map_err(at("replay", &directory))?;
    if damage.is_some() {
        // Nothing is added to what is not whole.
        replayed.chunk = None;
    }
    if let Some(chunk) = missing {
        replayed
            .damage
            .get_or_insert_with(|| format!("manifest chunk {chunk} is missing"));
    }
    if tail.is_empty() {
        replayed
            .damage
            .get_or_insert_with(|| "manifest is missing".to_owned());
    }
    if replayed.damage.is_none() {
        remove_empty(disk, &tail, &mut replayed)?;
        if let Some(why) = unusable {
            tracing::warn!(stream = %header.stream, path = %path.display(), "manifest base cannot be used and is removed, all chunks are there: {why}");
            disk.unlink(&path).map_err(at("remove", &path))?;
            disk.sync_directory(&directory)
                .map_err(at("sync", &directory))?;
        }
    }
    Ok(replayed)
}

/// Chunks by number, with how far the journal knows them to be synced. What was never finished goes.
fn list(
    disk: &dyn Disk,
    header: &StreamHeader,
    directory: &Path,
    image: &Image,
) -> Result<BTreeMap<u64, FoundChunk>, OpenError> {
    let mut chunks = BTreeMap::new();
    for entry in files::list_or_empty(disk, directory).map_err(at("list", directory))? {
        let path: PathBuf = directory.join(&entry.name);
        if entry.name.ends_with(file::TMP_SUFFIX) {
            disk.unlink(&path).map_err(at("remove", &path))?;
            continue;
        }
        let Some((epoch, number)) = file::parse_manifest_chunk(&entry.name) else {
            continue;
        };
        let key = (header.stream_number, FileKind::ManifestChunk, number);
        let found = FoundChunk {
            number,
            epoch,
            path,
            must_reach: image.positions.get(&key).copied().unwrap_or(0),
        };
        chunks.insert(number, found);
    }
    Ok(chunks)
}

fn plan(
    disk: &dyn Disk,
    owner: BaseOwner<'_>,
    path: &Path,
    chunks: &BTreeMap<u64, FoundChunk>,
    frames: &[&FoundManifest],
    found: Result<Option<ManifestBase>, String>,
) -> Result<Plan, OpenError> {
    let (why, has_header) = match found {
        Ok(None) => {
            return Ok(match is_whole(disk, chunks)? {
                true => Plan::All {
                    unusable: None,
                    has_header: None,
                },
                false => Plan::Damaged(lost(path, "file is missing", owner.stream, chunks)),
            });
        }
        Ok(Some(base)) => {
            let next = base.chunks.len() as u64;
            let Some(behind) = chunks.get(&next) else {
                let why = format!(
                    "manifest chunk {next} is missing, which was there when the base was written"
                );
                return Ok(Plan::Damaged(lost(path, &why, owner.stream, chunks)));
            };
            match goes_on(disk, owner, &base, behind, chunks, frames)? {
                Ok(()) => return Ok(Plan::Behind(base)),
                Err(why) => (why, Some(next)),
            }
        }
        Err(why) => (why, None),
    };
    Ok(match !chunks.is_empty() && is_whole(disk, chunks)? {
        true => Plan::All {
            unusable: Some(why),
            has_header,
        },
        false => Plan::Damaged(lost(path, &why, owner.stream, chunks)),
    })
}

/// No chunk is missing before one that holds something.
fn is_whole(disk: &dyn Disk, chunks: &BTreeMap<u64, FoundChunk>) -> Result<bool, OpenError> {
    let hole = (0..).find(|number| !chunks.contains_key(number));
    for (_, behind) in chunks.range(hole.unwrap_or(0)..) {
        if header_of(disk, behind)?.is_ok() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn header_of(
    disk: &dyn Disk,
    chunk: &FoundChunk,
) -> Result<Result<ManifestChunkHeader, Damage>, OpenError> {
    let in_chunk = |verb: &'static str| at(verb, &chunk.path);
    let file = disk.open_read(&chunk.path).map_err(in_chunk("open"))?;
    file.forget_cache().map_err(in_chunk("read"))?;
    let mut block = vec![0; DATA_OFFSET as usize];
    let read = file.read_at(&mut block, 0).map_err(in_chunk("read"))?;
    Ok(ManifestChunkHeader::decode(&block[..read]))
}

/// What is wrong between a base and what is beside it. The header of the chunk behind it was synced before the base was: one without is
/// not that chunk.
fn goes_on(
    disk: &dyn Disk,
    owner: BaseOwner<'_>,
    base: &ManifestBase,
    behind: &FoundChunk,
    chunks: &BTreeMap<u64, FoundChunk>,
    frames: &[&FoundManifest],
) -> Result<Result<(), String>, OpenError> {
    let header = match header_of(disk, behind)? {
        Ok(header) => header,
        Err(damage) => return Ok(Err(format!("manifest chunk {}: {damage}", behind.number))),
    };
    let (chain, sequence) = (base.chain(), base.next_manifest_sequence());
    if let Err(why) = follows(&header, owner, behind.number, chain, sequence) {
        return Ok(Err(why));
    }
    // The journal knows of them what was synced in them, or has it itself.
    let synced = chunks.values().map(|it| (it.number, it.must_reach));
    let reached = frames.iter().map(|found| {
        let frame = &found.frame;
        (frame.chunk, frame.position + frame.length as u64)
    });
    for (number, reach) in synced.chain(reached) {
        if let Some(chunk) = base.chunks.get(number as usize)
            && reach > chunk.bytes
        {
            return Ok(Err(format!(
                "base knows {} bytes of manifest chunk {number}, but {reach} were durable",
                chunk.bytes
            )));
        }
    }
    Ok(Ok(()))
}

/// Names the file, what is gone, and where it is still.
fn lost(path: &Path, why: &str, stream: &StreamName, chunks: &BTreeMap<u64, FoundChunk>) -> String {
    let first = (0..)
        .find(|number| !chunks.contains_key(number))
        .unwrap_or(0);
    let next = chunks.range(first..).next().map(|(number, _)| *number);
    let gone = match next {
        Some(next) if next > first + 1 => format!("chunks {first} to {} are", next - 1),
        Some(_) | None => format!("chunk {first} is"),
    };
    let path = path.display();
    format!(
        "manifest base {path}: {why}; manifest {gone} not on this volume. Restore the base from a backup of the volume, or copy the chunks from Tier 2 \
         to its directory (object manifest/{stream}/EPOCH/CHUNK.mlog is file EPOCH-CHUNK.mlog), and start again"
    )
}

/// Chunks behind the one in use.
fn remove_empty(
    disk: &dyn Disk,
    chunks: &[FoundChunk],
    replayed: &mut Replayed,
) -> Result<(), OpenError> {
    let Some(in_use) = &replayed.chunk else {
        return Ok(());
    };
    for empty in chunks.iter().filter(|chunk| chunk.number > in_use.number) {
        disk.unlink(&empty.path)
            .map_err(at("remove", &empty.path))?;
        replayed.touched.retain(|file| file.path() != empty.path);
    }
    Ok(())
}
