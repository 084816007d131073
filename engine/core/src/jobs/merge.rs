//! Small segments -> one: the file, its object, and the one record that swaps them.
//!
//! Order: `Begun` -> file, read back and compared -> `UploadStarted`, create, HEAD, `UploadDone` -> `Merged` -> files of the inputs. Killed
//! anywhere, the next try makes the same bytes under the same id, and finds its own object. Nothing of the output goes to Tier 1: beside
//! a hot copy a warm one serves no read.

use std::time::Duration;

use thiserror::Error;

use super::compress::{CompressError, CompressOptions};
use super::streamed::Streamed;
use super::upload::{self, UploadError, Uploaded, Warm};
use crate::claims::StreamClaims;
use crate::error::{ReadError, StoreError};
use crate::objects::ObjectError;
use crate::port::{FailureReason, TierRecord};
use crate::segment::merge::MergeFileError;
use crate::store::Store;
use crate::store::merge::{MergeError, MergedFile, Merging, Replaced};

/// How an output goes to Tier 2.
pub(crate) struct Way<'a> {
    pub claims: &'a StreamClaims,
    pub compress: CompressOptions,
    /// A claim seen longer ago than this is read again.
    pub claim_age: Duration,
}

#[derive(Debug, Error)]
pub(crate) enum MergeJobError {
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("compression failed")]
    Compress(#[source] CompressError),
    #[error("upload failed")]
    Upload(#[from] UploadError),
    #[error("cannot write to the manifest")]
    Manifest(#[source] StoreError),
}

impl MergeJobError {
    /// Nothing failed: what was planned is not to be done any more, or not now.
    pub fn is_no_failure(&self) -> bool {
        match self {
            MergeJobError::Merge(error) => match error {
                MergeError::Changed { .. }
                | MergeError::NoRoom { .. }
                | MergeError::File(MergeFileError::Interrupted) => true,
                MergeError::Store(_) | MergeError::File(_) | MergeError::Read(_) => false,
            },
            MergeJobError::Upload(UploadError::Store(error)) => {
                matches!(error, ObjectError::Stopping { .. })
            }
            MergeJobError::Compress(_) | MergeJobError::Upload(_) | MergeJobError::Manifest(_) => {
                false
            }
        }
    }

    /// The manifest's code; `None` where there is nothing to say, or nowhere to say it.
    fn reason(&self) -> Option<FailureReason> {
        if self.is_no_failure() {
            return None;
        }
        match self {
            MergeJobError::Merge(error) => match error {
                MergeError::File(MergeFileError::Input { .. } | MergeFileError::Differs { .. })
                | MergeError::Read(ReadError::Damaged { .. }) => Some(FailureReason::Codec),
                MergeError::Store(StoreError::Poisoned { .. } | StoreError::Closed) => None,
                MergeError::Store(_) | MergeError::File(_) | MergeError::Read(_) => {
                    Some(FailureReason::Transient)
                }
                MergeError::Changed { .. } | MergeError::NoRoom { .. } => None,
            },
            MergeJobError::Compress(_) => Some(FailureReason::Codec),
            MergeJobError::Upload(error) => error.reason_of_put(),
            MergeJobError::Manifest(_) => None,
        }
    }

    /// Its bytes are not those that were sealed.
    pub fn damaged_input(&self) -> Option<u64> {
        let MergeJobError::Merge(MergeError::File(MergeFileError::Input { segment_id, .. })) = self
        else {
            return None;
        };
        Some(*segment_id)
    }

    /// Another object has the output's key, and will have it at each try. Under another id it has another key.
    pub fn needs_another_output(&self) -> bool {
        matches!(self, MergeJobError::Upload(UploadError::KeyTaken { .. }))
    }

    /// The whole node waits for the same.
    pub fn is_outage(&self) -> bool {
        match self {
            MergeJobError::Upload(UploadError::Store(error)) => {
                error.is_outage() || error.concerns_every_request() || error.is_bucket_full()
            }
            MergeJobError::Upload(UploadError::Claim { .. }) => true,
            MergeJobError::Merge(_)
            | MergeJobError::Compress(_)
            | MergeJobError::Upload(_)
            | MergeJobError::Manifest(_) => false,
        }
    }
}

/// Merges these into one. `way`: with Tier 2. `may_go_on` is asked while the file is written.
pub(crate) fn merge(
    store: &Store,
    way: Option<&Way<'_>>,
    stream: &str,
    segment_ids: &[u64],
    may_go_on: &dyn Fn() -> bool,
) -> Result<Replaced, MergeJobError> {
    let merging = store.begin_merge(stream, segment_ids)?;
    let output_id = merging.output_id;
    let merged = make(store, way, merging, may_go_on);
    if let Err(error) = &merged {
        if let Some(segment_id) = error.damaged_input() {
            store.note_damage(stream, segment_id, &error.to_string());
        }
        if let MergeJobError::Upload(UploadError::Superseded { to, .. }) = error {
            store.supersede(stream, *to);
        }
        if let Some(reason) = error.reason()
            && let Err(unrecorded) = store.note_merge_failed(stream, output_id, reason)
        {
            // What the merge failed of says what to wait for.
            tracing::warn!(%stream, segment_id = output_id, "a merge that failed is not recorded: {unrecorded}");
        }
    }
    merged
}

fn make(
    store: &Store,
    way: Option<&Way<'_>>,
    merging: Merging,
    may_go_on: &dyn Fn() -> bool,
) -> Result<Replaced, MergeJobError> {
    let file = store.write_merged(&merging, may_go_on)?;
    let object_bytes = match way {
        None => 0,
        Some(way) => match upload(store, way, &file) {
            Ok(uploaded) => uploaded.size_bytes,
            Err(error) => {
                store.discard_merged(&file);
                return Err(error);
            }
        },
    };
    Ok(store.commit_merged(merging, file, object_bytes)?)
}

fn upload(store: &Store, way: &Way<'_>, file: &MergedFile) -> Result<Uploaded, MergeJobError> {
    let segment = &file.segment;
    let bytes = Box::new(store.merged_bytes(file)?);
    let (streamed, facts) =
        Streamed::new(segment, bytes, way.compress).map_err(MergeJobError::Compress)?;
    let warm = Warm::Streamed(streamed, facts);
    let uploaded = upload::upload(store, way.claims, segment, warm, way.claim_age)?;
    let done = TierRecord::UploadDone {
        key: uploaded.key.clone(),
        etag: uploaded.etag.clone(),
    };
    store
        .commit_manifest(&segment.stream, segment.segment_id, done)
        .map_err(MergeJobError::Manifest)?;
    Ok(uploaded)
}
