//! One stream's part of recovery.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aof2_format::journal::FileKind;
use aof2_format::names::{SegmentRef, file};
use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader, SegmentSeal};
use aof2_format::stream_header::StreamHeader;
use aof2_format::{BLOCK_BYTES, Seed};

use super::volume::at;
use crate::error::OpenError;
use crate::io::{Disk, DiskFile, FileClass, replace_file};
use crate::journal::replay::Image;
use crate::manifest::replay::{FoundChunk, Replayed, replay};
use crate::manifest::state::ManifestState;
use crate::manifest::{Chunk, producer_table};
use crate::metrics::Replay;
use crate::segment::files;
use crate::segment::index::SparseIndex;
use crate::segment::scan::{ScanEnd, ScanStart, durable_upto_behind, end_of_written, scan};
use crate::segment::sealed::{Sealed, SealedInfo};
use crate::stream::StreamIdentity;
use crate::stream::producers::Producers;

/// Torn bytes kept for inspection, per segment.
const QUARANTINE_LIMIT_BYTES: u64 = 64 << 20;

/// A stream's files.
pub(crate) struct Found {
    pub header: StreamHeader,
    pub directory: PathBuf,
    pub identity: StreamIdentity,
    replayed: Option<Replayed>,
    sealed: Vec<SealedInfo>,
    missing: Vec<u64>,
    pub unsealed: BTreeMap<u64, FoundSegment>,
    sealed_bytes: u64,
    highest_segment_id: u64,
    touched: Vec<Arc<dyn DiskFile>>,
}

/// A segment whose seal is not committed.
pub(crate) struct FoundSegment {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Its file has no name of its own yet.
    is_spare: bool,
    /// Offset and sequence that were durable, as the journal proves.
    must_reach: u64,
    durable_upto: u64,
}

/// A segment that goes on being read, and is sealed behind the scenes.
pub(crate) struct RecoveredSegment {
    pub id: u64,
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    pub is_spare: bool,
    pub base_sequence: u64,
    pub epoch: u32,
    pub created_unix_nanos: i64,
    pub end: u64,
    pub end_sequence: u64,
    pub chain: u32,
    pub allocated: u64,
    pub index: SparseIndex,
    pub producers: Producers,
}

pub(crate) struct RecoveredStream {
    pub header: StreamHeader,
    pub directory: PathBuf,
    pub identity: StreamIdentity,
    pub epoch: u32,
    pub state: ManifestState,
    pub manifest_chain: u32,
    pub chunk: Option<Chunk>,
    pub sealed: Vec<Sealed>,
    pub unsealed: Vec<RecoveredSegment>,
    pub next_sequence: u64,
    pub chain: u32,
    pub next_segment_id: u64,
    pub producers: Producers,
    pub allocated_bytes: u64,
    /// First sequence that is gone, and why.
    pub damage: Option<(u64, String)>,
    /// To be synced before the stream serves.
    pub touched: Vec<Arc<dyn DiskFile>>,
}

impl FoundSegment {
    /// Writes a frame of the journal to its place.
    pub fn apply(&mut self, position: u64, bytes: &[u8], seed: Seed) -> io::Result<()> {
        self.file.write_all_at(bytes, position)?;
        self.must_reach = self.must_reach.max(position + bytes.len() as u64);
        let mut at = if position < DATA_OFFSET {
            (DATA_OFFSET - position) as usize
        } else {
            0
        };
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Ok(header) = record_batch::decode_header(rest, seed) else {
                break;
            };
            self.durable_upto = self
                .durable_upto
                .max(header.fields.base_sequence + u64::from(header.body.count));
            at += header.batch_bytes();
        }
        Ok(())
    }
}

impl Found {
    pub fn new(header: StreamHeader, directory: PathBuf) -> Found {
        let identity = StreamIdentity {
            uuid: header.stream_uuid,
            number: header.stream_number,
            salt: header.stream_salt,
            seed: Seed::new(header.stream_salt),
        };
        Found {
            header,
            directory,
            identity,
            replayed: None,
            sealed: Vec::new(),
            missing: Vec::new(),
            unsealed: BTreeMap::new(),
            sealed_bytes: 0,
            highest_segment_id: 0,
            touched: Vec::new(),
        }
    }

