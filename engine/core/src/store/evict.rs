//! Copies that leave Tier 0: the record first, then the file. A start removes what the record dropped.

use std::sync::Arc;

use aof2_format::manifest_record::{LocalCopy, ManifestEvent};
use aof2_format::segment::DATA_OFFSET;

use super::Store;
use crate::dropped::{Dropped, LeftFile};
use crate::error::StoreError;
use crate::io::sync::MutexGuard;
use crate::port::{Copies, HotCopy, OpenBytes, SealedSegment, Tier0Usage, WarmCopy};
use crate::residency::segment::Segment;
use crate::segment::active::FIRST_ALLOCATION_BYTES;
use crate::segment::sealed::Sealed;
use crate::stream::{Entry, Stream};

impl Store {
    /// What was refused counts in one reading.
    pub fn tier0_usage(&self) -> Tier0Usage {
        let common = &self.pipeline().common;
        let pinned_bytes = common.space.pinned_bytes();
        let config = common.config.load();
        Tier0Usage {
            used_bytes: common.space.tier0_bytes(),
            pinned_bytes,
            quota_bytes: config.tier0.instance_quota_bytes,
            refused_bytes: common.space.take_refused_bytes(),
            capacity_bytes: config.capacity_bytes,
            other_bytes: common.space.other_bytes(),
        }
    }

    /// Those that may be dropped: Tier 2 has a verified copy of each.
    pub fn hot_copies(&self) -> Vec<HotCopy> {
        self.with_copies(|stream, sealed, copies| {
            may_be_dropped(sealed, copies).then(|| HotCopy {
                stream: stream.shared_name.clone(),
                segment_id: sealed.info.segment_id,
                bytes: sealed.info.file_bytes(),
                used: sealed.used(),
                is_warm: copies.warm.is_some(),
                is_hydrated: sealed.is_hydrated(),
            })
        })
    }

    /// Those that may be dropped, as above.
    pub fn warm_copies(&self) -> Vec<WarmCopy> {
        self.with_copies(|stream, sealed, copies| {
            let bytes = copies.warm.filter(|_| copies.cold.is_some())?;
            Some(WarmCopy {
                stream: stream.shared_name.clone(),
                segment_id: sealed.info.segment_id,
                bytes,
                used: sealed.used(),
                is_hot: copies.hot,
            })
        })
    }

    /// Sealed segments that were uploaded and have no copy in Tier 1.
    pub fn without_warm_copy(&self) -> Vec<SealedSegment> {
        let streams = self.pipeline().streams.existing();
        let dropped = streams.iter().flat_map(|stream| {
            stream
                .manifest
                .read(|state| state.residency.without_warm_copy(&stream.shared_name))
        });
        dropped.collect()
    }

    /// All that were ever sealed, trimmed ones among them.
    pub fn ever_sealed(&self) -> Vec<SealedSegment> {
        self.sealed_where(|_| true)
    }

    /// Those whose file in Tier 1 is as long as the manifest says, or as long as the one that was to take its place.
    pub fn compressing_again(&self) -> Vec<SealedSegment> {
        self.sealed_where(|segment| segment.moves.is_compressing_again)
    }

    fn sealed_where(&self, wanted: impl Fn(&Segment) -> bool) -> Vec<SealedSegment> {
        let streams = self.pipeline().streams.existing();
        let found = streams.iter().flat_map(|stream| {
            let name = &stream.shared_name;
            let manifest = &stream.manifest;
            manifest.read(|state| state.residency.sealed_segments(name, &wanted))
        });
        found.collect()
    }

    /// What segments that take records hold of Tier 0.
    pub fn open_bytes(&self) -> Vec<OpenBytes> {
        let streams = self.pipeline().streams.existing();
        let open = streams.iter().filter_map(|stream| {
            let (mut bytes, mut is_empty) = (0, true);
            for segment in stream.open_segments() {
                bytes += segment.allocated();
                is_empty &= segment.staged_end() <= DATA_OFFSET;
            }
            (bytes > 0).then(|| OpenBytes {
                stream: stream.shared_name.clone(),
                bytes,
                ahead_bytes: self.ahead_bytes_of(stream),
                can_be_sealed: !is_empty && stream.damaged_end.is_none(),
            })
        });
        open.collect()
    }

