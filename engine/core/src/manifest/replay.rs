//! Reads a stream's manifest chunks back into the fold, after the journal's frames were written into them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aof2_format::manifest_base::ManifestBase;
use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::{BLOCK_BYTES, Seed};

use super::base;
use super::producer_table::TableFold;
use super::state::{ManifestState, is_about_snapshots};
use super::{Chunk, ClosedChunk};
use crate::io::{Disk, DiskFile, FileClass, again, holds, is_device_error};
use crate::journal::replay::FoundManifest;
use crate::segment::scan::last_written;

/// A chunk file and how far it has to verify: what the journal holds of it, and what was synced.
pub(crate) struct FoundChunk {
    pub number: u64,
    /// In its name.
    pub epoch: u32,
    pub path: PathBuf,
    pub must_reach: u64,
}

pub(crate) struct Replayed {
    pub state: ManifestState,
    pub producers: TableFold,
    pub chain: u32,
    /// The last one; takes further commits.
    pub chunk: Option<Chunk>,
    /// Those before it.
    pub closed: Vec<ClosedChunk>,
    /// Records in the last one that are not about a snapshot.
    pub substance: u64,
    pub records: u64,
    /// Number and bytes of the last closed chunk and of the one in use: they have to verify that far from here on, too.
    pub must_reach: Vec<(u64, u64)>,
    /// Chunks that have to be synced before the stream serves.
    pub touched: Vec<Arc<dyn DiskFile>>,
    pub damage: Option<String>,
}

impl Replayed {
    /// Of no chunk.
    pub fn new() -> Replayed {
        Replayed {
            state: ManifestState::default(),
            producers: TableFold::default(),
            chain: 0,
            chunk: None,
            closed: Vec::new(),
            substance: 0,
            records: 0,
            must_reach: Vec::new(),
            touched: Vec::new(),
            damage: None,
        }
    }

    /// Of the chunks that a base stands for; `is_local` says of which a file is there, by number and epoch.
    pub fn of_base(base: &ManifestBase, is_local: impl Fn(u64, u32) -> bool) -> Replayed {
        let (state, producers) = base::fold(base);
        let chunks = (0..).zip(&base.chunks);
        let closed = chunks.map(|(number, chunk)| ClosedChunk {
            crc64: Some(chunk.crc64),
            is_local: is_local(number, chunk.epoch),
            ..ClosedChunk::new(number, chunk.epoch, chunk.bytes)
        });
        Replayed {
            closed: closed.collect(),
            state,
            producers,
            chain: base.chain(),
            records: base.records.len() as u64,
            ..Replayed::new()
        }
    }

    /// Of a stream whose files are not looked at.
    pub fn refused(why: String) -> Replayed {
        Replayed {
            damage: Some(why),
            ..Replayed::new()
        }
    }
}

/// How far a chunk verifies.
struct Folded {
    /// Behind its last commit; 0 = not even its header does.
    end: u64,
    /// Behind that, up to the last one that is not zero.
    torn_bytes: usize,
    /// By this start: the rest was synced with the volume.
    is_written: bool,
}

/// A chunk as it was found, with what the journal has of it.
struct Opened {
    /// While somebody needs it open.
    file: Option<Arc<dyn DiskFile>>,
    is_written: bool,
    /// Or why the device does not give them back.
    bytes: Result<Vec<u8>, io::Error>,
}

