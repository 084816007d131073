//! Which sealed segments are merged, and what keeps a merge from being begun.
//!
//! A run of adjacent segments is merged where the output is at most as large as a segment may be and at least `min_inputs` of them are below
//! half of that; and only where none is more than half of the output. So whenever a byte is rewritten, the segment that it lies in has
//! at least doubled: that happens at most log2(target / smallest) times.

use std::time::Duration;

use aof2_format::compaction::MAX_INPUTS;
use aof2_format::segment::DATA_OFFSET;

use super::Room;
use crate::residency::{Piece, Pieces};

/// Whole segments leave by a rule of retention: an output spans at most this part of what the rule keeps, so that none of its records stays much
/// longer than alone.
const PARTS_OF_RETENTION: u32 = 8;

/// Of the segments of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of an output.
    pub target_bytes: u64,
    /// At least 2.
    pub min_inputs: usize,
    /// By the stream's rule of retention.
    pub max_age: Option<Duration>,
    pub max_bytes: Option<u64>,
    /// That an output may take: free on the volume, and below the high mark of Tier 0.
    pub room_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These become one, or go on becoming it.
    Merge { segment_ids: Vec<u64> },
    /// The output that was begun: its inputs are not what they were.
    GiveUp { output_id: u64 },
}

impl Limits {
    /// Of header and batches.
    fn most_bytes(&self) -> u64 {
        let parts = u64::from(PARTS_OF_RETENTION);
        let kept = self.max_bytes.map_or(u64::MAX, |bytes| bytes / parts);
        self.target_bytes.min(kept).min(self.room_bytes)
    }

    fn longest_nanos(&self) -> i128 {
        let kept = self.max_age.map(|age| age / PARTS_OF_RETENTION);
        kept.map_or(i128::MAX, |age| age.as_nanos() as i128)
    }

    fn is_small(&self, piece: &Piece) -> bool {
        2 * piece.bytes < self.target_bytes
    }
}

/// What to do for a stream; `None`: nothing. Without limits nothing is merged, and what was begun is given up.
pub(crate) fn next(stream: &Pieces, limits: Option<&Limits>) -> Option<Next> {
    if let Some((output_id, inputs)) = &stream.unfinished {
        let begun = limits.filter(|limits| is_whole(&stream.pieces, inputs, limits));
        return Some(match begun {
            Some(_) => Next::Merge {
                segment_ids: inputs.clone(),
            },
            None => Next::GiveUp {
                output_id: *output_id,
            },
        });
    }
    let limits = limits?;
    let mut rest = &stream.pieces[..];
    while let Some(first) = rest.iter().position(|piece| may_be_input(piece, limits)) {
        let run = &rest[first..];
        let length = length_of_run(run, limits);
        for from in 0..length {
            if let Some(count) = longest(&run[from..length], limits) {
                let merged = &run[from..from + count];
                return Some(Next::Merge {
                    segment_ids: merged.iter().map(|piece| piece.segment_id).collect(),
                });
            }
        }
        rest = &run[length..];
    }
    None
}

/// Something would be merged if only there were room for it.
pub(crate) fn lacks_room(stream: &Pieces, limits: &Limits) -> bool {
    let with_room = Limits {
        room_bytes: u64::MAX,
        ..*limits
    };
    next(stream, Some(limits)).is_none() && next(stream, Some(&with_room)).is_some()
}

/// Most adjacent small segments that could be merged if there were more of them, for whoever asks why nothing is.
pub(crate) fn longest_run(stream: &Pieces, limits: &Limits) -> usize {
    let mut most = 0;
    let mut rest = &stream.pieces[..];
    while let Some(first) = rest.iter().position(|piece| may_be_input(piece, limits)) {
        let length = length_of_run(&rest[first..], limits);
        most = most.max(length);
        rest = &rest[first + length..];
    }
    most
}

fn batches_of(piece: &Piece) -> u64 {
    piece.bytes.saturating_sub(DATA_OFFSET)
}

fn may_be_input(piece: &Piece, limits: &Limits) -> bool {
    piece.is_settled && 2 * batches_of(piece) <= limits.target_bytes
}