    pub fn replay_manifest(&mut self, disk: &dyn Disk, image: &Image) -> Result<(), OpenError> {
        let directory = files::manifest(&self.directory);
        let mut chunks: BTreeMap<u64, FoundChunk> = BTreeMap::new();
        for entry in disk.list(&directory).map_err(at("list", &directory))? {
            let path = directory.join(&entry.name);
            if entry.name.ends_with(file::TMP_SUFFIX) {
                disk.unlink(&path).map_err(at("remove", &path))?;
                continue;
            }
            let Some((_, number)) = file::parse_manifest_chunk(&entry.name) else {
                continue;
            };
            let file = disk
                .open_write(&path, FileClass::Manifest)
                .map_err(at("open", &path))?;
            file.forget_cache().map_err(at("read", &path))?;
            let key = (self.identity.number, FileKind::ManifestChunk, number);
            let must_reach = image.positions.get(&key).copied().unwrap_or(0);
            chunks.insert(
                number,
                FoundChunk {
                    number,
                    file,
                    must_reach,
                },
            );
        }
        let mut missing = None;
        for frame in image
            .manifests
            .iter()
            .filter(|frame| frame.stream == self.identity.number)
        {
            let Some(chunk) = chunks.get_mut(&frame.chunk) else {
                missing = Some(frame.chunk);
                continue;
            };
            chunk
                .file
                .write_all_at(&frame.bytes, frame.position)
                .map_err(at("write", chunk.file.path()))?;
            chunk.must_reach = chunk
                .must_reach
                .max(frame.position + frame.bytes.len() as u64);
        }
        let chunks: Vec<FoundChunk> = chunks.into_values().collect();
        let mut replayed = replay(&chunks, self.identity.seed).map_err(at("read", &directory))?;
        if let Some(chunk) = missing {
            replayed
                .damage
                .get_or_insert_with(|| format!("manifest chunk {chunk} is missing"));
        }
        if chunks.is_empty() {
            replayed
                .damage
                .get_or_insert_with(|| "the manifest is missing".to_owned());
        }
        self.touched
            .extend(chunks.into_iter().map(|chunk| chunk.file));
        self.replayed = Some(replayed);
        Ok(())
    }

    /// Sorts the segment files into sealed ones and others.
    pub fn open_segments(&mut self, disk: &dyn Disk, image: &Image) -> Result<(), OpenError> {
        let Some(replayed) = &self.replayed else {
            unreachable!("the manifest is replayed first")
        };
        let directory = files::segments(&self.directory);
        let mut sealed: BTreeMap<u64, SealedInfo> = replayed
            .state
            .sealed()
            .filter(|(_, ledger, _)| !ledger.evicted)
            .map(|(segment_id, ledger, seal)| {
                let info = SealedInfo {
                    segment_id,
                    epoch: ledger.epoch,
                    base_sequence: ledger.base_sequence,
                    end_sequence: seal.end_sequence,
                    data_end: seal.data_end,
                    crc64: seal.crc64,
                };
                (segment_id, info)
            })
            .collect();
        self.highest_segment_id = replayed.state.segments.keys().max().copied().unwrap_or(0);
        for entry in disk.list(&directory).map_err(at("list", &directory))? {
            let path = directory.join(&entry.name);
            if entry.name.ends_with(file::TMP_SUFFIX) {
                disk.unlink(&path).map_err(at("remove", &path))?;
                continue;
            }
            let named = file::parse_segment(&entry.name)
                .map(|SegmentRef { segment_id, .. }| (segment_id, false));
            let Some((id, is_spare)) =
                named.or_else(|| files::parse_spare(&entry.name).map(|id| (id, true)))
            else {
                continue;
            };
            self.highest_segment_id = self.highest_segment_id.max(id);
            if let Some(info) = sealed.remove(&id) {
                self.sealed_bytes += info.file_bytes();
                self.sealed.push(info);
                continue;
            }
            let file = disk
                .open_write(&path, FileClass::Segment)
                .map_err(at("open", &path))?;
            file.forget_cache().map_err(at("read", &path))?;
            let key = (self.identity.number, FileKind::Segment, id);
            let must_reach = image.positions.get(&key).copied().unwrap_or(0);
            self.unsealed.insert(
                id,
                FoundSegment {
                    file,
                    path,
                    is_spare,
                    must_reach,
                    durable_upto: 0,
                },
            );
        }
        self.sealed.sort_by_key(|info| info.base_sequence);
        self.missing = sealed.into_keys().collect();
        Ok(())
    }

