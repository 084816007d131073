//! The steps of one snapshot that ask Tier 2. Every one may be repeated: chunks and catalogue are created under keys of their own,
//! and what is there already is recognised.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aof2_format::FORMAT_VERSION;
use aof2_format::names::ObjectKey;
use aof2_format::snapshot::{
    Catalogue, CatalogueChunk, CatalogueSegment, Crc64, MAX_CATALOGUE_BYTES, RecoveryNotes,
    SnapshotId, SnapshotNote,
};
use thiserror::Error;

use super::{SnapshotReason, Why, digest_of};
use crate::claims::ClaimStanding;
use crate::claims::StreamClaims;
use crate::error::ClaimError;
use crate::error::StoreError;
use crate::manifest::ClosedChunk;
use crate::manifest::cut::Cut;
use crate::objects::conditional::Creation;
use crate::objects::{ObjectError, Tier2, Tier2Reason, Upload, crc64nvme};
use crate::port::{ColdCopy, SealedSegment};
use crate::store::{Store, StreamNames};

/// Ids that are tried while others' catalogues are in the way.
const MAX_IDS: u32 = 64;

/// What a session wants.
#[derive(Clone, Debug)]
pub(super) struct Taking {
    pub stream: Arc<str>,
    pub snapshot_id: SnapshotId,
    pub request: String,
    pub durable_sequence: u64,
    pub started_unix_nanos: i64,
}

/// The catalogue is in Tier 2 and its marker is durable.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub notes: RecoveryNotes,
    pub bytes: u64,
    pub durable_sequence: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    Stored,
    Publishing,
    /// The id was taken by another catalogue.
    Renamed(SnapshotId),
}

#[derive(Debug, Error)]
pub(crate) enum TakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Object(ObjectError),
    /// What lies in the bucket; a body that was damaged on its way there is sent again.
    #[error("cannot read back object {key} ({cause}); restore it or move it away")]
    Unreadable { key: String, cause: String },
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("{owner} owns the stream now (epoch {to} supersedes {from})")]
    Superseded { owner: String, from: u64, to: u64 },
    #[error("object {key} is in the manifest but not in Tier 2; restore it")]
    Missing { key: String },
    #[error("object {key} has other content and is not overwritten; move it away")]
    KeyTaken { key: String },
    #[error(
        "catalogue {key} of {segments} segments has {bytes} bytes, limit {MAX_CATALOGUE_BYTES}; raise segment.target_bytes or continue in another stream"
    )]
    TooLarge {
        key: String,
        bytes: usize,
        segments: usize,
    },
}

impl From<ObjectError> for TakeError {
    fn from(error: ObjectError) -> TakeError {
        match error {
            ObjectError::Corrupt { attempt, cause } if attempt.verb != "put" => {
                TakeError::Unreadable {
                    key: attempt.key,
                    cause,
                }
            }
            other => TakeError::Object(other),
        }
    }
}

impl TakeError {
    /// No retry mends it.
    pub fn is_final(&self) -> bool {
        match self {
            TakeError::Store(error) => match error {
                StoreError::Poisoned { .. }
                | StoreError::Damaged { .. }
                | StoreError::UnknownStream { .. }
                | StoreError::UnknownSegment { .. } => true,
                StoreError::DiskFull { .. } | StoreError::OutOf { .. } | StoreError::Closed => {
                    false
                }
            },
            TakeError::Object(_) | TakeError::Claim(_) => false,
            TakeError::Unreadable { .. }
            | TakeError::Superseded { .. }
            | TakeError::Missing { .. }
            | TakeError::KeyTaken { .. }
            | TakeError::TooLarge { .. } => true,
        }
    }

    pub fn why(&self) -> Why {
        let reason = match self {
            TakeError::Store(error) => match error {
                StoreError::Poisoned { .. } | StoreError::Closed => SnapshotReason::Poisoned,
                StoreError::DiskFull { .. } | StoreError::OutOf { .. } => SnapshotReason::DiskFull,
                StoreError::Damaged { .. }
                | StoreError::UnknownStream { .. }
                | StoreError::UnknownSegment { .. } => SnapshotReason::Damaged,
            },
            TakeError::Object(error) => SnapshotReason::Tier2(error.reason()),
            TakeError::Unreadable { .. } => SnapshotReason::Tier2(Tier2Reason::Corrupt),
            TakeError::Claim(error) => match error {
                ClaimError::Pending { .. } | ClaimError::Unreadable { .. } => {
                    SnapshotReason::ClaimPending
                }
                ClaimError::PrefixInUse { .. } => SnapshotReason::PrefixInUse,
                ClaimError::NotOwner { .. }
                | ClaimError::VolumeLost { .. }
                | ClaimError::RolledBack { .. } => SnapshotReason::Superseded,
            },
            TakeError::Superseded { .. } => SnapshotReason::Superseded,
            TakeError::Missing { .. } => SnapshotReason::ObjectMissing,
            TakeError::KeyTaken { .. } => SnapshotReason::KeyTaken,
            TakeError::TooLarge { .. } => SnapshotReason::TooLarge,
        };
        Why::new(reason, self.to_string())
    }
}

