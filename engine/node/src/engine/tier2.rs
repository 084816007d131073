//! The door to Tier 2, as the settings name it.

use std::sync::Arc;

use aof2_core::io::{SystemClock, SystemRng};
use aof2_core::store::directory::DirectoryStore;
use aof2_core::store::retry::RetryPolicy;
use aof2_core::store::{ObjectStore, Tier2};

use aof2_format::names::KeyPrefix;

use super::OpenFailure;
use crate::config::{Tier2 as Tier2Settings, Tier2Place};

/// Nothing is asked here: with Tier 2 down an engine starts all the same.
pub fn connect(settings: &Tier2Settings) -> Result<Tier2, OpenFailure> {
    let (store, prefix): (Arc<dyn ObjectStore>, &str) = match &settings.place {
        Tier2Place::Directory { directory, prefix } => {
            let store = DirectoryStore::open(directory).map_err(|error| OpenFailure::Config {
                key: "--tier2-directory".to_string(),
                message: format!("cannot open {}: {error}", directory.display()),
            })?;
            (Arc::new(store), prefix)
        }
        Tier2Place::S3 { .. } => {
            return Err(OpenFailure::Config {
                key: "tier2.bucket".to_string(),
                message: "this engine was built without an S3 client".to_string(),
            });
        }
    };
    let policy = RetryPolicy {
        max_attempts: settings.max_attempts,
        ..RetryPolicy::default()
    };
    let prefix = KeyPrefix::new(prefix).map_err(|error| OpenFailure::Config {
        key: "tier2.prefix".to_string(),
        message: error.to_string(),
    })?;
    Ok(Tier2::new(
        store,
        prefix,
        policy,
        Arc::new(SystemClock),
        Arc::new(SystemRng),
    ))
}