    /// What open segments and files that are made ahead take of Tier 0 next.
    pub(super) fn ahead_bytes(&self) -> u64 {
        let streams = self.pipeline().streams.existing();
        let ahead = streams.iter().map(|stream| self.ahead_bytes_of(stream));
        ahead.sum()
    }

    fn ahead_bytes_of(&self, stream: &Stream) -> u64 {
        let target_bytes = self.pipeline().common.config.load().segment_target_bytes();
        let staged = stream.staged.lock();
        let Some(active) = &staged.active else {
            return 0;
        };
        let next = match &staged.next {
            Some(next) => next.next_allocation(target_bytes),
            None => FIRST_ALLOCATION_BYTES,
        };
        active.next_allocation(target_bytes) + next
    }

    /// Drops the copy of a segment in Tier 0, where Tier 2 has one. Answers the bytes of its file; 0 = there was nothing to drop.
    /// Blocks on the manifest.
    pub fn evict_hot(&self, stream: &str, segment_id: u64) -> Result<u64, StoreError> {
        let stream = self.known(stream)?;
        let Some(sealed) = stream.sealed_entry(segment_id) else {
            return Ok(0);
        };
        let bytes = sealed.info.file_bytes();
        let _evicting: MutexGuard<'_, ()> = self.parts().evicting.lock();
        let has_both = stream.manifest.read(|state| {
            let segment = state.residency.segment(segment_id);
            segment.is_some_and(|segment| segment.copies.hot && segment.copies.cold.is_some())
        });
        if !has_both {
            return Ok(0);
        }
        let dropped = ManifestEvent::LocalEvicted {
            copy: LocalCopy::Hot,
            bytes,
        };
        let owned = stream.owned(self.pipeline());
        stream.manifest.commit(&owned, segment_id, vec![dropped])?;
        Ok(self.remove_dropped(&stream, &sealed).bytes())
    }

    /// The file of a copy that the manifest has dropped.
    pub(super) fn remove_dropped(&self, stream: &Stream, sealed: &Sealed) -> Dropped {
        let dropped = self.remove_left_hot(LeftFile {
            path: sealed.path.clone(),
            bytes: sealed.info.file_bytes(),
            map: sealed.retire(),
        });
        dropped.warn(&stream.shared_name, sealed.info.segment_id);
        dropped
    }

    /// Its blocks are free once nobody reads it.
    pub(crate) fn remove_left_hot(&self, file: LeftFile) -> Dropped {
        let common = &self.pipeline().common;
        match common.env.disk.unlink(&file.path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                Dropped::Left { file, cause }
            }
            Ok(()) | Err(_) => {
                let file_bytes = file.bytes;
                common.space.release_segment(file.map, file_bytes);
                Dropped::Removed { file_bytes }
            }
        }
    }

    fn with_copies<T>(&self, of: impl Fn(&Stream, &Sealed, &Copies) -> Option<T>) -> Vec<T> {
        with_copies(&self.pipeline().streams.existing(), of)
    }

    /// Who reads what Tier 0 does not have.
    pub(crate) fn read_below_with(&self, lower: Arc<dyn crate::below::LowerTiers>) {
        let lower = Some(Arc::new(crate::common::Lower(lower)));
        self.pipeline().common.lower_tiers.store(lower);
    }
}

/// Of segments that Tier 0 may give up.
pub(super) fn evictable_bytes(streams: &[Arc<Stream>]) -> u64 {
    let bytes = with_copies(streams, |_, sealed, copies| {
        may_be_dropped(sealed, copies).then(|| sealed.info.file_bytes())
    });
    bytes.into_iter().sum()
}

fn may_be_dropped(sealed: &Sealed, copies: &Copies) -> bool {
    copies.hot && copies.cold.is_some() && sealed.is_hot()
}

fn with_copies<T>(
    streams: &[Arc<Stream>],
    of: impl Fn(&Stream, &Sealed, &Copies) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for stream in streams {
        let segments = stream.segments.read().clone();
        stream.manifest.read(|state| {
            for entry in &segments {
                let Entry::Sealed(sealed) = entry else {
                    continue;
                };
                let segment = state.residency.segment(sealed.info.segment_id);
                found.extend(segment.and_then(|it| of(stream, sealed, &it.copies)));
            }
        });
    }
    found
}
