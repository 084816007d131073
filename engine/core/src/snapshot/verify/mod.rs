//! The second reader: what is in the bucket, and whether it is the snapshot. Reads Tier 2 and nothing else, so that any engine of
//! the cluster can do it, and shares no code with what takes snapshots.
//!
//! An object that is not there, or not as it was, is a verdict. A Tier 2 that does not answer is an error: nothing was learned.
//!
//! `objects` is L0, `replay` L1, `content` with `walk` L2.

mod content;
mod objects;
mod replay;
mod walk;

use aof2_format::names::ObjectKey;
use aof2_format::snapshot::{Catalogue, MAX_CATALOGUE_BYTES, SnapshotId};
use aof2_format::{Damage, StreamName};
use bytes::Bytes;
use thiserror::Error;

use super::digest_of;
use crate::objects::tier2::ATTEMPTS_OF_A_CALLER;
use crate::objects::{ObjectError, ObjectStore, Refusal, Tier2};

/// Missing keys that a verdict names.
pub const MISSING_NAMED: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything that the catalogue names is there, with its size and checksum; with its etag where the store keeps no checksum. A
    /// part of each object is read and says what the catalogue says: an object that is listed may still be one that nobody can read.
    #[default]
    L0,
    /// And the manifest's chunks, replayed, give the catalogue.
    L1,
    /// And every byte of every segment is read: it decompresses to the batches that were sealed, each the successor of the one before.
    L2,
}

/// Whoever waits for L2: all other levels take as long as some requests.
pub trait Watch: Sync {
    /// Before the first byte of a segment: how many there are in all, compressed.
    fn begins(&self, total_bytes: u64);

    /// Of so many more. `Err`: why the reading is to end.
    fn read(&self, bytes: u64) -> Result<(), String>;
}

/// Nobody.
pub struct Unwatched;

impl Watch for Unwatched {
    fn begins(&self, _total_bytes: u64) {}

    fn read(&self, _bytes: u64) -> Result<(), String> {
        Ok(())
    }
}

/// No verdict.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VerifyError {
    #[error(transparent)]
    Tier2(#[from] ObjectError),
    #[error("verification of snapshot {id} of stream {stream} ended early: {why}")]
    Ended {
        stream: StreamName,
        id: SnapshotId,
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ObjectMissing,
    DigestMismatch,
    SizeMismatch,
    Undecodable,
    ReplayDiffers,
    /// It cannot be read before somebody restores it.
    ObjectArchived,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong first, naming the object; `None` = verified.
    pub fault: Option<(Fault, String)>,
    /// Of the catalogue as it is now; empty where it could not be read.
    pub digest: String,
    /// Keys, at most `MISSING_NAMED`.
    pub missing: Vec<String>,
    pub objects_checked: u64,
    pub records_replayed: u64,
    /// Of segments, by L2, compressed.
    pub bytes_read: u64,
}

impl Verdict {
    fn faulty(mut self, fault: Fault, message: String) -> Verdict {
        self.fault.get_or_insert((fault, message));
        self
    }
}

/// Reads the snapshot back. `digest` is what the catalogue's bytes should give, where the caller knows it.
pub fn verify(
    tier2: &Tier2,
    stream: &StreamName,
    id: SnapshotId,
    level: Level,
    digest: Option<&str>,
    watch: &dyn Watch,
) -> Result<Verdict, VerifyError> {
    let verdict = read_back(tier2, stream, id, level, digest, watch)?;
    if let Some((fault, what)) = &verdict.fault {
        let missing = verdict.missing.len();
        tracing::error!(%stream, snapshot = %id, ?level, ?fault, missing, "snapshot failed verification: {what}");
    }
    Ok(verdict)
}

fn read_back(
    tier2: &Tier2,
    stream: &StreamName,
    id: SnapshotId,
    level: Level,
    digest: Option<&str>,
    watch: &dyn Watch,
) -> Result<Verdict, VerifyError> {
    let reader = Reader {
        tier2,
        // What reads for hours does not begin again for a moment's trouble.
        attempts: match level {
            Level::L0 | Level::L1 => ATTEMPTS_OF_A_CALLER,
            Level::L2 => tier2.max_attempts(),
        },
    };
    let key = ObjectKey::Snapshot {
        stream: stream.clone(),
        snapshot_id: id.0,
    }
    .to_key(tier2.prefix());
    let mut verdict = Verdict {
        objects_checked: 1,
        ..Verdict::default()
    };
    let bytes = match reader.get(&key, MAX_CATALOGUE_BYTES as u64)? {
        Read::Bytes(bytes) => bytes,
        Read::Missing => {
            verdict.missing.push(key.clone());
            return Ok(verdict.faulty(Fault::ObjectMissing, missing(&key)));
        }
        Read::Faulty(fault, message) => return Ok(verdict.faulty(fault, message)),
    };
    verdict.digest = digest_of(&bytes);
    if let Some(expected) = digest
        && expected != verdict.digest
    {
        let message = format!(
            "object {key} has digest {}, expected {expected}",
            verdict.digest
        );
        return Ok(verdict.faulty(Fault::DigestMismatch, message));
    }
    let catalogue = match Catalogue::decode(&bytes) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            return Ok(verdict.faulty(fault_of(&error), format!("{key}: {error}")));
        }
    };
    if catalogue.stream != *stream || catalogue.snapshot_id != id {
        let message = format!(
            "object {key} describes snapshot {} of stream {}",
            catalogue.snapshot_id, catalogue.stream
        );
        return Ok(verdict.faulty(Fault::Undecodable, message));
    }
    let verdict = objects::check(&reader, &catalogue, verdict)?;
    if level < Level::L1 || verdict.fault.is_some() {
        return Ok(verdict);
    }
    let (verdict, chains) = replay::check(&reader, &catalogue, verdict)?;
    if level < Level::L2 || verdict.fault.is_some() {
        return Ok(verdict);
    }
    content::check(&reader, &catalogue, &chains, watch, verdict)
}

