//! One copy of a segment goes because somebody asks for it: refused where it is needed, by the same rules.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::pass::{DeleteError, Gone, Limit, Turned};
use super::{Deletion, Keeper};
use crate::coordinator::plan::delete::Why;
use crate::dropped::Dropped;
use crate::error::{StoreError, with_causes};
use crate::snapshot::rfc3339;
use crate::store::Store;
use crate::tier::Tiers;

/// Whoever asks waits so long at most, but for the request that is under way then.
const LONGEST_VERB: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyDeletion {
    Deleted {
        bytes: u64,
    },
    /// Under its key there is no object any more, and the bucket keeps its bytes as an old version.
    KeptAsVersion,
    /// It was not there when it was looked at.
    Missing,
    /// It is on its way.
    Waits {
        why: String,
    },
}

#[derive(Debug, Error)]
pub enum CopyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("segment {segment_id} of stream {stream} has no copy in Tier {tier}")]
    NoCopy {
        stream: String,
        segment_id: u64,
        tier: u8,
    },
    #[error("the copy of segment {segment_id} of stream {stream} in Tier {tier} is needed by {by}")]
    Needed {
        stream: String,
        segment_id: u64,
        tier: u8,
        by: String,
    },
    /// Another volume has taken the stream over.
    #[error("{message}")]
    NotOwned { message: String },
    /// Tier 2 does not do it.
    #[error("the object of segment {segment_id} of stream {stream} is not deleted: {message}")]
    Failed {
        stream: String,
        segment_id: u64,
        message: String,
    },
}

impl Keeper {
    /// In words.
    pub(super) fn told(self) -> String {
        match self {
            Keeper::Plan(Why::Readable) => "readers of its stream, which begins before".to_owned(),
            Keeper::Plan(Why::Snapshot { snapshot_id }) => format!("snapshot {snapshot_id}"),
            Keeper::Plan(Why::SnapshotRunning) => "a snapshot that is being taken".to_owned(),
            Keeper::Plan(Why::Upload) => "an upload that is under way".to_owned(),
            Keeper::Plan(Why::Grace { until_unix_nanos }) => {
                format!("grace until {}", rfc3339(until_unix_nanos))
            }
            Keeper::Plan(Why::Clock) => "clock is not trusted".to_owned(),
            Keeper::Step => "queued for the next pass".to_owned(),
            Keeper::Foreign => "another object under its key".to_owned(),
        }
    }

    fn is_need(self) -> bool {
        match self {
            Keeper::Plan(Why::Readable | Why::Snapshot { .. } | Why::SnapshotRunning)
            | Keeper::Foreign => true,
            Keeper::Plan(Why::Upload | Why::Grace { .. } | Why::Clock) | Keeper::Step => false,
        }
    }
}

impl Deletion {
    /// What keeps the object of a trimmed segment, by the last pass.
    pub fn keeper(&self, stream: &str, segment_id: u64) -> Option<String> {
        let state = self.runner.as_ref()?.state.lock();
        let mut kept = state.kept.get(stream)?.iter();
        let kept = kept.find(|kept| kept.segment_id == segment_id)?;
        Some(kept.why.told())
    }

    /// Drops the copy in Tier 1, where Tier 2 has the segment.
    pub fn delete_warm(
        tiers: &Tiers,
        store: &Store,
        stream: &str,
        segment_id: u64,
    ) -> Result<CopyDeletion, CopyError> {
        let segment = store.sealed(stream, segment_id)?;
        let Some(bytes) = segment.copies.warm else {
            return Err(no_copy(stream, segment_id, 1));
        };
        if segment.copies.cold.is_none() {
            return Err(CopyError::Needed {
                stream: stream.to_owned(),
                segment_id,
                tier: 1,
                by: "the upload of the segment, which is not done".to_owned(),
            });
        }
        match tiers.coordinator().drop_warm(stream, segment_id, bytes)? {
            Dropped::Removed { file_bytes } => Ok(CopyDeletion::Deleted { bytes: file_bytes }),
            // Somebody else was faster.
            Dropped::Nothing => Ok(CopyDeletion::Missing),
            Dropped::Left { file, cause } => Ok(CopyDeletion::Waits {
                why: format!(
                    "the next start of the engine removes {}, which cannot be removed now ({cause})",
                    file.path.display()
                ),
            }),
        }
    }

    /// Takes the object of a segment that nobody needs as far as it may go now: trimmed, or merged into another one. Blocks on Tier 2.
    pub fn delete_object(
        &self,
        store: &Store,
        stream: &str,
        segment_id: u64,
    ) -> Result<CopyDeletion, CopyError> {
        let (start, objects) = store.trimmed_objects(stream)?;
        let is_leaving = objects.iter().any(|it| it.segment_id == segment_id);
        // An output of a merge that was given up is none that was ever sealed.
        let sealed = match is_leaving {
            true => None,
            false => Some(store.sealed(stream, segment_id)?),
        };
        let Some(runner) = &self.runner else {
            return Err(no_copy(stream, segment_id, 2));
        };
        let needed = |by: String| CopyError::Needed {
            stream: stream.to_owned(),
            segment_id,
            tier: 2,
            by,
        };
        if let Some(segment) = sealed {
            if segment.copies.cold.is_none() {
                return Err(no_copy(stream, segment_id, 2));
            }
            let (from, to) = (segment.base_sequence, segment.end_sequence());
            return Err(needed(format!(
                "readers: it holds the sequences {from} to {}, and the stream begins at {start}; trim it first",
                to - 1
            )));
        }
        let name: Arc<str> = stream.into();
        let limit = Limit {
            until: runner.now() + LONGEST_VERB,
            segment_id: Some(segment_id),
        };
        let turned = runner.turn_of(&name, limit);
        let Turned { gone, kept, .. } =
            turned.map_err(|error| failed(stream, segment_id, &error))?;
        match gone.get(&segment_id) {
            Some(Gone::Deleted { bytes }) => Ok(CopyDeletion::Deleted { bytes: *bytes }),
            Some(Gone::KeptAsVersion) => Ok(CopyDeletion::KeptAsVersion),
            Some(Gone::Missing) => Ok(CopyDeletion::Missing),
            None => match kept.iter().find(|kept| kept.segment_id == segment_id) {
                // A pass was faster.
                None => Ok(CopyDeletion::Missing),
                Some(kept) if kept.why.is_need() => Err(needed(kept.why.told())),
                Some(kept) => Ok(CopyDeletion::Waits {
                    why: kept.why.told(),
                }),
            },
        }
    }
}

fn failed(stream: &str, segment_id: u64, error: &DeleteError) -> CopyError {
    let message = with_causes(error);
    match error {
        DeleteError::Superseded { .. } => CopyError::NotOwned { message },
        DeleteError::Catalogues(_)
        | DeleteError::Object(_)
        | DeleteError::Listing(_)
        | DeleteError::Chunk(_)
        | DeleteError::Publish(_)
        | DeleteError::Claim(_)
        | DeleteError::Store(_)
        | DeleteError::StillThere { .. } => CopyError::Failed {
            stream: stream.to_owned(),
            segment_id,
            message,
        },
    }
}

fn no_copy(stream: &str, segment_id: u64, tier: u8) -> CopyError {
    CopyError::NoCopy {
        stream: stream.to_owned(),
        segment_id,
        tier,
    }
}
