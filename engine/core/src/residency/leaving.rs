//! Copies that nobody needs any more: of segments that were trimmed, or merged into another one, and of outputs that were given up.

use std::sync::Arc;

use super::Residency;
use super::fold::shared;
use super::segment::{ColdCopy, MergeStage, SealedSegment, Segment};

/// The object of a segment that nobody needs any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeavingObject<'a> {
    pub id: u64,
    pub segment: &'a Segment,
    pub end_sequence: u64,
    pub cold: &'a ColdCopy,
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
        let has_copies = |segment: &Segment| !segment.copies.is_empty();
        let is_leaving = !self.is_needed(id) && self.segments.get(&id).is_some_and(has_copies);
        match is_leaving {
            true => self.leaving.insert(id),
            false => self.leaving.remove(&id),
        };
    }

    /// Sealed, and wholly below the start sequence.
    pub fn is_trimmed(&self, id: u64) -> bool {
        self.of(id)
            .is_some_and(|(_, _, seal)| seal.end_sequence <= self.start_sequence)
    }

    pub(super) fn is_needed(&self, id: u64) -> bool {
        !self.is_trimmed(id) && !self.is_superseded(id)
    }

    /// Others hold its records: it was merged, or is an output that was given up.
    fn is_superseded(&self, id: u64) -> bool {
        self.segment(id).is_some_and(|segment| {
            let stage = segment.merge.map(|merge| merge.stage);
            segment.replaced_by.is_some() || stage == Some(MergeStage::GivenUp)
        })
    }

    /// Segments that nobody needs and that still have a copy on this node, ascending by id.
    pub fn leaving_on_node(&self, stream: &Arc<str>) -> Vec<SealedSegment> {
        self.leaving
            .iter()
            .filter_map(|id| self.of(*id))
            .filter(|(_, segment, _)| segment.copies.is_on_node())
            .map(|(id, segment, seal)| shared(stream, id, segment, seal))
            .collect()
    }

    /// Segments that nobody needs and that still have an object, ascending by id.
    pub fn leaving_objects(&self) -> impl Iterator<Item = LeavingObject<'_>> {
        self.leaving.iter().filter_map(|id| {
            let segment = self.segments.get(id)?;
            let sealed = segment.seal.map(|seal| seal.end_sequence);
            let given_up = segment.merge.map(|merge| merge.end_sequence);
            Some(LeavingObject {
                id: *id,
                segment,
                end_sequence: sealed.or(given_up)?,
                cold: segment.copies.cold.as_ref()?,
                is_superseded: self.is_superseded(*id),
            })
        })
    }

    pub fn has_leaving_on_node(&self) -> bool {
        let of = |id: &u64| self.segments.get(id);
        let mut leaving = self.leaving.iter().filter_map(of);
        leaving.any(|segment| segment.seal.is_some() && segment.copies.is_on_node())
    }
}
