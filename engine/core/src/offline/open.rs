//! A store without its Tier 2: as after a start while the bucket does not answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::names::file;

use super::{OfflineError, identity_of};
use crate::config::{Config, JournalConfig, MIB};
use crate::error::ClaimError;
use crate::io::{Disk, Environment};
use crate::jobs::recompress;
use crate::port::{Claims, LocalStream, Standing, VolumeIdentity};
use crate::recovery::volume::at;
use crate::segment::files;
use crate::store::{OpenOptions, Store};

/// Opens the store of a directory, with the journal as it is there. Recovery writes what every start writes. Nothing is claimed, uploaded
/// or evicted, and no manifest chunk goes that the bucket may not have.
pub fn open(
    environment: Environment,
    root: &Path,
    tier1_directory: Option<PathBuf>,
) -> Result<Store, OfflineError> {
    let disk = &*environment.disk;
    let identity = identity_of(disk, root)?;
    let mut config = Config::new(root);
    config.tier1_directory = tier1_directory;
    config.journal = journal_as_found(disk, root)?.unwrap_or(config.journal);
    let options = OpenOptions {
        config,
        identity,
        environment,
        claims: Some(Arc::new(NotAsked)),
        on_progress: None,
    };
    let store = Store::open(options)?;
    // As an engine does before anything else touches these files.
    recompress::settle(&store);
    Ok(store)
}

/// Other sizes would make the store replace its files. `None`: there are none.
fn journal_as_found(disk: &dyn Disk, root: &Path) -> Result<Option<JournalConfig>, OfflineError> {
    let directory = files::journal(root);
    if !disk
        .exists(&directory)
        .map_err(at("look for", &directory))?
    {
        return Ok(None);
    }
    let mut found: Option<JournalConfig> = None;
    for entry in disk.list(&directory).map_err(at("list", &directory))? {
        let Some(slot) = file::parse_journal(&entry.name) else {
            continue;
        };
        let path = directory.join(&entry.name);
        let length = disk.open_read(&path).and_then(|file| file.len());
        let file_bytes = length.map_err(at("look at", &path))?;
        let before = found.unwrap_or(JournalConfig {
            file_bytes: 4 * MIB,
            files: 2,
        });
        found = Some(JournalConfig {
            // One that was cut is shorter.
            file_bytes: before.file_bytes.max(file_bytes),
            files: before.files.max(slot as usize + 1),
        });
    }
    Ok(found)
}

/// Tier 2 is out of reach on purpose.
struct NotAsked;

impl NotAsked {
    fn pending<T>() -> Result<T, ClaimError> {
        Err(ClaimError::Pending {
            message: "Tier 2 is not asked while a tool works on the directory".to_owned(),
        })
    }
}

impl Claims for NotAsked {
    fn check_volume(&self, _: &VolumeIdentity, _: Standing) -> Result<bool, ClaimError> {
        NotAsked::pending()
    }

    fn check_streams(&self, _: &VolumeIdentity, _: &[LocalStream]) -> Result<(), ClaimError> {
        NotAsked::pending()
    }

    fn leave_mark(&self, _: &VolumeIdentity, _: u64) -> Result<(), ClaimError> {
        NotAsked::pending()
    }

    fn find(&self, _: &VolumeIdentity, _: &str) -> Result<Option<u64>, ClaimError> {
        NotAsked::pending()
    }

    fn claim(&self, _: &VolumeIdentity, _: &str) -> Result<u64, ClaimError> {
        NotAsked::pending()
    }
}
