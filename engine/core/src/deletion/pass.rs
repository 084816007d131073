//! One pass over the streams of this node that have objects to delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::catalogues::CatalogueError;
use super::orphans::ChunkError;
use super::{Keeper, Kept, Runner};
use crate::claims::ClaimStanding;
use crate::coordinator::plan::delete::{Candidate, Holders, Next, next, pause};
use crate::error::{ClaimError, StoreError, with_causes};
use crate::io::sync::MutexGuard;
use crate::jobs::upload::{problem_of_object, problem_of_output};
use crate::objects::listing::ListingError;
use crate::objects::{ObjectError, ObjectMeta, Removal, Tier2};
use crate::snapshot::{TakeError, publish_manifest};
use crate::store::delete::TrimmedObject;

/// Time that a pass takes, but for the request that it is in. Streams that it did not get to are due in the next one.
pub(super) const LONGEST_PASS: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub(super) enum DeleteError {
    #[error(transparent)]
    Catalogues(#[from] CatalogueError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("the manifest is not in Tier 2")]
    Publish(#[from] TakeError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{owner} owns stream {stream} now (epoch {to} supersedes {from}) and deletes its objects"
    )]
    Superseded {
        stream: String,
        owner: String,
        from: u64,
        to: u64,
    },
    #[error(
        "object {key} at {place} is still there though its DELETE was accepted; check for a lock or a hold on it"
    )]
    StillThere { key: String, place: String },
}

/// An object that is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Deleted {
        bytes: u64,
    },
    /// The bucket keeps its bytes as an old version.
    KeptAsVersion,
    /// It was not there when it was looked at: removed by a pass before whose answer or record was lost, or by somebody else, or the upload
    /// never brought it.
    Missing,
}

/// What a turn of a stream came to.
#[derive(Debug, Default)]
pub(super) struct Turned {
    pub gone: BTreeMap<u64, Gone>,
    pub kept: Vec<Kept>,
    /// There is more to do now.
    is_cut: bool,
}

/// What has to be done now, one stage after the other.
#[derive(Debug, Default)]
struct Steps {
    queue: Vec<TrimmedObject>,
    publish: Vec<TrimmedObject>,
    delete: Vec<TrimmedObject>,
}

/// When a turn has to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub until: Instant,
    /// `None`: all that are trimmed.
    pub segment_id: Option<u64>,
}

