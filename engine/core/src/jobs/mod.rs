//! What the coordinator has done, each job on a thread of its own. A job may be ended anywhere and done again: it writes beside
//! what is there, compares, and publishes last.

pub mod check_claims;
pub mod compress;
pub mod drop_warm;
pub mod hydrate;
pub(crate) mod merge;
pub mod recompress;
pub mod streamed;
pub mod upload;
pub mod warm;
