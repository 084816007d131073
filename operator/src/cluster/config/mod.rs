//! The engines' configuration: the user's keys, the operator's keys, and the file that a pod gets.
//!
//! `user.rs` reads what the user wrote and refuses the operator's keys; `revision.rs` joins it with the Tier 2 location from the
//! spec and gives the result a name; `render.rs` adds what belongs to one pod; `refusal.rs` tells a user what an engine did not take. Defaults are the engine's and are never written, so
//! that a newer engine may have better ones.

mod refusal;
mod render;
mod revision;
mod user;

pub use refusal::{explain, is_altered};
pub use render::{PodFile, render};
pub use revision::Revision;
pub use user::{ConfigError, MAX_FILE_BYTES, UserConfig};

pub use aof2_admin_api::schema::CLUSTER_MAX_BYTES as DEFAULT_CLUSTER_MAX_BYTES;
/// The engine's defaults of `[journal]`, as `config/base/aof2.toml` documents them.
const DEFAULT_JOURNAL_FILE_BYTES: u64 = 64 << 20;
const DEFAULT_JOURNAL_FILES: u64 = 8;
