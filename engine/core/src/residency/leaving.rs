//! Copies that nobody needs any more: of segments that were trimmed, or merged into another one, and of outputs that were given up.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Residency;
use super::fold::shared;
use super::segment::{MergeStage, Object, SealedSegment, Segment};

/// The object of a segment that nobody needs any more, or what an upload of it that was never done may have left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeavingObject<'a> {
    pub id: u64,
    pub segment: &'a Segment,
    pub end_sequence: u64,
    pub object: Object<'a>,
    /// It is not what holds its sequences: catalogues that do not name the segment itself do not need it.
    pub is_superseded: bool,
}

impl LeavingObject<'_> {
    /// Of the object, or uncompressed where that is not known; 0 = of an output that was given up.
    pub fn bytes(&self) -> u64 {
        let uncompressed = self.segment.seal.map_or(0, |seal| seal.data_end);
        self.segment.compressed_bytes.unwrap_or(uncompressed)
    }
}

impl Residency {
    pub(super) fn note_leaving(&mut self, id: u64) {
        let leaving = self.segments.get(&id).filter(|_| !self.is_needed(id));
        let leaves_node = leaving.is_some_and(|segment| segment.copies.is_on_node());
        let leaves_bucket = leaving.is_some_and(|segment| segment.object().is_some());
        note(&mut self.leaving_node, id, leaves_node);
        note(&mut self.leaving_bucket, id, leaves_bucket);
    }

    /// Sealed, and wholly below the start sequence.
    pub fn is_trimmed(&self, id: u64) -> bool {
        self.of(id)
            .is_some_and(|(_, _, seal)| seal.end_sequence <= self.start_sequence)
    }

    /// Neither trimmed nor superseded. What is not sealed yet is needed.
    pub fn is_needed(&self, id: u64) -> bool {
        !self.is_trimmed(id) && !self.is_superseded(id)
    }

    /// Others hold its records: it was merged, or is an output that was given up.
    pub(super) fn is_superseded(&self, id: u64) -> bool {
        self.segment(id).is_some_and(|segment| {
            let stage = segment.merge.map(|merge| merge.stage);
            segment.replaced_by.is_some() || stage == Some(MergeStage::GivenUp)
        })
    }

    /// Segments that nobody needs and that still have a copy on this node, ascending by id: the first ones, `most` at most.
    pub fn leaving_on_node(&self, stream: &Arc<str>, most: usize) -> Vec<SealedSegment> {
        let leaving = self.leaving_node.iter().filter_map(|id| self.of(*id));
        leaving
            .take(most)
            .map(|(id, segment, seal)| shared(stream, id, segment, seal))
            .collect()
    }

    /// Segments that nobody needs and that have an object, or may have one, ascending by id.
    pub fn leaving_objects(&self) -> impl Iterator<Item = LeavingObject<'_>> {
        self.leaving_bucket.iter().filter_map(|id| {
            let segment = self.segments.get(id)?;
            let sealed = segment.seal.map(|seal| seal.end_sequence);
            let given_up = segment.merge.map(|merge| merge.end_sequence);
            Some(LeavingObject {
                id: *id,
                segment,
                end_sequence: sealed.or(given_up)?,
                object: segment.object()?,
                is_superseded: self.is_superseded(*id),
            })
        })
    }

    /// Segments from this id on that nobody needs and that still have a copy somewhere, ascending by id.
    pub fn leaving_from(&self, id: u64) -> impl Iterator<Item = (u64, &Segment)> {
        let mut on_node = self.leaving_node.range(id..).peekable();
        let mut in_bucket = self.leaving_bucket.range(id..).peekable();
        let ids = std::iter::from_fn(move || {
            let next = [on_node.peek(), in_bucket.peek()];
            let id = next.into_iter().flatten().copied().min()?;
            on_node.next_if(|it| *it == id);
            in_bucket.next_if(|it| *it == id);
            Some(*id)
        });
        ids.filter_map(|id| Some((id, self.segments.get(&id)?)))
    }

    pub fn has_leaving_on_node(&self) -> bool {
        !self.leaving_node.is_empty()
    }

    pub fn has_leaving_objects(&self) -> bool {
        !self.leaving_bucket.is_empty()
    }
}

fn note(ids: &mut BTreeSet<u64>, id: u64, belongs: bool) {
    match belongs {
        true => ids.insert(id),
        false => ids.remove(&id),
    };
}
