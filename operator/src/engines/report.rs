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