/// Segments at the beginning that follow each other and may all be inputs: one at least.
fn length_of_run(pieces: &[Piece], limits: &Limits) -> usize {
    let follows = |pair: &[Piece]| {
        let [before, piece] = pair else { return false };
        may_be_input(piece, limits)
            && piece.base_sequence == before.end_sequence
            && piece.epoch == before.epoch
    };
    1 + pieces.windows(2).take_while(|pair| follows(pair)).count()
}

/// How many from the beginning on, at most; `None`: not enough.
fn longest(run: &[Piece], limits: &Limits) -> Option<usize> {
    let (mut bytes, mut largest, mut small) = (0, 0, 0);
    let (mut first_nanos, mut last_nanos) = (i64::MAX, i64::MIN);
    let mut found = None;
    for (index, piece) in run.iter().take(MAX_INPUTS).enumerate() {
        bytes += batches_of(piece);
        largest = largest.max(batches_of(piece));
        small += usize::from(limits.is_small(piece));
        first_nanos = first_nanos.min(piece.times.first_unix_nanos);
        last_nanos = last_nanos.max(piece.times.last_unix_nanos);
        let span = i128::from(last_nanos) - i128::from(first_nanos);
        if DATA_OFFSET + bytes > limits.most_bytes() || span > limits.longest_nanos() {
            break;
        }
        let is_enough = index > 0 && small >= limits.min_inputs;
        if is_enough && 2 * largest <= bytes {
            found = Some(index + 1);
        }
    }
    found
}

/// What was begun still holds: nothing of it went or changed, and the output is not too large.
fn is_whole(pieces: &[Piece], inputs: &[u64], limits: &Limits) -> bool {
    let first = pieces
        .iter()
        .position(|piece| Some(&piece.segment_id) == inputs.first());
    let run = first.and_then(|first| pieces.get(first..first + inputs.len()));
    run.is_some_and(|run| {
        let ids = run.iter().map(|piece| piece.segment_id);
        let bytes: u64 = run.iter().map(batches_of).sum();
        ids.eq(inputs.iter().copied())
            && length_of_run(run, limits) == run.len()
            && run.first().is_some_and(|piece| may_be_input(piece, limits))
            && DATA_OFFSET + bytes <= limits.target_bytes
    })
}

/// What a merge would be in the way of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    /// Why appends are refused, where they are.
    pub admission_closed: Option<String>,
    /// Why Tier 2 takes nothing now; `None` also without Tier 2.
    pub tier2_problem: Option<String>,
    pub pending_uploads: usize,
    pub upload_concurrency: usize,
    pub waiting_hydrations: u64,
    /// Of the volume; `None`: it does not tell.
    pub room: Option<Room>,
}

/// Why no merge is begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Hold {
    #[error("appends are refused ({0})")]
    Admission(String),
    #[error("Tier 2 does not take the output ({0})")]
    Tier2(String),
    #[error("{pending} segments wait for their upload")]
    Uploads { pending: usize },
    #[error("{waiting} segments come back to a local tier")]
    Hydrations { waiting: u64 },
    #[error("volume is nearly full ({free_bytes} of {total_bytes} bytes free)")]
    Volume { free_bytes: u64, total_bytes: u64 },
}

/// Whatever else has to be done goes before.
pub(crate) fn hold(facts: &NodeFacts) -> Option<Hold> {
    if let Some(why) = &facts.admission_closed {
        return Some(Hold::Admission(why.clone()));
    }
    if let Some(why) = &facts.tier2_problem {
        return Some(Hold::Tier2(why.clone()));
    }
    // A node that is always uploading something is no reason: more than its uploads take at a time is.
    if facts.pending_uploads > facts.upload_concurrency {
        return Some(Hold::Uploads {
            pending: facts.pending_uploads,
        });
    }
    // What has just come back would become a segment that nobody asked for, and go again.
    if facts.waiting_hydrations > 0 {
        return Some(Hold::Hydrations {
            waiting: facts.waiting_hydrations,
        });
    }
    let room = facts.room.filter(|room| room.lacking_bytes() > 0)?;
    Some(Hold::Volume {
        free_bytes: room.free_bytes,
        total_bytes: room.total_bytes,
    })
}

/// What may be written to a volume before copies have to leave it.
pub(crate) fn room_bytes(room: Option<Room>) -> u64 {
    room.map_or(u64::MAX, |room| room.spare_bytes())
}

#[cfg(test)]
#[path = "tests/compact.rs"]
mod tests;
