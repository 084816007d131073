//! Bytes <-> values: everything that AOF2 stores, one file per stored thing, **v0 (draft)**. The next engine issue freezes v1;
//! until then any layout here may change without a migration.
//!
//! - No I/O, no clock, no async, no unsafe. All integers are little-endian.
//! - Each stored thing has its layout as a table in the `.md` next to its source; a test reads the table and holds it against the
//!   constants.
//! - A decoder checks length, magic, version, checksum, values, in that order. It never panics and borrows its input: what it
//!   allocates is bounded by a constant of its module.
//! - Checksums of batches and manifest commits are seeded with a random salt of the stream, those of a journal commit with the
//!   salt of the journal file, so that stale bytes of a recycled file or of another stream never verify.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod claim;
pub mod clock_reading;
pub mod compaction;
pub mod custom_event;
pub mod cut;
pub mod damage;
pub mod field;
pub mod identity;
pub mod journal;
pub mod journal_frame;
pub mod journal_mark;
pub mod manifest_base;
pub mod manifest_chunk;
pub mod manifest_record;
pub mod mark;
pub mod names;
pub mod producer_changes;
pub mod record_batch;
pub mod segment;
pub mod snapshot;
pub mod snapshot_deletion;
pub mod start_sequence;
pub mod stream_catalog;
pub mod stream_header;
pub mod volume;
pub mod warm;

pub use checksum::{Salt, Seed};
pub use damage::Damage;
pub use identity::{ClusterId, NodeId, StreamNumber, StreamUuid, VolumeId};
pub use names::StreamName;

/// Every binary thing of this draft carries this version. A reader refuses a greater one ([`Damage::Version`]).
pub const FORMAT_VERSION: u16 = 0;

/// File headers and footers fill one block of this size, so that what follows is aligned for direct I/O.
pub const BLOCK_BYTES: usize = 4096;
