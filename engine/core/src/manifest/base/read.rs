//! A base as it is found, and what it says.

use std::io;
use std::path::Path;

use aof2_format::manifest_base::{MAX_BYTES, ManifestBase};
use aof2_format::{ClusterId, Salt, StreamName, StreamUuid};

use crate::io::{Disk, again, is_device_error};
use crate::manifest::producer_table::TableFold;
use crate::manifest::state::ManifestState;
use crate::segment::files;

/// Whose manifest it has to be of: what the headers of its chunks say, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub cluster_id: ClusterId,
    pub stream: &'a StreamName,
    pub uuid: StreamUuid,
    pub salt: Salt,
}

impl Owner<'_> {
    fn owns(&self, base: &ManifestBase) -> bool {
        base.cluster_id == self.cluster_id
            && base.stream == *self.stream
            && base.stream_uuid == self.uuid
            && base.stream_salt == self.salt
    }
}

#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Something is lacking. Nothing is known of the file: nobody may conclude anything.
    Disk(io::Error),
    /// The device does not give it back now.
    Device(io::Error),
    /// It is no base of this stream.
    Damaged(String),
}

/// `None`: there is no such file.
pub(crate) fn read(
    disk: &dyn Disk,
    stream_directory: &Path,
    owner: Owner<'_>,
) -> Result<Option<ManifestBase>, Unreadable> {
    let path = files::manifest_base(stream_directory);
    let bytes = match again(|| bytes_of(disk, &path)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_device_error(&error) => return Err(Unreadable::Device(error)),
        // Too long for one.
        Err(error) if error.kind() == io::ErrorKind::Other => {
            return Err(Unreadable::Damaged(error.to_string()));
        }
        Err(error) => return Err(Unreadable::Disk(error)),
    };
    let base =
        ManifestBase::decode(&bytes).map_err(|damage| Unreadable::Damaged(damage.to_string()))?;
    match owner.owns(&base) {
        true => Ok(Some(base)),
        false => Err(Unreadable::Damaged(format!(
            "file belongs to stream {} with id {} in cluster {}",
            base.stream, base.stream_uuid, base.cluster_id
        ))),
    }
}

/// From the device.
fn bytes_of(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    disk.open_read(path)?.forget_cache()?;
    crate::io::read_file(disk, path, MAX_BYTES)
}

/// What the chunks say that it stands for.
pub(crate) fn fold(base: &ManifestBase) -> (ManifestState, TableFold) {
    let mut state = ManifestState::default();
    let mut producers = TableFold::of_base(base);
    for record in &base.records {
        state.apply(record);
        producers.apply(record);
    }
    state.next_sequence = base.next_manifest_sequence();
    (state, producers)
}