    /// After the journal's frames are in the files.
    pub fn recover(
        self,
        disk: &dyn Disk,
        replay: &mut Replay,
    ) -> Result<RecoveredStream, OpenError> {
        let Found {
            header,
            directory,
            identity,
            replayed,
            sealed,
            missing,
            unsealed,
            sealed_bytes,
            highest_segment_id,
            touched,
        } = self;
        let Some(Replayed {
            state,
            chain: manifest_chain,
            chunk,
            records: _,
            damage: manifest_damage,
        }) = replayed
        else {
            unreachable!("the manifest is replayed first")
        };
        let producers = match &state.producers {
            None => Producers::default(),
            Some(blob) => producer_table::decode(blob).unwrap_or_default(),
        };
        let mut walk = Walk {
            disk,
            directory: &directory,
            identity,
            next_sequence: state.sealed_upto(),
            chain: None,
            epoch: header.epoch,
            producers,
            durable_upto: 0,
            damage: manifest_damage,
            recovered: Vec::new(),
            touched,
            allocated_bytes: sealed_bytes,
            replay,
        };
        if let Some(id) = missing.first() {
            walk.damage
                .get_or_insert_with(|| format!("sealed segment {id} is missing"));
        }
        if let Some(last) = sealed.last() {
            walk.chain_after(last)?;
        }
        for (id, segment) in unsealed {
            walk.segment(id, segment)?;
        }
        if walk.durable_upto > walk.next_sequence {
            let (durable, end) = (walk.durable_upto, walk.next_sequence);
            walk.damage
                .get_or_insert_with(|| format!("{durable} records were durable, {end} are found"));
        }
        let Walk {
            next_sequence,
            chain,
            epoch,
            producers,
            damage,
            recovered,
            touched,
            allocated_bytes,
            ..
        } = walk;
        let damage = damage.map(|message| (next_sequence, message));
        if let Some((sequence, message)) = &damage {
            tracing::error!(stream = %header.stream, sequence, message, "the stream is damaged");
        }
        let epoch = state
            .segments
            .values()
            .map(|ledger| ledger.epoch)
            .max()
            .unwrap_or(0)
            .max(epoch);
        let sealed = sealed
            .into_iter()
            .map(|info| {
                let path =
                    files::segment(&directory, info.base_sequence, info.epoch, info.segment_id);
                Sealed::new(info, path, None)
            })
            .collect();
        Ok(RecoveredStream {
            header,
            directory,
            identity,
            epoch,
            state,
            manifest_chain,
            chunk,
            sealed,
            unsealed: recovered,
            next_sequence,
            chain: chain.unwrap_or(0),
            next_segment_id: highest_segment_id + 1,
            producers,
            allocated_bytes,
            damage,
            touched,
        })
    }
}

/// Goes over the segments that are not sealed, in order.
struct Walk<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    identity: StreamIdentity,
    next_sequence: u64,
    /// `None`: nothing to hold the first segment's against.
    chain: Option<u32>,
    epoch: u32,
    producers: Producers,
    /// Count of records that something proves were durable.
    durable_upto: u64,
    damage: Option<String>,
    recovered: Vec<RecoveredSegment>,
    touched: Vec<Arc<dyn DiskFile>>,
    allocated_bytes: u64,
    replay: &'a mut Replay,
}

