//! A sealed segment: immutable, mapped read-only when it is first read.
//!
//! Nothing of a file is served before its length and its first and last block were held against the manifest: another segment's
//! file under this name is distinguished from its own, and one that was cut never becomes a map that ends in the air.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::io::sync::Mutex;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader, SegmentSeal};
use aof2_format::{BLOCK_BYTES, Damage, Seed, StreamUuid, record_batch};
use bytes::Bytes;

use super::index::SparseIndex;
use super::maps::Maps;
use super::survey::next_batch;
use crate::io::{Disk, DiskFile, Map, is_device_error};

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

/// Length of the file of a segment whose last batch ends here, seal block included.
pub(crate) fn file_bytes(data_end: u64) -> u64 {
    SegmentSeal::offset(data_end) + BLOCK_BYTES as u64
}

impl SealedInfo {
    pub fn file_bytes(&self) -> u64 {
        file_bytes(self.data_end)
    }

    /// What its header block says, as far as the manifest knows it.
    fn is_of_header(&self, stream: StreamUuid, header: &SegmentHeader) -> bool {
        header.stream_uuid == stream
            && header.segment_id == self.segment_id
            && header.epoch == self.epoch
            && header.base_sequence == self.base_sequence
    }

    pub fn is_of_seal(&self, stream: StreamUuid, seal: &SegmentSeal) -> bool {
        seal.stream_uuid == stream
            && seal.segment_id == self.segment_id
            && seal.epoch == self.epoch
            && seal.base_sequence == self.base_sequence
            && seal.end_sequence == self.end_sequence
            && seal.data_end == self.data_end
            && seal.crc64 == self.crc64
    }

    /// Whether the file is there in its length. Reads nothing of it.
    pub fn look_at(&self, file: io::Result<Arc<dyn DiskFile>>) -> Result<Arc<dyn DiskFile>, Fault> {
        let file = file.map_err(Fault::of)?;
        let (found, needed) = (file.len().map_err(Fault::of)?, self.file_bytes());
        if found < needed {
            return Err(Fault::Damaged(format!(
                "file holds {found} of {needed} bytes"
            )));
        }
        Ok(file)
    }
}

/// Why nothing of a sealed segment's file is served.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No file, one that was cut, or another's.
    Damaged(String),
    Disk(io::Error),
    /// The manifest names no copy in Tier 0.
    NotHot,
}

impl Fault {
    /// What it says of the bytes: nothing where the disk may answer the next time.
    pub fn damage(&self) -> Option<String> {
        match self {
            Fault::Damaged(what) => Some(what.clone()),
            Fault::Disk(error) => {
                is_device_error(error).then(|| format!("file unreadable: {error}"))
            }
            Fault::NotHot => None,
        }
    }

    fn of(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::NotFound => Fault::Damaged("file is missing".to_owned()),
            _ => Fault::Disk(error),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Sealed {
    pub info: SealedInfo,
    pub path: PathBuf,
    /// By the manifest, whatever lies at `path`.
    is_hot: AtomicBool,
    /// Its copy in Tier 0 came back in this process.
    is_hydrated: AtomicBool,
    /// While it is one of those that were read last, see `maps`.
    mapped: Mutex<Option<Arc<Mapped>>>,
    used: AtomicU64,
    index: Mutex<Option<Arc<SparseIndex>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    pub map: Arc<Map>,
    /// Header and batches.
    pub bytes: Bytes,
    /// Header or seal block is unreadable: its records can be served, it cannot be copied as a whole.
    pub flaw: Option<String>,
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
            is_hot: AtomicBool::new(true),
            is_hydrated: AtomicBool::new(false),
            mapped: Mutex::new(None),
            used: AtomicU64::new(0),
            index: Mutex::new(index.map(Arc::new)),
        }
    }

    /// Its copies are in other tiers, or nowhere. `path` is where its file would be.
    pub fn elsewhere(info: SealedInfo, path: PathBuf) -> Sealed {
        Sealed {
            is_hot: AtomicBool::new(false),
            ..Sealed::new(info, path, None)
        }
    }

    pub fn is_hot(&self) -> bool {
        self.is_hot.load(Ordering::Acquire)
    }

    /// The manifest has a copy in Tier 0 again.
    pub fn restore(&self, maps: &Maps) {
        self.note_used(maps);
        self.is_hydrated.store(true, Ordering::Relaxed);
        self.is_hot.store(true, Ordering::Release);
    }

    pub fn is_hydrated(&self) -> bool {
        self.is_hydrated.load(Ordering::Relaxed)
    }

    /// The manifest has dropped its copy in Tier 0: nothing more is served from it. Answers the map that readers may hold on to.
    pub fn retire(&self) -> Option<Weak<Map>> {
        let mut mapped = self.mapped.lock();
        self.is_hot.store(false, Ordering::Release);
        mapped.take().map(|mapped| Arc::downgrade(&mapped.map))
    }

