//! The writer of the oracle: appends to streams at a steady rate and counts a record only when the collector has confirmed its
//! acknowledgement.
//!
//! - A stream's producer id is derived from its name, and a writer resumes behind the last producer_seq that the stream holds, so
//!   any process may go on where another was killed. No producer_seq is ever skipped.
//! - A payload is made from the stream, the producer_seq and the writer's run. The run tells a record that was lost and written
//!   again, perhaps at the same sequence, from the one that was acknowledged first: their hashes differ.
//! - A record holds a place in its stream's window from the moment it is sent until the collector has confirmed it, so an
//!   unreachable collector or engine makes the writer wait; it never runs ahead.

pub mod bucket;
pub mod collector;
pub mod payload;
pub mod stats;
pub mod writer;
