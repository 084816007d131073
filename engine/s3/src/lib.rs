//! Tier 2 on S3: `aof2_core::objects::ObjectStore` over aws-sdk-s3.
//!
//! - One attempt per call. The SDK's own retries are off: a retry that it hides would turn a lost response into a 412 that nobody
//!   can explain. Retries are the caller's, who sees every answer.
//! - Every body goes with an explicit CRC-64/NVME of the whole object, made before the first attempt; the store keeps it, and every
//!   whole read is compared with it.
//! - A put-id travels in the metadata, so that a lost response is distinguished from a rival.
//! - Stalled-stream protection is off for uploads: a slow local disk is no reason to give up; the time limit of the request is.
//!
//! Calls block and bring their own runtime: call them from worker threads, never from an async task.

mod body;
mod classify;
mod credentials;
mod settings;
mod store;

pub use settings::{Addressing, OpenError, S3Settings};
pub use store::S3Store;