impl Runner {
    pub(super) fn pass(&self, streams: &[Arc<str>]) {
        let until = self.now() + LONGEST_PASS;
        let tier2 = self.claims.tier2();
        for stream in streams {
            if self.is_stopping() || self.now() >= until {
                return;
            }
            let limit = Limit {
                until,
                segment_id: None,
            };
            let turned = self.turn_of(stream, limit);
            // A request that the stop of the process ended.
            if turned.is_err() && tier2.is_stopping() {
                return;
            }
            let now = self.now();
            let mut state = self.state.lock();
            match turned {
                Ok(Turned { is_cut: true, .. }) => state.schedule.done(stream, now),
                // The next look at the streams leaves it out.
                Ok(Turned { is_cut: false, .. }) | Err(DeleteError::Superseded { .. }) => {
                    let grace = self.store.config().tier2.delete_grace;
                    state.schedule.done(stream, now + pause(grace));
                }
                Err(error) => {
                    let message = with_causes(&error);
                    if state.schedule.failed(stream, message.clone(), now) {
                        tracing::warn!(%stream, "objects are not deleted: {message}");
                    }
                    // Of the others nothing is known, and no request of theirs would be sent now.
                    let is_outage =
                        matches!(&error, DeleteError::Object(error) if error.is_outage());
                    if is_outage && tier2.rests_until().is_some() {
                        return;
                    }
                }
            }
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.store.environment().clock.monotonic()
    }

    /// Takes the objects of a stream as far as they may go now.
    pub(super) fn turn_of(&self, stream: &Arc<str>, limit: Limit) -> Result<Turned, DeleteError> {
        let _working: MutexGuard<'_, ()> = self.working.lock();
        // What they alone name may go behind them. One that cannot be deleted keeps no object of others.
        let snapshots = match limit.segment_id {
            None => self.finish_snapshots(stream, limit),
            Some(_) => Ok(()),
        };
        let turned = self.of_stream(stream, limit)?;
        let mut state = self.state.lock();
        let kept = turned.kept.clone();
        match limit.segment_id {
            None => _ = state.kept.insert(stream.clone(), kept),
            Some(segment_id) => {
                let known = state.kept.entry(stream.clone()).or_default();
                known.retain(|known| known.segment_id != segment_id);
                known.extend(kept);
            }
        }
        snapshots.map(|()| turned)
    }

    fn of_stream(&self, stream: &Arc<str>, limit: Limit) -> Result<Turned, DeleteError> {
        let names = self.store.stream_names(stream)?;
        let mut turned = Turned::default();
        if self.store.trimmed_objects(stream)?.1.is_empty() {
            return Ok(turned);
        }
        let steps = self.plan(stream, limit, &mut turned)?;
        let Steps {
            queue,
            mut publish,
            delete,
        } = steps;
        if !queue.is_empty() || !publish.is_empty() {
            // Nothing of a stream is given up, or said to the bucket, that another volume owns.
            self.ensure_owner(stream, names.epoch)?;
            self.store.queue_deletion(stream, &queue)?;
            publish.extend(queue);
            self.publish(stream)?;
            // Read again: publishing may have taken its time.
            self.ensure_owner(stream, names.epoch)?;
            // The second time: the chunk with the first is in Tier 2.
            self.store.queue_deletion(stream, &publish)?;
        }
        if delete.is_empty() {
            return Ok(turned);
        }
        self.ensure_owner(stream, names.epoch)?;
        for object in delete {
            if self.is_stopping() || self.now() >= limit.until {
                turned.is_cut = true;
                turned.kept.push(kept_of(&object, Keeper::Step));
                continue;
            }
            match self.delete(stream, &object)? {
                Some(gone) => _ = turned.gone.insert(object.segment_id, gone),
                None => turned.kept.push(kept_of(&object, Keeper::Foreign)),
            }
        }
        Ok(turned)
    }

    /// What is kept goes to `turned`.
    fn plan(
        &self,
        stream: &Arc<str>,
        limit: Limit,
        turned: &mut Turned,
    ) -> Result<Steps, DeleteError> {
        let tier2 = self.claims.tier2();
        let names = self.store.stream_names(stream)?;
        // Asked before the catalogues are listed: a snapshot that is over then is among these.
        let is_snapshot_running = self.snapshots.is_running(stream);
        let is_late = || self.is_stopping() || self.now() >= limit.until;
        let listed = self
            .catalogues
            .of_stream(tier2, stream, &names.name, is_late)?;
        let (start_sequence, mut objects) = self.store.trimmed_objects(stream)?;
        let meant = limit.segment_id;
        objects.retain(|object| meant.is_none_or(|meant| meant == object.segment_id));
        // As long as one of them is unread, nobody knows what they name.
        let Some(catalogues) = listed else {
            let kept = objects.iter().map(|object| kept_of(object, Keeper::Step));
            turned.kept.extend(kept);
            turned.is_cut = true;
            return Ok(Steps::default());
        };
        let holders = Holders {
            start_sequence,
            catalogues: &catalogues,
            is_snapshot_running,
        };
        let grace = self.store.config().tier2.delete_grace;
        let now = self.clock.now_unix_nanos();
        let mut steps = Steps::default();
        let mut left = self.steps_of_turn;
        for object in objects {
            let candidate = Candidate {
                base_sequence: object.base_sequence,
                end_sequence: object.end_sequence,
                segment_id: object.segment_id,
                is_superseded: object.is_superseded,
                stage: object.stage,
                is_uploading: self.coordinator.is_moving(stream, object.segment_id),
            };
            let step = next(&candidate, &holders, grace, now);
            let is_over = left == 0 && !matches!(step, Next::Wait(_));
            let why = match step {
                Next::Wait(why) => Keeper::Plan(why),
                Next::Queue | Next::Publish | Next::Delete => Keeper::Step,
            };
            let is_kept = is_over || step != Next::Delete;
            if is_kept {
                turned.kept.push(kept_of(&object, why));
            }
            if is_over {
                turned.is_cut = true;
                continue;
            }
            let steps = match step {
                Next::Queue => &mut steps.queue,
                Next::Publish => &mut steps.publish,
                Next::Delete => &mut steps.delete,
                Next::Wait(_) => continue,
            };
            left -= 1;
            steps.push(object);
        }
        Ok(steps)
    }

    fn publish(&self, stream: &Arc<str>) -> Result<(), DeleteError> {
        let known = self.published.lock().get(stream).copied();
        let last = publish_manifest(&self.store, self.claims.tier2(), stream, known)?;
        self.published.lock().insert(stream.clone(), last);
        Ok(())
    }

    /// By the claim as it is now in Tier 2.
    pub(super) fn ensure_owner(&self, stream: &str, epoch: u32) -> Result<(), DeleteError> {
        self.store.settle_volume_check()?;
        let standing =
            self.claims
                .ensure_held(self.store.identity(), stream, epoch.into(), Duration::ZERO)?;
        match standing {
            ClaimStanding::Held => Ok(()),
            ClaimStanding::Superseded { from, to, owner } => {
                self.store.supersede(stream, to);
                let stream = stream.to_owned();
                Err(DeleteError::Superseded {
                    stream,
                    owner,
                    from,
                    to,
                })
            }
        }
    }

    /// `None`: what lies there is not ours.
    fn delete(&self, stream: &str, object: &TrimmedObject) -> Result<Option<Gone>, DeleteError> {
        let tier2 = self.claims.tier2();
        let TrimmedObject {
            segment_id, key, ..
        } = object;
        let gone = match tier2.store().head(key)? {
            None => Gone::Missing,
            Some(meta) => {
                if let Some(problem) = self.problem(stream, object, &meta)? {
                    tracing::warn!(
                        stream,
                        segment_id,
                        key,
                        "object is not the one of the manifest and is not deleted: {problem}"
                    );
                    return Ok(None);
                }
                remove(tier2, key, meta.size_bytes)?
            }
        };
        self.store.note_deleted(stream, *segment_id, key)?;
        let (counter, bytes) = match gone {
            Gone::Deleted { bytes } => (&self.counters.deleted_objects, bytes),
            Gone::KeptAsVersion => (&self.counters.kept_versions, 0),
            Gone::Missing => (&self.counters.missing_objects, 0),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let deleted_bytes = &self.counters.deleted_bytes;
        deleted_bytes.fetch_add(bytes, Ordering::Relaxed);
        match gone {
            Gone::Deleted { bytes } => {
                tracing::info!(stream, segment_id, key, bytes, "object deleted");
            }
            Gone::KeptAsVersion => {
                tracing::info!(
                    stream,
                    segment_id,
                    key,
                    "object deleted; the bucket keeps its bytes as an old version"
                );
            }
            Gone::Missing => tracing::info!(stream, segment_id, key, "object is not there"),
        }
        Ok(Some(gone))
    }

    /// Why it is not the segment's object.
    fn problem(
        &self,
        stream: &str,
        object: &TrimmedObject,
        meta: &ObjectMeta,
    ) -> Result<Option<String>, DeleteError> {
        let TrimmedObject {
            segment_id,
            key,
            etag,
            ..
        } = object;
        match etag {
            Some(etag) if meta.etag == *etag => Ok(None),
            Some(etag) => Ok(Some(format!("etag {}, expected {etag}", meta.etag))),
            // An upload whose outcome nobody recorded. Whether it brought this one only its bytes tell.
            None => {
                let tier2 = self.claims.tier2();
                if let Some(output) = self.store.unsealed_output(stream, *segment_id)? {
                    return Ok(problem_of_output(tier2, key, &output, meta.size_bytes)?);
                }
                let segment = self.store.sealed(stream, *segment_id)?;
                Ok(problem_of_object(tier2, key, &segment, meta.size_bytes)?)
            }
        }
    }
}

/// Says only what was answered: an object of which nothing is known afterwards is looked at again by the next pass.
pub(super) fn remove(tier2: &Tier2, key: &str, bytes: u64) -> Result<Gone, DeleteError> {
    let store = tier2.store();
    let removal = match store.delete(key) {
        Ok(removal) => removal,
        // It may have been done all the same.
        Err(error @ ObjectError::Unknown { .. }) => match store.head(key) {
            Ok(None) => return Ok(Gone::Missing),
            Ok(Some(_)) | Err(_) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if store.head(key)?.is_some() {
        return Err(DeleteError::StillThere {
            key: key.to_owned(),
            place: tier2.place(),
        });
    }
    Ok(match removal {
        Removal::Removed => Gone::Deleted { bytes },
        Removal::KeptAsVersion => Gone::KeptAsVersion,
        Removal::Missing => Gone::Missing,
    })
}

fn kept_of(object: &TrimmedObject, why: Keeper) -> Kept {
    Kept {
        segment_id: object.segment_id,
        bytes: object.bytes,
        why,
    }
}
