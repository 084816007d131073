//! `streams.catalog`: the streams that were created on this volume, kept outside their directories.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::io::sync::Mutex;
use aof2_format::VolumeId;
use aof2_format::names::file;
use aof2_format::stream_catalog::{CatalogEntry, ENTRY_BYTES};
use aof2_format::stream_header::StreamHeader;

use crate::io::WriteError;
use crate::io::{Disk, DiskFile, FileClass, replace_file};

/// Blocks taken at once: 256 streams.
const GROWTH_BYTES: u64 = 64 << 10;

pub(crate) struct Catalog {
    file: Arc<dyn DiskFile>,
    volume_id: VolumeId,
    state: Mutex<State>,
}

struct State {
    end: u64,
    allocated: u64,
}

/// What a volume's catalog says. Entries of another volume and damaged ones are not among them.
#[derive(Default)]
pub(crate) struct FoundCatalog {
    pub headers: Vec<StreamHeader>,
    /// Something in it was not as it was written, or it was not there.
    is_damaged: bool,
}

pub(crate) fn read(disk: &dyn Disk, root: &Path, volume_id: VolumeId) -> io::Result<FoundCatalog> {
    let path = root.join(file::STREAM_CATALOG);
    if !disk.exists(&path)? {
        return Ok(FoundCatalog {
            headers: Vec::new(),
            is_damaged: true,
        });
    }
    let file = disk.open_read(&path)?;
    file.forget_cache()?;
    let mut bytes = vec![0; file.len()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let mut found = FoundCatalog {
        headers: Vec::new(),
        is_damaged: bytes.is_empty() || !bytes.len().is_multiple_of(ENTRY_BYTES),
    };
    for entry in bytes.chunks(ENTRY_BYTES) {
        match CatalogEntry::decode(entry) {
            Ok(entry) if entry.volume_id == volume_id => found.headers.push(entry.header),
            Err(damage) if damage.is_unwritten() && entry.iter().all(|byte| *byte == 0) => {}
            Ok(_) | Err(_) => found.is_damaged = true,
        }
    }
    Ok(found)
}

impl Catalog {
    /// Writes the catalog again where it was damaged or lacks a stream. `headers` are those of all streams.
    pub fn open(
        disk: &dyn Disk,
        root: &Path,
        volume_id: VolumeId,
        found: &FoundCatalog,
        headers: &[StreamHeader],
    ) -> io::Result<Catalog> {
        let path = root.join(file::STREAM_CATALOG);
        let known: BTreeMap<u64, &StreamHeader> = found
            .headers
            .iter()
            .map(|header| (header.stream_number.0, header))
            .collect();
        let is_known = |header: &StreamHeader| known.get(&header.stream_number.0) == Some(&header);
        let is_complete = headers.iter().all(is_known);
        if found.is_damaged || !is_complete {
            let mut bytes = Vec::new();
            for header in headers {
                let entry = CatalogEntry {
                    volume_id,
                    header: header.clone(),
                };
                bytes.extend_from_slice(&entry.encode());
            }
            bytes.resize(
                bytes
                    .len()
                    .next_multiple_of(GROWTH_BYTES as usize)
                    .max(GROWTH_BYTES as usize),
                0,
            );
            replace_file(disk, &path, &bytes, FileClass::Other)?;
        }
        let file = disk.open_write(&path, FileClass::Other)?;
        let end = match found.is_damaged || !is_complete {
            true => headers.len(),
            false => found.headers.len(),
        };
        let state = State {
            end: (end * ENTRY_BYTES) as u64,
            allocated: file.len()?,
        };
        Ok(Catalog {
            file,
            volume_id,
            state: Mutex::new(state),
        })
    }

    /// Durable when this returns.
    pub fn add(&self, header: StreamHeader) -> Result<(), WriteError> {
        let entry = CatalogEntry {
            volume_id: self.volume_id,
            header,
        };
        let at = |verb: &'static str| {
            move |source: io::Error| WriteError {
                verb,
                path: self.file.path().to_owned(),
                source,
            }
        };
        let mut state = self.state.lock();
        let is_longer = state.end + ENTRY_BYTES as u64 > state.allocated;
        if is_longer {
            self.file
                .allocate(state.allocated, GROWTH_BYTES)
                .map_err(at("allocate"))?;
            state.allocated += GROWTH_BYTES;
        }
        self.file
            .write_all_at(&entry.encode(), state.end)
            .map_err(at("write"))?;
        let synced = match is_longer {
            true => self.file.sync_all(),
            false => self.file.sync_data(),
        };
        synced.map_err(at("sync"))?;
        state.end += ENTRY_BYTES as u64;
        Ok(())
    }
}
