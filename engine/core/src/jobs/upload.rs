//! Warm file -> object: conditional create, then what the store keeps is asked for and compared before the manifest says so.
//!
//! Order: claim held -> `UploadStarted` -> create -> HEAD: size and checksum; whoever asked commits `UploadDone`. Every step may be repeated: the key
//! names the segment and the epoch, and an object that is already there is ours if it decompresses to the segment.
//!
//! A segment that is trimmed meanwhile is given up before the next request. What a request brought there all the same is for the deletion of
//! objects: the manifest names its key from `UploadStarted` on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_format::names::ObjectKey;
use thiserror::Error;

use super::streamed::Streamed;
use super::warm::{
    FileSource, ObjectSource, WarmError, WarmFacts, read_index, segment_name, verify,
};
use crate::claims::ClaimStanding;
use crate::claims::StreamClaims;
use crate::error::ClaimError;
use crate::error::StoreError;
use crate::objects::conditional::{Creation, checksum_of_object};
use crate::objects::{Attempt, ObjectError, ObjectMeta, Refusal, Source, Tier2, Upload};
use crate::port::Port;
use crate::port::{FailureReason, SealedSegment, TierRecord};

#[derive(Debug, Error)]
pub enum UploadError {
    /// The warm file is gone or damaged: it has to be made again.
    #[error("Tier 1 file of segment {segment_id} of stream {stream} must be rebuilt")]
    Warm {
        stream: String,
        segment_id: u64,
        source: WarmError,
    },
    /// Nobody may read it any more.
    #[error("segment {segment_id} of stream {stream} was trimmed meanwhile")]
    Trimmed { stream: String, segment_id: u64 },
    #[error("claim of stream {stream} is not confirmed")]
    Claim { stream: String, source: ClaimError },
    #[error("{owner} owns stream {stream} now (epoch {to} supersedes {from})")]
    Superseded {
        stream: String,
        owner: String,
        from: u64,
        to: u64,
    },
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// The key holds an object that is not this segment.
    #[error(
        "object {key} at {place} has other content ({problem}) and is not overwritten; move it away"
    )]
    KeyTaken {
        key: String,
        place: String,
        problem: String,
    },
    #[error("cannot write to the manifest of stream {stream}")]
    Manifest { stream: String, source: StoreError },
    #[error("segment {segment_id} of stream {stream:?}, epoch {epoch}, has no key")]
    NoKey {
        stream: String,
        segment_id: u64,
        epoch: u64,
    },
}

impl UploadError {
    /// The warm file is as good as it was.
    pub fn says_nothing_about_the_file(&self) -> bool {
        match self {
            UploadError::Store(error) => !matches!(
                error,
                ObjectError::Corrupt { .. } | ObjectError::Source { .. }
            ),
            UploadError::Claim { .. } => true,
            UploadError::Warm { .. }
            | UploadError::Trimmed { .. }
            | UploadError::NoKey { .. }
            | UploadError::KeyTaken { .. }
            | UploadError::Superseded { .. }
            | UploadError::Manifest { .. } => false,
        }
    }

