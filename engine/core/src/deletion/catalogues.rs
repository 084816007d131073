//! What the catalogues in the bucket name, whoever took them and whatever became of their markers: what is listed there is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use aof2_format::StreamName;
use aof2_format::names::ObjectKey;
use aof2_format::snapshot::{Catalogue, SnapshotId};
use thiserror::Error;

use crate::coordinator::plan::delete::Named;
use crate::io::sync::Mutex;
use crate::objects::{ObjectError, Tier2};

/// Catalogues never change: each is read once by a process.
#[derive(Default)]
pub(super) struct Catalogues {
    known: Mutex<BTreeMap<Arc<str>, BTreeMap<SnapshotId, Named>>>,
}

#[derive(Debug, Error)]
pub(super) enum CatalogueError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(
        "catalogue {key} cannot be read ({problem}), so the objects that it names are unknown; restore it or move it away"
    )]
    Unreadable { key: String, problem: String },
}

impl Catalogues {
    /// All that are there now, oldest first. An error where one of them does not tell what it names; `None` where they are more than could
    /// be read before `is_late`: the next call goes on.
    pub fn of_stream(
        &self,
        tier2: &Tier2,
        shared_name: &Arc<str>,
        stream: &StreamName,
        is_late: impl Fn() -> bool,
    ) -> Result<Option<Vec<Named>>, CatalogueError> {
        let prefix = ObjectKey::snapshots_prefix(tier2.prefix(), stream);
        let known = self.known.lock().get(shared_name).cloned();
        let mut known = known.unwrap_or_default();
        let mut found = BTreeMap::new();
        let mut is_whole = true;
        for key in tier2.store().list(&prefix, None)? {
            let Some(ObjectKey::Snapshot { snapshot_id, .. }) =
                ObjectKey::parse(tier2.prefix(), &key)
            else {
                let problem = "not the name of a catalogue".to_owned();
                return Err(CatalogueError::Unreadable { key, problem });
            };
            let id = SnapshotId(snapshot_id);
            let named = match known.remove(&id) {
                Some(named) => Some(named),
                None if is_late() => {
                    is_whole = false;
                    continue;
                }
                None => match read(tier2, &key, id) {
                    Ok(named) => named,
                    Err(error) => {
                        // What was read stays read.
                        found.append(&mut known);
                        self.known.lock().insert(shared_name.clone(), found);
                        return Err(error);
                    }
                },
            };
            found.extend(named.map(|named| (id, named)));
        }
        let all = is_whole.then(|| found.values().cloned().collect());
        self.known.lock().insert(shared_name.clone(), found);
        Ok(all)
    }
}

/// `None`: it went meanwhile.
fn read(
    tier2: &Tier2,
    key: &str,
    snapshot_id: SnapshotId,
) -> Result<Option<Named>, CatalogueError> {
    let unreadable = |problem: String| CatalogueError::Unreadable {
        key: key.to_owned(),
        problem,
    };
    let object = match tier2.store().get(key) {
        Ok(Some(object)) => object,
        Ok(None) => return Ok(None),
        Err(ObjectError::Corrupt { cause, .. }) => return Err(unreadable(cause)),
        Err(error) => return Err(error.into()),
    };
    let catalogue =
        Catalogue::decode(&object.bytes).map_err(|damage| unreadable(damage.to_string()))?;
    let first = catalogue.segments.first();
    Ok(Some(Named {
        snapshot_id,
        // Segments follow each other without a hole.
        from_sequence: first.map_or(catalogue.start_sequence, |first| first.base_sequence),
        to_sequence: catalogue.uploaded_sequence,
        segments: Arc::new(catalogue.segments.iter().map(|it| it.segment_id).collect()),
    }))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use aof2_format::snapshot::{CatalogueChunk, Crc64};
    use aof2_format::{ClusterId, FORMAT_VERSION, StreamUuid};
    use bytes::Bytes;

    use super::*;
    use crate::objects::memory::{MemoryStore, Verb};
    use crate::objects::suite::test_tier2;
    use crate::objects::{ObjectStore, Upload};

    fn put(memory: &MemoryStore, number: u32) {
        let stream = StreamName::new("orders").expect("a name");
        let catalogue = Catalogue {
            format_version: FORMAT_VERSION,
            cluster_id: ClusterId([1; 16]),
            stream: stream.clone(),
            stream_uuid: StreamUuid([2; 16]),
            snapshot_id: SnapshotId::new(1, number),
            request: String::new(),
            epoch: 1,
            chunk_index: 0,
            chunk_offset: 0,
            durable_sequence: 9,
            start_sequence: 3,
            uploaded_sequence: 3,
            created_at: "2026-11-30T09:00:00.000Z".to_owned(),
            segments: Vec::new(),
            chunks: vec![CatalogueChunk {
                index: 0,
                epoch: 1,
                key: "k".to_owned(),
                bytes: 0,
                crc64: Crc64(0),
            }],
        };
        let key = ObjectKey::Snapshot {
            stream,
            snapshot_id: catalogue.snapshot_id.0,
        };
        let upload = Upload::of_bytes(Bytes::from(catalogue.encode()), "put".into());
        let put = memory.put(&key.to_key(&Default::default()), &upload);
        put.expect("put");
    }

    #[test]
    fn many_catalogues_are_read_piece_by_piece_and_each_once() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        (1..=5).for_each(|number| put(&memory, number));
        let catalogues = Catalogues::default();
        let stream = StreamName::new("orders").expect("a name");
        let look = |most: u32| {
            let left = Cell::new(most);
            let is_late = || left.replace(left.get().saturating_sub(1)) == 0;
            let listed = catalogues.of_stream(&tier2, &"orders".into(), &stream, is_late);
            listed.expect("readable")
        };
        for _ in 0..2 {
            assert_eq!(look(2), None);
        }
        let all = look(2).expect("the fifth was the last");
        assert_eq!(all.len(), 5);
        assert_eq!((all[4].from_sequence, all[4].to_sequence), (3, 3));
        assert_eq!(memory.calls(Verb::Get), 5);
        put(&memory, 6);
        assert_eq!(look(0), None);
        assert_eq!(look(1).map(|all| all.len()), Some(6));
    }
}
