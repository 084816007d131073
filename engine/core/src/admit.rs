//! How much the volume may still take: the node's quota of Tier 0 and the space of the volume, less a reserve.
//!
//! Segments take blocks ahead of their bytes, so every acknowledged byte has its place in a segment before it is staged. The
//! journal is allocated whole at open. The reserve is what sealing, manifests and warm files may still use when appends are
//! refused already.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::io::sync::{Mutex, RwLock, RwLockReadGuard};
use arc_swap::{ArcSwap, ArcSwapOption};

use crate::config::{Config, MIB};
use crate::io::{Disk, Lack, Map, lack_of};

/// Why blocks were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Quota {
        total_bytes: u64,
        quota_bytes: u64,
    },
    Full {
        free_bytes: u64,
        reserve_bytes: u64,
    },
    /// Not of space.
    Lack(Lack),
}

pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    config: Arc<ArcSwap<Config>>,
    /// Allocated bytes of segment files.
    tier0_bytes: AtomicU64,
    /// Bytes of the journal and other files that are not segments.
    other_bytes: AtomicU64,
    /// Why appends are refused as `Draining`.
    closed: RwLock<Option<String>>,
    /// The store closes: admission is never opened again.
    closing: AtomicBool,
    /// Evicted segments that somebody still reads: their blocks are free when the map is gone.
    pinned: Mutex<Vec<(Weak<Map>, u64)>>,
    /// Called where Tier 0 passes its high mark, and where it refuses.
    on_pressure: ArcSwapOption<Pressed>,
    /// What holds the bytes of a Tier 0 that is full, in words. `None`: nothing ever leaves it.
    held: ArcSwapOption<String>,
    /// Most bytes that were refused at once since somebody asked.
    refused_bytes: AtomicU64,
}

pub(crate) struct Pressed(pub Box<dyn Fn() + Send + Sync>);

impl Space {
    pub fn new(disk: Arc<dyn Disk>, config: Arc<ArcSwap<Config>>) -> Space {
        let directory = config.load().directory.clone();
        Space {
            disk,
            directory,
            config,
            tier0_bytes: AtomicU64::new(0),
            other_bytes: AtomicU64::new(0),
            closed: RwLock::new(None),
            closing: AtomicBool::new(false),
            pinned: Mutex::default(),
            on_pressure: ArcSwapOption::empty(),
            held: ArcSwapOption::empty(),
            refused_bytes: AtomicU64::new(0),
        }
    }

    /// What the quota refused since the last call: that much has to be free, however far below its high mark Tier 0 is.
    pub fn take_refused_bytes(&self) -> u64 {
        self.refused_bytes.swap(0, Ordering::Relaxed)
    }

    /// `pressed` must not block.
    pub fn on_pressure(&self, pressed: Pressed) {
        self.on_pressure.store(Some(Arc::new(pressed)));
    }

    fn press(&self) {
        if let Some(pressed) = &*self.on_pressure.load() {
            (pressed.0)();
        }
    }

    pub fn note_held(&self, held: String) {
        self.held.store(Some(Arc::new(held)));
    }

    /// Why Tier 0 is full, as far as anybody knows.
    pub fn held(&self) -> Option<Arc<String>> {
        self.held.load_full()
    }

    /// The file of a segment was removed. Its blocks count for as long as somebody reads it.
    pub fn release_segment(&self, map: Option<Weak<Map>>, bytes: u64) {
        match map {
            Some(map) => self.pinned.lock().push((map, bytes)),
            None => self.remove_segment(bytes),
        }
        self.pinned_bytes();
    }

    /// Of segments that were evicted and are still read.
    pub fn pinned_bytes(&self) -> u64 {
        let mut pinned = self.pinned.lock();
        pinned.retain(|(map, bytes)| {
            let is_read = map.strong_count() > 0;
            if !is_read {
                self.remove_segment(*bytes);
            }
            is_read
        });
        pinned.iter().map(|(_, bytes)| bytes).sum()
    }

    pub fn tier0_bytes(&self) -> u64 {
        self.tier0_bytes.load(Ordering::Relaxed)
    }

    pub fn other_bytes(&self) -> u64 {
        self.other_bytes.load(Ordering::Relaxed)
    }