/// Chunks come in the order of their numbers, and are opened one after the other: their number has no limit. `in_journal` holds what
/// the journal has of them, `replayed` what is known before them, damage among it. Torn bytes behind the last commit are zeroed; the caller
/// syncs the files. Where there is damage, nothing is changed but what the journal has, and no chunk takes commits.
///
/// A chunk is made before the commits of the one before it are synced, so that a power cut may leave a torn tail in the one and nothing in
/// the other. The other is then the one in use, and the tail was never durable. Only so: where anything verifies or was durable in a later
/// chunk, a tail that does not verify is damage. Chunks behind the one in use are empty, and the caller removes them.
///
/// An error says nothing of the files: something is lacking, or what only the journal has cannot be written to its place.
pub(crate) fn replay(
    disk: &dyn Disk,
    chunks: &[FoundChunk],
    in_journal: &BTreeMap<u64, Vec<&FoundManifest>>,
    seed: Seed,
    mut replayed: Replayed,
) -> io::Result<Replayed> {
    let mut folded = Vec::with_capacity(chunks.len());
    let mut opened: Vec<Option<Arc<dyn DiskFile>>> = Vec::with_capacity(chunks.len());
    let mut in_use = 0;
    for (index, found) in chunks.iter().enumerate() {
        let frames = in_journal.get(&found.number).map_or(&[][..], Vec::as_slice);
        let is_last = index + 1 == chunks.len();
        let Opened {
            file,
            is_written,
            bytes,
        } = open(disk, found, frames, is_last, seed)?;
        opened.push(file);
        replayed.substance = 0;
        let (end, torn_bytes) = match bytes {
            Ok(bytes) => {
                let end = fold_chunk(&mut replayed, found, &bytes, seed);
                let torn = last_written(&bytes[end as usize..]);
                (end, torn.map_or(0, |last| last + 1))
            }
            Err(error) => {
                replayed.damage.get_or_insert_with(|| {
                    format!(
                        "manifest chunk {} cannot be read: {error}; restore {} from a backup of the volume if a restart does not help",
                        found.number,
                        found.path.display()
                    )
                });
                (0, 0)
            }
        };
        if end < found.must_reach {
            replayed.damage.get_or_insert_with(|| {
                format!(
                    "manifest chunk {} verifies up to byte {end}, but byte {} was durable",
                    found.number, found.must_reach
                )
            });
        }
        folded.push(Folded {
            end,
            torn_bytes,
            is_written,
        });
        if end > 0 || found.must_reach > 0 {
            in_use = (index + 1).min(chunks.len() - 1);
        }
    }
    for (index, (found, folded_to)) in chunks.iter().zip(&folded).enumerate() {
        let Folded {
            end, torn_bytes, ..
        } = folded_to;
        let may_be_torn = index >= in_use || (index + 1 == in_use && folded[in_use].end == 0);
        if *torn_bytes > 0 && !may_be_torn {
            replayed.damage.get_or_insert_with(|| {
                format!(
                    "manifest chunk {} fails verification after byte {end}",
                    found.number
                )
            });
        }
    }
    let is_whole = replayed.damage.is_none();
    for (index, (found, folded)) in chunks.iter().zip(&folded).enumerate() {
        let Folded {
            end,
            torn_bytes,
            is_written,
        } = folded;
        let is_cut = *torn_bytes > 0 && is_whole;
        let has_to_be_synced = is_cut || *is_written;
        let is_used = is_whole && index >= in_use;
        let file = match opened[index].take() {
            Some(file) => Some(file),
            None if is_used || has_to_be_synced => {
                Some(disk.open_write(&found.path, FileClass::Manifest)?)
            }
            None => None,
        };
        if let Some(file) = file.as_ref().filter(|_| is_cut) {
            file.write_all_at(&vec![0; *torn_bytes], *end)?;
        }
        if let Some(file) = file.as_ref().filter(|_| has_to_be_synced) {
            replayed.touched.push(file.clone());
        }
        if index < in_use {
            let closed = ClosedChunk::new(found.number, found.epoch, *end);
            replayed.closed.push(closed);
        }
        if let Some(file) = file.filter(|_| is_whole && index == in_use) {
            replayed.chunk = Some(Chunk {
                number: found.number,
                epoch: found.epoch,
                allocated: file.len()?,
                file,
                tail: *end,
            });
        }
        if index + 1 == in_use || index == in_use {
            replayed
                .must_reach
                .push((found.number, found.must_reach.max(*end)));
        }
    }
    Ok(replayed)
}

