//! A snapshot that this node does not know by itself, read from the bucket.

use std::sync::Arc;

use aof2_format::StreamName;
use aof2_format::names::ObjectKey;
use aof2_format::snapshot::{Catalogue, SnapshotId};
use thiserror::Error;

use super::driver::Taker;
use super::{SnapshotPhase, SnapshotStatus, digest_of};
use crate::error::StoreError;
use crate::objects::ObjectError;

#[derive(Debug, Error)]
pub enum LookupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tier2(#[from] ObjectError),
    #[error("stream {stream} has no snapshot {id}; take a new one")]
    Unknown { stream: String, id: SnapshotId },
    #[error("snapshot {id} of stream {stream} was deleted; take a new one")]
    Deleted { stream: String, id: SnapshotId },
    #[error("object {key} is damaged: {problem}")]
    Undecodable { key: String, problem: String },
}

pub(super) fn in_bucket(
    taker: &Taker,
    stream: &str,
    id: SnapshotId,
) -> Result<SnapshotStatus, LookupError> {
    let unknown = || LookupError::Unknown {
        stream: stream.to_owned(),
        id,
    };
    let parts = taker.tier2.as_ref().ok_or_else(unknown)?;
    let tier2 = parts.claims.tier2();
    let name = StreamName::new(stream).map_err(|_| unknown())?;
    let key = ObjectKey::Snapshot {
        stream: name,
        snapshot_id: id.0,
    }
    .to_key(tier2.prefix());
    let Some(object) = tier2.store().get(&key)? else {
        return Err(unknown());
    };
    let catalogue = Catalogue::decode(&object.bytes).map_err(|error| LookupError::Undecodable {
        key: key.clone(),
        problem: error.to_string(),
    })?;
    let nanos = catalogue
        .created_at
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| i64::try_from(at.as_nanosecond()).ok())
        .unwrap_or_default();
    Ok(SnapshotStatus {
        stream: Arc::from(stream),
        snapshot_id: catalogue.snapshot_id,
        request: catalogue.request,
        phase: SnapshotPhase::Done,
        started_unix_nanos: nanos,
        heartbeat_unix_nanos: nanos,
        completed_unix_nanos: Some(nanos),
        chunk_index: catalogue.chunk_index,
        chunk_offset: catalogue.chunk_offset,
        durable_sequence: catalogue.durable_sequence,
        uploaded_sequence: catalogue.uploaded_sequence,
        key,
        digest: digest_of(&object.bytes),
        bytes: object.bytes.len() as u64,
        why: None,
    })
}
