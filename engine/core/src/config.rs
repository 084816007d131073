//! Settings of the store. Hot keys may change while it runs (`Store::reconfigure`); the others are read at open.

use std::path::PathBuf;
use std::time::Duration;

use aof2_format::names::file;

use crate::pattern;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const GIB: u64 = 1024 * MIB;

/// A full open segment is at most this part of Tier 0: between the marks of eviction there is room for it.
const SEGMENTS_IN_TIER0: u64 = 8;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Root of Tier 0 on this volume. Restart.
    pub directory: PathBuf,
    /// Warm files; `None` = `<directory>/tier1`. Restart.
    pub tier1_directory: Option<PathBuf>,
    /// Size of the volume; 0 = ask the file system. Restart.
    pub capacity_bytes: u64,
    pub append: AppendConfig,
    pub segment: SegmentConfig,
    pub tier0: Tier0Config,
    pub tier1: Tier1Config,
    pub tier2: Tier2Config,
    /// The first whose pattern fits a stream counts for it; without one everything is kept. Hot.
    pub retention: Vec<RetentionRule>,
    pub compaction: CompactionConfig,
    pub hydration: HydrationConfig,
    pub journal: JournalConfig,
    pub checkpoint: CheckpointConfig,
    pub manifest: ManifestConfig,
}

/// What of a stream is kept. Without both limits everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRule {
    /// Names of streams, where `*` stands for any characters.
    pub streams: String,
    /// Sealed records that are older go.
    pub max_age: Option<Duration>,
    /// Uncompressed; the oldest sealed records go while the stream has more.
    pub max_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// Small sealed segments are merged without being asked for. Hot.
    pub enabled: bool,
    /// Adjacent segments below half of the target that make a merge worth its while; at least 2. Hot.
    pub min_inputs: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HydrationConfig {
    /// Segments come back to Tier 1 or Tier 0 that readers have from a lower tier again and again. Hot.
    pub on_demand: bool,
}

impl Default for HydrationConfig {
    fn default() -> HydrationConfig {
        HydrationConfig { on_demand: true }
    }
}