/// What the journal has of the chunk goes to its place before anything is read: where it cannot, the journal has to stay as it is. A chunk
/// of which it has nothing may be unreadable: its stream is damaged, and the others are served.
fn open(
    disk: &dyn Disk,
    found: &FoundChunk,
    frames: &[&FoundManifest],
    is_last: bool,
    seed: Seed,
) -> io::Result<Opened> {
    let may_be_written = !frames.is_empty() || is_last;
    let found_file = again(|| match may_be_written {
        true => disk.open_write(&found.path, FileClass::Manifest),
        false => disk.open_read(&found.path),
    });
    let file = match found_file {
        Err(error) if is_device_error(&error) && frames.is_empty() => {
            return Ok(Opened {
                file: None,
                is_written: false,
                bytes: Err(error),
            });
        }
        file => file?,
    };
    file.forget_cache()?;
    let mut is_written = false;
    for frame in frames {
        let bytes = frame.bytes()?;
        let position = frame.frame.position;
        // What reads back the same is on the device: the volume was synced, and the cache forgotten.
        let is_right = || frame.frame.is_proven || manifest_chunk::is_whole(position, &bytes, seed);
        if !holds(&*file, position, &bytes) && is_right() {
            file.write_all_at(&bytes, position)?;
            is_written = true;
        }
    }
    let bytes = again(|| {
        let mut bytes = vec![0; file.len()? as usize];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    });
    let bytes = match bytes {
        Err(error) if !is_device_error(&error) => return Err(error),
        bytes => bytes,
    };
    // One at a time stays open: what is written has to be synced by whoever wrote it, and the last one is in use, as a rule.
    let stays_open = is_written || is_last;
    Ok(Opened {
        file: stays_open.then_some(file),
        is_written,
        bytes,
    })
}

/// Answers the offset behind the last commit that verifies; 0 when not even the header does.
fn fold_chunk(replayed: &mut Replayed, found: &FoundChunk, bytes: &[u8], seed: Seed) -> u64 {
    match ManifestChunkHeader::decode(bytes) {
        Ok(header) if header.chunk == found.number && header.prev_chain == replayed.chain => {}
        Ok(_) | Err(_) => return 0,
    }
    let mut offset = DATA_OFFSET as usize;
    debug_assert_eq!(offset, BLOCK_BYTES);
    let commits = manifest_chunk::commits(bytes, offset, seed);
    for commit in commits.map_while(Result::ok) {
        let follows = commit.prev_chain == replayed.chain
            && commit
                .records
                .first()
                .is_some_and(|first| first.manifest_sequence == replayed.state.next_sequence);
        if !follows {
            break;
        }
        for record in &commit.records {
            replayed.state.apply(record);
            replayed.producers.apply(record);
            replayed.substance += u64::from(!is_about_snapshots(&record.event));
        }
        replayed.records += commit.records.len() as u64;
        replayed.chain = commit.chain;
        offset += commit.bytes;
    }
    offset as u64
}

#[cfg(test)]
mod tests {
    use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
    use aof2_format::{ClusterId, Salt, StreamName, StreamUuid};

    use super::*;
    use crate::io::{Disk, FileClass, SystemDisk};

    const SALT: Salt = Salt(7);

    /// Writes chunks as a stream does.
    struct Written {
        folder: tempfile::TempDir,
        chain: u32,
        next: u64,
    }

    impl Written {
        fn new() -> Written {
            Written {
                folder: tempfile::tempdir().expect("a folder"),
                chain: 0,
                next: 0,
            }
        }

        /// A header and this many commits.
        fn bytes(&mut self, number: u64, commits: u64) -> Vec<u8> {
            let header = ManifestChunkHeader {
                cluster_id: ClusterId([1; 16]),
                stream: StreamName::new("orders").expect("a name"),
                stream_uuid: StreamUuid([2; 16]),
                stream_salt: SALT,
                epoch: 1,
                chunk: number,
                base_manifest_sequence: self.next,
                prev_chain: self.chain,
                created_unix_nanos: 0,
            };
            let mut bytes = header.encode().to_vec();
            for _ in 0..commits {
                let record = ManifestRecord {
                    stream_uuid: StreamUuid([2; 16]),
                    segment_id: self.next,
                    manifest_sequence: self.next,
                    wall_unix_nanos: 0,
                    epoch: 1,
                    event: ManifestEvent::CompressionStarted,
                };
                self.next += 1;
                self.chain = manifest_chunk::encode_commit(
                    &mut bytes,
                    &[record],
                    self.chain,
                    Seed::new(SALT),
                );
            }
            bytes
        }

        fn found(&self, number: u64, bytes: &[u8], must_reach: usize) -> FoundChunk {
            let path = self.folder.path().join(number.to_string());
            let file = SystemDisk
                .create(&path, FileClass::Manifest)
                .expect("a file");
            file.allocate(0, 64 << 10).expect("allocated");
            file.write_all_at(bytes, 0).expect("written");
            FoundChunk {
                number,
                epoch: 1,
                path,
                must_reach: must_reach as u64,
            }
        }
    }

