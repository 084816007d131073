//! Reads a stream's manifest chunks back into the fold, after the journal's frames were written into them.

use std::io;
use std::sync::Arc;

use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::{BLOCK_BYTES, Seed};

use super::state::{ManifestState, is_about_snapshots};
use super::{Chunk, ClosedChunk};
use crate::io::DiskFile;

/// A chunk file and how far it has to verify: what the journal holds of it, and what was synced.
pub(crate) struct FoundChunk {
    pub number: u64,
    /// In its name.
    pub epoch: u32,
    pub file: Arc<dyn DiskFile>,
    pub must_reach: u64,
}

pub(crate) struct Replayed {
    pub state: ManifestState,
    pub chain: u32,
    /// The last one; takes further commits.
    pub chunk: Option<Chunk>,
    /// Those before it.
    pub closed: Vec<ClosedChunk>,
    /// Records in the last one that are not about a snapshot.
    pub substance: u64,
    pub records: u64,
    pub damage: Option<String>,
}

/// Chunks come in the order of their numbers. Torn bytes behind the last commit are zeroed; the caller syncs the files.
pub(crate) fn replay(chunks: &[FoundChunk], seed: Seed) -> io::Result<Replayed> {
    let mut replayed = Replayed {
        state: ManifestState::default(),
        chain: 0,
        chunk: None,
        closed: Vec::new(),
        substance: 0,
        records: 0,
        damage: None,
    };
    for (index, found) in chunks.iter().enumerate() {
        let mut bytes = vec![0; found.file.len()? as usize];
        let read = found.file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        replayed.substance = 0;
        let end = fold_chunk(&mut replayed, found, &bytes, seed);
        if end < found.must_reach {
            replayed.damage.get_or_insert_with(|| {
                format!(
                    "manifest chunk {} verifies up to {end}, {} was durable",
                    found.number, found.must_reach
                )
            });
        }
        let is_last = index + 1 == chunks.len();
        let torn = bytes[end as usize..].iter().rposition(|byte| *byte != 0);
        match torn {
            Some(last) if is_last && replayed.damage.is_none() => {
                found.file.write_all_at(&vec![0; last + 1], end)?;
            }
            Some(_) if !is_last => {
                replayed.damage.get_or_insert_with(|| {
                    format!(
                        "manifest chunk {} does not verify behind {end}",
                        found.number
                    )
                });
            }
            _ => {}
        }
        if is_last {
            replayed.chunk = Some(Chunk {
                number: found.number,
                epoch: found.epoch,
                file: found.file.clone(),
                tail: end,
            });
        } else {
            replayed.closed.push(ClosedChunk {
                number: found.number,
                epoch: found.epoch,
                bytes: end,
            });
        }
    }
    Ok(replayed)
}

/// Answers the offset behind the last commit that verifies; 0 when not even the header does.
fn fold_chunk(replayed: &mut Replayed, found: &FoundChunk, bytes: &[u8], seed: Seed) -> u64 {
    match ManifestChunkHeader::decode(bytes) {
        Ok(header) if header.chunk == found.number && header.prev_chain == replayed.chain => {}
        Ok(_) | Err(_) => return 0,
    }
    let mut offset = DATA_OFFSET as usize;
    debug_assert_eq!(offset, BLOCK_BYTES);
    while let Ok(commit) = manifest_chunk::decode_commit(&bytes[offset..], seed) {
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
            replayed.substance += u64::from(!is_about_snapshots(&record.event));
        }
        replayed.records += commit.records.len() as u64;
        replayed.chain = commit.chain;
        offset += commit.bytes;
    }
    offset as u64
}
