//! The manifest's part of a stream's recovery: its base, the chunks behind it, and what the journal has of those.
//!
//! A base counts only together with the chunk behind it. Where one cannot be used and every chunk is there, all of them are replayed and
//! the base goes, so that no later start takes it for what it is not. Where chunks are gone, the stream is damaged: a start never has less
//! than the one before. Of the newest chunk the journal alone says that it was there, so that is carried on until it is back.

mod missing;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use aof2_format::journal::FileKind;
use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_chunk::{DATA_OFFSET, ManifestChunkHeader};
use aof2_format::names::file;
use aof2_format::stream_header::StreamHeader;
use aof2_format::{Damage, Seed};

use super::volume::at;
use crate::error::OpenError;
use crate::io::{Disk, again, is_device_error};
use crate::journal::replay::{FoundManifest, Image};
use crate::manifest::base::{self, BaseOwner, Unreadable, follows};
use crate::manifest::create_chunk;
use crate::manifest::replay::{FoundChunk, Replayed};
use crate::segment::files;

/// What is replayed.
enum Plan {
    /// A base, and the chunks from the one behind it on.
    Behind(ManifestBase),
    /// All chunks.
    All {
        /// A base that cannot be used.
        unusable: Option<Unusable>,
        /// The chunk with a header that such a base names: it was synced before the base was.
        has_header: Option<u64>,
    },
    /// Chunks are gone that no base stands for.
    Damaged(String),
}

struct Unusable {
    why: String,
    /// It was read, and is no base of these chunks.
    goes: bool,
}

/// What the journal has of a stream's chunks, whether their files are there or not.
struct Journaled<'a> {
    frames: Vec<&'a FoundManifest>,
    /// How far each was durable, by number; 0 = its file alone was.
    reach: BTreeMap<u64, u64>,
}

