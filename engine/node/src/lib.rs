//! The AOF2 engine as a server: the store of `aof2-core` behind a data API (gRPC on a Unix socket), an admin API (HTTP/JSON over
//! mutual TLS and a private socket), and probes with metrics.
//!
//! The pure parts (`config`, `proto`) are shared with the command-line tools.

pub mod config;

/// The data API, generated from `proto/aof2.proto`.
pub mod proto {
    #![allow(clippy::all, missing_docs, rust_2018_idioms)]
    tonic::include_proto!("aof2.v1");

    /// Largest gRPC message in either direction.
    pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
}
