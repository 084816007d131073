//! What the search for orphans needs of the store: what the manifest of a stream speaks for.

use std::sync::Arc;

use aof2_format::names::SegmentRef;

use super::Store;
use crate::error::StoreError;
use crate::manifest::state::ManifestState;
use crate::objects::Listed;

/// Which ids of segments a stream has given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenOut {
    pub epoch: u32,
    /// In this epoch.
    pub next_segment_id: u64,
}

impl Store {
    /// Names of streams whose manifest is read whole and understood, and which are this volume's as far as is known. Of one that is
    /// quarantined for whatever reason nobody knows what its manifest names.
    pub(crate) fn streams_with_whole_manifest(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let whole = streams.iter().filter(|stream| {
            let is_quarantined = stream.staged.lock().quarantined.is_some();
            !is_quarantined && stream.manifest.read(|state| state.unknown_records == 0)
        });
        whole.map(|stream| stream.shared_name.clone()).collect()
    }

    /// Of these objects of a stream those that its manifest does not speak for. To be called after they were listed: what was named later
    /// is named now.
    pub(crate) fn unnamed_objects(
        &self,
        stream: &str,
        mut objects: Vec<(SegmentRef, Listed)>,
    ) -> Result<(GivenOut, Vec<(SegmentRef, Listed)>), StoreError> {
        let stream = self.known(stream)?;
        let given_out = GivenOut {
            epoch: stream.epoch(),
            next_segment_id: stream.staged.lock().next_segment_id,
        };
        stream.manifest.read(|state| {
            objects.retain(|(segment, listed)| !state.residency.speaks_for(segment, &listed.key));
        });
        Ok((given_out, objects))
    }

    /// The manifest on this volume has segments of this epoch.
    pub(crate) fn knows_epoch(&self, stream: &str, epoch: u32) -> Result<bool, StoreError> {
        let stream = self.known(stream)?;
        let knows = |state: &ManifestState| state.residency.knows_epoch(epoch);
        Ok(stream.manifest.read(knows))
    }
}
