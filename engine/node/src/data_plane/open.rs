//! From settings to a store that serves, or to the reason why it does not.

use std::path::Path;
use std::sync::Arc;

use aof2_admin_api::{Refusal, RefusalReason};
use aof2_core::claims;
use aof2_core::claims::StreamClaims;
use aof2_core::compaction::Compaction;
use aof2_core::config::{
    AppendConfig, CheckpointConfig, CompactionConfig, HydrationConfig, JournalConfig,
    ManifestConfig, SegmentConfig, Tier0Config, Tier1Config, Tier2Config,
};
use aof2_core::deletion::Deletion;
use aof2_core::error::with_causes;
use aof2_core::retention::Retention;
use aof2_core::snapshot::Snapshots;
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Config, Identity, OpenError, OpenOptions, Remedy, Store};

use super::patience::Patience;
use super::{DataPlane, Progress, private, tier2};
use crate::config::{Settings, Tier2Place};

/// Why there is no engine.
#[derive(Debug)]
pub enum OpenFailure {
    /// About the data: the process stays up and says so.
    Refused(Refusal),
    /// It is over without anybody here: another process holds the directory, or it lacks space to recover in.
    Waits(Refusal),
    /// A sync failed, or a thread cannot be started: the process ends, and the next one recovers from the device.
    Poisoned(String),
    /// The settings cannot work: the process ends.
    Config { key: String, message: String },
}

/// Recovers and opens. Blocks for as long as the replay takes.
pub fn open(settings: &Settings, progress: Arc<Progress>) -> Result<DataPlane, OpenFailure> {
    let tier2 = match &settings.tier2 {
        Some(tier2_settings) => Some(Arc::new(tier2::connect(tier2_settings)?)),
        None => None,
    };
    let claims = tier2.as_ref().map(|tier2| {
        let cluster = claims::ClusterName {
            namespace: settings.cluster.namespace.clone(),
            name: settings.cluster.name.clone(),
        };
        // The data API is a Unix socket for now: its address is its pod.
        let address = claims::Address(format!(
            "pod {}/{}",
            settings.cluster.namespace, settings.node_name
        ));
        Arc::new(StreamClaims::new(tier2.clone(), cluster, address))
    });
    let config = core_config(settings);
    let identity = Identity {
        cluster_id: settings.cluster.id.clone(),
        node: settings.node_name.clone(),
    };
    let mut options = OpenOptions::new(config.clone(), identity);
    let patience = claims.clone().map(|claims| Arc::new(Patience::new(claims)));
    options.claims = patience.clone().map(|claims| claims as Arc<dyn Claims>);
    options.on_progress = Some(Box::new(move |done, total| progress.set(done, total)));
    make_directory(&settings.storage.directory)?;
    let store = Store::open(options).map_err(failure)?;
    if let Some(patience) = &patience {
        patience.note_open();
    }
    let threads = |error: std::io::Error| {
        OpenFailure::Poisoned(format!("cannot start the tier threads: {error}"))
    };
    let tiers = Tiers::start(Arc::new(store.clone()), claims, &config).map_err(threads)?;
    let snapshots = Arc::new(Snapshots::start(store.clone(), &tiers));
    let retention = Retention::start(store.clone(), &tiers);
    let deletion = Deletion::start(store.clone(), &tiers, snapshots.clone(), &retention);
    let compaction = Compaction::start(store.clone(), &tiers);
    Ok(DataPlane {
        store,
        tiers: Arc::new(tiers),
        patience,
        tier2,
        snapshots,
        retention: Arc::new(retention),
        deletion: Arc::new(deletion),
        compaction: Arc::new(compaction),
        verifications: Arc::default(),
        readings: Arc::default(),
    })
}

fn make_directory(directory: &Path) -> Result<(), OpenFailure> {
    private::make(directory).map_err(|source| {
        let message = format!("cannot create {}: {source}", directory.display());
        let error = OpenError::Disk {
            verb: "create",
            path: directory.to_owned(),
            source,
        };
        match error.remedy() {
            Remedy::Retry => failure(error),
            Remedy::Repair | Remedy::Fix => OpenFailure::Config {
                key: "storage.directory".to_string(),
                message,
            },
        }
    })
}

fn failure(error: OpenError) -> OpenFailure {
    let refusal = refusal_of(&error);
    match error {
        OpenError::Locked { .. } => OpenFailure::Waits(refusal),
        // For want of space, descriptors or memory: the disk is not broken.
        OpenError::Disk { .. } if error.remedy() == Remedy::Retry => OpenFailure::Waits(refusal),
        OpenError::Poisoned { message } => OpenFailure::Poisoned(message),
        OpenError::Config { key, .. } => OpenFailure::Config {
            key: key.to_string(),
            message: refusal.message,
        },
        OpenError::VolumeLost { .. }
        | OpenError::RolledBack { .. }
        | OpenError::PrefixInUse { .. }
        | OpenError::ForeignDirectory { .. }
        | OpenError::NewerFormat { .. }
        | OpenError::Damaged { .. }
        | OpenError::Disk { .. } => OpenFailure::Refused(refusal),
    }
}

