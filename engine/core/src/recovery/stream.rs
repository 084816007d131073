//! One stream's part of recovery.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aof2_format::Seed;
use aof2_format::cut::StreamCut;
use aof2_format::journal::FileKind;
use aof2_format::names::{SegmentRef, file};
use aof2_format::record_batch;
use aof2_format::segment::DATA_OFFSET;
use aof2_format::stream_header::StreamHeader;

use super::cut;
use super::manifest;
use super::scan::Scan;
use super::sealed::{self, SealedSegments};
use super::volume::at;
use crate::error::OpenError;
use crate::identity::StreamIdentity;
use crate::io::{Disk, DiskFile, FileClass, holds};
use crate::journal::replay::Image;
use crate::manifest::replay::Replayed;
use crate::manifest::state::ManifestState;
use crate::manifest::{Chunk, ClosedChunk};
use crate::metrics::Replay;
use crate::port::RecordTimes;
use crate::producers::{Changes, Producers};
use crate::request::DamagedRange;
use crate::segment::files;
use crate::segment::index::SparseIndex;
use crate::segment::sealed::{Sealed, SealedInfo};

/// What the journal says of every stream.
pub(crate) struct JournalFacts<'a> {
    /// It has lost records, nobody knows whose; no more than all of its bytes.
    pub lost: Option<&'a str>,
    pub bytes: u64,
    pub next_commit: u64,
}

/// A stream's files.
pub(crate) struct Found {
    pub header: StreamHeader,
    pub directory: PathBuf,
    pub identity: StreamIdentity,
    replayed: Option<Replayed>,
    sealed: Vec<SealedInfo>,
    pub unsealed: BTreeMap<u64, FoundSegment>,
    /// Segments without a file, sealed ones among them: how far the journal knows them to be durable.
    absent: BTreeMap<u64, u64>,
    highest_segment_id: u64,
    touched: Vec<Arc<dyn DiskFile>>,
    /// Why nothing of the directory is looked at.
    refused: Option<String>,
}

/// A segment whose seal is not committed.
pub(crate) struct FoundSegment {
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    /// Its file has no name of its own yet.
    pub is_spare: bool,
    /// Offset and sequence that were durable, as the journal proves.
    pub must_reach: u64,
    pub durable_upto: u64,
    /// By this start: the rest was synced with the volume.
    pub is_written: bool,
}

/// A segment that goes on being read, and is sealed behind the scenes.
pub(crate) struct RecoveredSegment {
    pub id: u64,
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    pub is_spare: bool,
    pub base_sequence: u64,
    pub epoch: u32,
    pub end: u64,
    pub end_sequence: u64,
    pub chain: u32,
    pub times: RecordTimes,
    pub allocated: u64,
    pub index: SparseIndex,
    /// What it changes of the stream's producers.
    pub changes: Changes,
}

pub(crate) struct RecoveredStream {
    pub header: StreamHeader,
    pub directory: PathBuf,
    pub identity: StreamIdentity,
    pub epoch: u32,
    pub state: ManifestState,
    pub manifest_chain: u32,
    pub chunk: Option<Chunk>,
    pub closed_chunks: Vec<ClosedChunk>,
    pub chunk_substance: u64,
    /// Number and bytes of the chunks that have to verify that far when this volume is opened again.
    pub chunks_must_reach: Vec<(u64, u64)>,
    /// The same of segments that are not sealed. A stream that is damaged stays so until somebody repairs it.
    pub segments_must_reach: Vec<(u64, u64)>,
    pub sealed: Vec<Sealed>,
    /// Sealed segments of which nothing is served.
    pub damaged: Vec<DamagedRange>,
    pub unsealed: Vec<RecoveredSegment>,
    pub next_sequence: u64,
    pub chain: u32,
    pub next_segment_id: u64,
    pub producers: Producers,
    pub allocated_bytes: u64,
    /// First sequence that is gone, and why.
    pub damage: Option<(u64, String)>,
    /// What a cut would give up, where the damage is at the stream's end.
    pub possible_cut: Option<StreamCut>,
    /// The last one; its gap may not be sealed yet.
    pub cut: Option<StreamCut>,
    /// To be synced before the stream serves.
    pub touched: Vec<Arc<dyn DiskFile>>,
}

impl RecoveredStream {
    /// The newest time that its records and seals name.
    pub fn newest_unix_nanos(&self) -> i64 {
        let open = self.unsealed.iter().map(|it| it.times.last_unix_nanos);
        // Trimmed ones too: a time that was stored once stays.
        let segments = self.state.residency.segments();
        let seals = segments.filter_map(|(_, segment)| segment.seal);
        let sealed = seals.map(|seal| seal.times.last_unix_nanos);
        let created = self.header.created_unix_nanos;
        open.chain(sealed)
            .max()
            .map_or(created, |it| it.max(created))
    }
}

