//! Tier 2 as the engine sees it: keys and objects, never a vendor.
//!
//! `ObjectStore` is one attempt per call and knows no policy. Every conditional write goes through `conditional::create`, which
//! is the only place that decides what a result means; everything that writes does so through `Tier2`, which has probed the
//! store first. Calls block: they are made from worker threads.

pub mod bounds;
pub mod breaker;
pub mod conditional;
pub mod directory;
pub mod error;
pub mod listing;
#[cfg(feature = "testing")]
pub mod memory;
pub mod probe;
pub mod refusal;
pub mod retry;
#[cfg(feature = "testing")]
pub mod suite;
pub mod tier2;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// The checksum of every object.
pub use aof2_format::checksum::{Crc64Nvme, crc64nvme};

pub use error::{Attempt, ObjectError, Tier2Reason};
pub use refusal::Refusal;
pub use tier2::{Tier2, Tier2Health};

/// Bytes that an upload reads, perhaps more than once: a retry starts over.
pub trait Source: Send + Sync {
    fn size_bytes(&self) -> u64;
    /// Fills `buffer` from `offset`; a source that ends inside is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for Bytes {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = usize::try_from(offset)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let part = end
            .and_then(|range| self.get(range))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// The checksum of every object, over a whole source.
pub fn crc64nvme_of(source: &dyn Source) -> io::Result<u64> {
    const PIECE_BYTES: u64 = 1 << 20;
    let size_bytes = source.size_bytes();
    let mut piece = vec![0; PIECE_BYTES.min(size_bytes) as usize];
    let mut digest = Crc64Nvme::default();
    let mut offset = 0;
    while offset < size_bytes {
        let part = &mut piece[..PIECE_BYTES.min(size_bytes - offset) as usize];
        source.read_at(offset, part)?;
        digest.update(part);
        offset += part.len() as u64;
    }
    Ok(digest.finish())
}

/// Reads a whole source. Only for sources known to be small.
pub fn read_all(source: &dyn Source) -> io::Result<Bytes> {
    let mut bytes =
        vec![0; usize::try_from(source.size_bytes()).map_err(|_| io::ErrorKind::OutOfMemory)?];
    source.read_at(0, &mut bytes)?;
    Ok(bytes.into())
}

/// What a put sends.
#[derive(Clone)]
pub struct Upload {
    pub source: Arc<dyn Source>,
    /// Of the whole source, computed before the first attempt.
    pub crc64nvme: u64,
    /// Names this write, not its bytes. Stored with the object, so that a lost response is distinguished from a rival.
    pub put_id: String,
}

impl Upload {
    pub fn of_bytes(bytes: Bytes, put_id: String) -> Upload {
        Upload {
            crc64nvme: crc64nvme(&bytes),
            source: Arc::new(bytes),
            put_id,
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }
}

/// What a conditional put met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    Created {
        etag: String,
    },
    /// The precondition does not hold (412).
    PreconditionFailed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    pub size_bytes: u64,
    pub etag: String,
    /// As the store keeps it; `None` where it keeps none.
    pub crc64nvme: Option<u64>,
    pub put_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub meta: ObjectMeta,
    pub bytes: Bytes,
}

/// What a DELETE that was answered came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was not there, as far as the store says.
    Missing,
    Removed,
    /// It is there no longer under its key, and the bucket keeps its bytes as an old version.
    KeptAsVersion,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In byte order.
    pub keys: Vec<String>,
    /// Nothing of the prefix comes behind them.
    pub is_last: bool,
}

/// What a listing says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size_bytes: u64,
    pub etag: String,
    /// When it was put there, by the clock of the store. `None`: the store does not say.
    pub modified_unix_nanos: Option<i64>,
}

/// A part of a listing, as the store gives it: whoever decides by it checks the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedPage {
    pub objects: Vec<Listed>,
    /// The store says that nothing of the prefix comes behind them.
    pub is_last: bool,
}

/// One attempt per call: no retries, no interpretation. Keys are complete, prefix included.
pub trait ObjectStore: Send + Sync {
    /// Names the store in messages: endpoint and bucket, or a folder. Never a secret.
    fn place(&self) -> String;

    /// `If-None-Match: *`.
    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError>;

    /// `If-Match: <etag>`. A missing key is `PreconditionFailed` too.
    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError>;

    /// Unconditional. Answers the etag.
    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError>;

    /// The whole object, its checksum verified where the store keeps one. One of more than `max_bytes` is `Corrupt`, and its body is not
    /// read.
    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError>;

    /// As `get_within`, with the limit of the object's kind where that is known.
    fn get(&self, key: &str) -> Result<Option<Object>, ObjectError> {
        self.get_within(key, bounds::MAX_WHOLE_BYTES)
    }

    /// Exactly `length` bytes from `offset`; an object that ends before is `Corrupt`.
    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError>;

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError>;

    /// Storage class of an object, by the store's own name for it. `None`: there is no such object, or the store knows no classes.
    fn class(&self, _key: &str) -> Result<Option<String>, ObjectError> {
        Ok(None)
    }

    /// All keys that begin with `prefix` and are greater than `start_after`, in byte order, however many pages that takes.
    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError>;

    /// As `list`, by one request: as many keys as one answer holds, at most 1,000.
    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError>;

    /// As `list_page`, with what the store says of each object. Nothing is put in order: see `listing`.
    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError>;

    /// A missing key is no error. Most stores answer for one as for an object that was there: `Removed`.
    fn delete(&self, key: &str) -> Result<Removal, ObjectError>;

    /// A put that succeeded had its bytes compared with a checksum on their way in. False: whoever needs to know reads them back.
    fn checks_what_it_receives(&self) -> bool {
        true
    }

    /// A put of this key that failed for all that its caller knew has landed. For whoever counts failures.
    fn note_landed(&self, _key: &str) {}

    /// The process goes down: requests that are under way end at once, as `Stopping`.
    fn stop(&self) {}
}
