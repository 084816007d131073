//! A snapshot goes because somebody asks for it.
//!
//! Order: looked for in the bucket -> a newer snapshot of its stream verified -> the claim read -> the manifest says that it goes -> the claim
//! read again -> DELETE of its catalogue -> the manifest says that it is gone. Killed behind the first record, the next pass goes on. From that
//! record on it is no snapshot any more; what its catalogue alone named goes as other objects do, behind it.
//!
//! Only one that is older than a verified one goes, so the newest that can be restored stays, with every manifest chunk that
//! is not on the volume any more: catalogues name all chunks from the first on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aof2_format::names::{IndexName, ObjectKey};
use aof2_format::snapshot::{Catalogue, MAX_CATALOGUE_BYTES, SnapshotId};
use aof2_format::snapshot_deletion::DeletionStage;
use thiserror::Error;

use super::pass::{DeleteError, Gone, Limit, remove};
use super::{Deletion, Runner};
use crate::error::{StoreError, with_causes};
use crate::objects::{ObjectError, Refusal, Tier2};
use crate::snapshot::InUse;
use crate::snapshot::verify::{Level, Unwatched, VerifyError, verify};
use crate::store::{Store, StreamNames};

/// A snapshot that was verified counts as verified so long: a retention that deletes many does not read the same objects for each of
/// them.
const VERIFIED_FOR: Duration = Duration::from_secs(10 * 60);
/// Snapshots that one request verifies at most, newest first. Each is read from the bucket, and more than these are damaged by one cause.
const MOST_VERIFIED: usize = 3;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotDeleted {
    /// Length of its catalogue.
    Deleted { bytes: u64 },
    /// Under its key there is no object any more, and the bucket keeps its bytes as an old version.
    KeptAsVersion,
    /// It was not there when it was looked at.
    Missing,
    /// The manifest says that it goes, and the passes that follow go on with it.
    Waits { why: String },
}

#[derive(Debug, Error)]
pub enum SnapshotDeleteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("this engine has no Tier 2 and no snapshots; set spec.tier2 of the Aof2Cluster")]
    NoTier2,
    #[error(
        "stream {stream} has no snapshot {id}; `aof2-admin snapshot list` shows those of this engine"
    )]
    Unknown { stream: String, id: SnapshotId },
    #[error("snapshot {id} of stream {stream} is being taken; delete it when it is done")]
    BeingTaken { stream: String, id: SnapshotId },
    #[error("snapshot {id} of stream {stream} is being verified; delete it when that is over")]
    BeingVerified { stream: String, id: SnapshotId },
    #[error("snapshot {id} of stream {stream} is being deleted by another request; retry")]
    BeingDeleted { stream: String, id: SnapshotId },
    #[error("snapshot {id} of stream {stream} is needed: {why}")]
    Needed {
        stream: String,
        id: SnapshotId,
        why: String,
    },
    #[error("stream {stream} is damaged {damage}; its snapshots stay until it is repaired")]
    Damaged { stream: String, damage: String },
    /// Another volume has taken the stream over.
    #[error("{message}")]
    NotOwned { message: String },
    /// Under its key lies something else.
    #[error(
        "object {key} is not the catalogue of snapshot {id} of this stream ({problem}); move it away"
    )]
    Foreign {
        key: String,
        id: SnapshotId,
        problem: String,
    },
    /// Tier 2 does not do it. Nothing was changed.
    #[error("snapshot {id} of stream {stream} is not deleted: {message}")]
    Failed {
        stream: String,
        id: SnapshotId,
        message: String,
    },
}

/// What lies under the key of a catalogue.
enum Found {
    Nothing,
    Ours {
        bytes: u64,
    },
    /// It cannot be read: whether it is ours the manifest has to say.
    Unreadable {
        bytes: u64,
        problem: String,
    },
    Foreign {
        problem: String,
    },
}

