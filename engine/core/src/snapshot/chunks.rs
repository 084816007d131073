//! Behind snapshots: a stream's closed chunks are in Tier 2, so that a start need not read them any more, and the volume need not keep them.
//!
//! A chunk leaves the volume when a durable base stands for it, the marker of a snapshot that names it is in the manifest, and its object
//! was read back and is the file, byte for byte.
//!
//! One thread of the node does this, stream by stream: that of the step that ended when nobody else did. Its place among the steps is free
//! by then, so that no snapshot waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aof2_format::names::ObjectKey;

use super::driver::Taker;
use crate::error::StoreError;
use crate::manifest::ClosedChunk;
use crate::objects::{ObjectError, Tier2};
use crate::store::{Store, StreamNames};

/// Chunks of a stream that one turn looks at: a volume that never pruned any has thousands.
const PRUNED_AT_ONCE: usize = 256;

/// Streams that had a snapshot, and their chunks.
#[derive(Default)]
pub(super) struct Bounding {
    /// Each once.
    due: VecDeque<Arc<str>>,
    /// A thread is at it.
    pub is_running: bool,
    /// Number of the chunk that the next turn of a stream begins with, where the last one did not come to the end.
    next: BTreeMap<Arc<str>, u64>,
}

impl Bounding {
    pub fn add(&mut self, stream: &Arc<str>) {
        if !self.due.contains(stream) {
            self.due.push_back(stream.clone());
        }
    }
}

/// The one thread's. Given back also where it panics.
struct Turn<'a> {
    taker: &'a Taker,
    is_over: bool,
}

impl<'a> Turn<'a> {
    /// `None`: nothing is due, or another thread is at it and looks at what is.
    fn begin(taker: &'a Taker) -> Option<Turn<'a>> {
        let bounding = &mut taker.state.lock().bounding;
        let begins = !bounding.is_running && !bounding.due.is_empty();
        bounding.is_running |= begins;
        begins.then(|| Turn {
            taker,
            is_over: false,
        })
    }

    /// The end of it in the same moment where nothing is due: whoever adds a stream from then on finds nobody at it.
    fn next(&mut self) -> Option<Arc<str>> {
        let bounding = &mut self.taker.state.lock().bounding;
        let due = bounding.due.pop_front();
        let stream = due.filter(|_| !self.taker.is_stopping());
        self.is_over = stream.is_none();
        bounding.is_running = stream.is_some();
        stream
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.taker.state.lock().bounding.is_running = false;
        }
        self.taker.wake();
    }
}

/// Looks at all streams that are due, unless another thread does. One whose turn fails is due again with its next snapshot.
pub(super) fn bound_all(taker: &Taker, tier2: &Tier2) {
    let Some(mut turn) = Turn::begin(taker) else {
        return;
    };
    let mut answers = true;
    while let Some(stream) = turn.next() {
        if let Err(error) = taker.store.write_manifest_base(&stream) {
            tracing::warn!(%stream, "manifest base not written: {error}");
        }
        // The bases of the other streams do not need it.
        answers = answers && prune_some(taker, tier2, &stream);
    }
}

/// Why a chunk stays.
enum Stays {
    /// The next one may go.
    Alone(String),
    /// Tier 2 does not answer, for none of them.
    All(String),
    /// The process ends.
    Stopping,
}

impl From<ObjectError> for Stays {
    fn from(error: ObjectError) -> Stays {
        match error {
            ObjectError::Stopping { .. } => Stays::Stopping,
            error if error.is_outage() || error.concerns_every_request() => {
                Stays::All(error.to_string())
            }
            error => Stays::Alone(error.to_string()),
        }
    }
}

impl From<StoreError> for Stays {
    fn from(error: StoreError) -> Stays {
        match error {
            StoreError::Poisoned { .. } | StoreError::Closed => Stays::Stopping,
            StoreError::UnknownStream { .. }
            | StoreError::UnknownSegment { .. }
            | StoreError::DiskFull { .. }
            | StoreError::OutOf { .. }
            | StoreError::Damaged { .. } => Stays::Alone(error.to_string()),
        }
    }
}