    fn bytes_at(path: &std::path::Path) -> Vec<u8> {
        bytes_of(&*SystemDisk.open_read(path).expect("it is there"))
    }

    fn bytes_of(file: &dyn DiskFile) -> Vec<u8> {
        let mut bytes = vec![0; file.len().expect("a length") as usize];
        file.read_at(&mut bytes, 0).expect("read");
        bytes
    }

    fn again(chunks: &[FoundChunk]) -> Replayed {
        let nothing = Replayed::new();
        replay(
            &SystemDisk,
            chunks,
            &BTreeMap::new(),
            Seed::new(SALT),
            nothing,
        )
        .expect("read")
    }

    /// Chunk 0 with three commits, the last one torn, and what a following chunk would be.
    fn torn(written: &mut Written) -> (Vec<u8>, usize, Vec<u8>) {
        let mut bytes = written.bytes(0, 3);
        let end = bytes.len() - (bytes.len() - BLOCK_BYTES) / 3;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let follower = written.bytes(1, 1);
        (bytes, end, follower)
    }

    #[test]
    fn a_torn_tail_before_a_chunk_that_nothing_was_durable_in_is_cut() {
        let mut written = Written::new();
        let (bytes, end, follower) = torn(&mut written);
        // Nothing of the follower came to the device; its header did; all of it did.
        for follower in [&[][..], &follower[..BLOCK_BYTES], &follower[..]] {
            let chunks = [written.found(0, &bytes, end), written.found(1, follower, 0)];
            let replayed = again(&chunks);
            assert_eq!(replayed.damage, None);
            assert_eq!(replayed.records, 2);
            assert_eq!(replayed.closed, [ClosedChunk::new(0, 1, end as u64)]);
            let in_use = replayed.chunk.expect("a chunk");
            assert_eq!((in_use.number, in_use.tail), (1, 0));
            assert_eq!(replayed.must_reach, [(0, end as u64), (1, 0)]);
            assert!(
                bytes_at(&chunks[0].path)[end..]
                    .iter()
                    .all(|byte| *byte == 0)
            );
            assert!(bytes_of(&*in_use.file).iter().all(|byte| *byte == 0));
            for chunk in chunks {
                SystemDisk.unlink(&chunk.path).expect("removed");
            }
        }
    }

    #[test]
    fn a_chunk_that_was_durable_further_than_it_verifies_is_damaged_and_left_alone() {
        let mut written = Written::new();
        let (bytes, end, _) = torn(&mut written);
        let chunks = [
            written.found(0, &bytes, bytes.len()),
            written.found(1, &[], 0),
        ];
        let replayed = again(&chunks);
        let damage = replayed.damage.expect("damage");
        assert!(damage.contains("was durable"), "{damage}");
        assert_eq!(
            replayed.must_reach[0],
            (0, bytes.len() as u64),
            "also next time"
        );
        assert_eq!(bytes_at(&chunks[0].path)[end..bytes.len()], bytes[end..]);
    }

    #[test]
    fn a_torn_tail_before_a_chunk_that_holds_something_is_damage() {
        let mut written = Written::new();
        let (bytes, end, follower) = torn(&mut written);
        let durable = [
            written.found(0, &bytes, end),
            written.found(1, &follower, follower.len()),
        ];
        assert!(again(&durable).damage.is_some());
        for chunk in durable {
            SystemDisk.unlink(&chunk.path).expect("removed");
        }
        // One that goes on where the first verifies to: what stands behind there is no commit that was on its way.
        let mut written = Written::new();
        let mut bytes = written.bytes(0, 2);
        let follower = written.bytes(1, 1);
        bytes.push(1);
        let chunks = [written.found(0, &bytes, 0), written.found(1, &follower, 0)];
        let damage = again(&chunks).damage.expect("damage");
        assert!(damage.contains("fails verification after"), "{damage}");
    }

    #[test]
    fn empty_chunks_behind_an_empty_one_are_not_gone_on_in() {
        let mut written = Written::new();
        let bytes = written.bytes(0, 2);
        let chunks = [
            written.found(0, &bytes, bytes.len()),
            written.found(1, &[], 0),
            written.found(2, &[], 0),
        ];
        let replayed = again(&chunks);
        assert_eq!(replayed.closed.len(), 1);
        assert_eq!(replayed.chunk.expect("a chunk").number, 1);
    }
}
