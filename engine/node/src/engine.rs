//! The store with its tiers, opened and closed as one.

mod open;
mod tier2;

use std::collections::BTreeMap;
use std::sync::Arc;

use aof2_admin_api::DrainStatus;
use aof2_core::store::Tier2;
use aof2_core::{Store, StoreError};
use std::time::Duration;

use crate::config::Settings;

pub use open::{OpenFailure, open};

/// What serves. Clones share it.
#[derive(Clone)]
pub struct Engine {
    pub store: Store,
    pub tier2: Option<Arc<Tier2>>,
}

impl Engine {
    /// Takes over the hot keys.
    pub fn reconfigure(&self, settings: &Settings) {
        self.store.reconfigure(open::core_config(settings));
    }

    pub fn seal(&self, stream: Option<&str>) -> Result<BTreeMap<String, u64>, StoreError> {
        self.store.seal(stream)
    }

    /// Makes everything durable, ends all threads and lets go of the directory. Blocking.
    pub fn close(&self) -> Result<(), StoreError> {
        self.store
            .close_admission("the engine stops: reconnect when it is back");
        if let Some(tier2) = &self.tier2 {
            tier2.stop();
        }
        self.store.close()
    }
}

/// Bounds of a drain, as the caller of the verb set them.
#[derive(Clone, Copy, Debug)]
pub struct DrainBounds {
    pub ttl: Duration,
    pub upload_timeout: Duration,
    pub drain_timeout: Duration,
}

/// What is in Tier 2.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uploaded {
    pub segments: u64,
    pub bytes: u64,
}

impl Engine {
    pub fn drain_status(&self) -> DrainStatus {
        DrainStatus::default()
    }

    pub fn begin_drain(&self, _bounds: DrainBounds) {}

    pub fn resume(&self) {
        self.store.open_admission();
    }

    pub fn pod_terminates(&self) {}

    pub fn uploaded(&self) -> Uploaded {
        Uploaded::default()
    }
}
