//! A sealed segment: immutable, mapped read-only when it is first read.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentSeal};
use aof2_format::{BLOCK_BYTES, Seed};
use bytes::Bytes;
use parking_lot::Mutex;

use super::index::SparseIndex;
use crate::io::{Disk, Map};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedInfo {
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    pub end_sequence: u64,
    /// Offset behind the last batch.
    pub data_end: u64,
    pub crc64: u64,
}

impl SealedInfo {
    /// Length of the file, seal block included.
    pub fn file_bytes(&self) -> u64 {
        SegmentSeal::offset(self.data_end) + BLOCK_BYTES as u64
    }
}

#[derive(Debug)]
pub(crate) struct Sealed {
    pub info: SealedInfo,
    pub path: PathBuf,
    map: OnceLock<(Arc<Map>, Bytes)>,
    index: Mutex<Option<Arc<SparseIndex>>>,
}

struct Owner(Arc<Map>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Sealed {
    /// `index` is built at the first read where it is not known.
    pub fn new(info: SealedInfo, path: PathBuf, index: Option<SparseIndex>) -> Sealed {
        Sealed {
            info,
            path,
            map: OnceLock::new(),
            index: Mutex::new(index.map(Arc::new)),
        }
    }

    pub fn map(&self, disk: &dyn Disk) -> std::io::Result<Arc<Map>> {
        Ok(self.mapped(disk)?.0.clone())
    }

    /// Header and batches.
    pub fn bytes(&self, disk: &dyn Disk) -> std::io::Result<Bytes> {
        Ok(self.mapped(disk)?.1.clone())
    }

    fn mapped(&self, disk: &dyn Disk) -> std::io::Result<&(Arc<Map>, Bytes)> {
        if let Some(mapped) = self.map.get() {
            return Ok(mapped);
        }
        let map = Arc::new(disk.open_read(&self.path)?.map(self.info.file_bytes())?);
        let bytes = Bytes::from_owner(Owner(map.clone())).slice(..self.info.data_end as usize);
        Ok(self.map.get_or_init(|| (map, bytes)))
    }

    /// Offset of a batch at or before the one that holds `sequence`.
    pub fn find(&self, disk: &dyn Disk, seed: Seed, sequence: u64) -> std::io::Result<u64> {
        let index = self.index.lock().clone();
        let index = match index {
            Some(index) => index,
            None => {
                let built = Arc::new(build_index(&self.bytes(disk)?, seed));
                *self.index.lock() = Some(built.clone());
                built
            }
        };
        Ok(index.find(sequence).unwrap_or(DATA_OFFSET))
    }
}

/// Walks the headers. Ends at the first that does not verify: a read behind it starts there and finds the damage.
fn build_index(bytes: &[u8], seed: Seed) -> SparseIndex {
    let mut index = SparseIndex::default();
    let mut offset = DATA_OFFSET as usize;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let Ok(header) = record_batch::decode_header(rest, seed) else {
            break;
        };
        index.note(header.fields.base_sequence, offset as u64);
        offset += header.batch_bytes();
    }
    index
}
