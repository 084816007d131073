//! What the deletion of objects needs of the store: which objects of trimmed segments there are, and what the manifest says of them.

use std::sync::Arc;

use aof2_format::manifest_record::ManifestEvent;

use super::Store;
use crate::error::StoreError;
use crate::port::SealedSegment;
use crate::residency::DeletionStage;
use crate::stream::{Quarantined, Stream};

/// The object of a segment that nobody needs: it lies wholly below the start, was merged into another one, or never counted. Or what an
/// upload of it that was never done may have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrimmedObject {
    pub segment_id: u64,
    pub base_sequence: u64,
    pub end_sequence: u64,
    /// Of the object, or uncompressed where that is not known.
    pub bytes: u64,
    pub key: String,
    /// `None`: of an upload that was begun and never done. Perhaps there is no object.
    pub etag: Option<String>,
    pub stage: DeletionStage,
    /// Another segment holds its records.
    pub is_superseded: bool,
}

impl Store {
    /// Names of streams with segments that nobody needs and that have an object, or may have one. Those that another volume owns are not
    /// among them: their objects are its to delete.
    pub(crate) fn streams_with_trimmed_objects(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let has_objects = |stream: &&Arc<Stream>| {
            let manifest = &stream.manifest;
            manifest.read(|state| state.residency.has_leaving_objects()) && is_ours(stream)
        };
        let found = streams.iter().filter(has_objects);
        found.map(|stream| stream.shared_name.clone()).collect()
    }

    /// Names of streams with a snapshot whose deletion has begun and is not done, unless another volume owns them.
    pub(crate) fn streams_with_leaving_snapshots(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let has_leaving = |stream: &&Arc<Stream>| {
            let manifest = &stream.manifest;
            manifest.read(|state| !state.deleting.is_empty()) && is_ours(stream)
        };
        let found = streams.iter().filter(has_leaving);
        found.map(|stream| stream.shared_name.clone()).collect()
    }

    pub(crate) fn sealed(
        &self,
        stream: &str,
        segment_id: u64,
    ) -> Result<SealedSegment, StoreError> {
        let found = self.known(stream)?;
        found
            .sealed_segment(segment_id)
            .ok_or_else(|| StoreError::UnknownSegment {
                stream: stream.to_owned(),
                segment_id,
            })
    }

    /// With the start of the stream.
    pub(crate) fn trimmed_objects(
        &self,
        stream: &str,
    ) -> Result<(u64, Vec<TrimmedObject>), StoreError> {
        let stream = self.known(stream)?;
        Ok(stream.manifest.read(|state| {
            let residency = &state.residency;
            let objects = residency.leaving_objects();
            let objects = objects.map(|leaving| TrimmedObject {
                segment_id: leaving.id,
                base_sequence: leaving.segment.base_sequence,
                end_sequence: leaving.end_sequence,
                bytes: leaving.bytes(),
                key: leaving.object.key.to_owned(),
                etag: leaving.object.etag.map(str::to_owned),
                stage: leaving.segment.deletion,
                is_superseded: leaving.is_superseded,
            });
            (residency.start_sequence(), objects.collect())
        }))
    }

    /// Says that objects are to go; the second time, that the bucket has the manifest chunk that says so. Blocks until it is durable.
    pub(crate) fn queue_deletion(
        &self,
        stream: &str,
        objects: &[TrimmedObject],
    ) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let owned = stream.owned(self.pipeline());
        for object in objects {
            let key = object.key.clone();
            let queued = ManifestEvent::Tier2DeleteQueued { key };
            stream
                .manifest
                .commit(&owned, object.segment_id, vec![queued])?;
        }
        Ok(())
    }

    /// The object is gone. Blocks until it is durable.
    pub(crate) fn note_deleted(
        &self,
        stream: &str,
        segment_id: u64,
        key: &str,
    ) -> Result<(), StoreError> {
        let stream = self.known(stream)?;
        let owned = stream.owned(self.pipeline());
        let key = key.to_owned();
        let deleted = ManifestEvent::Tier2Deleted { key };
        stream.manifest.commit(&owned, segment_id, vec![deleted])
    }
}

fn is_ours(stream: &Stream) -> bool {
    match stream.staged.lock().quarantined {
        Some(Quarantined::Superseded { .. } | Quarantined::Refused { .. }) => false,
        Some(Quarantined::Damaged { .. } | Quarantined::Gone) | None => true,
    }
}