    pub fn note_other(&self, bytes: u64) {
        self.other_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A segment file that was found or shrunk.
    pub fn add_segment(&self, bytes: u64) {
        self.tier0_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn remove_segment(&self, bytes: u64) {
        self.tier0_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts `bytes` more for segments, or says why not. The caller allocates them and gives them back if that fails.
    pub fn take(&self, bytes: u64) -> Result<(), Refusal> {
        let config = self.config.load();
        let quota_bytes = config.tier0.instance_quota_bytes;
        let total_bytes = self.tier0_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let refused = if quota_bytes > 0 && total_bytes > quota_bytes {
            Some(Refusal::Quota {
                total_bytes,
                quota_bytes,
            })
        } else {
            self.lacks(bytes, total_bytes, config.capacity_bytes)
        };
        match refused {
            None => {
                let high = high_mark(quota_bytes);
                if quota_bytes > 0 && total_bytes > high && total_bytes - bytes <= high {
                    self.press();
                }
                Ok(())
            }
            Some(refusal) => {
                self.remove_segment(bytes);
                if matches!(refusal, Refusal::Quota { .. }) {
                    self.refused_bytes.fetch_max(bytes, Ordering::Relaxed);
                }
                self.press();
                Err(refusal)
            }
        }
    }

    /// The same for a copy that no append waits for, one that comes back or is merged: only up to its mark, and a refusal presses nobody.
    pub fn take_for_copy(&self, bytes: u64, ahead_bytes: u64) -> bool {
        let config = self.config.load();
        let quota_bytes = config.tier0.instance_quota_bytes;
        let total_bytes = self.tier0_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let is_over = quota_bytes > 0 && total_bytes > hydration_mark(quota_bytes, ahead_bytes);
        let is_refused = is_over
            || self
                .lacks(bytes, total_bytes, config.capacity_bytes)
                .is_some();
        if is_refused {
            self.remove_segment(bytes);
        }
        !is_refused
    }

    /// Whether the quota, perhaps lowered since, is used up.
    pub fn over_quota(&self, config: &Config) -> Option<Refusal> {
        let quota_bytes = config.tier0.instance_quota_bytes;
        let total_bytes = self.tier0_bytes();
        (quota_bytes > 0 && total_bytes > quota_bytes).then_some(Refusal::Quota {
            total_bytes,
            quota_bytes,
        })
    }

    fn lacks(&self, bytes: u64, tier0_bytes: u64, capacity_bytes: u64) -> Option<Refusal> {
        if capacity_bytes > 0 {
            let reserve_bytes = reserve(capacity_bytes);
            let used_before = tier0_bytes - bytes + self.other_bytes.load(Ordering::Relaxed);
            let free_bytes = capacity_bytes.saturating_sub(used_before);
            if free_bytes < bytes + reserve_bytes {
                return Some(Refusal::Full {
                    free_bytes,
                    reserve_bytes,
                });
            }
        }
        // Also when the capacity is configured: others may share the volume. An error here is found again by the allocation itself.
        let space = self.disk.space(&self.directory).ok()?;
        let reserve_bytes = reserve(space.total_bytes);
        (space.available_bytes < bytes + reserve_bytes).then_some(Refusal::Full {
            free_bytes: space.available_bytes,
            reserve_bytes,
        })
    }

    /// What a failed call of the disk means for whoever asked for blocks; `None`: the disk is broken.
    pub fn refusal_of(&self, error: &std::io::Error) -> Option<Refusal> {
        lack_of(error).map(|lack| match lack {
            Lack::Space => self.full(),
            Lack::Descriptors | Lack::Memory => Refusal::Lack(lack),
        })
    }

    pub fn full(&self) -> Refusal {
        let space = self.disk.space(&self.directory);
        let (free_bytes, total_bytes) =
            space.map_or((0, 0), |space| (space.available_bytes, space.total_bytes));
        Refusal::Full {
            free_bytes,
            reserve_bytes: reserve(total_bytes),
        }
    }

    /// Held while an append is staged: when `close_admission` returns, every append is either staged or will be refused.
    pub fn admission(&self) -> RwLockReadGuard<'_, Option<String>> {
        self.closed.read()
    }

    /// The same, unless somebody waits to close it: for as long as an append waits for the disk, that may take.
    pub fn try_admission(&self) -> Option<RwLockReadGuard<'_, Option<String>>> {
        self.closed.try_read()
    }

    pub fn close_admission(&self, reason: &str) {
        *self.closed.write() = Some(reason.to_owned());
    }

    /// Nothing happens where the store closes.
    pub fn open_admission(&self) {
        let mut closed = self.closed.write();
        if !self.is_closing() {
            *closed = None;
        }
    }

    /// Closes admission for good.
    pub fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
        self.close_admission("store is closing");
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub fn admission_closed(&self) -> Option<String> {
        self.closed.read().clone()
    }
}

/// Of a budget: above it something goes, so that what comes next need not wait.
pub(crate) fn high_mark(budget_bytes: u64) -> u64 {
    budget_bytes / 10 * 9
}

/// Of a budget: enough has gone.
pub(crate) fn low_mark(budget_bytes: u64) -> u64 {
    budget_bytes / 10 * 8
}

/// Of a budget: up to it copies come back. What open segments take next has its place below the high mark, so that an append that follows
/// evicts nothing. At most what lies between the marks: thousands of streams that rest leave room for a hydration.
pub(crate) fn hydration_mark(budget_bytes: u64, ahead_bytes: u64) -> u64 {
    let high = high_mark(budget_bytes);
    high - ahead_bytes.min(high - low_mark(budget_bytes))
}

/// 1/32 of the volume, at least 4 MiB and at most 64 MiB.
fn reserve(capacity_bytes: u64) -> u64 {
    (capacity_bytes / 32).clamp(4 * MIB, 64 * MIB)
}
