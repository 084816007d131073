//! What whoever plans merges has to know of the segments of a stream.

use std::sync::Arc;

use super::Store;
use crate::error::StoreError;
use crate::residency::{DeletionStage, Piece, Pieces, Residency};
use crate::segment::sealed::Sealed;
use crate::stream::{Entry, Stream};

impl Store {
    /// Ordered by name.
    pub(crate) fn stream_list(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        streams.iter().map(|it| it.shared_name.clone()).collect()
    }

    /// The same, of streams with a merge that was begun and neither done nor given up.
    pub(crate) fn streams_with_unfinished_merges(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let has_one = |stream: &&Arc<Stream>| {
            let manifest = &stream.manifest;
            manifest.read(|state| state.residency.unfinished().is_some())
        };
        let found = streams.iter().filter(has_one);
        found.map(|it| it.shared_name.clone()).collect()
    }

    /// `None`: the stream takes no part in anything.
    pub(crate) fn pieces(&self, stream: &str) -> Result<Option<Pieces>, StoreError> {
        Ok(self.pieces_of(&*self.known(stream)?))
    }

    /// Damage of this segment is known.
    pub(crate) fn is_damaged(&self, stream: &str, segment_id: u64) -> bool {
        let stream = self.known(stream);
        stream.is_ok_and(|stream| stream.damage.is_damaged(segment_id))
    }

    fn pieces_of(&self, stream: &Stream) -> Option<Pieces> {
        let is_quarantined = stream.staged.lock().quarantined.is_some();
        if is_quarantined || stream.damaged_end.is_some() {
            return None;
        }
        let has_tier2 = self.pipeline().common.has_tier2;
        let entries = stream.segments.read().clone();
        Some(stream.manifest.read(|state| {
            let residency = &state.residency;
            let pieces = entries.iter().filter_map(|entry| match entry {
                Entry::Sealed(sealed) => piece_of(stream, residency, sealed, has_tier2),
                Entry::Open(_) => None,
            });
            let unfinished = residency.unfinished();
            Pieces {
                stream: stream.shared_name.clone(),
                pieces: pieces.collect(),
                unfinished: unfinished.map(|it| (it.output_id, it.inputs.segment_ids.clone())),
            }
        }))
    }
}

fn piece_of(
    stream: &Stream,
    residency: &Residency,
    sealed: &Sealed,
    has_tier2: bool,
) -> Option<Piece> {
    let id = sealed.info.segment_id;
    let segment = residency.segment(id)?;
    let seal = segment.seal?;
    let copies = &segment.copies;
    let is_safe = match has_tier2 {
        true => copies.cold.is_some() && segment.moves.was_uploaded,
        // An object that this node does not reach is a copy all the same.
        false => copies.cold.is_none() && !segment.moves.upload_begun,
    };
    // The output's claim is that of the epoch in which its records were written.
    let is_ours = segment.epoch == stream.epoch();
    let is_going = residency.is_trimmed(id) || segment.deletion != DeletionStage::NotQueued;
    Some(Piece {
        segment_id: id,
        epoch: segment.epoch,
        base_sequence: segment.base_sequence,
        end_sequence: seal.end_sequence,
        bytes: seal.data_end,
        times: seal.times,
        is_settled: is_safe
            && is_ours
            && !is_going
            && copies.hot
            && sealed.is_hot()
            && !stream.damage.is_damaged(id),
    })
}