    /// The manifest's code of a put that failed; `None` where none was tried.
    pub fn reason_of_put(&self) -> Option<FailureReason> {
        Some(match self {
            UploadError::Store(error) => match error {
                ObjectError::AccessDenied { .. }
                | ObjectError::Refused {
                    refusal: Refusal::Credentials | Refusal::CredentialsExpired,
                    ..
                } => FailureReason::Authorisation,
                ObjectError::Unreachable { .. }
                | ObjectError::BackingOff { .. }
                | ObjectError::Unknown { .. }
                | ObjectError::Throttled { .. }
                | ObjectError::BucketMissing { .. }
                | ObjectError::IgnoresPreconditions { .. }
                | ObjectError::Refused { .. } => FailureReason::BucketOrNetwork,
                ObjectError::Corrupt { .. } => FailureReason::Codec,
                ObjectError::Conflict { .. } | ObjectError::Source { .. } => {
                    FailureReason::Transient
                }
                // The process stops: the next start goes on with the upload.
                ObjectError::Stopping { .. } => return None,
            },
            UploadError::KeyTaken { .. } => FailureReason::BucketOrNetwork,
            UploadError::Warm { .. }
            | UploadError::Trimmed { .. }
            | UploadError::NoKey { .. }
            | UploadError::Claim { .. }
            | UploadError::Superseded { .. }
            | UploadError::Manifest { .. } => return None,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub key: String,
    pub etag: String,
    pub size_bytes: u64,
}

/// Uploads one compressed segment. `known` is what this process's own verification found; without it the file is verified first.
/// What becomes the object.
pub enum Warm<'a> {
    /// With what is known of it, where it was verified in this process; afterwards it is, unless it is damaged.
    File(&'a Path, &'a mut Option<WarmFacts>),
    Streamed(Streamed, WarmFacts),
}

pub fn upload(
    port: &dyn Port,
    claims: &StreamClaims,
    segment: &SealedSegment,
    warm: Warm<'_>,
    claim_age: Duration,
) -> Result<Uploaded, UploadError> {
    let stream = || segment.stream.to_string();
    let tier2 = claims.tier2();
    let Some(key) = object_key(tier2, segment) else {
        return Err(UploadError::NoKey {
            stream: stream(),
            segment_id: segment.segment_id,
            epoch: segment.epoch,
        });
    };

    let standing = port.settle_volume_check().and_then(|()| {
        claims.ensure_held(&port.volume(), &segment.stream, segment.epoch, claim_age)
    });
    match standing.map_err(|source| UploadError::Claim {
        stream: stream(),
        source,
    })? {
        ClaimStanding::Held => {}
        ClaimStanding::Superseded { from, to, owner } => {
            return Err(UploadError::Superseded {
                stream: stream(),
                owner,
                from,
                to,
            });
        }
    }

    let is_needed = || !port.is_unneeded(&segment.stream, segment.segment_id);
    // Before the manifest says that an upload is begun.
    if !is_needed() {
        return Err(trimmed(segment));
    }
    let (source, facts): (Arc<dyn Source>, _) = match warm {
        Warm::File(path, known) => {
            let (file, facts) = open_warm(port, segment, path, *known)?;
            *known = Some(facts);
            (Arc::new(file), facts)
        }
        Warm::Streamed(streamed, facts) => (Arc::new(streamed), facts),
    };
    let commit = |record| {
        let committed = port.commit(&segment.stream, segment.segment_id, record);
        committed.map_err(|source| UploadError::Manifest {
            stream: stream(),
            source,
        })
    };
    if segment.moves.upload_started.as_deref() != Some(key.as_str()) {
        commit(TierRecord::UploadStarted { key: key.clone() })?;
    }
    let meta = put_and_compare(tier2, &key, segment, source, facts, &is_needed)?;
    Ok(Uploaded {
        key,
        etag: meta.etag,
        size_bytes: meta.size_bytes,
    })
}

fn trimmed(segment: &SealedSegment) -> UploadError {
    UploadError::Trimmed {
        stream: segment.stream.to_string(),
        segment_id: segment.segment_id,
    }
}

/// `None`: see [`segment_name`].
pub fn object_key(tier2: &Tier2, segment: &SealedSegment) -> Option<String> {
    let (stream, segment) = segment_name(segment)?;
    Some(ObjectKey::Segment { stream, segment }.to_key(tier2.prefix()))
}

fn open_warm(
    port: &dyn Port,
    segment: &SealedSegment,
    path: &Path,
    known: Option<WarmFacts>,
) -> Result<(FileSource, WarmFacts), UploadError> {
    let name = path.display().to_string();
    let open = || {
        let file = port
            .environment()
            .disk
            .open_read(path)
            .and_then(FileSource::new);
        let source = file.map_err(|source| WarmError::Read {
            name: name.clone(),
            source,
        })?;
        let facts = match known {
            Some(facts) => facts,
            None => verify(&source, &name, segment)?,
        };
        Ok((source, facts))
    };
    open().map_err(|source| UploadError::Warm {
        stream: segment.stream.to_string(),
        segment_id: segment.segment_id,
        source,
    })
}

/// Answers what the store says of a verified object, which may be one of an earlier life: of another length than what was to be sent.
fn put_and_compare(
    tier2: &Tier2,
    key: &str,
    segment: &SealedSegment,
    source: Arc<dyn Source>,
    facts: WarmFacts,
    is_needed: &dyn Fn() -> bool,
) -> Result<ObjectMeta, UploadError> {
    let upload = Upload {
        source,
        crc64nvme: facts.crc64nvme,
        put_id: tier2.put_id(),
    };
    let created = tier2.create_while(key, &upload, tier2.max_attempts(), is_needed)?;
    let taken = match created {
        None => return Err(trimmed(segment)),
        Some(Creation::Ours { .. }) => None,
        Some(Creation::Taken(meta)) => Some(meta),
    };
    if let Some(meta) = taken {
        return adopt(tier2, key, segment, meta);
    }
    let attempt = || Attempt {
        verb: "verify",
        key: key.to_owned(),
        place: tier2.place(),
    };
    let Some(meta) = tier2.store().head(key)? else {
        let cause = "new object is missing".to_owned();
        return Err(ObjectError::Corrupt {
            attempt: attempt(),
            cause,
        }
        .into());
    };
    let kept = match meta.crc64nvme {
        Some(crc) => Some(crc),
        // It was read back when it was created.
        None if !tier2.store().checks_what_it_receives() => Some(facts.crc64nvme),
        None => checksum_of_object(tier2.store(), key, meta.size_bytes)?,
    };
    if meta.size_bytes != facts.size_bytes || kept != Some(facts.crc64nvme) {
        let cause = format!(
            "object store keeps {} bytes with checksum {kept:016x?}; sent were {} bytes with {:016x}",
            meta.size_bytes, facts.size_bytes, facts.crc64nvme
        );
        return Err(ObjectError::Corrupt {
            attempt: attempt(),
            cause,
        }
        .into());
    }
    Ok(meta)
}

/// Our own object of an earlier life has other bytes when the warm file was made again with another level or another zstd. What
/// counts is that it holds this segment; anything else stays untouched.
fn adopt(
    tier2: &Tier2,
    key: &str,
    segment: &SealedSegment,
    meta: ObjectMeta,
) -> Result<ObjectMeta, UploadError> {
    match problem_of_object(tier2, key, segment, meta.size_bytes)? {
        None => Ok(meta),
        Some(problem) => Err(UploadError::KeyTaken {
            key: key.to_owned(),
            place: tier2.place(),
            problem,
        }),
    }
}

/// Why an object does not hold this segment; `None` = it does, by all of its bytes.
pub fn problem_of_object(
    tier2: &Tier2,
    key: &str,
    segment: &SealedSegment,
    size_bytes: u64,
) -> Result<Option<String>, ObjectError> {
    let object = ObjectSource {
        tier2,
        key,
        size_bytes,
    };
    let Err(error) = verify(&object, key, segment) else {
        return Ok(None);
    };
    unlike(error).map(Some)
}

/// What it says of an object. A read that was not answered, or was refused, says nothing about it.
fn unlike(error: WarmError) -> Result<String, ObjectError> {
    if let WarmError::Read { source, .. } = &error
        && let Some(unread) = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<ObjectError>())
        && !matches!(unread, ObjectError::Corrupt { .. })
    {
        return Err(unread.clone());
    }
    Ok(error.to_string())
}

/// The same of an output that was never sealed: its length and checksum are those that its object says, and its bytes have to be so.
pub fn problem_of_output(
    tier2: &Tier2,
    key: &str,
    output: &SealedSegment,
    size_bytes: u64,
) -> Result<Option<String>, ObjectError> {
    let object = ObjectSource {
        tier2,
        key,
        size_bytes,
    };
    let footer = match read_index(&object, key) {
        Ok(index) => index.footer,
        Err(error) => return unlike(error).map(Some),
    };
    let stated = SealedSegment {
        bytes: footer.uncompressed_bytes,
        crc64: footer.crc64,
        ..output.clone()
    };
    problem_of_object(tier2, key, &stated, size_bytes)
}
