//! One pass over the streams whose objects are due to be listed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aof2_format::StreamName;
use aof2_format::names::{ObjectKey, SegmentRef};

use super::chunks::{ChunkError, NamedBefore, named_before};
use super::{Found, Search, Seen};
use crate::config::OrphanPolicy;
use crate::coordinator::plan::orphans::{
    Elsewhere, Look, Sight, Verdict, Why, is_given_out, judge,
};
use crate::deletion::Waiting;
use crate::deletion::catalogues::CatalogueError;
use crate::deletion::pass::{DeleteError, Gone, remove};
use crate::error::{StoreError, with_causes};
use crate::objects::listing::{self, ListingError};
use crate::objects::{Listed, ObjectError, ObjectMeta};
use crate::store::StreamNames;
use crate::store::orphans::GivenOut;

/// What a search of a stream came to.
enum Searched {
    Whole {
        /// Why not all orphans were deleted.
        failed: Option<DeleteError>,
    },
    /// The process goes down, or not all could be read.
    Nothing,
}

impl Search {
    pub(super) fn pass(&self, streams: &[Arc<str>]) {
        let tier2 = self.runner.claims.tier2();
        for stream in streams {
            if self.runner.is_stopping() {
                return;
            }
            let searched = self.search(stream);
            // A request that the stop of the process ended.
            if searched.is_err() && tier2.is_stopping() {
                return;
            }
            let (now, pace) = (self.runner.now(), self.pace());
            let mut state = self.state.lock();
            let (error, next) = match searched {
                Ok(Searched::Whole { failed: None }) => {
                    state.schedule.done(stream, now + pace.between);
                    continue;
                }
                Ok(Searched::Nothing) => {
                    state.schedule.done(stream, now + pace.retry);
                    continue;
                }
                // Nothing is listed more often because a bucket refuses to delete.
                Ok(Searched::Whole {
                    failed: Some(error),
                }) => (error, now + pace.between),
                Err(error) => (error, now + pace.retry),
            };
            // The next look at the streams leaves it out.
            if matches!(error, DeleteError::Superseded { .. }) {
                state.found.remove(stream);
                state.schedule.done(stream, next);
                continue;
            }
            let message = with_causes(&error);
            if state.schedule.put_off(stream, message.clone(), now, next) {
                tracing::warn!(%stream, "search for orphans failed: {message}");
            }
            // No request for the others would be sent now.
            let is_outage = object_error(&error).is_some_and(ObjectError::is_outage);
            if is_outage && tier2.rests_until().is_some() {
                return;
            }
        }
    }

    fn search(&self, stream: &Arc<str>) -> Result<Searched, DeleteError> {
        let runner = &self.runner;
        let names = runner.store.stream_names(stream)?;
        runner.ensure_owner(stream, names.epoch)?;
        // Asked before the catalogues are listed: a snapshot that is over then is among these.
        let is_snapshot_running = runner.snapshots.is_running(stream);
        let listing_began = runner.now();
        let Some(mut found) = self.list(stream, &names.name)? else {
            return Ok(Searched::Nothing);
        };
        let before = self.named_before(stream, &names, &found)?;
        let catalogues = match found.seen.is_empty() {
            true => Some(Vec::new()),
            false => {
                let is_late = || runner.is_stopping();
                let tier2 = runner.claims.tier2();
                runner
                    .catalogues
                    .of_stream(tier2, stream, &names.name, is_late)?
            }
        };
        // As long as one of them is unread, nobody knows what they name.
        let Some(catalogues) = catalogues else {
            return Ok(Searched::Nothing);
        };
        let look = Look {
            grace: runner.store.config().tier2.delete_grace,
            listing_began,
            catalogues: &catalogues,
            is_snapshot_running,
            now_unix_nanos: runner.clock.now_unix_nanos(),
        };
        for (segment, seen) in &mut found.seen {
            let elsewhere = before.standing(&self.key(&names.name, segment), segment, names.epoch);
            let is_uploading = runner.coordinator.is_moving(stream, segment.segment_id);
            seen.verdict = judge(segment, &seen.sight, elsewhere, is_uploading, &look);
        }
        let orphans = self.keep(stream, &names.name, found);
        for segment in orphans {
            if !self.may_delete() {
                break;
            }
            if let Err(error) = self.delete(stream, &names, &segment) {
                let failed = Some(error).filter(|_| !runner.is_stopping());
                return Ok(Searched::Whole { failed });
            }
        }
        Ok(Searched::Whole { failed: None })
    }