/// Deletes the list of everything that one `Aof2Snapshot` took, which nothing depends on. Answers its key, and what became of it.
pub fn delete_index(
    tier2: &Tier2,
    name: &IndexName,
) -> Result<(String, SnapshotDeleted), IndexDeleteError> {
    let key = ObjectKey::SnapshotIndex { name: name.clone() }.to_key(tier2.prefix());
    let bytes = match tier2.store().head(&key)? {
        Some(meta) => meta.size_bytes,
        None => return Ok((key, SnapshotDeleted::Missing)),
    };
    let gone = remove(tier2, &key, bytes).map_err(|error| match error {
        DeleteError::Object(error) => IndexDeleteError::Tier2(error),
        error => IndexDeleteError::Stays {
            message: with_causes(&error),
        },
    })?;
    tracing::info!(%name, key, ?gone, "list of a snapshot deleted");
    Ok((key, gone.into()))
}

#[derive(Debug, Error)]
pub enum IndexDeleteError {
    #[error(transparent)]
    Tier2(#[from] ObjectError),
    #[error("{message}")]
    Stays { message: String },
}

impl From<Gone> for SnapshotDeleted {
    fn from(gone: Gone) -> SnapshotDeleted {
        match gone {
            Gone::Deleted { bytes } => SnapshotDeleted::Deleted { bytes },
            Gone::KeptAsVersion => SnapshotDeleted::KeptAsVersion,
            Gone::Missing => SnapshotDeleted::Missing,
        }
    }
}

impl Deletion {
    /// Deletes the catalogue of a snapshot of one of this node's streams. Durable where it answers: what could not be done now is done by the
    /// next pass. A repetition answers `Missing`, as long as the manifest remembers it. Blocks on Tier 2.
    pub fn delete_snapshot(
        &self,
        store: &Store,
        stream: &str,
        id: SnapshotId,
    ) -> Result<SnapshotDeleted, SnapshotDeleteError> {
        let facts = store.snapshot_facts(stream)?;
        let Some(runner) = &self.runner else {
            return Err(SnapshotDeleteError::NoTier2);
        };
        if let Some(to) = facts.superseded_by {
            let from = facts.epoch;
            return Err(SnapshotDeleteError::NotOwned {
                message: format!(
                    "another volume owns stream {stream} now (epoch {to} supersedes {from}); ask the engine that serves it"
                ),
            });
        }
        runner.delete_snapshot(&stream.into(), id, facts.damage)
    }
}

impl Runner {
    fn delete_snapshot(
        &self,
        stream: &Arc<str>,
        id: SnapshotId,
        damage: Option<String>,
    ) -> Result<SnapshotDeleted, SnapshotDeleteError> {
        let name = || stream.to_string();
        let in_use = |by: InUse| match by {
            InUse::Taken => SnapshotDeleteError::BeingTaken { stream: name(), id },
            InUse::Verified => SnapshotDeleteError::BeingVerified { stream: name(), id },
            InUse::Deleted => SnapshotDeleteError::BeingDeleted { stream: name(), id },
        };
        let deleting = self.snapshots.deleting(stream, id).map_err(in_use)?;
        let is_begun = match self.store.snapshot_deletion(stream, id)? {
            Some(DeletionStage::Done) => return Ok(SnapshotDeleted::Missing),
            Some(DeletionStage::Begun) => true,
            None => false,
        };
        if !is_begun {
            if let Some(damage) = damage {
                let stream = name();
                return Err(SnapshotDeleteError::Damaged { stream, damage });
            }
            self.ensure_deletable(stream, id)?;
        }
        let gone = {
            // From the record on: no pass goes on with it in between.
            let _working = self.working.lock();
            if !is_begun {
                self.begin(stream, id)?;
            }
            drop(deleting);
            self.finish_snapshot(stream, id)
        };
        {
            // What it alone named may go now; or a pass goes on with it.
            let now = self.now();
            self.state.lock().schedule.hurry(stream, now);
            self.coordinator.ring();
        }
        match gone {
            Ok(gone) => Ok(gone.into()),
            Err(error @ DeleteError::Superseded { .. }) => Err(SnapshotDeleteError::NotOwned {
                message: with_causes(&error),
            }),
            Err(error) => Ok(SnapshotDeleted::Waits {
                why: with_causes(&error),
            }),
        }
    }

