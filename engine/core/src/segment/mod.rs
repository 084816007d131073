//! Segment files: where the records of a stream lie.

pub(crate) mod active;
pub(crate) mod checksum;
pub(crate) mod files;
pub(crate) mod index;
pub(crate) mod maps;
pub(crate) mod merge;
pub(crate) mod scan;
pub(crate) mod sealed;
pub(crate) mod survey;