    fn may_delete(&self) -> bool {
        let policy = self.runner.store.config().tier2.orphans;
        policy == OrphanPolicy::Delete && !self.runner.is_stopping()
    }

    fn key(&self, stream: &StreamName, segment: &SegmentRef) -> String {
        let key = ObjectKey::Segment {
            stream: stream.clone(),
            segment: *segment,
        };
        key.to_key(self.runner.claims.tier2().prefix())
    }

    /// Of these objects those that the manifest does not speak for, and whose ids were given out.
    fn unnamed(
        &self,
        stream: &str,
        objects: Vec<(SegmentRef, Listed)>,
    ) -> Result<Vec<(SegmentRef, Listed)>, StoreError> {
        let (given_out, mut unnamed) = self.runner.store.unnamed_objects(stream, objects)?;
        let GivenOut {
            epoch,
            next_segment_id,
        } = given_out;
        unnamed.retain(|(segment, _)| is_given_out(segment, epoch, next_segment_id));
        Ok(unnamed)
    }

    /// What the manifest does not speak for. `None`: the process goes down.
    fn list(&self, stream: &Arc<str>, name: &StreamName) -> Result<Option<Found>, DeleteError> {
        let tier2 = self.runner.claims.tier2();
        let prefix = ObjectKey::segments_prefix(tier2.prefix(), name);
        let (known, room) = {
            let state = self.state.lock();
            let known = state.found.get(stream).cloned().unwrap_or_default();
            (known, state.room(stream))
        };
        let mut found = Found::default();
        let is_whole = listing::walk(tier2.store(), &prefix, |page: Vec<Listed>| {
            let parsed = page.into_iter().filter_map(|listed| {
                match ObjectKey::parse(tier2.prefix(), &listed.key) {
                    Some(ObjectKey::Segment { stream: _, segment }) => Some((segment, listed)),
                    _ => None,
                }
            });
            // After the page came.
            let unnamed = self.unnamed(stream, parsed.collect())?;
            let now = self.runner.now();
            for (segment, listed) in unnamed {
                if found.seen.len() >= room {
                    found.is_cut = true;
                    break;
                }
                let sight = Sight {
                    bytes: listed.size_bytes,
                    etag: listed.etag,
                    modified_unix_nanos: listed.modified_unix_nanos,
                    first_seen: now,
                };
                let before = known.seen.get(&segment).map(|seen| &seen.sight);
                let seen = Seen {
                    sight: sight.continues(before),
                    verdict: Verdict::Stays(Why::SecondListing),
                };
                found.seen.insert(segment, seen);
            }
            Ok::<_, DeleteError>(!self.runner.is_stopping())
        })?;
        Ok(is_whole.then_some(found))
    }

    fn named_before(
        &self,
        stream: &Arc<str>,
        names: &StreamNames,
        found: &Found,
    ) -> Result<Before, DeleteError> {
        let over = found.seen.keys().filter(|it| it.epoch < names.epoch);
        let wanted: BTreeSet<String> = over.clone().map(|it| self.key(&names.name, it)).collect();
        if wanted.is_empty() {
            return Ok(Before::default());
        }
        let tier2 = self.runner.claims.tier2();
        let in_bucket = named_before(tier2, &names.name, names.epoch, &wanted)?;
        let mut epochs = BTreeSet::new();
        for epoch in over.map(|it| it.epoch).collect::<BTreeSet<u32>>() {
            if self.runner.store.knows_epoch(stream, epoch)? {
                epochs.insert(epoch);
            }
        }
        Ok(Before { in_bucket, epochs })
    }

    /// Says what is news, and answers which are orphans.
    fn keep(&self, stream: &Arc<str>, name: &StreamName, found: Found) -> Vec<SegmentRef> {
        let mut state = self.state.lock();
        let before = state.found.insert(stream.clone(), found.clone());
        let before = before.unwrap_or_default();
        let mut orphans = Vec::new();
        let (mut new, mut first) = (Waiting::default(), None);
        for (segment, seen) in &found.seen {
            if seen.verdict != Verdict::Orphan {
                continue;
            }
            orphans.push(*segment);
            let known = before.seen.get(segment);
            if known.is_none_or(|known| known.verdict != Verdict::Orphan) {
                new.add(seen.sight.bytes);
                first.get_or_insert(*segment);
            }
        }
        drop(state);
        if let Some(first) = first {
            let Waiting { objects, bytes } = new;
            let first = self.key(name, &first);
            tracing::warn!(
                %stream,
                objects,
                bytes,
                first,
                "objects that no manifest and no catalogue names found; tier2.orphans = \"Delete\" deletes them"
            );
        }
        orphans
    }

