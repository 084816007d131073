//! The store with its tiers, opened and closed as one.

mod drain;
mod open;
mod patience;
mod private;
mod progress;
mod reading;
mod snapshot;
mod tier2;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use aof2_core::compaction::{Compaction, CompactionRefusal, CompactionRun, CompactionStatus};
use aof2_core::deletion::orphans::OrphanStatus;
use aof2_core::deletion::{
    CopyDeletion, CopyError, Deletion, DeletionStatus, SnapshotDeleteError, SnapshotDeleted,
};
use aof2_core::fetch::FetchStatus;
use aof2_core::objects::Tier2;
use aof2_core::retention::{Retention, RetentionStatus};
use aof2_core::snapshot::Snapshots;
use aof2_core::storage_report::{Question, ReportError, StorageReport, storage_report};
use aof2_core::tier::{HydrateRefusal, Hydration, LocalTier, LocalWork, Tier2Status, Tiers};
use aof2_core::{Store, StoreError};
use aof2_format::snapshot::SnapshotId;

use crate::config::Settings;

pub use open::{OpenFailure, open, refusal_of};
use patience::Patience;
pub use progress::Progress;
use reading::Readings;
pub use snapshot::{AskError, Asked, Verifications};
pub use tier2::{connect, tier2_reason};

/// How long requests to Tier 2 may hold up the way out.
const STOP_LIMIT: Duration = Duration::from_secs(3);
const STOP_POLL: Duration = Duration::from_millis(20);

/// What serves. Clones share it.
#[derive(Clone)]
pub struct DataPlane {
    pub store: Store,
    tiers: Arc<Tiers>,
    patience: Option<Arc<Patience>>,
    /// `None` without Tier 2.
    pub tier2: Option<Arc<Tier2>>,
    snapshots: Arc<Snapshots>,
    retention: Arc<Retention>,
    deletion: Arc<Deletion>,
    compaction: Arc<Compaction>,
    pub verifications: Arc<Verifications>,
    readings: Arc<Readings>,
}

impl DataPlane {
    /// Takes over the hot keys.
    pub fn reconfigure(&self, settings: &Settings) {
        let config = open::core_config(settings);
        self.store.reconfigure(config.clone());
        // Last: it wakes those that read what is in force now.
        self.tiers.reconfigure(&config);
    }

    /// Answers the count of sealed records per stream. Blocking.
    pub fn seal(&self, stream: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        self.store.seal(stream)
    }

    /// Blocking.
    pub fn hydrate(
        &self,
        stream: &str,
        from: u64,
        to: Option<u64>,
        tier: LocalTier,
    ) -> Result<Hydration, HydrateRefusal> {
        self.tiers.hydrate(stream, from, to, tier)
    }

    pub fn hydration(&self, id: u64) -> Option<Hydration> {
        self.tiers.hydration(id)
    }

    /// What is asked of the files in Tier 1.
    pub fn local(&self) -> &Arc<LocalWork> {
        self.tiers.local()
    }

    /// Segments that come back because readers had them again and again, and are not back yet.
    pub fn waiting_on_demand(&self) -> u64 {
        self.tiers.waiting_on_demand()
    }

    /// `None` without Tier 2: then everything is in Tier 0.
    pub fn fetch_status(&self) -> Option<FetchStatus> {
        self.tiers.tier2_status()?;
        Some(self.tiers.fetch_status())
    }

    /// Of a sealed segment, in Tier 1 or Tier 2, where nobody needs it. Blocking.
    pub fn delete_copy(
        &self,
        stream: &str,
        segment_id: u64,
        tier: u8,
    ) -> Result<CopyDeletion, CopyError> {
        match tier {
            1 => Deletion::delete_warm(&self.tiers, &self.store, stream, segment_id),
            _ => self.deletion.delete_object(&self.store, stream, segment_id),
        }
    }