/// Chunks, catalogue, marker. The named segments are uploaded already.
pub(super) fn take(
    store: &Store,
    claims: &StreamClaims,
    taking: &Taking,
    report: &dyn Fn(Progress),
) -> Result<Taken, TakeError> {
    let tier2 = claims.tier2();
    let names = store.stream_names(&taking.stream)?;
    ensure_held(store, claims, &taking.stream, names.epoch)?;
    let cut = store.cut_manifest(&taking.stream)?;
    let known = Known::of_newest(store, tier2, &taking.stream)?;
    let chunks = upload_chunks(store, tier2, &names, &cut, &known, report)?;
    let segments = named_segments(tier2, &names, &cut, &known, report)?;
    report(Progress::Publishing);
    // Read again: the network may have taken its time.
    ensure_held(store, claims, &taking.stream, names.epoch)?;
    let Some(last) = cut.chunks.last() else {
        unreachable!("a cut closes a chunk")
    };
    let catalogue = Catalogue {
        format_version: FORMAT_VERSION,
        cluster_id: names.cluster_id,
        stream: names.name.clone(),
        stream_uuid: names.uuid,
        snapshot_id: taking.snapshot_id,
        request: taking.request.clone(),
        epoch: names.epoch,
        chunk_index: last.number,
        chunk_offset: last.bytes,
        durable_sequence: taking.durable_sequence,
        start_sequence: cut.start_sequence,
        uploaded_sequence: cut.uploaded_upto,
        created_at: rfc3339(store.unix_nanos()),
        segments,
        chunks,
    };
    let (catalogue, bytes) = publish(tier2, catalogue, report)?;
    let digest = digest_of(&bytes);
    let key = ObjectKey::Snapshot {
        stream: names.name.clone(),
        snapshot_id: catalogue.snapshot_id.0,
    }
    .to_key(tier2.prefix());
    let note = SnapshotNote {
        format_version: FORMAT_VERSION,
        snapshot_id: catalogue.snapshot_id,
        request: catalogue.request.clone(),
        key: key.clone(),
        digest: digest.clone(),
        bytes: bytes.len() as u64,
        durable_sequence: catalogue.durable_sequence,
        uploaded_sequence: catalogue.uploaded_sequence,
        started_unix_nanos: taking.started_unix_nanos,
    };
    store.commit_snapshot_marker(
        &taking.stream,
        catalogue.chunk_index,
        catalogue.chunk_offset,
        &note,
    )?;
    Ok(Taken {
        notes: RecoveryNotes {
            format_version: FORMAT_VERSION,
            cluster_id: names.cluster_id,
            stream: names.name,
            epoch: catalogue.epoch,
            snapshot_id: catalogue.snapshot_id,
            chunk_index: catalogue.chunk_index,
            chunk_offset: catalogue.chunk_offset,
            uploaded_sequence: catalogue.uploaded_sequence,
            key,
            digest,
            at: rfc3339(store.unix_nanos()),
        },
        bytes: bytes.len() as u64,
        durable_sequence: catalogue.durable_sequence,
    })
}

/// Before every publication.
pub(super) fn ensure_held(
    store: &Store,
    claims: &StreamClaims,
    stream: &str,
    epoch: u32,
) -> Result<(), TakeError> {
    store.settle_volume_check()?;
    let age: Duration = store.config().tier2.claim_check;
    match claims.ensure_held(store.identity(), stream, epoch.into(), age)? {
        ClaimStanding::Held => Ok(()),
        ClaimStanding::Superseded { from, to, owner } => {
            Err(TakeError::Superseded { owner, from, to })
        }
    }
}

/// What the newest catalogue of this stream says about objects that this one names, too: they are not asked for one by one again.
#[derive(Default)]
struct Known {
    segments: HashMap<String, CatalogueSegment>,
    chunks: HashMap<String, CatalogueChunk>,
}

