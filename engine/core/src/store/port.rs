//! What the coordinator and the drain need of the store, by the store.

use std::path::PathBuf;

use super::Store;
use crate::error::ClaimError;
use crate::error::{ReadError, StoreError};
use crate::io::Environment;
use crate::port::{
    Port, SealHook, SealedBytes, SealedSegment, TierRecord, VolumeIdentity, Watermark,
};

impl Port for Store {
    fn volume(&self) -> VolumeIdentity {
        self.identity().clone()
    }

    fn environment(&self) -> &Environment {
        Store::environment(self)
    }

    fn tier1_directory(&self) -> PathBuf {
        Store::tier1_directory(self)
    }

    fn pending(&self) -> Vec<SealedSegment> {
        self.sealed_segments_pending()
    }

    fn segment_bytes(&self, stream: &str, segment_id: u64) -> Result<SealedBytes, ReadError> {
        Ok(Box::new(Store::segment_bytes(self, stream, segment_id)?))
    }

    fn note_damage(&self, stream: &str, segment_id: u64, problem: &str) -> String {
        Store::note_damage(self, stream, segment_id, problem)
    }

    fn commit(&self, stream: &str, segment_id: u64, record: TierRecord) -> Result<(), StoreError> {
        self.commit_manifest(stream, segment_id, record)
    }

    fn on_sealed(&self, hook: SealHook) {
        Store::on_sealed(self, hook);
    }

    fn settle_volume_check(&self) -> Result<(), ClaimError> {
        Store::settle_volume_check(self)
    }

    fn keep_standing(&self) -> Result<(), ClaimError> {
        Store::keep_standing(self)
    }

    fn supersede(&self, stream: &str, to_epoch: u64) {
        Store::supersede(self, stream, to_epoch);
    }

    fn watermarks(&self) -> Vec<Watermark> {
        Store::watermarks(self)
    }

    fn seal(&self, stream: Option<&str>) -> Result<(), StoreError> {
        Store::seal(self, stream).map(drop)
    }

    fn close_admission(&self, reason: &str) {
        Store::close_admission(self, reason);
    }

    fn open_admission(&self) {
        Store::open_admission(self);
    }
}