    /// Deletes the catalogue of a snapshot that nobody needs. Blocking.
    pub fn delete_snapshot(
        &self,
        stream: &str,
        id: SnapshotId,
    ) -> Result<SnapshotDeleted, SnapshotDeleteError> {
        self.deletion.delete_snapshot(&self.store, stream, id)
    }

    /// Merges small segments now.
    pub fn compact(&self, stream: Option<&str>) -> Result<CompactionRun, CompactionRefusal> {
        self.compaction.ask(stream)
    }

    pub fn compaction_run(&self, id: u64) -> Option<CompactionRun> {
        self.compaction.run(id)
    }

    pub fn compaction_status(&self) -> CompactionStatus {
        self.compaction.status()
    }

    /// What keeps the object of a trimmed segment.
    pub fn keeper(&self, stream: &str, segment_id: u64) -> Option<String> {
        self.deletion.keeper(stream, segment_id)
    }

    /// `None` without Tier 2.
    pub fn deletion_status(&self) -> Option<DeletionStatus> {
        self.deletion.status()
    }

    /// `None` without Tier 2.
    pub fn orphan_status(&self) -> Option<OrphanStatus> {
        self.deletion.orphans()
    }

    /// May take a while. `is_abandoned` is asked now and then.
    pub fn storage_report(
        &self,
        question: &Question,
        is_abandoned: &dyn Fn() -> bool,
    ) -> Result<StorageReport, ReportError> {
        storage_report(&self.store, &self.retention, question, is_abandoned)
    }

    pub fn retention_status(&self) -> RetentionStatus {
        self.retention.status()
    }

    /// `None` without Tier 2.
    pub fn tier2_status(&self) -> Option<Tier2Status> {
        self.tiers.tier2_status()
    }

    /// The pod goes: a drained engine never opens again; any other seals what it has, so that uploads begin while the
    /// application still says its last words. Answers at once.
    pub fn pod_terminates(&self) {
        self.tiers.drain().terminate();
        if self.store.admission_closed().is_some() {
            return;
        }
        let store = self.store.clone();
        let sealing = std::thread::Builder::new().name("aof2-pre-stop".to_string()).spawn(move || {
            if let Err(error) = store.seal(None) {
                tracing::warn!(%error, "shutdown left segments unsealed; no data lost, the next start seals them");
            }
        });
        if let Err(error) = sealing {
            tracing::warn!(%error, "cannot start a thread to seal at shutdown");
        }
    }

    /// Makes everything durable, ends all threads and lets go of the directory. Blocking. A thread that waits for Tier 2 is given up
    /// after [`STOP_LIMIT`], or once `is_hastened`: its request is repeated after the next start.
    pub fn close(&self, is_hastened: impl Fn() -> bool) -> Result<(), StoreError> {
        self.store
            .close_admission("engine is shutting down; reconnect when it is back");
        if let Some(patience) = &self.patience {
            patience.stop();
        }
        // Durable first: the rest may take the time that is left.
        self.store.flush()?;
        self.stop_tiers(is_hastened);
        self.store.close()
    }

    fn stop_tiers(&self, is_hastened: impl Fn() -> bool) {
        let (tiers, snapshots) = (self.tiers.clone(), self.snapshots.clone());
        let (retention, deletion) = (self.retention.clone(), self.deletion.clone());
        let compaction = self.compaction.clone();
        let (done, stopped) = mpsc::channel::<()>();
        let stopping = std::thread::Builder::new()
            .name("aof2-stop".to_string())
            .spawn(move || {
                tiers.stop();
                snapshots.stop();
                compaction.stop();
                deletion.stop();
                retention.stop();
                drop(done);
            });
        if let Err(error) = stopping {
            tracing::warn!(%error, "cannot start a thread to stop uploads; they are given up");
            return;
        }
        let limit = Instant::now() + STOP_LIMIT;
        while stopped.recv_timeout(STOP_POLL) == Err(RecvTimeoutError::Timeout) {
            if Instant::now() >= limit || is_hastened() {
                tracing::info!(
                    "requests to Tier 2 are under way and given up; the next start repeats them"
                );
                return;
            }
        }
    }
}