impl<'a> Journaled<'a> {
    fn of(image: &'a Image, header: &StreamHeader) -> Journaled<'a> {
        let number = header.stream_number;
        let kind = FileKind::ManifestChunk;
        let positions = image
            .positions
            .range((number, kind, 0)..=(number, kind, u64::MAX));
        let mut reach: BTreeMap<u64, u64> = positions
            .map(|((_, _, chunk), reach)| (*chunk, *reach))
            .collect();
        let frames = image.manifests.get(&number);
        let frames: Vec<&FoundManifest> = frames.into_iter().flatten().collect();
        for found in &frames {
            let frame = &found.frame;
            let known = reach.entry(frame.chunk).or_default();
            *known = (*known).max(frame.position + frame.length as u64);
        }
        Journaled { frames, reach }
    }

    fn reach_of(&self, chunk: u64) -> u64 {
        self.reach.get(&chunk).copied().unwrap_or(0)
    }
}

pub(super) fn replay(
    disk: &dyn Disk,
    header: &StreamHeader,
    stream_directory: &Path,
    image: &Image,
) -> Result<Replayed, OpenError> {
    let directory = files::manifest(stream_directory);
    let journaled = Journaled::of(image, header);
    let mut chunks = list(disk, &directory, &journaled)?;
    let owner = BaseOwner {
        cluster_id: header.cluster_id,
        stream: &header.stream,
        uuid: header.stream_uuid,
        salt: header.stream_salt,
    };
    let path = files::manifest_base(stream_directory);
    let found = match base::read(disk, stream_directory, owner) {
        Ok(base) => Ok(base),
        Err(Unreadable::Damaged(why)) => Err(Unusable { why, goes: true }),
        Err(Unreadable::Device(error)) => Err(Unusable {
            why: format!("file cannot be read: {error}"),
            goes: false,
        }),
        Err(Unreadable::Disk(error)) => return Err(at("read", &path)(error)),
    };
    let plan = plan(disk, owner, &path, &chunks, &journaled, found)?;

    let mut unusable = None;
    let (mut onto, first) = match plan {
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
        Plan::Damaged(why) => (Replayed::refused(why), 0),
    };
    let mut tail = chunks.split_off(&first);
    // Before anything is written: nothing is cut off, or added to, where something is missing.
    let mut behind_a_hole = Vec::new();
    if onto.damage.is_none() {
        onto.damage = missing::chunk(
            disk,
            owner.stream,
            &directory,
            first,
            &tail,
            &journaled.reach,
        )?;
    }
    if onto.damage.is_none() {
        behind_a_hole = split_at_hole(first, &mut tail);
        make_again(disk, stream_directory, &mut tail, &journaled)?;
    }
    let mut in_journal: BTreeMap<u64, Vec<&FoundManifest>> = BTreeMap::new();
    // What a base stands for is in it.
    for found in journaled.frames {
        if tail.contains_key(&found.frame.chunk) {
            in_journal.entry(found.frame.chunk).or_default().push(found);
        }
    }
    let absent: Vec<(u64, u64)> = journaled
        .reach
        .range(first..)
        .filter(|(number, _)| !tail.contains_key(number))
        .map(|(number, reach)| (*number, *reach))
        .collect();
    let tail: Vec<FoundChunk> = tail.into_values().collect();
    let seed = Seed::new(header.stream_salt);
    let mut replayed = crate::manifest::replay::replay(disk, &tail, &in_journal, seed, onto)
        .map_err(at("replay", &directory))?;
    // The journal that says so is written over by this process.
    replayed.must_reach.extend(absent);
    if tail.is_empty() {
        replayed
            .damage
            .get_or_insert_with(|| "manifest is missing".to_owned());
    }
    if replayed.damage.is_none() {
        remove_empty(disk, tail.iter().chain(&behind_a_hole), &mut replayed)?;
        if let Some(Unusable { why, goes }) = unusable {
            tracing::warn!(stream = %header.stream, path = %path.display(), is_removed = goes, "manifest base cannot be used, all chunks are there: {why}");
            if goes {
                disk.unlink(&path).map_err(at("remove", &path))?;
                disk.sync_directory(&directory)
                    .map_err(at("sync", &directory))?;
            }
        }
    }
    Ok(replayed)
}

/// Chunks by number, with how far the journal knows them to be durable. What was never finished goes.
fn list(
    disk: &dyn Disk,
    directory: &Path,
    journaled: &Journaled<'_>,
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
        let found = FoundChunk {
            number,
            epoch,
            path,
            must_reach: journaled.reach_of(number),
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
    journaled: &Journaled<'_>,
    found: Result<Option<ManifestBase>, Unusable>,
) -> Result<Plan, OpenError> {
    let lost = |why: &str| Plan::Damaged(missing::base(path, why, owner.stream, chunks));
    let (why, has_header) = match found {
        Ok(None) => {
            return Ok(match is_whole(disk, chunks)? {
                true => Plan::All {
                    unusable: None,
                    has_header: None,
                },
                false => lost("file is missing"),
            });
        }
        Ok(Some(base)) => {
            let next = base.chunks.len() as u64;
            let Some(behind) = chunks.get(&next) else {
                return Ok(Plan::Damaged(missing::behind_base(
                    path,
                    next,
                    owner.stream,
                )));
            };
            match goes_on(disk, owner, &base, behind, journaled)? {
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
        false => lost(&why.why),
    })
}

/// No chunk is missing before one that holds something.
fn is_whole(disk: &dyn Disk, chunks: &BTreeMap<u64, FoundChunk>) -> Result<bool, OpenError> {
    Ok(missing::hole(disk, 0, chunks)?.is_none())
}

/// A chunk without a header.
enum Headless {
    /// It holds nothing that was durable, as far as it tells.
    Read(Damage),
    /// The device does not give it back now: it may hold anything.
    Unread(io::Error),
}

impl From<Headless> for Unusable {
    fn from(behind: Headless) -> Unusable {
        match behind {
            Headless::Read(damage) => Unusable {
                why: damage.to_string(),
                goes: true,
            },
            Headless::Unread(error) => Unusable {
                why: error.to_string(),
                goes: false,
            },
        }
    }
}

fn header_of(
    disk: &dyn Disk,
    chunk: &FoundChunk,
) -> Result<Result<ManifestChunkHeader, Headless>, OpenError> {
    let block = again(|| {
        let file = disk.open_read(&chunk.path)?;
        file.forget_cache()?;
        let mut block = vec![0; DATA_OFFSET as usize];
        let read = file.read_at(&mut block, 0)?;
        block.truncate(read);
        Ok::<_, io::Error>(block)
    });
    match block {
        Ok(block) => Ok(ManifestChunkHeader::decode(&block).map_err(Headless::Read)),
        Err(error) if is_device_error(&error) => Ok(Err(Headless::Unread(error))),
        Err(error) => Err(at("read", &chunk.path)(error)),
    }
}

/// What is wrong between a base and what is beside it. The header of the chunk behind it was synced before the base was: one without is
/// not that chunk.
fn goes_on(
    disk: &dyn Disk,
    owner: BaseOwner<'_>,
    base: &ManifestBase,
    behind: &FoundChunk,
    journaled: &Journaled<'_>,
) -> Result<Result<(), Unusable>, OpenError> {
    let header = match header_of(disk, behind)? {
        Ok(header) => header,
        Err(headless) => {
            let Unusable { why, goes } = headless.into();
            let why = format!("manifest chunk {}: {why}", behind.number);
            return Ok(Err(Unusable { why, goes }));
        }
    };
    let (chain, sequence) = (base.chain(), base.next_manifest_sequence());
    let goes = true;
    if let Err(why) = follows(&header, owner, behind.number, chain, sequence) {
        return Ok(Err(Unusable { why, goes }));
    }
    // The journal knows of them what was synced in them, or has it itself. Also where their files are gone.
    for (number, chunk) in (0..).zip(&base.chunks) {
        let reach = journaled.reach_of(number);
        if reach > chunk.bytes {
            let why = format!(
                "base knows {} bytes of manifest chunk {number}, but {reach} were durable",
                chunk.bytes
            );
            return Ok(Err(Unusable { why, goes }));
        }
    }
    Ok(Ok(()))
}

/// Chunks that nothing was durable in may be gone in any order. Those behind the first that is are not gone on in.
fn split_at_hole(first: u64, tail: &mut BTreeMap<u64, FoundChunk>) -> Vec<FoundChunk> {
    let hole = (first..).find(|number| !tail.contains_key(number));
    let behind = hole.map(|hole| tail.split_off(&hole)).unwrap_or_default();
    behind.into_values().collect()
}

/// The chunk in use was made and nothing written to it: it takes commits again, not the one before, which may be in Tier 2 already.
fn make_again(
    disk: &dyn Disk,
    stream_directory: &Path,
    tail: &mut BTreeMap<u64, FoundChunk>,
    journaled: &Journaled<'_>,
) -> Result<(), OpenError> {
    let Some((number, epoch)) = tail
        .last_key_value()
        .map(|(number, it)| (number + 1, it.epoch))
    else {
        return Ok(());
    };
    if journaled.reach.contains_key(&number) {
        let made = create_chunk(disk, stream_directory, epoch, number);
        let made = made.map_err(|error| at(error.verb, &error.path)(error.source))?;
        let found = FoundChunk {
            number,
            epoch,
            path: made.file.path().to_owned(),
            must_reach: 0,
        };
        tail.insert(number, found);
    }
    Ok(())
}

/// Chunks behind the one in use.
fn remove_empty<'a>(
    disk: &dyn Disk,
    chunks: impl Iterator<Item = &'a FoundChunk>,
    replayed: &mut Replayed,
) -> Result<(), OpenError> {
    let Some(in_use) = &replayed.chunk else {
        return Ok(());
    };
    for empty in chunks.filter(|chunk| chunk.number > in_use.number) {
        disk.unlink(&empty.path)
            .map_err(at("remove", &empty.path))?;
        replayed.touched.retain(|file| file.path() != empty.path);
    }
    Ok(())
}
