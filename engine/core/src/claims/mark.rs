//! Marks: proof in Tier 2 of which states of a volume were in use.
//!
//! A mark is a create-if-absent object `marks/<volume>/<mark>`. The volume has the mark before the object is made, each start leaves
//! the next one, and so does a process that goes on acknowledging. A volume whose own mark is below the highest one in Tier 2 is
//! therefore an older state of itself, whether or not anything was uploaded since; and a mark that somebody else has left first
//! means that a copy of this volume is in use.

use aof2_format::mark::VolumeMark;
use aof2_format::names::ObjectKey;
use aof2_format::{FORMAT_VERSION, VolumeId};

use super::{StreamClaims, parse, pending};
use crate::error::{ClaimError, RolledBack};
use crate::objects::Upload;
use crate::objects::conditional::Creation;
use crate::objects::tier2::ATTEMPTS_OF_A_CALLER;
use crate::port::VolumeIdentity;

/// Newest marks of a volume that are kept. One would do; the other shows people when the last but one was left.
const KEPT: u64 = 2;

impl StreamClaims {
    /// `RolledBack` when Tier 2 has a higher mark of `volume` than `mark`, which is the one on it.
    pub(super) fn check_marks(&self, volume: &VolumeIdentity, mark: u64) -> Result<(), ClaimError> {
        let marks = self.marks(volume)?;
        let Some(highest) = marks.iter().max().copied() else {
            return Ok(());
        };
        if highest > mark {
            return Err(self.is_older(volume, mark, highest)?);
        }
        for old in marks.into_iter().filter(|old| old + KEPT <= highest) {
            self.forget_mark(volume, old);
        }
        Ok(())
    }

    pub(super) fn put_mark(&self, volume: &VolumeIdentity, mark: u64) -> Result<(), ClaimError> {
        let tier2 = self.tier2();
        let object = VolumeMark {
            format_version: FORMAT_VERSION,
            cluster_id: parse("cluster id", &volume.cluster_id)?,
            node_id: parse("node id", &volume.node_id)?,
            volume_id: parse("volume id", &volume.volume_id)?,
            mark,
            node: volume.node.clone(),
            process: self.process.clone(),
        };
        let upload = Upload::of_bytes(object.encode().into(), tier2.put_id());
        let key = self.key(volume, mark)?;
        match tier2
            .create(&key, &upload, ATTEMPTS_OF_A_CALLER)
            .map_err(pending)?
        {
            Creation::Ours { .. } => {}
            Creation::Taken(_) => return Err(self.is_older(volume, mark - 1, mark)?),
        }
        if let Some(old) = mark.checked_sub(KEPT).filter(|old| *old > 0) {
            self.forget_mark(volume, old);
        }
        Ok(())
    }

    /// Best effort: what is left goes with the next start.
    fn forget_mark(&self, volume: &VolumeIdentity, old: u64) {
        let deleted = self
            .key(volume, old)
            .map(|key| self.tier2().store().delete(&key));
        if let Ok(Err(error)) = deleted {
            tracing::debug!(old, "cannot delete an old mark in Tier 2: {error}");
        }
    }

    fn marks(&self, volume: &VolumeIdentity) -> Result<Vec<u64>, ClaimError> {
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        let folder = ObjectKey::marks_prefix(self.tier2().prefix(), volume_id);
        let keys = self.tier2().store().list(&folder, None).map_err(pending)?;
        let mark = |key: &String| match ObjectKey::parse(self.tier2().prefix(), key) {
            Some(ObjectKey::Mark { volume_id: _, mark }) => Some(mark),
            _ => None,
        };
        Ok(keys.iter().filter_map(mark).collect())
    }

    fn key(&self, volume: &VolumeIdentity, mark: u64) -> Result<String, ClaimError> {
        let volume_id = parse("volume id", &volume.volume_id)?;
        Ok(ObjectKey::Mark { volume_id, mark }.to_key(self.tier2().prefix()))
    }

    fn is_older(
        &self,
        volume: &VolumeIdentity,
        local: u64,
        bucket: u64,
    ) -> Result<ClaimError, ClaimError> {
        let key = self.key(volume, bucket)?;
        let proofs = vec![RolledBack::Mark { local, bucket, key }];
        Ok(ClaimError::RolledBack { proofs })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::claims::suite::{admitted, claims_of, volume};
    use crate::objects::ObjectStore;
    use crate::objects::memory::{Fault, MemoryStore, Verb};
    use crate::port::Claims;

    #[test]
    fn a_mark_whose_response_was_lost_is_found_to_be_ours() {
        let memory = Arc::new(MemoryStore::new());
        let store: Arc<dyn ObjectStore> = memory.clone();
        let claims = claims_of(&store, "p/", "orders-0");
        let mine = volume("orders-0", 1);
        claims
            .check_volume(&mine, admitted(0))
            .expect("the prefix is ours");
        memory.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
        claims.leave_mark(&mine, 1).expect("left");
    }
}
