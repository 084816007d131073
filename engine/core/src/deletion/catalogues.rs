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
    /// All that are there now, oldest first. An error where one of them does not tell what it names.
    pub fn of_stream(
        &self,
        tier2: &Tier2,
        shared_name: &Arc<str>,
        stream: &StreamName,
    ) -> Result<Vec<Named>, CatalogueError> {
        let prefix = ObjectKey::snapshots_prefix(tier2.prefix(), stream);
        let known = self.known.lock().get(shared_name).cloned();
        let mut known = known.unwrap_or_default();
        let mut found = BTreeMap::new();
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
                None => read(tier2, &key, id)?,
            };
            found.extend(named.map(|named| (id, named)));
        }
        let all = found.values().cloned().collect();
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