    fn delete(
        &self,
        stream: &Arc<str>,
        names: &StreamNames,
        segment: &SegmentRef,
    ) -> Result<(), DeleteError> {
        let runner = &self.runner;
        let tier2 = runner.claims.tier2();
        let key = self.key(&names.name, segment);
        let sight = {
            let state = self.state.lock();
            let seen = state.found.get(stream).and_then(|it| it.seen.get(segment));
            let Some(seen) = seen else { return Ok(()) };
            seen.sight.clone()
        };
        let _working = runner.working.lock();
        runner.ensure_owner(stream, names.epoch)?;
        let meta = tier2.store().head(&key)?;
        let is_same = |meta: &ObjectMeta| meta.etag == sight.etag && meta.size_bytes == sight.bytes;
        let gone = match meta {
            None => Gone::Missing,
            Some(meta) if !is_same(&meta) => {
                tracing::warn!(%stream, key, "object is another one than was listed and is not deleted");
                self.forget(stream, segment);
                return Ok(());
            }
            Some(_) => {
                // Asked last: what was named meanwhile stays.
                let listed = Listed {
                    key: key.clone(),
                    size_bytes: sight.bytes,
                    etag: sight.etag.clone(),
                    modified_unix_nanos: sight.modified_unix_nanos,
                };
                let asked = vec![(*segment, listed)];
                let is_named = self.unnamed(stream, asked)?.is_empty();
                if is_named || runner.coordinator.is_moving(stream, segment.segment_id) {
                    self.forget(stream, segment);
                    return Ok(());
                }
                remove(tier2, &key, sight.bytes)?
            }
        };
        self.forget(stream, segment);
        let bytes = sight.bytes;
        match gone {
            Gone::Deleted { bytes } => {
                self.deleted_objects.fetch_add(1, Ordering::Relaxed);
                self.deleted_bytes.fetch_add(bytes, Ordering::Relaxed);
                tracing::info!(%stream, key, bytes, "orphan deleted");
            }
            Gone::KeptAsVersion => {
                self.kept_versions.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    %stream,
                    key,
                    bytes,
                    "orphan deleted; the bucket keeps its bytes as an old version"
                );
            }
            Gone::Missing => tracing::info!(%stream, key, "orphan is not there"),
        }
        Ok(())
    }

    fn forget(&self, stream: &Arc<str>, segment: &SegmentRef) {
        let mut state = self.state.lock();
        if let Some(found) = state.found.get_mut(stream) {
            found.seen.remove(segment);
        }
    }
}

/// Of epochs that are over.
#[derive(Default)]
struct Before {
    in_bucket: NamedBefore,
    /// Those that the manifest on the volume has segments of.
    epochs: BTreeSet<u32>,
}

impl Before {
    fn standing(&self, key: &str, segment: &SegmentRef, epoch: u32) -> Elsewhere {
        let of = segment.epoch;
        if of >= epoch {
            return Elsewhere::None;
        }
        if self.in_bucket.keys.contains(key) {
            return Elsewhere::Named;
        }
        match self.in_bucket.epochs.contains(&of) || self.epochs.contains(&of) {
            true => Elsewhere::Unnamed,
            false => Elsewhere::NoManifest,
        }
    }
}

fn object_error(error: &DeleteError) -> Option<&ObjectError> {
    match error {
        DeleteError::Object(error)
        | DeleteError::Listing(ListingError::Object(error))
        | DeleteError::Catalogues(CatalogueError::Object(error))
        | DeleteError::Chunk(
            ChunkError::Object(error) | ChunkError::Listing(ListingError::Object(error)),
        ) => Some(error),
        DeleteError::Listing(_)
        | DeleteError::Catalogues(CatalogueError::Unreadable { .. })
        | DeleteError::Chunk(_)
        | DeleteError::Publish(_)
        | DeleteError::Claim(_)
        | DeleteError::Store(_)
        | DeleteError::Superseded { .. }
        | DeleteError::StillThere { .. } => None,
    }
}
