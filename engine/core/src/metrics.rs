//! Numbers of a running store. Counters since open unless named otherwise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::WouldBlockKind;

/// One reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub streams: u64,
    /// Allocated bytes of segments on local disk, now.
    pub tier0_total_bytes: u64,
    pub tier0_instance_quota_bytes: u64,
    pub tier0_cluster_max_bytes: u64,
    /// Size of the volume; 0 = not configured.
    pub storage_bytes: u64,
    /// Bytes staged in memory, now.
    pub staged_bytes: u64,
    pub unsealed_bytes: u64,
    pub journal_files: u64,
    pub journal_bytes: u64,
    pub journal_rounds: u64,
    pub checkpoints: u64,
    pub manifest_records: u64,
    pub manifest_replay_version: u32,
    pub records_appended: u64,
    pub bytes_appended: u64,
    pub records_read: u64,
    /// What readers got.
    pub served: Served,
    /// Of sealed segments that Tier 0 may give up, now.
    pub tier0_evictable_bytes: u64,
    pub duplicates: u64,
    pub segments_sealed: u64,
    /// Failed writes and syncs; the first one ends the process.
    pub flush_failures: u64,
    pub would_block: BTreeMap<WouldBlockKind, u64>,
    pub disk_full_refusals: u64,
    /// That a trim made unreadable.
    pub trimmed_records: u64,
    /// The same by retention.
    pub expired_records: u64,
    pub pending_claims: u64,
    pub pending_upload_segments: u64,
    pub pending_upload_bytes: u64,
    pub damaged_streams: u64,
    /// Of sequences that cannot be served, and of blocks that can be done without; now.
    pub damaged_ranges: u64,
    pub poisoned: bool,
    /// Tier 2 has not confirmed yet that this volume may be used.
    pub owes_volume_check: bool,
    pub replay: Replay,
}

/// Bytes of payloads that readers got, by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub tier0_bytes: u64,
    /// Out of Tier 1, or out of blocks in memory: without a wait.
    pub lower_bytes: u64,
    /// After a wait for Tier 2.
    pub waited_bytes: u64,
}

/// Where a reader found what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Tier0,
    Lower,
    Waited,
}

/// What recovery did at open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    pub journal_bytes: u64,
    pub segment_bytes: u64,
    pub records: u64,
    pub torn_bytes: u64,
    pub milliseconds: u64,
}

impl Replay {
    pub(crate) fn plus(self, other: &Replay) -> Replay {
        let Replay {
            journal_bytes,
            segment_bytes,
            records,
            torn_bytes,
            milliseconds,
        } = *other;
        Replay {
            journal_bytes: self.journal_bytes + journal_bytes,
            segment_bytes: self.segment_bytes + segment_bytes,
            records: self.records + records,
            torn_bytes: self.torn_bytes + torn_bytes,
            milliseconds: self.milliseconds + milliseconds,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub journal_bytes: AtomicU64,
    pub journal_rounds: AtomicU64,
    pub checkpoints: AtomicU64,
    pub manifest_records: AtomicU64,
    pub records_appended: AtomicU64,
    pub bytes_appended: AtomicU64,
    pub records_read: AtomicU64,
    pub served: [AtomicU64; 3],
    pub duplicates: AtomicU64,
    pub segments_sealed: AtomicU64,
    pub disk_full_refusals: AtomicU64,
    pub trimmed_records: AtomicU64,
    pub expired_records: AtomicU64,
    pub would_block: [AtomicU64; WouldBlockKind::ALL.len()],
}

impl Counters {
    pub fn count_would_block(&self, kind: WouldBlockKind) {
        self.would_block[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_served(&self, from: From, bytes: u64) {
        add(&self.served[from as usize], bytes);
    }

    pub fn served(&self) -> Served {
        let bytes = |from: From| self.served[from as usize].load(Ordering::Relaxed);
        Served {
            tier0_bytes: bytes(From::Tier0),
            lower_bytes: bytes(From::Lower),
            waited_bytes: bytes(From::Waited),
        }
    }

    pub fn would_block(&self) -> BTreeMap<WouldBlockKind, u64> {
        WouldBlockKind::ALL
            .iter()
            .map(|kind| {
                (
                    *kind,
                    self.would_block[*kind as usize].load(Ordering::Relaxed),
                )
            })
            .collect()
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