/// Answers whether Tier 2 does.
fn prune_some(taker: &Taker, tier2: &Tier2, stream: &Arc<str>) -> bool {
    let store = &taker.store;
    let found = store.prunable_chunks(stream);
    let found = found.and_then(|chunks| Ok((store.stream_names(stream)?, chunks)));
    let (names, chunks) = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%stream, "manifest chunks stay on the volume: {error}");
            return true;
        }
    };
    let chunks = {
        let next = &mut taker.state.lock().bounding.next;
        let (chunks, following) = share(&chunks, next.remove(stream).unwrap_or(0));
        next.extend(following.map(|number| (stream.clone(), number)));
        chunks
    };
    let (mut pruned, mut stay) = (0, 0);
    let mut told = None;
    let mut answers = true;
    for chunk in chunks {
        if taker.is_stopping() || !answers {
            break;
        }
        let why = match prune(store, tier2, &names, chunk) {
            Ok(()) => {
                pruned += 1;
                continue;
            }
            Err(Stays::Stopping) => break,
            Err(Stays::Alone(why)) => why,
            Err(Stays::All(why)) => {
                answers = false;
                why
            }
        };
        stay += 1;
        told.get_or_insert((chunk.number, why));
    }
    if let Some((chunk, why)) = told {
        tracing::warn!(%stream, stay, "manifest chunk {chunk} stays on the volume: {why}");
    }
    if pruned > 0 {
        tracing::debug!(%stream, pruned, "manifest chunks left the volume");
    }
    answers
}

/// The chunks of one turn, oldest first, from number `from` on or from the beginning where there are none, and where the next turn begins:
/// those that stay never keep the ones behind them.
fn share(chunks: &[ClosedChunk], from: u64) -> (Vec<ClosedChunk>, Option<u64>) {
    let begin = match chunks.partition_point(|chunk| chunk.number < from) {
        begin if begin == chunks.len() => 0,
        begin => begin,
    };
    let rest = chunks.get(begin..).unwrap_or_default();
    let share = rest.iter().take(PRUNED_AT_ONCE).copied().collect();
    let next = rest.get(PRUNED_AT_ONCE).map(|chunk| chunk.number);
    (share, next)
}

fn prune(
    store: &Store,
    tier2: &Tier2,
    names: &StreamNames,
    chunk: ClosedChunk,
) -> Result<(), Stays> {
    let stream = names.name.as_str();
    let bytes = store.closed_chunk_bytes(stream, chunk)?;
    let key = ObjectKey::ManifestChunk {
        stream: names.name.clone(),
        epoch: chunk.epoch,
        chunk: chunk.number,
    }
    .to_key(tier2.prefix());
    let why = match tier2.store().get_within(&key, chunk.bytes)? {
        Some(object) if object.bytes == bytes => match store.prune_chunk(stream, chunk)? {
            true => return Ok(()),
            false => "the chunk's file cannot be removed".to_owned(),
        },
        Some(_) => format!("object {key} has other content; move it away"),
        None => format!("object {key} is missing; restore it"),
    };
    Err(Stays::Alone(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_stay_do_not_keep_those_behind_them() {
        let chunk = |number| ClosedChunk::new(number, 1, 5_000);
        let numbers = |(chunks, next): (Vec<ClosedChunk>, Option<u64>)| {
            let first = chunks.first().map(|chunk| chunk.number);
            (first, chunks.len(), next)
        };
        let chunks: Vec<ClosedChunk> = (10..610).map(chunk).collect();
        // None of them goes: each turn looks at others, and the one behind the last at the first ones again.
        assert_eq!(numbers(share(&chunks, 0)), (Some(10), 256, Some(266)));
        assert_eq!(numbers(share(&chunks, 266)), (Some(266), 256, Some(522)));
        assert_eq!(numbers(share(&chunks, 522)), (Some(522), 88, None));
        // The chunk that was to be the first one is gone, or all of them.
        assert_eq!(
            numbers(share(&chunks[300..], 266)),
            (Some(310), 256, Some(566))
        );
        assert_eq!(numbers(share(&chunks[..9], 266)), (Some(10), 9, None));
        assert_eq!(numbers(share(&[], 266)), (None, 0, None));
    }
}
