//! The store: streams of records in one journal and a segment file per stream, on one volume.
//!
//! - An append is acknowledged after the journal round that holds it is synced, never before.
//! - The first failed write or sync poisons the store: nothing is acknowledged after it.
//! - Files are touched in `io` only; threads start, and wait for each other, through it.

#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))] // what tests of parts start is no part of the store

mod admit;
pub mod backoff;
pub mod below;
pub mod claims;
mod common;
pub mod compaction;
pub mod config;
pub mod coordinator;
pub mod deletion;
pub mod drain;
pub mod dropped;
pub mod error;
pub mod failures;
pub mod fetch;
mod identity;
pub mod io;
pub mod jobs;
mod journal;
mod manifest;
pub mod metrics;
pub mod objects;
pub mod offline;
mod pace;
pub mod pattern;
mod poison;
pub mod port;
mod producers;
mod queue;
mod recovery;
pub mod request;
mod residency;
pub mod retention;
mod segment;
pub mod snapshot;
pub mod storage_report;
mod store;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod threads;
pub mod tier;
pub mod tier1;
mod volume;

pub use below::{Arriving, Pending};
pub use config::Config;
pub use error::{AppendError, OpenError, ReadError, Remedy, StoreError, WouldBlockKind};
pub use metrics::Metrics;
pub use port::{Claims, Copies, SealedSegment, VolumeIdentity, Watermark};
pub use request::{
    AppendCallback, AppendRequest, Appended, ClaimState, DamagedRange, Durability, Producer,
    ReadRequest, Record, SegmentInfo, SegmentState, StreamInfo,
};
pub use store::cut::CutError;
pub use store::trim::{Trim, TrimError};
pub use store::{Busy, DurableWait, MAX_APPEND_RECORDS, OpenOptions, Store};
pub use stream::read::{Progress, RECORD_BYTES, Reader};
pub use volume::Identity;
