//! How a base is made and written.

use aof2_format::Seed;
use aof2_format::checksum::crc64nvme;
use aof2_format::manifest_base::{BaseChunk, MAX_BYTES, ManifestBase};
use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};

use super::BaseOwner;
use super::keep::Kept;
use super::read::{self, Unreadable, fold};
use crate::error::StoreError;
use crate::io::{FileClass, create_whole};
use crate::manifest::cut::{alive, rejected};
use crate::manifest::owner::Owner;
use crate::manifest::producer_table::{TableFold, parts_of};
use crate::manifest::state::ManifestState;
use crate::manifest::{ClosedChunk, Inner, ManifestLog};
use crate::segment::files;

/// A base in the making: one before, if there is any, and the chunks behind it, one by one.
pub(super) struct Builder<'a> {
    owner: BaseOwner<'a>,
    seed: Seed,
    kept: Kept,
    chunks: Vec<BaseChunk>,
    state: ManifestState,
    producers: TableFold,
}

impl<'a> Builder<'a> {
    pub fn new(owner: BaseOwner<'a>, before: Option<&ManifestBase>) -> Builder<'a> {
        let mut kept = Kept::default();
        let (mut state, mut producers) = Default::default();
        let mut chunks = Vec::new();
        if let Some(before) = before {
            before.records.iter().for_each(|record| kept.add(record));
            (state, producers) = fold(before);
            chunks.clone_from(&before.chunks);
        }
        Builder {
            owner,
            seed: Seed::new(owner.salt),
            kept,
            chunks,
            state,
            producers,
        }
    }

    fn chain(&self) -> u32 {
        self.chunks.last().map_or(0, |chunk| chunk.chain)
    }

    /// The bytes of the chunk that follows: all of them are commits that go on where the chunk before ends.
    pub fn add(&mut self, epoch: u32, bytes: &[u8]) -> Result<(), String> {
        let number = self.chunks.len() as u64;
        let header = ManifestChunkHeader::decode(bytes).map_err(|damage| damage.to_string())?;
        let mut chain = self.chain();
        let first = self.state.next_sequence;
        follows(&header, self.owner, number, chain, first)?;
        let mut offset = DATA_OFFSET as usize;
        for commit in manifest_chunk::commits(bytes, offset, self.seed) {
            let commit = commit.map_err(|damage| format!("at {offset}: {damage}"))?;
            let sequence = commit.records.first().map(|it| it.manifest_sequence);
            if commit.prev_chain != chain || sequence != Some(self.state.next_sequence) {
                return Err(format!("at {offset}: the commit before is another one"));
            }
            for record in &commit.records {
                self.kept.add(record);
                self.state.apply(record);
                self.producers.apply(record);
            }
            chain = commit.chain;
            offset += commit.bytes;
        }
        self.chunks.push(BaseChunk {
            epoch,
            chain,
            bytes: bytes.len() as u64,
            crc64: crc64nvme(bytes),
            first_manifest_sequence: first,
            next_manifest_sequence: self.state.next_sequence,
        });
        Ok(())
    }

    /// The bytes of the file, which were decoded again and say what the chunks say.
    pub fn finish(
        self,
        epoch: u32,
        created_unix_nanos: i64,
    ) -> Result<(Vec<BaseChunk>, Vec<u8>), String> {
        let table = self.producers.table()?;
        let base = ManifestBase {
            cluster_id: self.owner.cluster_id,
            stream: self.owner.stream.clone(),
            stream_uuid: self.owner.uuid,
            stream_salt: self.owner.salt,
            epoch,
            created_unix_nanos,
            chunks: self.chunks,
            records: self.kept.into_records(),
            producers: parts_of(&table),
            forgotten_before: table.forgotten_before,
            recent_from: table.recent_from,
        };
        let bytes = base.encode();
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!(
                "{} bytes exceed the limit of {MAX_BYTES}",
                bytes.len()
            ));
        }
        let again = ManifestBase::decode(&bytes).map_err(|damage| damage.to_string())?;
        if fold(&again) != (self.state, self.producers) {
            return Err("base does not say what the chunks say".to_owned());
        }
        Ok((base.chunks, bytes))
    }
}

/// Whether a chunk with this header goes on where `chain` and `sequence` end.
pub(crate) fn follows(
    header: &ManifestChunkHeader,
    owner: BaseOwner<'_>,
    number: u64,
    chain: u32,
    sequence: u64,
) -> Result<(), String> {
    if header.cluster_id != owner.cluster_id
        || header.stream != *owner.stream
        || header.stream_uuid != owner.uuid
        || header.stream_salt != owner.salt
        || header.chunk != number
    {
        return Err(format!(
            "manifest chunk {number} is chunk {} of stream {} with id {}",
            header.chunk, header.stream, header.stream_uuid
        ));
    }
    if header.prev_chain != chain || header.base_manifest_sequence != sequence {
        return Err(format!(
            "manifest chunk {number} follows record {} with chain {:08x}, expected record {sequence} with chain {chain:08x}",
            header.base_manifest_sequence, header.prev_chain
        ));
    }
    Ok(())
}

