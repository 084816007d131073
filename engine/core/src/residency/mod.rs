//! Where the copies of a stream's sealed segments are: a fold of the manifest, and never of the files that lie there.
//!
//! - A copy counts from the record that names it on, and no longer from the record that drops it. Bytes are verified at their
//!   place before the first, and removed after the second; a start removes what the second left behind.
//! - Segments are ordered by their first sequence. Ids only name them.
//! - Segments that were merged are replaced by their output from one record on. An output counts from that record on, whatever was
//!   recorded of copies of it before.
//! - Counts "without a hole from the beginning" begin at the start sequence, and a deleted object takes nothing back from them.

pub(crate) mod fold;
mod leaving;
mod merge;
mod names;
pub(crate) mod segment;
pub(crate) mod usage;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use fold::Residency;
pub(crate) use merge::{Piece, Pieces};
pub use segment::{ColdCopy, Copies, FailedStep, FailureReason, Moves, RecordTimes, SealedSegment};
pub(crate) use segment::{DeletionStage, SealedExtent};
pub use usage::{Compressed, DatedObject, Held, Objects};