fn reason_of(error: &OpenError) -> RefusalReason {
    match error {
        OpenError::Locked { .. } => RefusalReason::Locked,
        OpenError::ForeignDirectory { .. } => RefusalReason::ForeignDirectory,
        OpenError::NewerFormat { .. } => RefusalReason::NewerFormat,
        OpenError::VolumeLost { .. } => RefusalReason::VolumeLost,
        OpenError::RolledBack { .. } => RefusalReason::RolledBack,
        OpenError::PrefixInUse { .. } => RefusalReason::PrefixInUse,
        OpenError::Damaged { .. } => RefusalReason::Damaged,
        OpenError::Disk { .. } if error.reason() == "DiskFull" => RefusalReason::DiskFull,
        OpenError::Disk { .. } => RefusalReason::DiskError,
        OpenError::Poisoned { .. } => RefusalReason::Poisoned,
        OpenError::Config { .. } => RefusalReason::Config,
    }
}

/// Why the data is not served, for reports.
pub fn refusal_of(error: &OpenError) -> Refusal {
    let mut refusal = Refusal {
        reason: reason_of(error),
        message: with_causes(error),
        streams: Vec::new(),
        cluster_id: None,
    };
    match error {
        OpenError::VolumeLost { node: _, streams } => refusal.streams.clone_from(streams),
        OpenError::RolledBack {
            node: _,
            proofs,
            since: _,
        } => {
            let named = proofs.iter().filter_map(|proof| proof.stream());
            refusal.streams = named.map(str::to_string).collect();
            refusal.streams.dedup();
        }
        OpenError::PrefixInUse {
            cluster_id,
            owner: _,
        } => refusal.cluster_id = Some(cluster_id.clone()),
        OpenError::ForeignDirectory {
            path: _,
            field: _,
            found,
            expected: _,
        } => refusal.cluster_id = Some(found.clone()),
        OpenError::Locked { .. }
        | OpenError::Poisoned { .. }
        | OpenError::Config { .. }
        | OpenError::NewerFormat { .. }
        | OpenError::Damaged { .. }
        | OpenError::Disk { .. } => {}
    }
    refusal
}

/// The store's half of the settings.
pub fn core_config(settings: &Settings) -> Config {
    let defaults = Config::new(&settings.storage.directory).tier2;
    Config {
        directory: settings.storage.directory.clone(),
        tier1_directory: settings.storage.tier1_directory.clone(),
        capacity_bytes: settings.storage.capacity_bytes,
        append: AppendConfig {
            max_record_bytes: settings.append.max_record_bytes,
        },
        segment: SegmentConfig {
            target_bytes: settings.segment.target_bytes,
            max_age: settings.segment.max_age,
        },
        tier0: Tier0Config {
            cluster_max_bytes: settings.tier0.cluster_max_bytes,
            instance_quota_bytes: settings.tier0.instance_quota_bytes,
        },
        tier1: Tier1Config {
            max_bytes: settings.tier1.max_bytes,
            compression_level: i32::try_from(settings.tier1.compression_level).unwrap_or(i32::MAX),
            block_bytes: settings.tier1.block_bytes,
            cache_bytes: settings.tier1.cache_bytes,
        },
        tier2: settings
            .tier2
            .as_ref()
            .map_or(defaults, |tier2| Tier2Config {
                prefix: match &tier2.place {
                    Tier2Place::S3 { prefix, .. } | Tier2Place::Directory { prefix, .. } => {
                        prefix.clone()
                    }
                },
                claim_check: tier2.claim_check,
                upload_concurrency: usize::try_from(tier2.upload_concurrency).unwrap_or(usize::MAX),
                delete_grace: tier2.delete_grace,
                orphans: tier2.orphans,
                read_concurrency: usize::try_from(tier2.read_concurrency).unwrap_or(usize::MAX),
                read_bytes: tier2.read_bytes,
                request_timeout: tier2.request_timeout,
                max_attempts: tier2.max_attempts,
            }),
        retention: settings.retention.clone(),
        compaction: CompactionConfig {
            enabled: settings.compaction.is_enabled,
            min_inputs: usize::try_from(settings.compaction.min_inputs).unwrap_or(usize::MAX),
        },
        hydration: HydrationConfig {
            on_demand: settings.hydration.is_on_demand,
        },
        journal: JournalConfig {
            file_bytes: settings.journal.file_bytes,
            files: usize::try_from(settings.journal.files).unwrap_or(usize::MAX),
        },
        manifest: ManifestConfig::default(),
        checkpoint: CheckpointConfig {
            journal_bytes: settings.checkpoint.journal_bytes,
            interval: settings.checkpoint.interval,
        },
    }
}
