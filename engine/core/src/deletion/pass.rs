//! One pass over the streams of this node that have objects to delete.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;

use super::catalogues::CatalogueError;
use super::{Keeper, Kept, Runner};
use crate::claims::ClaimStanding;
use crate::coordinator::plan::delete::{Candidate, Holders, Next, next};
use crate::error::{ClaimError, StoreError, with_causes};
use crate::io::sync::MutexGuard;
use crate::objects::{ObjectError, Tier2};
use crate::snapshot::{TakeError, publish_manifest};
use crate::store::delete::TrimmedObject;

#[derive(Debug, Error)]
pub(super) enum DeleteError {
    #[error(transparent)]
    Catalogues(#[from] CatalogueError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("the manifest is not in Tier 2")]
    Publish(#[from] TakeError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Runner {
    pub(super) fn pass(&self, streams: &[Arc<str>]) {
        let mut failure = None;
        for stream in streams {
            if self.is_stopping() {
                return;
            }
            match self.one_stream(stream) {
                Ok(_) => {}
                // A request that the stop of the process ended.
                Err(_) if self.claims.tier2().is_stopping() => return,
                Err(error) => {
                    let message = format!("stream {stream}: {}", with_causes(&error));
                    // What one stream lacks keeps the others waiting only where it is Tier 2 that does not answer.
                    let is_outage =
                        matches!(&error, DeleteError::Object(error) if error.is_outage());
                    failure.get_or_insert(message);
                    if is_outage {
                        break;
                    }
                }
            }
        }
        self.clock.store_if_due();
        let mut state = self.state.lock();
        // Once, however often it is tried.
        if let Some(message) = &failure
            && state.failure.as_ref() != Some(message)
        {
            tracing::warn!("objects of trimmed segments are not deleted: {message}");
        }
        state.failures = match &failure {
            Some(_) => state.failures.saturating_add(1),
            None => 0,
        };
        state.failure = failure;
    }

    /// Answers which objects are kept, and why.
    pub(super) fn one_stream(&self, stream: &Arc<str>) -> Result<Vec<Kept>, DeleteError> {
        let _working: MutexGuard<'_, ()> = self.working.lock();
        let kept = self.of_stream(stream)?;
        let mut state = self.state.lock();
        state.kept.insert(stream.clone(), kept.clone());
        Ok(kept)
    }

    fn of_stream(&self, stream: &Arc<str>) -> Result<Vec<Kept>, DeleteError> {
        let tier2 = self.claims.tier2();
        let names = self.store.stream_names(stream)?;
        // Asked before the catalogues are listed: a snapshot that is over then is among these.
        let is_snapshot_running = self.snapshots.is_running(stream);
        let catalogues = self.catalogues.of_stream(tier2, stream, &names.name)?;
        let (start_sequence, objects) = self.store.trimmed_objects(stream)?;
        let holders = Holders {
            start_sequence,
            catalogues: &catalogues,
            is_snapshot_running,
        };
        let grace = self.store.config().tier2.delete_grace;
        let now = self.clock.now_unix_nanos();
        let (mut to_queue, mut to_publish, mut to_delete) = (Vec::new(), Vec::new(), Vec::new());
        let mut kept = Vec::new();
        for object in objects {
            let candidate = Candidate {
                base_sequence: object.base_sequence,
                end_sequence: object.end_sequence,
                segment_id: object.segment_id,
                is_superseded: object.is_superseded,
                stage: object.stage,
            };
            let why = match next(&candidate, &holders, grace, now) {
                Next::Queue => {
                    to_queue.push(object.clone());
                    Keeper::Step
                }
                Next::Publish => {
                    to_publish.push(object.clone());
                    Keeper::Step
                }
                Next::Delete => {
                    to_delete.push(object);
                    continue;
                }
                Next::Wait(why) => Keeper::Plan(why),
            };
            kept.push(kept_of(&object, why));
        }
        if !to_queue.is_empty() {
            self.store.queue_deletion(stream, &to_queue)?;
            to_publish.append(&mut to_queue);
        }
        if !to_publish.is_empty() {
            self.publish(stream)?;
            if !self.is_owner(stream, names.epoch)? {
                return Ok(kept);
            }
            // The second time: the chunk with the first is in Tier 2.
            self.store.queue_deletion(stream, &to_publish)?;
        }
        // Read again: publishing may have taken its time.
        if !to_delete.is_empty() && self.is_owner(stream, names.epoch)? {
            for object in to_delete {
                if self.is_stopping() {
                    break;
                }
                if !self.delete(tier2, stream, &object)? {
                    kept.push(kept_of(&object, Keeper::Foreign));
                }
            }
        }
        Ok(kept)
    }

    fn publish(&self, stream: &Arc<str>) -> Result<(), DeleteError> {
        let known = self.published.lock().get(stream).copied();
        let last = publish_manifest(&self.store, self.claims.tier2(), stream, known)?;
        self.published.lock().insert(stream.clone(), last);
        Ok(())
    }

    fn is_owner(&self, stream: &str, epoch: u32) -> Result<bool, DeleteError> {
        self.store.settle_volume_check()?;
        let standing =
            self.claims
                .ensure_held(self.store.identity(), stream, epoch.into(), Duration::ZERO)?;
        match standing {
            ClaimStanding::Held => Ok(true),
            ClaimStanding::Superseded { to, .. } => {
                self.store.supersede(stream, to);
                Ok(false)
            }
        }
    }

    /// False: what lies there is not what the manifest says.
    fn delete(
        &self,
        tier2: &Tier2,
        stream: &str,
        object: &TrimmedObject,
    ) -> Result<bool, DeleteError> {
        let TrimmedObject {
            segment_id,
            key,
            etag,
            ..
        } = object;
        let bytes = match tier2.store().head(key)? {
            Some(meta) if meta.etag != *etag => {
                tracing::warn!(
                    stream,
                    segment_id,
                    key,
                    "object has another etag than the manifest says and is not deleted"
                );
                return Ok(false);
            }
            Some(meta) => {
                tier2.store().delete(key)?;
                meta.size_bytes
            }
            // A pass before was killed behind the deletion.
            None => 0,
        };
        self.store.note_deleted(stream, *segment_id, key)?;
        self.deleted_objects.fetch_add(1, Ordering::Relaxed);
        self.deleted_bytes.fetch_add(bytes, Ordering::Relaxed);
        tracing::info!(stream, segment_id, key, bytes, "object deleted");
        Ok(true)
    }
}

fn kept_of(object: &TrimmedObject, why: Keeper) -> Kept {
    Kept {
        segment_id: object.segment_id,
        bytes: object.bytes,
        why,
    }
}