    fn ensure_deletable(
        &self,
        stream: &Arc<str>,
        id: SnapshotId,
    ) -> Result<(), SnapshotDeleteError> {
        let names = self.store.stream_names(stream)?;
        let marked = self.store.marked_snapshots(stream)?;
        let is_marked = marked.iter().any(|marked| marked.snapshot_id == id);
        let found = self.find(&names, id);
        match found.map_err(|error| not_done(stream, id, &error.into()))? {
            Found::Ours { .. } => {}
            Found::Nothing | Found::Unreadable { .. } if is_marked => {}
            Found::Nothing => {
                let stream = stream.to_string();
                return Err(SnapshotDeleteError::Unknown { stream, id });
            }
            Found::Unreadable { problem, .. } | Found::Foreign { problem } => {
                let key = self.key(&names, id);
                return Err(SnapshotDeleteError::Foreign { key, id, problem });
            }
        }
        self.ensure_not_needed(&names, stream, id)
    }

    /// The record that says that it goes.
    fn begin(&self, stream: &Arc<str>, id: SnapshotId) -> Result<(), SnapshotDeleteError> {
        let names = self.store.stream_names(stream)?;
        let owner = self.ensure_owner(stream, names.epoch);
        owner.map_err(|error| not_done(stream, id, &error))?;
        let begun = DeletionStage::Begun;
        self.store.note_snapshot_deletion(stream, id, begun)?;
        self.snapshots.forget(stream, id);
        tracing::info!(%stream, snapshot = %id, "deletion of a snapshot begins");
        Ok(())
    }

    /// The newest snapshot that can be restored is a newer one.
    fn ensure_not_needed(
        &self,
        names: &StreamNames,
        stream: &Arc<str>,
        id: SnapshotId,
    ) -> Result<(), SnapshotDeleteError> {
        let needed = |why: String| SnapshotDeleteError::Needed {
            stream: stream.to_string(),
            id,
            why,
        };
        let mut newer = self.store.marked_snapshots(stream)?;
        newer.retain(|marked| marked.snapshot_id > id);
        let now = self.now();
        let known = self.verified.lock().get(stream).copied();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < VERIFIED_FOR;
        let is_there = |known| newer.iter().any(|marked| marked.snapshot_id == known);
        if known.is_some_and(|(known, at)| is_fresh(at) && is_there(known)) {
            return Ok(());
        }
        let mut fault = None;
        for marked in newer.iter().take(MOST_VERIFIED) {
            let tier2 = self.claims.tier2();
            let (newest, digest) = (
                marked.snapshot_id,
                marked.note.as_ref().map(|it| &*it.digest),
            );
            let read = verify(tier2, &names.name, newest, Level::L1, digest, &Unwatched);
            let verdict = read.map_err(|error: VerifyError| SnapshotDeleteError::Failed {
                stream: stream.to_string(),
                id,
                message: format!("snapshot {newest}, which is newer, cannot be verified: {error}"),
            })?;
            match verdict.fault {
                None => {
                    let mut verified = self.verified.lock();
                    verified.insert(stream.clone(), (newest, now));
                    return Ok(());
                }
                Some((_, problem)) => _ = fault.get_or_insert((newest, problem)),
            }
        }
        Err(needed(match fault {
            None => "the newest snapshot of a stream always stays; take a new one first".to_owned(),
            Some((newest, problem)) => format!(
                "no newer one is verified, and the newest verified one always stays; snapshot {newest} is faulty: {problem}; take a new one first"
            ),
        }))
    }

    /// Goes on with the snapshots of a stream whose deletion has begun. What fails keeps no other one waiting.
    pub(super) fn finish_snapshots(
        &self,
        stream: &Arc<str>,
        limit: Limit,
    ) -> Result<(), DeleteError> {
        let mut first = Ok(());
        let now = self.now();
        // The other half is for objects, whatever becomes of these.
        let until = now + limit.until.saturating_duration_since(now) / 2;
        for id in self.store.begun_snapshot_deletions(stream)? {
            if self.is_stopping() || self.now() >= until {
                break;
            }
            if let Err(error) = self.finish_snapshot(stream, id) {
                // The others would wait for the same.
                let ends = matches!(&error, DeleteError::Object(error) if error.is_outage());
                let ends = ends || matches!(error, DeleteError::Superseded { .. });
                first = first.and(Err(error));
                if ends {
                    break;
                }
            }
        }
        first
    }