    /// Somebody reads it, wherever it lies.
    pub fn note_used(&self, maps: &Maps) {
        self.used.store(maps.next_turn(), Ordering::Relaxed);
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What it does with the segment is no read: a copy of it is made, and that keeps it in no tier. A read at the same moment may go
    /// unnoticed.
    pub fn unread<T>(&self, work: impl FnOnce() -> T) -> T {
        let used = self.used();
        let done = work();
        self.used.store(used, Ordering::Relaxed);
        done
    }

    /// It was made of segments of which one was last used then.
    pub fn note_used_at(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
    }

    pub fn unmap(&self) {
        *self.mapped.lock() = None;
    }

    /// A failure is not remembered: the file may be put back.
    pub fn mapped(
        self: &Arc<Self>,
        disk: &dyn Disk,
        maps: &Maps,
        stream: StreamUuid,
    ) -> Result<Arc<Mapped>, Fault> {
        if !self.is_hot() {
            return Err(Fault::NotHot);
        }
        self.note_used(maps);
        if let Some(mapped) = &*self.mapped.lock() {
            return Ok(mapped.clone());
        }
        let mapped = match self.map(disk, stream) {
            Ok(mapped) => Arc::new(mapped),
            // Its file went in the meantime.
            Err(_) if !self.is_hot() => return Err(Fault::NotHot),
            Err(fault) => return Err(fault),
        };
        {
            let mut kept = self.mapped.lock();
            // One that was retired is not kept from going.
            if !self.is_hot() {
                return Ok(mapped);
            }
            *kept = Some(mapped.clone());
        }
        maps.add(self);
        Ok(mapped)
    }

    fn map(&self, disk: &dyn Disk, stream: StreamUuid) -> Result<Mapped, Fault> {
        let file = self.info.look_at(disk.open_read(&self.path))?;
        let flaw = self.identify(&*file, stream)?;
        let map = Arc::new(file.map(self.info.file_bytes()).map_err(Fault::of)?);
        let bytes = Bytes::from_owner(Owner(map.clone())).slice(..self.info.data_end as usize);
        Ok(Mapped { map, bytes, flaw })
    }

    /// Holds both blocks against the manifest. Answers what is unreadable of the two.
    fn identify(&self, file: &dyn DiskFile, stream: StreamUuid) -> Result<Option<String>, Fault> {
        let block = |offset| {
            let mut block = [0; BLOCK_BYTES];
            let read = file.read_at(&mut block, offset).map_err(Fault::of)?;
            Ok::<_, Fault>(block[..read].to_vec())
        };
        let header = SegmentHeader::decode(&block(0)?);
        let seal = SegmentSeal::decode(&block(SegmentSeal::offset(self.info.data_end))?);
        if let Ok(header) = &header
            && !self.info.is_of_header(stream, header)
        {
            let SegmentHeader {
                stream, segment_id, ..
            } = header;
            return Err(Fault::Damaged(format!(
                "file belongs to segment {segment_id} of stream {stream}"
            )));
        }
        if let Ok(seal) = &seal
            && !self.info.is_of_seal(stream, seal)
        {
            let id = seal.segment_id;
            return Err(Fault::Damaged(format!(
                "file ends with the seal of segment {id}"
            )));
        }
        // Every batch says whose it is, too, by its salt and its sequence: both blocks may be gone.
        let unreadable: Vec<String> = [header.err(), seal.err()]
            .into_iter()
            .flatten()
            .map(|damage| damage.to_string())
            .collect();
        Ok((!unreadable.is_empty()).then(|| unreadable.join("; ")))
    }

    /// First sequence and offset of a batch at or before the one that holds `sequence`.
    pub fn find(&self, mapped: &Mapped, seed: Seed, sequence: u64) -> (u64, u64) {
        let index = self.index.lock().clone();
        let index = index.unwrap_or_else(|| {
            let sequences = self.info.base_sequence..self.info.end_sequence;
            let built = Arc::new(build_index(&mapped.bytes, seed, sequences));
            *self.index.lock() = Some(built.clone());
            built
        });
        let first = (self.info.base_sequence, DATA_OFFSET);
        index.find(sequence).unwrap_or(first)
    }
}

/// Walks the headers, over those that do not verify: a read behind such a place finds its batch.
fn build_index(bytes: &Bytes, seed: Seed, sequences: std::ops::Range<u64>) -> SparseIndex {
    let mut index = SparseIndex::default();
    let mut offset = DATA_OFFSET as usize;
    let mut left = sequences;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        match record_batch::decode_header(rest, seed) {
            Ok(header) => {
                index.note(header.fields.base_sequence, offset as u64);
                left.start = left.start.max(header.fields.base_sequence + 1);
                offset += header.batch_bytes();
            }
            Err(Damage::Short { .. }) => break,
            Err(_) => {
                let fetch =
                    |at: u64, _| Ok::<_, std::convert::Infallible>(bytes.slice(at as usize..));
                let Ok(next) = next_batch(fetch, seed, offset as u64, &left);
                let Some((found, _)) = next else { break };
                offset = found as usize;
            }
        }
    }
    index
}
