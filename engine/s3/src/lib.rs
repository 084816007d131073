//! Tier 2 on S3: `aof2_core::objects::ObjectStore` over aws-sdk-s3.
//!
//! - One attempt per call. The SDK's own retries are off: a retry that it hides would turn a lost response into a 412 that nobody
//!   can explain. Retries are the caller's, who sees every answer.
//! - Every body goes with an explicit CRC-64/NVME of the whole object, made before the first attempt; the store keeps it, and every
//!   whole read is compared with it. For stores that do not know it there are `Content-MD5` and reading back.
//! - A put-id travels in the metadata, so that a lost response is distinguished from a rival.
//! - The SDK's time limits and its protection against stalled streams are off: a request may go on for as long as it gets on (`pace`).
//!
//! Calls block and bring their own runtime: call them from worker threads, never from an async task.

mod body;
mod classify;
mod credentials;
mod http;
mod meta;
mod pace;
mod requests;
mod settings;
mod store;

pub use settings::{Addressing, Checksum, OpenError, S3Settings};
pub use store::S3Store;
