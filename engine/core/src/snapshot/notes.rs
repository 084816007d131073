//! `recovery/<stream>.json`: which snapshot of a stream is the newest. Overwritten; everything in it follows from the manifest.

use aof2_format::FORMAT_VERSION;
use aof2_format::names::ObjectKey;
use aof2_format::snapshot::RecoveryNotes;

use super::SnapshotStatus;
use super::take::{TakeError, ensure_held, rfc3339};
use crate::claims::StreamClaims;
use crate::error::StoreError;
use crate::objects::conditional::Creation;
use crate::objects::{Attempt, ObjectError, PutOutcome, Tier2, Upload};
use crate::store::Store;

/// What the notes of a snapshot that the manifest has were.
pub(super) fn notes_of(
    store: &Store,
    status: &SnapshotStatus,
) -> Result<RecoveryNotes, StoreError> {
    let names = store.stream_names(&status.stream)?;
    Ok(RecoveryNotes {
        format_version: FORMAT_VERSION,
        cluster_id: names.cluster_id,
        stream: names.name,
        epoch: status.snapshot_id.epoch(),
        snapshot_id: status.snapshot_id,
        chunk_index: status.chunk_index,
        chunk_offset: status.chunk_offset,
        uploaded_sequence: status.uploaded_sequence,
        key: status.key.clone(),
        digest: status.digest.clone(),
        at: rfc3339(
            status
                .completed_unix_nanos
                .unwrap_or(status.started_unix_nanos),
        ),
    })
}

/// Overwrites `recovery/<stream>.json`, unless it speaks of a newer snapshot: it never goes back.
pub(super) fn write_notes(
    store: &Store,
    claims: &StreamClaims,
    notes: &RecoveryNotes,
) -> Result<(), TakeError> {
    let tier2 = claims.tier2();
    // Of the stream's owner, which may have written a later snapshot under a later epoch.
    let epoch = store.stream_names(notes.stream.as_str())?.epoch;
    ensure_held(store, claims, notes.stream.as_str(), epoch)?;
    let key = ObjectKey::Recovery {
        stream: notes.stream.clone(),
    }
    .to_key(tier2.prefix());
    let upload = Upload::of_bytes(notes.encode().into(), tier2.put_id());
    // One that cannot be read or understood is replaced: the manifest says all that it said.
    let found = match tier2.store().get(&key) {
        Ok(found) => found.map(|found| {
            let known = RecoveryNotes::decode(&found.bytes).ok();
            (found.meta.etag, known)
        }),
        Err(ObjectError::Corrupt { .. }) => {
            let found = tier2.store().head(&key)?;
            found.map(|meta| (meta.etag, None))
        }
        Err(error) => return Err(error.into()),
    };
    let Some((etag, known)) = found else {
        return match tier2.create(&key, &upload, tier2.max_attempts())? {
            Creation::Ours { .. } => Ok(()),
            Creation::Taken(_) => Err(rival(tier2, &key)),
        };
    };
    if let Some(known) = known
        && known.cluster_id == notes.cluster_id
        && known.snapshot_id >= notes.snapshot_id
    {
        return Ok(());
    }
    match tier2.replace(&key, &upload, &etag)? {
        PutOutcome::Created { etag: _ } => Ok(()),
        PutOutcome::PreconditionFailed => Err(rival(tier2, &key)),
    }
}

/// Somebody wrote meanwhile: looked at again.
fn rival(tier2: &Tier2, key: &str) -> TakeError {
    TakeError::Object(ObjectError::Conflict {
        attempt: Attempt {
            verb: "put",
            key: key.to_owned(),
            place: tier2.place(),
        },
        cause: "another writer changed it".to_owned(),
    })
}