impl Default for CompactionConfig {
    fn default() -> CompactionConfig {
        CompactionConfig {
            enabled: false,
            min_inputs: 4,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct AppendConfig {
    /// Hot.
    pub max_record_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SegmentConfig {
    /// A segment rolls when it would grow beyond this. Hot.
    pub target_bytes: u64,
    /// A segment that holds records rolls at this age; zero = never. Hot.
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tier0Config {
    /// Of the whole cluster; reported only. Hot.
    pub cluster_max_bytes: u64,
    /// Allocated bytes of segments that this node may hold; 0 = no limit. Hot.
    pub instance_quota_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tier1Config {
    /// 0 = no limit. Hot.
    pub max_bytes: u64,
    /// zstd level, 1..=19. Hot.
    pub compression_level: i32,
    /// Uncompressed bytes per independent frame. Restart.
    pub block_bytes: u64,
    /// Memory for blocks that were read from Tier 1 and Tier 2. Restart.
    pub cache_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tier2Config {
    /// Key prefix, empty or ending in `/`. Restart.
    pub prefix: String,
    /// How often the claims of this node's streams are read again. Hot.
    pub claim_check: Duration,
    /// Hot.
    pub upload_concurrency: usize,
    /// How long an object of trimmed records stays once the bucket has the manifest that gives it up. Hot.
    pub delete_grace: Duration,
    /// What becomes of objects that nobody knows any more. Hot.
    pub orphans: OrphanPolicy,
    /// Reads at a time. Restart.
    pub read_concurrency: usize,
    /// What these may bring at a time. Restart.
    pub read_bytes: u64,
    /// Restart.
    pub request_timeout: Duration,
    /// Restart.
    pub max_attempts: u32,
}

/// What becomes of objects below a stream's own prefix that no manifest and no catalogue names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrphanPolicy {
    /// They are counted.
    #[default]
    Report,
    Delete,
}

#[derive(Clone, Debug, PartialEq)]
pub struct JournalConfig {
    /// Size of one prezeroed file. Restart.
    pub file_bytes: u64,
    /// Restart.
    pub files: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointConfig {
    /// A checkpoint starts when this much was journaled since the last one. Hot.
    pub journal_bytes: u64,
    /// ... or after this time, when anything is not yet in synced segments. Hot.
    pub interval: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ManifestConfig {
    /// Closed chunks behind the base of a stream's manifest after which the next base is written, at least 1. Not in the engine's file. Restart.
    pub base_after_chunks: u64,
}

impl Default for ManifestConfig {
    fn default() -> ManifestConfig {
        ManifestConfig {
            base_after_chunks: 64,
        }
    }
}

impl RetentionRule {
    /// Its streams keep everything.
    pub fn keeps_all(&self) -> bool {
        self.max_age.is_none() && self.max_bytes.is_none()
    }

    pub fn fits(&self, stream: &str) -> bool {
        pattern::fits(&self.streams, stream)
    }
}

impl Config {
    /// The engine's defaults for a store in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Config {
        Config {
            directory: directory.into(),
            tier1_directory: None,
            capacity_bytes: 0,
            append: AppendConfig {
                max_record_bytes: MIB,
            },
            segment: SegmentConfig {
                target_bytes: 256 * MIB,
                max_age: Duration::ZERO,
            },
            tier0: Tier0Config {
                cluster_max_bytes: 0,
                instance_quota_bytes: 0,
            },
            tier1: Tier1Config {
                max_bytes: 0,
                compression_level: 3,
                block_bytes: 64 * KIB,
                cache_bytes: 32 * MIB,
            },
            tier2: Tier2Config {
                prefix: String::new(),
                claim_check: Duration::from_secs(10),
                upload_concurrency: 2,
                delete_grace: Duration::from_secs(24 * 3600),
                orphans: OrphanPolicy::default(),
                read_concurrency: 8,
                read_bytes: 32 * MIB,
                request_timeout: Duration::from_secs(30),
                max_attempts: 5,
            },
            retention: Vec::new(),
            compaction: CompactionConfig::default(),
            hydration: HydrationConfig::default(),
            journal: JournalConfig {
                file_bytes: 64 * MIB,
                files: 8,
            },
            checkpoint: CheckpointConfig {
                journal_bytes: 256 * MIB,
                interval: Duration::from_secs(5),
            },
            manifest: ManifestConfig::default(),
        }
    }
}

impl Config {
    /// The directory of Tier 1.
    pub fn tier1_root(&self) -> PathBuf {
        let own = self.tier1_directory.clone();
        own.unwrap_or_else(|| self.directory.join(file::WARM_DIR))
    }

    /// Where a segment rolls: so early that a small Tier 0 holds several, since only sealed ones can leave it.
    pub fn segment_target_bytes(&self) -> u64 {
        let quota_bytes = self.tier0.instance_quota_bytes;
        let most = match quota_bytes {
            0 => u64::MAX,
            _ => (quota_bytes / SEGMENTS_IN_TIER0).max(MIB),
        };
        self.segment.target_bytes.min(most)
    }

    /// This configuration with the hot keys of another one.
    pub fn with_hot_keys_of(&self, other: Config) -> Config {
        let Config {
            directory: _,
            tier1_directory: _,
            capacity_bytes,
            append,
            segment,
            tier0,
            tier1,
            tier2,
            retention,
            compaction,
            hydration,
            journal: _,
            checkpoint,
            manifest: _,
        } = other;
        Config {
            directory: self.directory.clone(),
            tier1_directory: self.tier1_directory.clone(),
            capacity_bytes,
            append,
            segment,
            tier0,
            tier1: Tier1Config {
                block_bytes: self.tier1.block_bytes,
                cache_bytes: self.tier1.cache_bytes,
                ..tier1
            },
            tier2: Tier2Config {
                prefix: self.tier2.prefix.clone(),
                read_concurrency: self.tier2.read_concurrency,
                read_bytes: self.tier2.read_bytes,
                request_timeout: self.tier2.request_timeout,
                max_attempts: self.tier2.max_attempts,
                ..tier2
            },
            retention,
            compaction,
            hydration,
            journal: self.journal.clone(),
            checkpoint,
            manifest: self.manifest.clone(),
        }
    }
}
