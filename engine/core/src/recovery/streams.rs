//! Which streams this volume has: their directories held against the catalog.
//!
//! A stream's header stands in its directory and in the catalog. One copy heals the other. A stream that neither describes, but
//! whose directory holds something, is damaged; one that the catalog describes and that has no directory is lost, and its name is
//! not given to a new stream.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use aof2_format::stream_header::StreamHeader;
use aof2_format::{BLOCK_BYTES, Damage, Salt, StreamName, StreamNumber, StreamUuid};

use super::THREADS;
use super::stream::Found;
use super::volume::at;
use crate::error::OpenError;
use crate::io::{Disk, FileClass, in_parallel, replace_file};
use crate::segment::files;
use crate::stream::catalog::{Catalog, FoundCatalog};
use crate::volume::Volume;

/// Numbers of streams that have none of their own count down from here. They are never written.
const NAMELESS: u64 = u64::MAX;

pub(super) struct FoundStreams {
    pub streams: BTreeMap<StreamNumber, Found>,
    pub catalog: Catalog,
    /// Number that the next stream gets, as far as the streams tell.
    pub next_number: u64,
}

/// What the header file of a directory says.
enum Stored {
    Header(Box<StreamHeader>),
    Missing,
    Damaged(String),
    Newer { found: u32, known: u32 },
}

pub(super) fn find(
    disk: &dyn Disk,
    root: &Path,
    volume: &Volume,
    known: &FoundCatalog,
) -> Result<FoundStreams, OpenError> {
    let directory = files::streams(root);
    let listed = disk.list(&directory).map_err(at("list", &directory))?;
    let directories: BTreeSet<String> = listed
        .into_iter()
        .filter(|entry| entry.is_directory)
        .map(|entry| entry.name)
        .collect();
    let in_catalog: BTreeMap<&str, &StreamHeader> = known
        .headers
        .iter()
        .map(|header| (header.stream.as_str(), header))
        .collect();
    let mut streams: BTreeMap<StreamNumber, Found> = BTreeMap::new();
    let mut headers = Vec::new();
    let in_order: Vec<&StreamHeader> = in_catalog.values().copied().collect();
    in_parallel(THREADS, in_order.len(), |index| {
        let header = in_order[index];
        let stream_directory = directory.join(header.stream.as_str());
        if directories.contains(header.stream.as_str()) {
            return heal_header(disk, &stream_directory, header);
        }
        tracing::error!(stream = %header.stream, path = %stream_directory.display(), "stream directory is missing");
        Ok(())
    })?;
    for header in in_order {
        let stream_directory = directory.join(header.stream.as_str());
        headers.push(header.clone());
        streams.insert(
            header.stream_number,
            Found::new(header.clone(), stream_directory),
        );
    }
    let mut nameless = NAMELESS;
    for name in directories
        .iter()
        .filter(|name| !in_catalog.contains_key(name.as_str()))
    {
        let stream_directory = directory.join(name);
        let Ok(stream) = StreamName::new(name) else {
            // Not made by an engine.
            continue;
        };
        let path = files::stream_header(&stream_directory);
        let refused = match read_header(disk, &stream_directory, name)? {
            Stored::Header(header) if header.cluster_id != volume.ids.cluster_id => {
                format!("header belongs to cluster {}", header.cluster_id)
            }
            Stored::Header(header) if streams.contains_key(&header.stream_number) => {
                format!(
                    "number {} belongs to another stream, so the directory is a copy",
                    header.stream_number
                )
            }
            // The catalog gets it below.
            Stored::Header(header) => {
                headers.push((*header).clone());
                streams.insert(header.stream_number, Found::new(*header, stream_directory));
                continue;
            }
            Stored::Newer { found, known } => {
                return Err(OpenError::NewerFormat { path, found, known });
            }
            // A creation that was cut off: nothing in it was acknowledged, and the next first append finishes it.
            Stored::Missing | Stored::Damaged(_) if is_empty(disk, &stream_directory)? => continue,
            Stored::Missing => "header is missing, in the directory and in the catalog".to_owned(),
            Stored::Damaged(why) => why,
        };
        let number = StreamNumber(nameless);
        nameless -= 1;
        let header = StreamHeader {
            cluster_id: volume.ids.cluster_id,
            stream,
            stream_uuid: StreamUuid([0; 16]),
            stream_salt: Salt(0),
            stream_number: number,
            epoch: 0,
            created_unix_nanos: 0,
        };
        streams.insert(number, Found::refused(header, stream_directory, refused));
    }
    let next_number = headers
        .iter()
        .map(|header| header.stream_number.0 + 1)
        .max();
    let catalog = Catalog::open(disk, root, volume.ids.volume_id, known, &headers)
        .map_err(at("write the stream catalog in", root))?;
    Ok(FoundStreams {
        streams,
        catalog,
        next_number: next_number.unwrap_or(1),
    })
}

/// The header as the catalog has it, where the directory's is not the same.
fn heal_header(disk: &dyn Disk, directory: &Path, header: &StreamHeader) -> Result<(), OpenError> {
    let path = files::stream_header(directory);
    let found = match read_header(disk, directory, header.stream.as_str())? {
        Stored::Header(found) if *found == *header => return Ok(()),
        Stored::Header(_) => "belongs to another stream".to_owned(),
        Stored::Missing => "missing".to_owned(),
        Stored::Damaged(why) => why,
        Stored::Newer { found, known: _ } => {
            format!("format version {found} differs from the catalog")
        }
    };
    tracing::warn!(stream = %header.stream, path = %path.display(), found, "rewriting a stream header from the catalog");
    replace_file(disk, &path, &header.encode(), FileClass::Other).map_err(at("write", &path))
}

fn read_header(disk: &dyn Disk, directory: &Path, name: &str) -> Result<Stored, OpenError> {
    let path = files::stream_header(directory);
    let bytes = match crate::io::read_file(disk, &path, BLOCK_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(error) if error.kind() == io::ErrorKind::Other => {
            return Ok(Stored::Damaged(error.to_string()));
        }
        Err(error) => return Err(at("read", &path)(error)),
    };
    Ok(match StreamHeader::decode(&bytes) {
        Ok(header) if header.stream.as_str() == name => Stored::Header(Box::new(header)),
        Ok(header) => Stored::Damaged(format!("header belongs to stream {}", header.stream)),
        Err(Damage::Version {
            what: _,
            found,
            supported,
        }) => Stored::Newer {
            found,
            known: supported,
        },
        Err(damage) => Stored::Damaged(damage.to_string()),
    })
}

/// Nothing was written to any of the stream's files.
fn is_empty(disk: &dyn Disk, directory: &Path) -> Result<bool, OpenError> {
    for folder in [files::segments(directory), files::manifest(directory)] {
        for entry in files::list_or_empty(disk, &folder).map_err(at("list", &folder))? {
            let path = folder.join(&entry.name);
            let file = disk.open_read(&path).map_err(at("open", &path))?;
            let mut block = [0; BLOCK_BYTES];
            let read = file.read_at(&mut block, 0).map_err(at("read", &path))?;
            if block[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