impl Inner {
    /// Chunks below the answer are closed, are to be in the base, and have one with a header behind them.
    fn base_due(&self, below: u64, after: u64) -> Option<u64> {
        let mut upto = below.min(self.closed.len() as u64);
        let in_use = self.chunk.as_ref()?;
        if in_use.number == upto && in_use.tail == 0 {
            upto = upto.checked_sub(1)?;
        }
        (upto >= self.based().saturating_add(after.max(1))).then_some(upto)
    }

    /// Chunks that the base on the volume stands for.
    pub(in crate::manifest) fn based(&self) -> u64 {
        let known = self.closed.iter().take_while(|it| it.crc64.is_some());
        known.count() as u64
    }
}

impl ManifestLog {
    /// Whether `write_base` has something to do. Waits for nothing.
    pub fn is_base_due(&self, owner: &dyn Owner, below: u64) -> bool {
        let after = owner.common().config.load().manifest.base_after_chunks;
        self.inner.lock().base_due(below, after).is_some()
    }

    /// Writes a base where enough chunks were closed behind the last one. It stands for chunks below `below`. Blocks on the disk.
    pub fn write_base(&self, owner: &dyn Owner, below: u64) -> Result<bool, StoreError> {
        let _basing = self.basing.lock();
        alive(owner)?;
        let after = owner.common().config.load().manifest.base_after_chunks;
        let (based, closed) = {
            let inner = self.inner.lock();
            let Some(upto) = inner.base_due(below, after) else {
                return Ok(false);
            };
            (inner.based(), inner.closed[..upto as usize].to_vec())
        };
        // Their commits, and the header of the chunk behind them, may only be staged so far.
        self.settle_now(owner)?;
        let (chunks, bytes) = self.build(owner, based, &closed)?;
        let path = files::manifest_base(owner.directory());
        let disk = &*owner.common().env.disk;
        let written = create_whole(disk, &path, FileClass::Manifest, |file| {
            file.write_all_at(&bytes, 0)
                .map_err(|error| ("write", error))
        });
        written.map_err(|error| {
            rejected(
                owner,
                &error,
                format!("the manifest base of stream {}", owner.name()),
            )
        })?;
        let mut inner = self.inner.lock();
        for (closed, chunk) in inner.closed.iter_mut().zip(&chunks) {
            closed.crc64 = Some(chunk.crc64);
        }
        drop(inner);
        tracing::debug!(stream = %owner.name(), chunks = chunks.len(), bytes = bytes.len(), "manifest base written");
        Ok(true)
    }

    /// Nothing is written to or pruned behind the base meanwhile.
    #[cfg(test)]
    pub fn hold_base(&self) -> crate::io::sync::MutexGuard<'_, ()> {
        self.basing.lock()
    }

    fn build(
        &self,
        owner: &dyn Owner,
        based: u64,
        closed: &[ClosedChunk],
    ) -> Result<(Vec<BaseChunk>, Vec<u8>), StoreError> {
        let damaged = |message: String| StoreError::Damaged {
            stream: owner.name().to_string(),
            message: format!("manifest base: {message}"),
        };
        let mut before = None;
        if based > 0 {
            match self.read_base(owner, based) {
                Ok(base) => before = Some(base),
                // All of it again, from the chunks.
                Err(StoreError::Damaged { .. }) if closed.iter().all(|chunk| chunk.is_local) => {}
                Err(error) => return Err(error),
            }
        }
        let mut builder = Builder::new(owner.of_base(), before.as_ref());
        let done = before.map_or(0, |base| base.chunks.len());
        for chunk in &closed[done.min(closed.len())..] {
            let bytes = self.chunk_bytes(owner, *chunk)?;
            builder
                .add(chunk.epoch, &bytes)
                .map_err(|why| damaged(format!("chunk {}: {why}", chunk.number)))?;
        }
        let now = owner.common().env.clock.unix_nanos();
        builder.finish(owner.epoch(), now).map_err(damaged)
    }

    /// The base on the volume, which stands for so many chunks.
    pub(super) fn read_base(
        &self,
        owner: &dyn Owner,
        based: u64,
    ) -> Result<ManifestBase, StoreError> {
        let path = files::manifest_base(owner.directory());
        let damaged = |message: String| StoreError::Damaged {
            stream: owner.name().to_string(),
            message: format!("{}: {message}", path.display()),
        };
        match read::read(
            &*owner.common().env.disk,
            owner.directory(),
            owner.of_base(),
        ) {
            Ok(Some(base)) if base.chunks.len() as u64 == based => Ok(base),
            Ok(Some(base)) => Err(damaged(format!(
                "file stands for {} chunks, {based} were written",
                base.chunks.len()
            ))),
            Ok(None) => Err(damaged("file is missing".to_owned())),
            Err(Unreadable::Damaged(why)) => Err(damaged(why)),
            Err(Unreadable::Disk(error) | Unreadable::Device(error)) => {
                Err(StoreError::of_lack(&error, path.display().to_string())
                    .unwrap_or_else(|| damaged(error.to_string())))
            }
        }
    }
}
