//! The base of a manifest: what its closed chunks up to one of them say, so that a start reads one file and the chunks behind it, however
//! many there were. See ADR 10.
//!
//! - A base is written from the chunk files, once they are synced, and only where it replays to what they replay to.
//! - It counts together with the chunk behind it alone: that one's header was synced before, and names the chain and the sequence with
//!   which the base ends. Nothing else tells a base of another history.
//! - Chunks that it stands for are read where it cannot be used, and then it goes. Where they are gone too, the stream is damaged.

mod keep;
mod prune;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use read::{Owner as BaseOwner, Unreadable, fold, read};
pub(crate) use write::follows;