impl Known {
    fn of_newest(store: &Store, tier2: &Tier2, stream: &str) -> Result<Known, TakeError> {
        let marked = store.marked_snapshots(stream)?;
        let Some(note) = marked.first().and_then(|newest| newest.note.as_ref()) else {
            return Ok(Known::default());
        };
        let bytes = match tier2.store().get(&note.key) {
            Ok(Some(object)) if digest_of(&object.bytes) == note.digest => object.bytes,
            // Gone or damaged: that is for its verification to tell.
            Ok(_) | Err(ObjectError::Corrupt { .. }) => return Ok(Known::default()),
            Err(error) => return Err(error.into()),
        };
        let Ok(catalogue) = Catalogue::decode(&bytes) else {
            return Ok(Known::default());
        };
        let segments = catalogue.segments.into_iter();
        let chunks = catalogue.chunks.into_iter();
        Ok(Known {
            segments: segments.map(|it| (it.key.clone(), it)).collect(),
            chunks: chunks.map(|it| (it.key.clone(), it)).collect(),
        })
    }
}

/// Puts the manifest chunks of a stream into Tier 2, up to now; those up to `known` are there. Answers the number of the last one.
pub(crate) fn publish_manifest(
    store: &Store,
    tier2: &Tier2,
    stream: &str,
    known: Option<u64>,
) -> Result<u64, TakeError> {
    let names = store.stream_names(stream)?;
    let mut cut = store.cut_manifest(stream)?;
    let Some(last) = cut.chunks.last().map(|chunk| chunk.number) else {
        unreachable!("a cut closes a chunk")
    };
    cut.chunks.retain(|chunk| Some(chunk.number) > known);
    let named = Known::of_newest(store, tier2, stream)?;
    upload_chunks(store, tier2, &names, &cut, &named, &|_| {})?;
    Ok(last)
}

fn listed(tier2: &Tier2, prefix: &str) -> Result<BTreeSet<String>, ObjectError> {
    Ok(tier2.store().list(prefix, None)?.into_iter().collect())
}

/// One that is in Tier 2 is not sent again, and one that vanished is.
fn upload_chunks(
    store: &Store,
    tier2: &Tier2,
    names: &StreamNames,
    cut: &Cut,
    known: &Known,
    report: &dyn Fn(Progress),
) -> Result<Vec<CatalogueChunk>, TakeError> {
    let present = listed(
        tier2,
        &ObjectKey::manifest_prefix(tier2.prefix(), &names.name),
    )?;
    let mut chunks = Vec::with_capacity(cut.chunks.len());
    for chunk in &cut.chunks {
        let ClosedChunk {
            number,
            epoch,
            bytes,
            crc64,
            is_local,
        } = *chunk;
        let key = ObjectKey::ManifestChunk {
            stream: names.name.clone(),
            epoch,
            chunk: number,
        }
        .to_key(tier2.prefix());
        if present.contains(&key)
            && let Some(found) = known.chunks.get(&key)
            && found.bytes == bytes
        {
            chunks.push(found.clone());
            continue;
        }
        // Read back before its file went. Only its verification reads it again.
        let of_tier2 = |crc64: Option<u64>| {
            let crc64 = crc64.filter(|_| present.contains(&key));
            let crc64 = crc64.ok_or_else(|| TakeError::Missing { key: key.clone() })?;
            Ok::<_, TakeError>(CatalogueChunk {
                index: number,
                epoch,
                key: key.clone(),
                bytes,
                crc64: Crc64(crc64),
            })
        };
        if !is_local {
            chunks.push(of_tier2(crc64)?);
            continue;
        }
        let content = match store.closed_chunk_bytes(names.name.as_str(), *chunk) {
            Ok(content) => content,
            // The end of the snapshot before may have pruned it just now.
            Err(error) => match store.pruned_chunk(names.name.as_str(), number)? {
                Some(pruned) => {
                    chunks.push(of_tier2(pruned.crc64)?);
                    continue;
                }
                None => return Err(error.into()),
            },
        };
        let crc64 = Crc64(crc64nvme(&content));
        let upload = Upload::of_bytes(content.into(), tier2.put_id());
        match tier2.create(&key, &upload, tier2.max_attempts())? {
            Creation::Ours { .. } => {}
            Creation::Taken(_) => return Err(TakeError::KeyTaken { key }),
        }
        report(Progress::Stored);
        chunks.push(CatalogueChunk {
            index: number,
            epoch,
            key,
            bytes,
            crc64,
        });
    }
    Ok(chunks)
}

