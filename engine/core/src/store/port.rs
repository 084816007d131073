//! What the coordinator and the drain need of the store, by the store.

use std::path::PathBuf;
use std::sync::Arc;

use super::Store;
use crate::admit::Pressed;
use crate::below::LowerTiers;
use crate::error::ClaimError;
use crate::error::{ReadError, StoreError};
use crate::io::Environment;
use crate::port::{
    Fill, HotCopy, Objects, OpenBytes, Port, RestoreError, SealHook, SealedBytes, SealedSegment,
    Tier0Usage, TierRecord, VolumeIdentity, WarmCopy, Watermark,
};

impl Port for Store {
    fn volume(&self) -> VolumeIdentity {
        self.identity().clone()
    }

    fn environment(&self) -> &Environment {
        Store::environment(self)
    }

    fn directory(&self) -> PathBuf {
        self.pipeline().common.config.load().directory.clone()
    }

    fn has_tier1_volume(&self) -> bool {
        let config = self.pipeline().common.config.load();
        config.tier1_directory.is_some()
    }

    fn tier1_directory(&self) -> PathBuf {
        Store::tier1_directory(self)
    }

    fn pending(&self) -> Vec<SealedSegment> {
        self.sealed_segments_pending()
    }

    fn sealed_segment(&self, stream: &str, segment_id: u64) -> Option<SealedSegment> {
        let streams = &self.pipeline().streams;
        streams.existing_named(stream)?.sealed_segment(segment_id)
    }

    fn is_unneeded(&self, stream: &str, segment_id: u64) -> bool {
        let streams = &self.pipeline().streams;
        let stream = streams.existing_named(stream);
        stream.is_some_and(|stream| {
            let manifest = &stream.manifest;
            manifest.read(|state| !state.residency.is_needed(segment_id))
        })
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

    fn tier0_usage(&self) -> Tier0Usage {
        Store::tier0_usage(self)
    }

    fn tier0_budget(&self) -> (u64, u64) {
        let common = &self.pipeline().common;
        let quota_bytes = common.config.load().tier0.instance_quota_bytes;
        (common.space.tier0_bytes(), quota_bytes)
    }

    fn hot_copies(&self) -> Vec<HotCopy> {
        Store::hot_copies(self)
    }

    fn warm_copies(&self) -> Vec<WarmCopy> {
        Store::warm_copies(self)
    }

    fn without_warm_copy(&self) -> Vec<SealedSegment> {
        Store::without_warm_copy(self)
    }

    fn ever_sealed(&self) -> Vec<SealedSegment> {
        Store::ever_sealed(self)
    }

    fn compressing_again(&self) -> Vec<SealedSegment> {
        Store::compressing_again(self)
    }

    fn open_bytes(&self) -> Vec<OpenBytes> {
        Store::open_bytes(self)
    }

    fn evict_hot(&self, stream: &str, segment_id: u64) -> Result<u64, StoreError> {
        Store::evict_hot(self, stream, segment_id)
    }

    fn restore_hot(
        &self,
        stream: &str,
        segment_id: u64,
        fill: Fill<'_>,
    ) -> Result<u64, RestoreError> {
        Store::restore_hot(self, stream, segment_id, fill)
    }

    fn readable_segments(&self, stream: &str) -> Option<Vec<SealedSegment>> {
        Store::readable_segments(self, stream)
    }

    fn on_pressure(&self, pressed: Box<dyn Fn() + Send + Sync>) {
        self.pipeline().common.space.on_pressure(Pressed(pressed));
    }

    fn read_below_with(&self, lower: Arc<dyn LowerTiers>) {
        Store::read_below_with(self, lower);
    }

    fn note_held(&self, held: String) {
        self.pipeline().common.space.note_held(held);
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

    fn objects(&self, is_confirmed: &dyn Fn(&str, u64) -> bool) -> Option<Objects> {
        Store::objects(self, is_confirmed)
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
