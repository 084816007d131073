//! The store: streams of records in one journal and a segment file per stream, on one volume.
//!
//! - An append is acknowledged after the journal round that holds it is synced, never before.
//! - The first failed write or sync poisons the store: nothing is acknowledged after it.
//! - Files are touched in `io` only.

pub mod config;
pub mod drain;
mod engine;
pub mod error;
pub mod io;
pub mod metrics;
pub mod request;
pub mod store;
pub mod tier;
pub mod tier_port;

pub use config::Config;
pub use engine::{Identity, OpenOptions, Reader, Store};
pub use error::{AppendError, OpenError, ReadError, Remedy, StoreError, WouldBlockKind};
pub use metrics::Metrics;
pub use request::{
    AppendCallback, AppendRequest, Appended, ClaimState, Durability, Producer, ReadRequest, Record, SegmentInfo,
    SegmentState, StreamInfo,
};
pub use tier_port::{Claims, SealedSegment, VolumeIdentity, Watermark};