/// Every one is looked for: a catalogue does not name what is not there.
fn named_segments(
    tier2: &Tier2,
    names: &StreamNames,
    cut: &Cut,
    known: &Known,
    report: &dyn Fn(Progress),
) -> Result<Vec<CatalogueSegment>, TakeError> {
    let present = listed(
        tier2,
        &ObjectKey::segments_prefix(tier2.prefix(), &names.name),
    )?;
    let mut segments = Vec::with_capacity(cut.segments.len());
    for segment in &cut.segments {
        let SealedSegment {
            stream: _,
            segment_id,
            epoch,
            base_sequence,
            records,
            bytes,
            crc64,
            times: _,
            sealed_unix_nanos: _,
            copies,
            moves: _,
            compressed_bytes: _,
        } = segment;
        let Some(ColdCopy { key, etag }) = copies.cold.clone() else {
            unreachable!("a cut holds segments with an object")
        };
        if !present.contains(&key) {
            return Err(TakeError::Missing { key });
        }
        if let Some(found) = known.segments.get(&key)
            && found.etag == etag
        {
            segments.push(found.clone());
            continue;
        }
        let Some(meta) = tier2.store().head(&key)? else {
            return Err(TakeError::Missing { key });
        };
        report(Progress::Stored);
        segments.push(CatalogueSegment {
            segment_id: *segment_id,
            // Claims count their epochs in 32 bits.
            epoch: u32::try_from(*epoch).unwrap_or(u32::MAX),
            base_sequence: *base_sequence,
            records: *records,
            bytes: *bytes,
            crc64: Crc64(*crc64),
            key,
            etag,
            object_bytes: meta.size_bytes,
            object_crc64: meta.crc64nvme.map(Crc64),
        });
    }
    Ok(segments)
}

/// Answers the catalogue that is in Tier 2: a new one, or that of the same request from before this process.
fn publish(
    tier2: &Tier2,
    mut catalogue: Catalogue,
    report: &dyn Fn(Progress),
) -> Result<(Catalogue, Vec<u8>), TakeError> {
    for _ in 0..MAX_IDS {
        let key = ObjectKey::Snapshot {
            stream: catalogue.stream.clone(),
            snapshot_id: catalogue.snapshot_id.0,
        }
        .to_key(tier2.prefix());
        let bytes = catalogue.encode();
        // A larger one could never be verified, nor restored from.
        if bytes.len() > MAX_CATALOGUE_BYTES {
            return Err(TakeError::TooLarge {
                key,
                bytes: bytes.len(),
                segments: catalogue.segments.len(),
            });
        }
        let upload = Upload::of_bytes(bytes.clone().into(), tier2.put_id());
        match tier2.create(&key, &upload, tier2.max_attempts())? {
            Creation::Ours { .. } => {
                report(Progress::Stored);
                return Ok((catalogue, bytes));
            }
            Creation::Taken(_) => {}
        }
        let object = match tier2.store().get(&key) {
            Ok(object) => object,
            // Never overwritten, and nobody can tell whose it is: another id.
            Err(ObjectError::Corrupt { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(object) = object
            && let Ok(found) = Catalogue::decode(&object.bytes)
            && found.stream_uuid == catalogue.stream_uuid
            && found.epoch == catalogue.epoch
            && found.request == catalogue.request
        {
            // Ours: the process ended between the catalogue and its marker.
            return Ok((found, object.bytes.to_vec()));
        }
        let id = SnapshotId::new(catalogue.epoch, catalogue.snapshot_id.n() + 1);
        catalogue.snapshot_id = id;
        report(Progress::Renamed(id));
    }
    let key = ObjectKey::snapshots_prefix(tier2.prefix(), &catalogue.stream);
    Err(TakeError::KeyTaken { key })
}

/// UTC. A time that no calendar holds reads as the epoch's.
pub(crate) fn rfc3339(unix_nanos: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_nanos))
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use aof2_format::{ClusterId, StreamName, StreamUuid};

    use super::*;
    use crate::objects::memory::MemoryStore;
    use crate::objects::suite::test_tier2;

    #[test]
    fn a_catalogue_that_nobody_could_read_back_is_not_written_and_the_refusal_says_why() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        let chunk = CatalogueChunk {
            index: 0,
            epoch: 1,
            // As long as many segments would be.
            key: "k".repeat(MAX_CATALOGUE_BYTES),
            bytes: 0,
            crc64: Crc64(0),
        };
        let catalogue = Catalogue {
            format_version: FORMAT_VERSION,
            cluster_id: ClusterId([1; 16]),
            stream: StreamName::new("orders").expect("a name"),
            stream_uuid: StreamUuid([2; 16]),
            snapshot_id: SnapshotId::new(1, 1),
            request: "r1".to_owned(),
            epoch: 1,
            chunk_index: 0,
            chunk_offset: 0,
            durable_sequence: 0,
            start_sequence: 0,
            uploaded_sequence: 0,
            created_at: rfc3339(0),
            segments: Vec::new(),
            chunks: vec![chunk],
        };
        let error = publish(&tier2, catalogue, &|_| {}).expect_err("too large");
        assert!(error.is_final());
        let why = error.why();
        assert_eq!(why.reason, SnapshotReason::TooLarge);
        assert!(
            why.message.contains("snapshots/orders/") && why.message.contains("67108864"),
            "{}",
            why.message
        );
        assert!(memory.keys().iter().all(|key| !key.contains("snapshots/")));
    }
}
