//! The engines of pods, as the operator reaches them: what they report, and the verbs they obey.

mod accept;
mod client;
mod report;
mod whose;

pub use accept::{snapshot as accept_snapshot, streams as accept_streams};
pub use client::{EngineClient, INDEX_BYTES};
pub use report::{Answer, Failure, NotCounted, Report};
pub use whose::Whose;