impl Walk<'_> {
    /// Takes the chain from the seal block of the last sealed segment.
    fn chain_after(&mut self, last: &SealedInfo) -> Result<(), OpenError> {
        let path = files::segment(
            self.directory,
            last.base_sequence,
            last.epoch,
            last.segment_id,
        );
        let file = self.disk.open_read(&path).map_err(at("open", &path))?;
        let mut block = [0; BLOCK_BYTES];
        let read = file
            .read_at(&mut block, SegmentSeal::offset(last.data_end))
            .map_err(at("read", &path))?;
        match SegmentSeal::decode(&block[..read]) {
            Ok(seal)
                if seal.segment_id == last.segment_id && seal.end_sequence == last.end_sequence =>
            {
                self.chain = Some(seal.chain);
            }
            Ok(_) => {
                self.damage.get_or_insert_with(|| {
                    format!("the seal of segment {} is another's", last.segment_id)
                });
            }
            Err(damage) => {
                self.damage
                    .get_or_insert_with(|| format!("segment {}: {damage}", last.segment_id));
            }
        }
        Ok(())
    }

    fn segment(&mut self, id: u64, segment: FoundSegment) -> Result<(), OpenError> {
        let path = segment.path.clone();
        let disk_error = |verb: &'static str| at(verb, &path);
        self.durable_upto = self.durable_upto.max(segment.durable_upto);
        let length = segment.file.len().map_err(disk_error("look at"))?;
        let mut block = [0; BLOCK_BYTES];
        let read = segment
            .file
            .read_at(&mut block, 0)
            .map_err(disk_error("read"))?;
        let header = match SegmentHeader::decode(&block[..read]) {
            Ok(header) if header.stream_uuid == self.identity.uuid && header.segment_id == id => {
                header
            }
            other => {
                let why = other.map_or_else(
                    |damage| damage.to_string(),
                    |_| "its header is another's".to_owned(),
                );
                return self.without_header(id, &segment, &why, length);
            }
        };
        let follows = header.base_sequence == self.next_sequence
            && self.chain.is_none_or(|chain| chain == header.prev_chain);
        if !follows {
            return self.out_of_line(id, &segment, &header, length);
        }
        let mut index = SparseIndex::default();
        let producers = &mut self.producers;
        let start = ScanStart {
            offset: DATA_OFFSET,
            next_sequence: header.base_sequence,
            chain: header.prev_chain,
        };
        let end = scan(
            &*segment.file,
            self.identity.seed,
            start,
            |batch, offset| {
                let fields = batch.fields();
                index.note(fields.base_sequence, offset);
                if fields.producer.id != 0 {
                    producers.note(
                        fields.producer.id,
                        fields.producer.seq,
                        batch.count().into(),
                        fields.base_sequence,
                    );
                }
            },
        )
        .map_err(disk_error("read"))?;
        self.replay.segment_bytes += end.offset;
        self.replay.records += end.records;
        self.durable_upto = self.durable_upto.max(end.durable_upto);
        self.next_sequence = end.next_sequence;
        self.chain = Some(end.chain);
        self.epoch = self.epoch.max(header.epoch);
        self.check_end(id, &segment, &end, length)?;
        self.allocated_bytes += length;
        if end.records == 0 && self.damage.is_none() {
            // A header and nothing else: its first record never made it.
            self.allocated_bytes -= length;
            return self
                .disk
                .unlink(&segment.path)
                .map_err(disk_error("remove"));
        }
        self.touched.push(segment.file.clone());
        self.recovered.push(RecoveredSegment {
            id,
            file: segment.file,
            path: segment.path,
            is_spare: segment.is_spare,
            base_sequence: header.base_sequence,
            epoch: header.epoch,
            created_unix_nanos: header.created_unix_nanos,
            end: end.offset,
            end_sequence: end.next_sequence,
            chain: end.chain,
            allocated: length,
            index,
            producers: self.producers.clone(),
        });
        Ok(())
    }

    /// Torn or damaged? Torn bytes are kept aside and zeroed, so that they can never become valid later.
    fn check_end(
        &mut self,
        id: u64,
        segment: &FoundSegment,
        end: &ScanEnd,
        length: u64,
    ) -> Result<(), OpenError> {
        let disk_error = |verb: &'static str| at(verb, &segment.path);
        if segment.must_reach > end.offset {
            let stopped = end
                .stopped_by
                .as_deref()
                .unwrap_or("nothing is written there");
            let (offset, must) = (end.offset, segment.must_reach);
            self.damage.get_or_insert_with(|| {
                format!("segment {id} verifies up to {offset}, {must} was durable: {stopped}")
            });
            return Ok(());
        }
        if let Some(seal) = self.seal_block(segment, length)? {
            if seal.segment_id == id && seal.data_end == end.offset {
                return Ok(());
            }
            if seal.segment_id == id && seal.data_end > end.offset {
                let (offset, must) = (end.offset, seal.data_end);
                self.damage.get_or_insert_with(|| {
                    format!("segment {id} verifies up to {offset}, it was sealed at {must}")
                });
                return Ok(());
            }
        }
        let Some(written_end) =
            end_of_written(&*segment.file, end.offset).map_err(disk_error("read"))?
        else {
            return Ok(());
        };
        let behind = durable_upto_behind(&*segment.file, self.identity.seed, end.offset)
            .map_err(disk_error("read"))?;
        if let Some(durable_upto) = behind {
            self.durable_upto = self.durable_upto.max(durable_upto);
            if durable_upto > end.next_sequence {
                let found = end.next_sequence;
                self.damage.get_or_insert_with(|| {
                    format!("segment {id} holds {found} records, {durable_upto} were durable")
                });
                return Ok(());
            }
        }
        if self.damage.is_none() {
            self.quarantine(id, segment, end.offset, written_end)?;
        }
        Ok(())
    }

    fn seal_block(
        &self,
        segment: &FoundSegment,
        length: u64,
    ) -> Result<Option<SegmentSeal>, OpenError> {
        let Some(offset) = length.checked_sub(BLOCK_BYTES as u64) else {
            return Ok(None);
        };
        let mut block = [0; BLOCK_BYTES];
        let read = segment
            .file
            .read_at(&mut block, offset)
            .map_err(at("read", &segment.path))?;
        Ok(SegmentSeal::decode(&block[..read])
            .ok()
            .filter(|seal| seal.stream_uuid == self.identity.uuid))
    }

    fn quarantine(
        &mut self,
        id: u64,
        segment: &FoundSegment,
        from: u64,
        to: u64,
    ) -> Result<(), OpenError> {
        let directory = files::quarantine(self.directory);
        self.disk
            .create_directory(&directory)
            .map_err(at("create", &directory))?;
        let length = (to - from).min(QUARANTINE_LIMIT_BYTES) as usize;
        let mut torn = vec![0; length];
        let read = segment
            .file
            .read_at(&mut torn, from)
            .map_err(at("read", &segment.path))?;
        torn.truncate(read);
        let path = directory.join(format!("{id:020}-{from:020}.torn"));
        replace_file(self.disk, &path, &torn, FileClass::Other).map_err(at("write", &path))?;
        let zeroes = vec![0; 1 << 20];
        let mut offset = from;
        while offset < to {
            let part = zeroes.len().min((to - offset) as usize);
            segment
                .file
                .write_all_at(&zeroes[..part], offset)
                .map_err(at("zero", &segment.path))?;
            offset += part as u64;
        }
        self.replay.torn_bytes += to - from;
        Ok(())
    }

    /// Made ahead and never used, or torn in its first block.
    fn without_header(
        &mut self,
        id: u64,
        segment: &FoundSegment,
        why: &str,
        length: u64,
    ) -> Result<(), OpenError> {
        let behind = durable_upto_behind(&*segment.file, self.identity.seed, 0)
            .map_err(at("read", &segment.path))?;
        self.durable_upto = self.durable_upto.max(behind.unwrap_or(0));
        if segment.must_reach > 0
            || behind.is_some_and(|durable_upto| durable_upto > self.next_sequence)
        {
            self.damage.get_or_insert_with(|| {
                format!("segment {id} was durable and has no header: {why}")
            });
            self.allocated_bytes += length;
            return Ok(());
        }
        if self.damage.is_some() {
            self.allocated_bytes += length;
            return Ok(());
        }
        self.disk
            .unlink(&segment.path)
            .map_err(at("remove", &segment.path))
    }

    /// A segment that does not begin where the one before ends: records between are missing. Where nothing proves that they or
    /// these were durable, they were buffered and are lost together.
    fn out_of_line(
        &mut self,
        id: u64,
        segment: &FoundSegment,
        header: &SegmentHeader,
        length: u64,
    ) -> Result<(), OpenError> {
        let behind = durable_upto_behind(&*segment.file, self.identity.seed, DATA_OFFSET)
            .map_err(at("read", &segment.path))?;
        self.durable_upto = self.durable_upto.max(behind.unwrap_or(0));
        if self.damage.is_some() || segment.must_reach > 0 || self.durable_upto > self.next_sequence
        {
            let (base, expected) = (header.base_sequence, self.next_sequence);
            self.damage.get_or_insert_with(|| {
                format!("segment {id} begins at sequence {base}, {expected} was expected")
            });
            self.allocated_bytes += length;
            return Ok(());
        }
        let directory = files::quarantine(self.directory);
        self.disk
            .create_directory(&directory)
            .map_err(at("create", &directory))?;
        let to = directory.join(format!("{id:020}.segment"));
        self.disk
            .rename(&segment.path, &to)
            .map_err(at("rename", &segment.path))?;
        let segments = files::segments(self.directory);
        self.disk
            .sync_directory(&segments)
            .map_err(at("sync", &segments))?;
        self.replay.torn_bytes += length;
        Ok(())
    }
}