impl FoundSegment {
    /// Writes a frame of the journal to its place, unless it is there: the volume was synced and what the cache held of the file forgotten,
    /// so that what reads back is on the device. Without this a start would write and sync every stream.
    pub fn apply(&mut self, position: u64, bytes: &[u8], seed: Seed) -> io::Result<()> {
        let reach = position + bytes.len() as u64;
        if !holds(&*self.file, position, bytes) {
            self.file.write_all_at(bytes, position)?;
            self.is_written = true;
        }
        self.must_reach = self.must_reach.max(reach);
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
            unsealed: BTreeMap::new(),
            absent: BTreeMap::new(),
            highest_segment_id: 0,
            touched: Vec::new(),
            refused: None,
        }
    }

    /// A directory that cannot be read as a stream of this volume. Its name is taken all the same.
    pub fn refused(header: StreamHeader, directory: PathBuf, why: String) -> Found {
        Found {
            refused: Some(why),
            ..Found::new(header, directory)
        }
    }

    pub fn replay_manifest(&mut self, disk: &dyn Disk, image: &Image) -> Result<(), OpenError> {
        let mut replayed = match &self.refused {
            Some(why) => Replayed::refused(why.clone()),
            None => manifest::replay(disk, &self.header, &self.directory, image)?,
        };
        self.touched.append(&mut replayed.touched);
        self.replayed = Some(replayed);
        Ok(())
    }

    /// Sorts the segment files into sealed ones and others.
    pub fn open_segments(&mut self, disk: &dyn Disk, image: &Image) -> Result<(), OpenError> {
        if self.refused.is_some() {
            return Ok(());
        }
        let Some(replayed) = &self.replayed else {
            unreachable!("the manifest is replayed first")
        };
        let directory = files::segments(&self.directory);
        // All of them, wherever their copies are: what a stream holds is what its manifest says.
        self.sealed = replayed
            .state
            .residency
            .readable()
            .map(|(segment_id, segment, seal)| SealedInfo {
                segment_id,
                epoch: segment.epoch,
                base_sequence: segment.base_sequence,
                end_sequence: seal.end_sequence,
                data_end: seal.data_end,
                crc64: seal.crc64,
            })
            .collect();
        let residency = &replayed.state.residency;
        self.highest_segment_id = residency.segments().map(|(id, _)| id).max().unwrap_or(0);
        for entry in files::list_or_empty(disk, &directory).map_err(at("list", &directory))? {
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
            if residency.is_sealed(id) {
                if replayed.damage.is_none() && residency.is_dropped(id) {
                    disk.unlink(&path).map_err(at("remove", &path))?;
                }
                continue;
            }
            // Made of others, and never sealed: nothing of it counts.
            if residency.is_unsealed_output(id) {
                if replayed.damage.is_none() {
                    disk.unlink(&path).map_err(at("remove", &path))?;
                }
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
                    is_written: false,
                },
            );
        }
        let number = self.identity.number;
        let all = (number, FileKind::Segment, 0)..=(number, FileKind::Segment, u64::MAX);
        for ((_, _, id), synced_bytes) in image.positions.range(all) {
            if !self.unsealed.contains_key(id) {
                self.note_absent(*id, *synced_bytes);
            }
        }
        Ok(())
    }

    /// The journal holds bytes of a segment that is sealed, or whose file is gone.
    pub fn note_absent(&mut self, segment_id: u64, reach: u64) {
        let known = self.absent.entry(segment_id).or_default();
        *known = (*known).max(reach);
    }

    /// After the journal's frames are in the files.
    pub fn recover(
        self,
        disk: &dyn Disk,
        journal: &JournalFacts<'_>,
        replay: &mut Replay,
    ) -> Result<RecoveredStream, OpenError> {
        let Found {
            header,
            directory,
            identity,
            replayed,
            sealed,
            unsealed,
            absent,
            highest_segment_id,
            touched,
            refused,
        } = self;
        let Some(Replayed {
            state,
            producers,
            chain: manifest_chain,
            chunk,
            closed: closed_chunks,
            substance: chunk_substance,
            records: _,
            must_reach: chunks_must_reach,
            touched: _,
            damage: manifest_damage,
        }) = replayed
        else {
            unreachable!("the manifest is replayed first")
        };
        let (producers, table_damage) = producers.finish();
        let can_be_cut = manifest_damage.is_none() && table_damage.is_none() && refused.is_none();
        let cut = match can_be_cut {
            true => cut::read(disk, &directory, identity.uuid)?,
            false => None,
        };
        let given_up_before = cut.as_ref().and_then(|cut| cut.lost_before_commit);
        let lost = journal
            .lost
            .filter(|_| given_up_before != Some(journal.next_commit));
        // Ids of what was given up are never used again: the journal may still hold frames of them.
        let given_up = cut.as_ref().map_or(0, |cut| cut.highest_segment_id);
        let missing = absent.keys().max().copied().unwrap_or(0);
        let highest_segment_id = highest_segment_id.max(given_up).max(missing);
        let SealedSegments {
            segments: sealed,
            damaged,
            bytes: sealed_bytes,
        } = sealed::look_at_all(disk, &directory, &state.residency, sealed)?;
        let mut scan = Scan {
            disk,
            directory: &directory,
            identity,
            next_sequence: state.residency.sealed_upto(),
            chain: state.residency.chain(),
            epoch: header.epoch,
            producers,
            durable_upto: 0,
            damage: manifest_damage.or(table_damage),
            bad_from: None,
            lost_bytes: 0,
            journal_bytes: journal.bytes,
            cut_at: None,
            recovered: Vec::new(),
            must_reach: Vec::new(),
            touched,
            allocated_bytes: sealed_bytes,
            replay,
        };
        for (id, reach) in absent {
            let is_given_up = cut.as_ref().is_some_and(|cut| cut.drops(id));
            if reach > 0 && !state.residency.is_sealed(id) && !is_given_up {
                scan.absent(id, reach);
            }
        }
        for (id, mut segment) in unsealed {
            if let Some(cut) = &cut {
                if cut.drops(id) {
                    scan.move_aside(id, &segment.path)?;
                    continue;
                }
                if cut.segment_id == id && cut.offset > 0 {
                    segment.must_reach = segment.must_reach.min(cut.offset);
                    segment.durable_upto = 0;
                    scan.cut_at = Some(cut.offset);
                }
            }
            scan.segment(id, segment)?;
            scan.cut_at = None;
        }
        if let Some(cut) = &cut {
            cut::write_gap(&mut scan, &header, cut)?;
        }
        if scan.durable_upto > scan.next_sequence {
            let (durable, end) = (scan.durable_upto, scan.next_sequence);
            scan.damage
                .get_or_insert_with(|| format!("{end} records found, but {durable} were durable"));
        }
        let Scan {
            next_sequence,
            chain,
            epoch,
            producers,
            damage,
            bad_from,
            durable_upto,
            lost_bytes,
            recovered,
            must_reach: segments_must_reach,
            touched,
            allocated_bytes,
            ..
        } = scan;
        let mut segments_must_reach = segments_must_reach;
        let damage = match (damage, lost) {
            (None, Some(why)) => {
                // One byte more than there is: so it is remembered when the journal that lost something is written over.
                segments_must_reach.push(match recovered.last() {
                    Some(last) => (last.id, last.end + 1),
                    None => (highest_segment_id + 1, 1),
                });
                Some(format!("records may be lost: {why}"))
            }
            (damage, _) => damage,
        };
        // Its number is not its own.
        if refused.is_some() {
            segments_must_reach.clear();
        }
        let lost_bytes = lost_bytes + lost.map_or(0, |_| journal.bytes);
        let possible_cut = damage.as_ref().filter(|_| can_be_cut).map(|message| {
            let (segment_id, offset) = bad_from.unwrap_or((highest_segment_id + 1, 0));
            cut::of(&cut::Facts {
                uuid: identity.uuid,
                segment_id,
                // A header alone holds nothing.
                offset: if offset > DATA_OFFSET { offset } else { 0 },
                highest_segment_id,
                next_sequence,
                durable_upto,
                lost_bytes,
                lost_before_commit: journal.lost.map(|_| journal.next_commit),
                damage: message,
            })
        });
        let damage = damage.map(|message| (next_sequence, message));
        if let Some((sequence, message)) = &damage {
            tracing::error!(stream = %header.stream, sequence, error = message, "stream damaged; its intact records stay readable");
        }
        let gap = cut.as_ref().map(StreamCut::gap_segment_id);
        let next_segment_id = (highest_segment_id + 1).max(gap.map_or(1, |id| id + 1));
        let epoch = state
            .residency
            .segments()
            .map(|(_, segment)| segment.epoch)
            .max()
            .unwrap_or(0)
            .max(epoch);
        Ok(RecoveredStream {
            header,
            directory,
            identity,
            epoch,
            state,
            manifest_chain,
            chunk,
            closed_chunks,
            chunk_substance,
            chunks_must_reach,
            segments_must_reach,
            sealed,
            damaged,
            unsealed: recovered,
            next_sequence,
            chain: chain.unwrap_or(0),
            next_segment_id,
            producers,
            allocated_bytes,
            damage,
            possible_cut,
            cut,
            touched,
        })
    }
}
