//! What the manifests of a data directory say.

use std::path::Path;
use std::sync::Arc;

use super::{OfflineError, identity_of};
use crate::io::{DirectoryLock, Environment, ShadowDisk};
use crate::recovery::{self, Context, Recovered, volume};
use crate::residency::SealedSegment;

/// The streams of a directory as the next start would find them. Other processes are kept out for as long as this is held.
pub struct Ledger {
    /// Ordered by name.
    pub streams: Vec<LedgerStream>,
    _lock: Box<dyn DirectoryLock>,
}

pub struct LedgerStream {
    pub name: Arc<str>,
    /// All that were ever sealed, trimmed ones included, ordered by id.
    pub segments: Vec<SealedSegment>,
    /// Why the stream is damaged: then its segments may be too few.
    pub damage: Option<String>,
}

impl Ledger {
    /// Reads as a start does, on `environment`'s disk, and writes nothing there.
    pub fn read(environment: &Environment, root: &Path) -> Result<Ledger, OfflineError> {
        let disk = ShadowDisk::new(environment.disk.clone());
        let identity = identity_of(&disk, root)?;
        let lock = volume::lock(&disk, root)?;
        let volume = volume::identify(&disk, &*environment.rng, root, &identity, None)?;
        let context = Context {
            disk: &disk,
            clock: &*environment.clock,
            root,
            volume: &volume,
            // What the journal would be made of: nothing is made of it here.
            journal_file_bytes: 0,
            journal_files: 0,
            on_progress: None,
        };
        let Recovered { streams, .. } = recovery::recover(&context)?;
        let mut streams: Vec<LedgerStream> = streams
            .into_iter()
            .map(|recovered| {
                let name: Arc<str> = recovered.header.stream.as_str().into();
                let residency = &recovered.state.residency;
                let ids = residency.segments().map(|(id, _)| id);
                let segments = ids.filter_map(|id| residency.sealed_segment(&name, id));
                LedgerStream {
                    segments: segments.collect(),
                    damage: recovered.damage.map(|(_, message)| message),
                    name,
                }
            })
            .collect();
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Ledger {
            streams,
            _lock: lock,
        })
    }

    /// Of all streams.
    pub fn segments(&self) -> Vec<SealedSegment> {
        let segments = self.streams.iter().flat_map(|stream| &stream.segments);
        segments.cloned().collect()
    }
}
