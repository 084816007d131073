//! A data directory while no engine runs: for tools. Whoever looks or works holds the lock of the directory, as an engine does.
//!
//! `Ledger` finds what the next start would find and changes nothing. `open` is a start without Tier 2 in reach: streams open, and
//! nothing is uploaded or claimed.

mod ledger;
mod open;

use std::path::{Path, PathBuf};

use aof2_format::names::file;
use thiserror::Error;

use crate::config::Config;
use crate::error::OpenError;
use crate::io::Disk;
use crate::recovery::volume;
use crate::volume::Identity;

pub use ledger::{Ledger, LedgerStream};
pub use open::open;

#[derive(Debug, Error)]
pub enum OfflineError {
    #[error(
        "{} is no data directory: it has no file {}; name the directory that holds the directory streams/",
        path.display(),
        file::VOLUME
    )]
    NoVolume { path: PathBuf },
    #[error(
        "data directory {} is in use by a running engine; stop the engine, or leave --directory out and ask the engine itself",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error(transparent)]
    Open(OpenError),
}

impl From<OpenError> for OfflineError {
    fn from(error: OpenError) -> OfflineError {
        match error {
            OpenError::Locked { path } => OfflineError::InUse { path },
            other => OfflineError::Open(other),
        }
    }
}

/// Where the files of Tier 1 are, unless the configuration names another directory.
pub fn tier1_in(root: &Path) -> PathBuf {
    Config::new(root).tier1_root()
}

/// Whose directory it says it is.
fn identity_of(disk: &dyn Disk, root: &Path) -> Result<Identity, OfflineError> {
    let path = root.join(file::VOLUME);
    let is_there = disk.exists(&path).map_err(volume::at("look for", &path))?;
    if !is_there {
        return Err(OfflineError::NoVolume {
            path: root.to_owned(),
        });
    }
    Ok(volume::stored(disk, root)?)
}
