//! Why Tier 2 did not do what was asked. The variant says what may be concluded about the attempt, which is all that callers
//! decide by; the text is for people.

use std::fmt;

use thiserror::Error;

use crate::error::Remedy;

/// What was tried, on which key, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub verb: &'static str,
    /// Key, or prefix of a listing.
    pub key: String,
    pub place: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} at {}", self.verb, self.key, self.place)
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ObjectError {
    /// No connection: nothing was sent.
    #[error(
        "cannot {attempt}: no connection ({cause}); the engine retries, check the endpoint and the network"
    )]
    Unreachable { attempt: Attempt, cause: String },
    /// Time-out, reset or 5xx: a write may have happened or may still happen.
    #[error("outcome of {attempt} is unknown ({cause}); the engine checks and retries")]
    Unknown { attempt: Attempt, cause: String },
    /// 409 of a conditional write: nothing landed, a rival was at the same key.
    #[error("{attempt} met a conflicting write ({cause}); the engine retries")]
    Conflict { attempt: Attempt, cause: String },
    #[error("{attempt} was throttled ({cause}); the engine backs off and retries")]
    Throttled { attempt: Attempt, cause: String },
    #[error("cannot {attempt}: the bucket does not exist; create it or correct spec.tier2.bucket")]
    BucketMissing { attempt: Attempt },
    #[error(
        "cannot {attempt}: access is denied ({cause}); correct the credentials or the bucket policy"
    )]
    AccessDenied { attempt: Attempt, cause: String },
    /// The bytes that came back, or that the store keeps, are not those that were written.
    #[error("{attempt} found a damaged object ({cause}); restore it")]
    Corrupt { attempt: Attempt, cause: String },
    /// The store overwrites against preconditions: no claim can be made there.
    #[error(
        "{place} ignores preconditions ({cause}); use an object store that honours If-None-Match and If-Match on PUT"
    )]
    IgnoresPreconditions { place: String, cause: String },
    /// Refused for a reason that a retry does not change, or that this engine does not know.
    #[error("object store refused to {attempt}: {cause}")]
    Refused { attempt: Attempt, cause: String },
    /// The local file to be sent cannot be read.
    #[error("cannot {attempt}: local file unreadable ({cause})")]
    Source { attempt: Attempt, cause: String },
    /// This process is going down.
    #[error("no request to {place}: the engine is shutting down")]
    Stopping { place: String },
}

impl ObjectError {
    pub fn remedy(&self) -> Remedy {
        match self {
            ObjectError::Unreachable { .. }
            | ObjectError::Unknown { .. }
            | ObjectError::Conflict { .. }
            | ObjectError::Throttled { .. }
            | ObjectError::Stopping { .. } => Remedy::Retry,
            ObjectError::BucketMissing { .. }
            | ObjectError::AccessDenied { .. }
            | ObjectError::IgnoresPreconditions { .. }
            | ObjectError::Refused { .. } => Remedy::Fix,
            ObjectError::Corrupt { .. } | ObjectError::Source { .. } => Remedy::Repair,
        }
    }

    /// For reports and conditions.
    pub fn reason(&self) -> Tier2Reason {
        match self {
            ObjectError::Unreachable { .. }
            | ObjectError::Unknown { .. }
            | ObjectError::Conflict { .. }
            | ObjectError::Throttled { .. }
            | ObjectError::Stopping { .. } => Tier2Reason::Unreachable,
            ObjectError::BucketMissing { .. } => Tier2Reason::BucketMissing,
            ObjectError::AccessDenied { .. } => Tier2Reason::AccessDenied,
            ObjectError::IgnoresPreconditions { .. } => Tier2Reason::IgnoresPreconditions,
            ObjectError::Refused { .. } => Tier2Reason::Refused,
            ObjectError::Corrupt { .. } | ObjectError::Source { .. } => Tier2Reason::Corrupt,
        }
    }

    /// Nothing was answered: the next attempt is better made later than at once.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            ObjectError::Unreachable { .. }
                | ObjectError::Unknown { .. }
                | ObjectError::Throttled { .. }
        )
    }
}

/// What is wrong with Tier 2, as reports and conditions tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier2Reason {
    /// It does not answer, or says that it is too busy.
    Unreachable,
    BucketMissing,
    AccessDenied,
    IgnoresPreconditions,
    /// For a reason that a retry does not change, or that this engine does not know.
    Refused,
    /// An object is not what was written.
    Corrupt,
}

impl Tier2Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Tier2Reason::Unreachable => "Tier2Unreachable",
            Tier2Reason::BucketMissing => "BucketMissing",
            Tier2Reason::AccessDenied => "AccessDenied",
            Tier2Reason::IgnoresPreconditions => "Tier2IgnoresPreconditions",
            Tier2Reason::Refused => "Tier2Refused",
            Tier2Reason::Corrupt => "Corrupt",
        }
    }
}
