//! How large an object may be that is read at once. Whoever may write to the bucket may put anything at our keys: what is larger than its
//! kind can be is refused by its size, before its body is read.

use aof2_format::claim;
use aof2_format::manifest_chunk::MAX_COMMIT_BODY_BYTES;
use aof2_format::names::{KeyPrefix, ObjectKey};
use aof2_format::snapshot::MAX_CATALOGUE_BYTES;

use super::{Attempt, ObjectError};

/// Of a snapshot's index: some 20,000 streams.
pub const MAX_INDEX_BYTES: usize = 16 << 20;
/// A chunk is closed at 1 MiB, behind a commit that began below it.
const MAX_CHUNK_BYTES: usize = MAX_COMMIT_BODY_BYTES + (2 << 20);
/// What a caller may ask for at once that names no kind.
pub const MAX_WHOLE_BYTES: u64 = MAX_CATALOGUE_BYTES as u64;

/// Bytes that the object with this key has at most. Segments are read in ranges, and what is not ours is not read.
pub(super) fn max_bytes_of(prefix: &KeyPrefix, key: &str) -> u64 {
    let bytes = match ObjectKey::parse(prefix, key) {
        Some(ObjectKey::Snapshot { .. }) => MAX_CATALOGUE_BYTES,
        Some(ObjectKey::SnapshotIndex { .. }) => MAX_INDEX_BYTES,
        Some(ObjectKey::ManifestChunk { .. }) => MAX_CHUNK_BYTES,
        Some(
            ObjectKey::Cluster
            | ObjectKey::Claim { .. }
            | ObjectKey::Mark { .. }
            | ObjectKey::Recovery { .. }
            | ObjectKey::Probe { .. }
            | ObjectKey::Segment { .. },
        )
        | None => claim::MAX_BYTES,
    };
    bytes as u64
}

/// `size_bytes`: as the store reports it; `None` where it reports none.
pub fn too_large(attempt: Attempt, size_bytes: Option<u64>, max_bytes: u64) -> ObjectError {
    let cause = match size_bytes {
        Some(size_bytes) => format!("{size_bytes} bytes, the limit of its kind is {max_bytes}"),
        None => format!("more than {max_bytes} bytes, the limit of its kind"),
    };
    ObjectError::Corrupt { attempt, cause }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::objects::directory::DirectoryStore;
    use crate::objects::memory::MemoryStore;
    use crate::objects::suite::test_tier2;
    use crate::objects::{ObjectStore, Upload};

    #[test]
    fn an_object_larger_than_its_kind_may_be_is_refused_with_its_key_and_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = DirectoryStore::open(folder.path()).expect("opens");
        let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(MemoryStore::new()), Arc::new(directory)];
        let kinds = [
            ("cluster.json", claim::MAX_BYTES),
            ("claims/a/00000000000000000001", claim::MAX_BYTES),
            ("recovery/a.json", claim::MAX_BYTES),
            (
                "marks/00000000-0000-0000-0000-000000000001/00000000000000000001",
                claim::MAX_BYTES,
            ),
            ("snapshots/_index/a.json", MAX_INDEX_BYTES),
            (
                "manifest/a/0000000001/00000000000000000000.mlog",
                MAX_CHUNK_BYTES,
            ),
            ("snapshots/a/1.json", MAX_CATALOGUE_BYTES),
            ("somebody/elses", claim::MAX_BYTES),
        ];
        for store in stores {
            let tier2 = test_tier2(store.clone());
            for (key, max_bytes) in kinds {
                let put = |bytes: usize| {
                    let body = Bytes::from(vec![7; bytes]);
                    store
                        .put(key, &Upload::of_bytes(body, "p".into()))
                        .expect("put");
                };
                put(max_bytes);
                assert!(tier2.store().get(key).expect("read").is_some(), "{key}");
                put(max_bytes + 1);
                let error = tier2.store().get(key).expect_err("too large").to_string();
                let size = format!(
                    "{} bytes, the limit of its kind is {max_bytes}",
                    max_bytes + 1
                );
                assert!(error.contains(key) && error.contains(&size), "{error}");
            }
        }
    }
}
