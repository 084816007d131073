//! What an engine answered when it was asked for a report.

use aof2_admin_api::{Dump, PostRestart};

#[derive(Clone, Debug)]
pub enum Report {
    Answered(Box<Answer>),
    Failed(Failure),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub dump: Dump,
    /// `None`: only `dump` was answered.
    pub post_restart: Option<PostRestart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// TLS did not come about, or nobody listens: a certificate may be missing or of another authority.
    pub may_be_certificate: bool,
    pub message: String,
}

/// Why it is not known what rules of retention take on a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCounted {
    /// Its version counts nothing, or not what these rules take beyond those in use.
    OlderEngine,
    /// Nothing goes by age now: why, and what to do.
    ClockNotTrusted(String),
    /// What the request ended with.
    Failed(String),
}

impl NotCounted {
    /// For people.
    pub fn of(&self, pod: &str) -> String {
        match self {
            Self::OlderEngine => {
                format!("the engine of {pod} is of a version that does not count it")
            }
            Self::ClockNotTrusted(why) => {
                format!("the engine of {pod} does not trust its clock: {why}")
            }
            Self::Failed(why) => format!("the engine of {pod} does not say: {why}"),
        }
    }
}