fn fault_of(damage: &Damage) -> Fault {
    match damage {
        Damage::Checksum { .. } => Fault::DigestMismatch,
        Damage::Short { .. }
        | Damage::Magic { .. }
        | Damage::Version { .. }
        | Damage::Value { .. }
        | Damage::Text { .. } => Fault::Undecodable,
    }
}

fn missing(key: &str) -> String {
    format!("object {key} is missing; restore it or take a new snapshot")
}

struct Reader<'a> {
    tier2: &'a Tier2,
    /// Somebody waits for the answer.
    attempts: u32,
}

enum Read {
    Bytes(Bytes),
    Missing,
    Faulty(Fault, String),
}

impl Reader<'_> {
    fn retried<T>(
        &self,
        ask: impl Fn(&dyn ObjectStore) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let mut attempt = 1;
        loop {
            match ask(self.tier2.store()) {
                Err(error) if error.is_outage() && attempt < self.attempts => {
                    if !self.tier2.retries().pause_after(attempt) {
                        return Err(error);
                    }
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    fn get(&self, key: &str, max_bytes: u64) -> Result<Read, ObjectError> {
        let get = |store: &dyn ObjectStore| store.get_within(key, max_bytes);
        Self::judged(self.retried(|store| Ok(get(store)?.map(|object| object.bytes))))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Read, ObjectError> {
        Self::judged(self.retried(|store| store.get_range(key, offset, length)))
    }

    /// What is wrong with the object itself is a verdict.
    fn judged(answer: Result<Option<Bytes>, ObjectError>) -> Result<Read, ObjectError> {
        match answer {
            Ok(Some(bytes)) => Ok(Read::Bytes(bytes)),
            Ok(None) => Ok(Read::Missing),
            Err(error @ ObjectError::Corrupt { .. }) => {
                Ok(Read::Faulty(Fault::DigestMismatch, error.to_string()))
            }
            Err(
                error @ ObjectError::Refused {
                    refusal: Refusal::Archived,
                    ..
                },
            ) => Ok(Read::Faulty(Fault::ObjectArchived, error.to_string())),
            Err(error) => Err(error),
        }
    }
}
