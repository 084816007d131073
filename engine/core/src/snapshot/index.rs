//! `snapshots/_index/<name>.json`: the list of everything that one `Aof2Snapshot` took. Its content is the operator's.

use aof2_format::names::{IndexName, ObjectKey};
use bytes::Bytes;
use thiserror::Error;

use super::digest_of;
use crate::objects::conditional::Creation;
use crate::objects::tier2::ATTEMPTS_OF_A_CALLER;
use crate::objects::{ObjectError, Tier2, Upload};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIndex {
    pub key: String,
    pub digest: String,
    pub bytes: u64,
}

impl StoredIndex {
    /// Of the bytes that lie there.
    pub fn of(key: String, bytes: &Bytes) -> Self {
        Self {
            digest: digest_of(bytes),
            bytes: bytes.len() as u64,
            key,
        }
    }
}

#[derive(Debug, Error)]
pub enum IndexError {
    #[error(transparent)]
    Tier2(#[from] ObjectError),
    #[error("object {key} is missing in the bucket")]
    Missing { key: String },
    #[error("snapshot index {key} already exists with other content; choose another name")]
    Taken { key: String },
}

/// Its bytes, as they were written.
pub fn read_index(tier2: &Tier2, name: &IndexName) -> Result<Bytes, IndexError> {
    let key = ObjectKey::SnapshotIndex { name: name.clone() }.to_key(tier2.prefix());
    match tier2.store().get(&key)? {
        Some(object) => Ok(object.bytes),
        None => Err(IndexError::Missing { key }),
    }
}

/// At most `length` of its bytes from `from`, and how many it has. The beginning is read with the rest, so that its checksum covers all.
pub fn read_index_part(
    tier2: &Tier2,
    name: &IndexName,
    from: u64,
    length: u64,
) -> Result<(Bytes, u64), IndexError> {
    if from == 0 {
        let whole = read_index(tier2, name)?;
        let end = whole
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        return Ok((whole.slice(..end), whole.len() as u64));
    }
    let key = ObjectKey::SnapshotIndex { name: name.clone() }.to_key(tier2.prefix());
    let missing = |key: &str| IndexError::Missing { key: key.into() };
    let meta = tier2.store().head(&key)?.ok_or_else(|| missing(&key))?;
    let length = meta.size_bytes.saturating_sub(from).min(length);
    if length == 0 {
        return Ok((Bytes::new(), meta.size_bytes));
    }
    let part = tier2.store().get_range(&key, from, length)?;
    Ok((part.ok_or_else(|| missing(&key))?, meta.size_bytes))
}

/// Creates it; the same bytes again are the same index.
pub fn put_index(tier2: &Tier2, name: &IndexName, bytes: Bytes) -> Result<StoredIndex, IndexError> {
    let key = ObjectKey::SnapshotIndex { name: name.clone() }.to_key(tier2.prefix());
    let stored = StoredIndex::of(key, &bytes);
    let upload = Upload::of_bytes(bytes, tier2.put_id());
    match tier2.create(&stored.key, &upload, ATTEMPTS_OF_A_CALLER)? {
        Creation::Ours { etag: _ } => Ok(stored),
        Creation::Taken(_) => Err(IndexError::Taken { key: stored.key }),
    }
}
