//! The AOF2 engine as a server: the store of `aof2-core` behind a data API (gRPC on a Unix socket), an admin API (HTTP/JSON over
//! mutual TLS and a private socket), and probes with metrics.
//!
//! - Probes and the admin API answer before recovery is done and when the data is refused; the data socket exists only while
//!   appends can be served.
//! - Nothing here touches the data directory but the store, except for the operator's epoch.
//! - A configuration file that is not valid changes nothing.
//!
//! The pure parts (`config`, `proto`) are shared with the command-line tools.

mod admin;
mod args;
pub mod bucket;
mod clients;
pub mod config;
mod data;
mod data_plane;
mod epoch;
mod in_force;
mod listen;
mod metrics;
mod node;
mod probes;
mod reload;
mod report;
mod serve;
mod shutdown;
mod source;
mod storage_report;
mod telemetry;
pub mod tier1;
mod tls;
mod way_out;

pub use serve::main;

/// The data API, generated from `proto/aof2.proto`.
pub mod proto {
    #![allow(clippy::all, missing_docs, rust_2018_idioms)]
    tonic::include_proto!("aof2.v1");

    /// For server reflection.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("aof2.descriptors");

    /// Largest gRPC message in either direction.
    pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

    /// Trailing metadata of a DATA_LOSS, or of an OUT_OF_RANGE below the start of a stream: first sequence behind that is served.
    pub const READ_ON_FROM: &str = "aof2-read-on-from";
}
