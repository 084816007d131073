//! Chunk files that go: the base stands for them, and Tier 2 has them.

use aof2_format::names::file;

use crate::error::StoreError;
use crate::manifest::cut::alive;
use crate::manifest::owner::Owner;
use crate::manifest::{ClosedChunk, ManifestLog};
use crate::segment::files;

impl ManifestLog {
    /// Closed chunks that are on the volume, that the base stands for, and that are below `below`, oldest first. The base was read back from
    /// the device: nothing else on the volume says what they say.
    pub fn prunable(&self, owner: &dyn Owner, below: u64) -> Result<Vec<ClosedChunk>, StoreError> {
        let _basing = self.basing.lock();
        alive(owner)?;
        let (based, chunks) = {
            let inner = self.inner.lock();
            let based = inner.based();
            let found = inner.closed.iter().take(based as usize);
            let found = found.filter(|chunk| chunk.is_local && chunk.number < below);
            let found: Vec<ClosedChunk> = found.copied().collect();
            (based, found)
        };
        if !chunks.is_empty() {
            self.read_base(owner, based)?;
        }
        Ok(chunks)
    }

    /// A closed chunk whose file is not on the volume any more.
    pub fn pruned(&self, number: u64) -> Option<ClosedChunk> {
        let inner = self.inner.lock();
        let known = inner.closed.get(number as usize);
        known.filter(|chunk| !chunk.is_local).copied()
    }

    /// Removes the file of a chunk that `prunable` named. Answers whether it did.
    pub fn prune(&self, owner: &dyn Owner, chunk: ClosedChunk) -> Result<bool, StoreError> {
        let _basing = self.basing.lock();
        alive(owner)?;
        let path = files::manifest(owner.directory())
            .join(file::manifest_chunk(chunk.epoch, chunk.number));
        // Before: whoever reads it meanwhile learns why it is gone.
        self.note_local(chunk.number, false);
        if let Err(error) = owner.common().env.disk.unlink(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.note_local(chunk.number, true);
            let path = path.display();
            tracing::warn!(stream = %owner.name(), "cannot remove manifest chunk {path}: {error}");
            return Ok(false);
        }
        Ok(true)
    }

    fn note_local(&self, number: u64, is_local: bool) {
        if let Some(known) = self.inner.lock().closed.get_mut(number as usize) {
            known.is_local = is_local;
        }
    }
}
