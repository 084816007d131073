//! The door to Tier 2, as the settings name it.

use std::sync::Arc;

use aof2_admin_api::Tier2Reason;
use aof2_core::io::{SystemClock, SystemRng};
use aof2_core::objects::directory::DirectoryStore;
use aof2_core::objects::retry::RetryPolicy;
use aof2_core::objects::{self, ObjectStore, Tier2};

use aof2_format::names::KeyPrefix;
use aof2_s3::{Addressing, Checksum, OpenError, S3Settings, S3Store};

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
        Tier2Place::S3 {
            endpoint,
            region,
            bucket,
            prefix,
            is_path_style,
            checksum,
            credentials_directory,
            ca_file,
        } => {
            let store = S3Store::open(S3Settings {
                endpoint: endpoint.clone(),
                region: region.clone(),
                bucket: bucket.clone(),
                addressing: if *is_path_style {
                    Addressing::Path
                } else {
                    Addressing::VirtualHost
                },
                checksum: match checksum.as_str() {
                    "MD5" => Checksum::Md5,
                    "None" => Checksum::None,
                    _ => Checksum::Crc64Nvme,
                },
                credentials_directory: credentials_directory.clone(),
                ca_file: ca_file.clone(),
                request_timeout: settings.request_timeout,
            })
            .map_err(|error| OpenFailure::Config {
                key: key_of(&error).to_string(),
                message: error.to_string(),
            })?;
            (Arc::new(store), prefix)
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

/// The key that is to be corrected.
fn key_of(error: &OpenError) -> &'static str {
    match error {
        OpenError::Endpoint { .. } => "tier2.endpoint",
        OpenError::NoBucket => "tier2.bucket",
        OpenError::CaFile { .. } | OpenError::NothingToTrust { .. } => "tier2.ca_file",
        OpenError::Runtime(_) => "tier2",
    }
}

/// Why Tier 2 is not as it should be, for reports.
pub fn tier2_reason(reason: objects::Tier2Reason) -> Tier2Reason {
    match reason {
        objects::Tier2Reason::Unreachable => Tier2Reason::Tier2Unreachable,
        objects::Tier2Reason::BucketMissing => Tier2Reason::BucketMissing,
        objects::Tier2Reason::AccessDenied => Tier2Reason::AccessDenied,
        objects::Tier2Reason::IgnoresPreconditions => Tier2Reason::Tier2IgnoresPreconditions,
        objects::Tier2Reason::CredentialsExpired => Tier2Reason::CredentialsExpired,
        objects::Tier2Reason::ClockSkew => Tier2Reason::ClockSkew,
        objects::Tier2Reason::ObjectArchived => Tier2Reason::ObjectArchived,
        objects::Tier2Reason::QuotaExceeded => Tier2Reason::QuotaExceeded,
        objects::Tier2Reason::EncryptionKey => Tier2Reason::EncryptionKey,
        objects::Tier2Reason::ChecksumRejected => Tier2Reason::ChecksumRejected,
        objects::Tier2Reason::WrongRegion => Tier2Reason::WrongRegion,
        objects::Tier2Reason::Refused => Tier2Reason::Tier2Refused,
        objects::Tier2Reason::Corrupt => Tier2Reason::Corrupt,
    }
}
