//! One copy of a segment goes because somebody asks for it: refused where it is needed, by the same rules.

use std::sync::Arc;

use thiserror::Error;

use super::{Deletion, Keeper};
use crate::coordinator::plan::delete::Why;
use crate::error::{StoreError, with_causes};
use crate::snapshot::rfc3339;
use crate::store::Store;
use crate::tier::Tiers;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyDeletion {
    Deleted {
        bytes: u64,
    },
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
            Keeper::Plan(Why::Grace { .. } | Why::Clock) | Keeper::Step => false,
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
        let bytes = tiers.coordinator().drop_warm(stream, segment_id, bytes)?;
        Ok(CopyDeletion::Deleted { bytes })
    }

    /// Takes the object of a trimmed segment as far as it may go now. Blocks on Tier 2.
    pub fn delete_object(
        &self,
        store: &Store,
        stream: &str,
        segment_id: u64,
    ) -> Result<CopyDeletion, CopyError> {
        let segment = store.sealed(stream, segment_id)?;
        let (Some(runner), Some(_)) = (&self.runner, &segment.copies.cold) else {
            return Err(no_copy(stream, segment_id, 2));
        };
        let needed = |by: String| CopyError::Needed {
            stream: stream.to_owned(),
            segment_id,
            tier: 2,
            by,
        };
        let (start, objects) = store.trimmed_objects(stream)?;
        let Some(object) = objects.iter().find(|it| it.segment_id == segment_id) else {
            let (from, to) = (segment.base_sequence, segment.end_sequence());
            return Err(needed(format!(
                "readers: it holds the sequences {from} to {}, and the stream begins at {start}; trim it first",
                to - 1
            )));
        };
        let name: Arc<str> = stream.into();
        let kept = runner
            .one_stream(&name)
            .map_err(|error| CopyError::Failed {
                stream: stream.to_owned(),
                segment_id,
                message: with_causes(&error),
            })?;
        match kept.iter().find(|kept| kept.segment_id == segment_id) {
            None => Ok(CopyDeletion::Deleted {
                bytes: object.bytes,
            }),
            Some(kept) if kept.why.is_need() => Err(needed(kept.why.told())),
            Some(kept) => Ok(CopyDeletion::Waits {
                why: kept.why.told(),
            }),
        }
    }
}

fn no_copy(stream: &str, segment_id: u64, tier: u8) -> CopyError {
    CopyError::NoCopy {
        stream: stream.to_owned(),
        segment_id,
        tier,
    }
}
