//! The engines of pods, as the operator reaches them: what they report, and the verbs they obey.

mod client;
mod report;

pub use client::EngineClient;
pub use report::{Answer, Failure, Report};