    /// The first record is durable. Called under `working`.
    fn finish_snapshot(&self, stream: &Arc<str>, id: SnapshotId) -> Result<Gone, DeleteError> {
        let names = self.store.stream_names(stream)?;
        // A pass may have been faster.
        if self.store.snapshot_deletion(stream, id)? == Some(DeletionStage::Done) {
            return Ok(Gone::Missing);
        }
        // Read again: looking for it and the manifest may have taken their time.
        self.ensure_owner(stream, names.epoch)?;
        let key = self.key(&names, id);
        let gone = match self.find(&names, id)? {
            Found::Nothing => Gone::Missing,
            Found::Ours { bytes } | Found::Unreadable { bytes, .. } => {
                remove(self.claims.tier2(), &key, bytes)?
            }
            Found::Foreign { problem } => {
                tracing::warn!(%stream, key, "object is not the catalogue of a deleted snapshot and stays: {problem}");
                Gone::Missing
            }
        };
        let done = DeletionStage::Done;
        self.store.note_snapshot_deletion(stream, id, done)?;
        let deleted = &self.counters.deleted_snapshots;
        deleted.fetch_add(1, Ordering::Relaxed);
        tracing::info!(%stream, snapshot = %id, key, ?gone, "snapshot deleted");
        Ok(gone)
    }

    fn key(&self, names: &StreamNames, id: SnapshotId) -> String {
        let key = ObjectKey::Snapshot {
            stream: names.name.clone(),
            snapshot_id: id.0,
        };
        key.to_key(self.claims.tier2().prefix())
    }

    fn find(&self, names: &StreamNames, id: SnapshotId) -> Result<Found, ObjectError> {
        let store = self.claims.tier2().store();
        let key = self.key(names, id);
        let unreadable = |problem: String| {
            Ok(match store.head(&key)? {
                Some(meta) => Found::Unreadable {
                    bytes: meta.size_bytes,
                    problem,
                },
                None => Found::Nothing,
            })
        };
        let object = match store.get_within(&key, MAX_CATALOGUE_BYTES as u64) {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(Found::Nothing),
            Err(ObjectError::Corrupt { cause, .. }) => return unreadable(cause),
            Err(
                error @ ObjectError::Refused {
                    refusal: Refusal::Archived,
                    ..
                },
            ) => return unreadable(error.to_string()),
            Err(error) => return Err(error),
        };
        let bytes = object.bytes.len() as u64;
        let catalogue = match Catalogue::decode(&object.bytes) {
            Ok(catalogue) => catalogue,
            Err(damage) => {
                let problem = damage.to_string();
                return Ok(Found::Unreadable { bytes, problem });
            }
        };
        let is_ours = catalogue.cluster_id == names.cluster_id
            && catalogue.stream_uuid == names.uuid
            && catalogue.snapshot_id == id;
        Ok(match is_ours {
            true => Found::Ours { bytes },
            false => Found::Foreign {
                problem: format!(
                    "the catalogue names snapshot {} of stream {} with id {}",
                    catalogue.snapshot_id, catalogue.stream, catalogue.stream_uuid
                ),
            },
        })
    }
}

fn not_done(stream: &str, id: SnapshotId, error: &DeleteError) -> SnapshotDeleteError {
    let message = with_causes(error);
    match error {
        DeleteError::Superseded { .. } => SnapshotDeleteError::NotOwned { message },
        DeleteError::Catalogues(_)
        | DeleteError::Listing(_)
        | DeleteError::Chunk(_)
        | DeleteError::Object(_)
        | DeleteError::Publish(_)
        | DeleteError::Claim(_)
        | DeleteError::Store(_)
        | DeleteError::StillThere { .. } => SnapshotDeleteError::Failed {
            stream: stream.to_owned(),
            id,
            message,
        },
    }
}
