//! All that the movers and the drain need of the store: a trait, so that their tests can hold them against a small model.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::Store;
use crate::error::{ReadError, StoreError};
use crate::io::{Clock, Disk};
use crate::threads::StoreThreads;
use crate::tier_port::{
    ClaimError, SealHook, SealedSegment, TierRecord, VolumeIdentity, Watermark,
};

/// Bytes of a sealed segment without its seal block, for as long as this is held.
pub type SealedBytes = Box<dyn Deref<Target = [u8]> + Send + Sync>;

pub trait Port: Send + Sync {
    fn volume(&self) -> VolumeIdentity;
    fn disk(&self) -> Arc<dyn Disk>;
    fn clock(&self) -> Arc<dyn Clock>;
    fn threads(&self) -> StoreThreads;
    /// Warm files lie below.
    fn tier1_directory(&self) -> PathBuf;

    /// Sealed segments that are not uploaded, oldest first within a stream.
    fn pending(&self) -> Vec<SealedSegment>;
    fn segment_bytes(&self, stream: &str, segment_id: u64) -> Result<SealedBytes, ReadError>;
    /// The segment's bytes are not those that were sealed. Answers what is known of it, with sequences and remedy.
    fn note_damage(&self, stream: &str, segment_id: u64, problem: &str) -> String;
    /// Blocks until the record is durable in the stream's manifest.
    fn commit(&self, stream: &str, segment_id: u64, record: TierRecord) -> Result<(), StoreError>;
    fn on_sealed(&self, hook: SealHook);
    /// Makes the check of this volume that is owed to Tier 2, if it is; nothing is published before. Blocks on Tier 2.
    fn settle_volume_check(&self) -> Result<(), ClaimError>;
    /// The same, and the next mark of this volume if it is due.
    fn keep_standing(&self) -> Result<(), ClaimError>;
    /// Another owner was found in Tier 2.
    fn supersede(&self, stream: &str, to_epoch: u64);

    fn watermarks(&self) -> Vec<Watermark>;
    /// Blocks until what one stream (or every stream) holds now is sealed.
    fn seal(&self, stream: Option<&str>) -> Result<(), StoreError>;
    /// Appends are refused as `Draining` from here on.
    fn close_admission(&self, reason: &str);
    fn open_admission(&self);
}

impl Port for Store {
    fn volume(&self) -> VolumeIdentity {
        self.identity().clone()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Store::disk(self)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Store::clock(self)
    }

    fn threads(&self) -> StoreThreads {
        Store::threads(self)
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
