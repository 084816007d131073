//! A copy comes back to Tier 0: the file first, verified and durable, then the record. A file without a record goes at the next start.

use std::sync::Arc;

use aof2_format::checksum::Crc64Nvme;
use aof2_format::manifest_record::{LocalCopy, ManifestEvent};
use aof2_format::segment::SegmentSeal;

use super::Store;
use crate::io::sync::MutexGuard;
use crate::io::{FileClass, create_whole};
use crate::port::{Fill, RestoreError, SealedSegment};
use crate::segment::checksum::crc64_of;
use crate::segment::sealed::Sealed;
use crate::stream::Stream;

impl Store {
    /// Readable sealed segments of a stream, ascending by sequence; `None`: there is no such stream.
    pub fn readable_segments(&self, stream: &str) -> Option<Vec<SealedSegment>> {
        let stream = self.pipeline().streams.existing_named(stream)?;
        let name = &stream.shared_name;
        Some(stream.manifest.read(|state| {
            let readable = state.residency.readable();
            readable
                .filter_map(|(id, _, _)| state.residency.sealed_segment(name, id))
                .collect()
        }))
    }

    /// Makes the segment file that `fill` gives the bytes of. Answers the bytes of the file; 0 = there was one already. Blocks on the
    /// disk and on the manifest.
    pub fn restore_hot(
        &self,
        stream: &str,
        segment_id: u64,
        fill: Fill<'_>,
    ) -> Result<u64, RestoreError> {
        let stream = self.known(stream).map_err(RestoreError::Store)?;
        let Some(sealed) = stream.sealed_entry(segment_id) else {
            return Err(RestoreError::Trimmed {
                stream: stream.name.to_string(),
                segment_id,
            });
        };
        if sealed.is_hot() {
            return Ok(0);
        }
        let bytes = sealed.info.file_bytes();
        let common = &self.pipeline().common;
        // Reserved before the first byte is fetched.
        if !common.space.take_for_copy(bytes, self.ahead_bytes()) {
            return Err(RestoreError::NoRoom { bytes });
        }
        let restored = self
            .make_file(&stream, &sealed, fill)
            .and_then(|()| self.restored(&stream, &sealed, bytes));
        if restored.is_err() {
            let _ = common.env.disk.unlink(&sealed.path);
            common.space.remove_segment(bytes);
        }
        restored.map(|()| bytes)
    }

    fn make_file(
        &self,
        stream: &Stream,
        sealed: &Sealed,
        fill: Fill<'_>,
    ) -> Result<(), RestoreError> {
        let common = &self.pipeline().common;
        let seal = self.seal_of(stream, sealed)?;
        let mut crc = Crc64Nvme::default();
        let mut at = 0;
        let file = create_whole(&*common.env.disk, &sealed.path, FileClass::Other, |file| {
            fill(&mut |part| {
                file.write_all_at(part, at)?;
                crc.update(part);
                at += part.len() as u64;
                Ok(())
            })
            .map_err(|error| ("fill", error))?;
            let sealed_at = SegmentSeal::offset(seal.data_end);
            file.write_all_at(&seal.encode(), sealed_at)
                .map_err(|error| ("write", error))
        })?;
        let found = crc64_of(&*file, seal.data_end).map_err(|source| RestoreError::Disk {
            verb: "read back",
            path: sealed.path.clone(),
            source,
        })?;
        if at != seal.data_end || crc.finish() != seal.crc64 || found != seal.crc64 {
            return Err(RestoreError::Differs {
                stream: stream.name.to_string(),
                segment_id: seal.segment_id,
            });
        }
        Ok(())
    }

    /// The seal block as it was: what the manifest says of the seal.
    fn seal_of(&self, stream: &Stream, sealed: &Sealed) -> Result<SegmentSeal, RestoreError> {
        let info = &sealed.info;
        let seal = stream.manifest.read(|state| {
            let segment = state.residency.segment(info.segment_id);
            segment.and_then(|segment| segment.seal)
        });
        let seal = seal.ok_or_else(|| RestoreError::Differs {
            stream: stream.name.to_string(),
            segment_id: info.segment_id,
        })?;
        Ok(SegmentSeal {
            cluster_id: self.pipeline().common.ids.cluster_id,
            stream_uuid: stream.identity.uuid,
            segment_id: info.segment_id,
            epoch: info.epoch,
            base_sequence: info.base_sequence,
            end_sequence: info.end_sequence,
            records: info.end_sequence - info.base_sequence,
            data_end: info.data_end,
            crc64: info.crc64,
            chain: seal.chain,
            sealed_unix_nanos: seal.sealed_unix_nanos,
            flush_failure: false,
        })
    }

    fn restored(
        &self,
        stream: &Arc<Stream>,
        sealed: &Sealed,
        bytes: u64,
    ) -> Result<(), RestoreError> {
        let _evicting: MutexGuard<'_, ()> = self.parts().evicting.lock();
        let segment_id = sealed.info.segment_id;
        let is_trimmed = || {
            let manifest = &stream.manifest;
            let is_needed = manifest.read(|state| state.residency.is_needed(segment_id));
            !is_needed || stream.sealed_entry(segment_id).is_none()
        };
        let trimmed = || RestoreError::Trimmed {
            stream: stream.name.to_string(),
            segment_id,
        };
        if is_trimmed() {
            return Err(trimmed());
        }
        let copy = LocalCopy::Hot;
        let owned = stream.owned(self.pipeline());
        let commit = |event| {
            let committed = stream.manifest.commit(&owned, segment_id, vec![event]);
            committed.map_err(RestoreError::Store)
        };
        commit(ManifestEvent::HydrationDone { copy, bytes })?;
        // Trimmed meanwhile: whoever drops trimmed copies may have passed it already.
        if is_trimmed() {
            commit(ManifestEvent::LocalEvicted { copy, bytes })?;
            return Err(trimmed());
        }
        sealed.restore(&self.pipeline().common.maps);
        Ok(())
    }
}
