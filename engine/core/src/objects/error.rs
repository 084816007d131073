//! Why Tier 2 did not do what was asked. The variant says what may be concluded about the attempt, which is all that callers
//! decide by; the text is for people.

use std::fmt;

use thiserror::Error;

use super::refusal::Refusal;
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
    /// Nothing was sent, since requests of this kind have failed just now.
    #[error("cannot {attempt}: not attempted while backing off ({cause})")]
    BackingOff { attempt: Attempt, cause: String },
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
    /// Answered, and something else than a retry has to happen first.
    #[error("cannot {attempt}: {} ({cause}); {}", refusal.what(), refusal.remedy())]
    Refused {
        attempt: Attempt,
        refusal: Refusal,
        cause: String,
    },
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
            | ObjectError::BackingOff { .. }
            | ObjectError::Unknown { .. }
            | ObjectError::Conflict { .. }
            | ObjectError::Throttled { .. }
            | ObjectError::Refused {
                refusal: Refusal::CredentialsExpired,
                ..
            }
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
            | ObjectError::BackingOff { .. }
            | ObjectError::Unknown { .. }
            | ObjectError::Conflict { .. }
            | ObjectError::Throttled { .. }
            | ObjectError::Stopping { .. } => Tier2Reason::Unreachable,
            ObjectError::BucketMissing { .. } => Tier2Reason::BucketMissing,
            ObjectError::AccessDenied { .. } => Tier2Reason::AccessDenied,
            ObjectError::IgnoresPreconditions { .. } => Tier2Reason::IgnoresPreconditions,
            ObjectError::Refused { refusal, .. } => refusal.reason(),
            ObjectError::Corrupt { .. } | ObjectError::Source { .. } => Tier2Reason::Corrupt,
        }
    }

    /// Nothing was answered: the next attempt is better made later than at once.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            ObjectError::Unreachable { .. }
                | ObjectError::BackingOff { .. }
                | ObjectError::Unknown { .. }
                | ObjectError::Throttled { .. }
        )
    }

    /// What fails every request alike, whatever it asks for: the first one that succeeds proves that it is over.
    pub fn concerns_every_request(&self) -> bool {
        match self {
            ObjectError::Unreachable { .. } | ObjectError::BucketMissing { .. } => true,
            ObjectError::Refused { refusal, .. } => refusal.concerns_every_request(),
            ObjectError::BackingOff { .. }
            | ObjectError::Unknown { .. }
            | ObjectError::Conflict { .. }
            | ObjectError::Throttled { .. }
            | ObjectError::AccessDenied { .. }
            | ObjectError::Corrupt { .. }
            | ObjectError::IgnoresPreconditions { .. }
            | ObjectError::Source { .. }
            | ObjectError::Stopping { .. } => false,
        }
    }

    /// The store takes no more bytes until somebody makes room.
    pub fn is_bucket_full(&self) -> bool {
        matches!(
            self,
            ObjectError::Refused {
                refusal: Refusal::QuotaExceeded,
                ..
            }
        )
    }

    /// What is wrong is that one object, and Tier 2 answered.
    pub fn concerns_one_object(&self) -> bool {
        matches!(
            self,
            ObjectError::Corrupt { .. }
                | ObjectError::Refused {
                    refusal: Refusal::Archived,
                    ..
                }
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
    CredentialsExpired,
    /// The clocks of node and object store differ too much.
    ClockSkew,
    /// An object cannot be read before somebody restores it from an archive.
    ObjectArchived,
    QuotaExceeded,
    /// The key that encrypts the bucket cannot be used.
    EncryptionKey,
    /// It rejects the header of the checksum.
    ChecksumRejected,
    WrongRegion,
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
            Tier2Reason::CredentialsExpired => "CredentialsExpired",
            Tier2Reason::ClockSkew => "ClockSkew",
            Tier2Reason::ObjectArchived => "ObjectArchived",
            Tier2Reason::QuotaExceeded => "QuotaExceeded",
            Tier2Reason::EncryptionKey => "EncryptionKey",
            Tier2Reason::ChecksumRejected => "ChecksumRejected",
            Tier2Reason::WrongRegion => "WrongRegion",
            Tier2Reason::Refused => "Tier2Refused",
            Tier2Reason::Corrupt => "Corrupt",
        }
    }
}
