//! The store: streams of records in one journal and a segment file per stream, on one volume.
//!
//! - An append is acknowledged after the journal round that holds it is synced, never before.
//! - The first failed write or sync poisons the store: nothing is acknowledged after it.
//! - Files are touched in `io` only.

mod admit;
mod checkpoint;
pub mod config;
pub mod drain;
mod engine;
pub mod error;
pub mod io;
mod journal;
mod manifest;
pub mod metrics;
mod pace;
mod poison;
mod recovery;
pub mod request;
mod segment;
pub mod snapshot;
pub mod store;
mod stream;
mod threads;
pub mod tier;
pub mod tier_port;
mod work;

pub use config::Config;
pub use engine::{Identity, MAX_APPEND_RECORDS, OpenOptions, Store};
pub use error::{AppendError, OpenError, ReadError, Remedy, StoreError, WouldBlockKind};
pub use metrics::Metrics;
pub use request::{
    AppendCallback, AppendRequest, Appended, ClaimState, DamagedRange, Durability, Producer,
    ReadRequest, Record, SegmentInfo, SegmentState, StreamInfo,
};
pub use stream::read::{RECORD_BYTES, Reader};
pub use threads::StoreThreads;
pub use tier_port::{Claims, SealedSegment, VolumeIdentity, Watermark};
