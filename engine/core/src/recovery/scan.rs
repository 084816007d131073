//! Goes over a stream's segments that are not sealed, oldest first, and tells torn from damaged.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aof2_format::BLOCK_BYTES;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader, SegmentSeal};

use super::stream::{FoundSegment, RecoveredSegment};
use super::volume::at;
use crate::error::OpenError;
use crate::identity::StreamIdentity;
use crate::io::{Disk, DiskFile, FileClass, Lack, WriteError, create_whole, lack_of};
use crate::metrics::Replay;
use crate::port::RecordTimes;
use crate::producers::Producers;
use crate::segment::files;
use crate::segment::index::SparseIndex;
use crate::segment::scan::{ScanEnd, ScanStart, durable_upto_behind, end_of_written, scan};

/// Torn bytes kept for inspection, per segment.
const QUARANTINE_LIMIT_BYTES: u64 = 64 << 20;

/// Copied or zeroed at once.
const PIECE_BYTES: usize = 1 << 20;

/// To the beginning of another file, as far as there is something.
fn copy(
    from: &dyn DiskFile,
    range: Range<u64>,
    to: &dyn DiskFile,
) -> Result<(), (&'static str, io::Error)> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = PIECE_BYTES.min((range.end - offset) as usize);
        let read = from
            .read_at(&mut piece[..wanted], offset)
            .map_err(|error| ("copy to", error))?;
        if read == 0 {
            break;
        }
        to.write_all_at(&piece[..read], offset - range.start)
            .map_err(|error| ("write", error))?;
        offset += read as u64;
    }
    Ok(())
}

/// Goes over the segments that are not sealed, in order.
pub(super) struct Scan<'a> {
    pub disk: &'a dyn Disk,
    pub directory: &'a Path,
    pub identity: StreamIdentity,
    pub next_sequence: u64,
    /// `None`: nothing to hold the first segment's against.
    pub chain: Option<u32>,
    pub epoch: u32,
    pub producers: Producers,
    /// Count of records that something proves were durable.
    pub durable_upto: u64,
    pub damage: Option<String>,
    /// Segment and offset where the first damage begins.
    pub bad_from: Option<(u64, u64)>,
    /// Bytes behind it that were durable or may have been.
    pub lost_bytes: u64,
    /// Of the whole journal.
    pub journal_bytes: u64,
    /// What of the segment that is looked at counts, where the rest was given up.
    pub cut_at: Option<u64>,
    pub recovered: Vec<RecoveredSegment>,
    /// Segments and how far they have to verify when this volume is opened again: the journal that said so is written over.
    pub must_reach: Vec<(u64, u64)>,
    pub touched: Vec<Arc<dyn DiskFile>>,
    pub allocated_bytes: u64,
    pub replay: &'a mut Replay,
}

impl Scan<'_> {
    /// A segment whose file is gone before it was sealed.
    pub fn absent(&mut self, id: u64, reach: u64) {
        self.damaged(id, 0, self.lost_at_least(reach, 0), || {
            format!("segment {id} is missing ({reach} durable bytes)")
        });
        self.must_reach.push((id, reach));
    }

    /// One byte more than there is says that a journal lost records of nobody knows whom: as many as it held.
    fn lost_at_least(&self, must_reach: u64, end: u64) -> u64 {
        match must_reach.saturating_sub(end) {
            1 => self.journal_bytes,
            bytes => bytes,
        }
    }

    /// The first damage is the one that is reported; all of them count as lost.
    fn damaged(&mut self, id: u64, offset: u64, lost_bytes: u64, message: impl FnOnce() -> String) {
        self.lost_bytes += lost_bytes;
        self.bad_from.get_or_insert((id, offset));
        self.damage.get_or_insert_with(message);
    }

    pub fn segment(&mut self, id: u64, segment: FoundSegment) -> Result<(), OpenError> {
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
                    |_| "header belongs to another segment".to_owned(),
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
        let mut times: Option<RecordTimes> = None;
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
                let appended = fields.appended_unix_nanos;
                times
                    .get_or_insert(RecordTimes::at(appended))
                    .note(appended);
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
        let torn_before = self.replay.torn_bytes;
        self.check_end(id, &segment, &end, length)?;
        let is_cut = self.replay.torn_bytes > torn_before;
        self.allocated_bytes += length;
        if end.next_sequence == header.base_sequence && self.damage.is_none() {
            // A header and nothing else: its first record never made it.
            self.allocated_bytes -= length;
            return self
                .disk
                .unlink(&segment.path)
                .map_err(disk_error("remove"));
        }
        // What is recovered is acknowledged again from here on.
        self.must_reach
            .push((id, segment.must_reach.max(end.offset)));
        if is_cut || segment.is_written {
            self.touched.push(segment.file.clone());
        }
        self.recovered.push(RecoveredSegment {
            id,
            file: segment.file,
            path: segment.path,
            is_spare: segment.is_spare,
            base_sequence: header.base_sequence,
            epoch: header.epoch,
            end: end.offset,
            end_sequence: end.next_sequence,
            chain: end.chain,
            times: times.unwrap_or_else(|| RecordTimes::at(header.created_unix_nanos)),
            allocated: length,
            index,
            changes: self.producers.take_changes(),
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
            let stopped = end.stopped_by.as_deref().unwrap_or("nothing written there");
            let (offset, must) = (end.offset, segment.must_reach);
            let lost_bytes = self
                .lost_at_least(must, offset)
                .max(length.max(offset) - offset);
            self.damaged(id, offset, lost_bytes, || {
                format!("segment {id} verifies up to byte {offset}, but byte {must} was durable ({stopped})")
            });
            return Ok(());
        }
        let is_given_up = self.cut_at.is_some();
        if let Some(seal) = self.seal_block(segment, length)?.filter(|_| !is_given_up) {
            if seal.segment_id == id && seal.data_end == end.offset {
                return Ok(());
            }
            if seal.segment_id == id && seal.data_end > end.offset {
                let (offset, must) = (end.offset, seal.data_end);
                self.damaged(id, offset, length - offset, || {
                    format!(
                        "segment {id} verifies up to byte {offset}, but its seal is at byte {must}"
                    )
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
        if let Some(durable_upto) = behind.filter(|_| !is_given_up) {
            self.durable_upto = self.durable_upto.max(durable_upto);
            if durable_upto > end.next_sequence {
                let found = end.next_sequence;
                self.damaged(id, end.offset, written_end - end.offset, || {
                    format!("segment {id} holds {found} records, but {durable_upto} were durable")
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
        match self.keep_torn(id, segment, from, to) {
            Ok(()) => {}
            Err(failed) if self.does_without(&failed.source) => {
                let (path, bytes) = (segment.path.display(), to - from);
                tracing::warn!(
                    "the volume is full: {bytes} torn bytes in {path} are cleared, and no copy of them is kept; none of them was acknowledged"
                );
            }
            Err(failed) => return Err(at(failed.verb, &failed.path)(failed.source)),
        }
        let zeroes = vec![0; PIECE_BYTES];
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

    /// Of what was never acknowledged, for want of space: a start on a full volume keeps no copy of it. What a person gave up is always kept.
    fn does_without(&self, error: &io::Error) -> bool {
        lack_of(error) == Some(Lack::Space) && self.cut_at.is_none()
    }

    /// For whoever looks into it.
    fn keep_torn(
        &self,
        id: u64,
        segment: &FoundSegment,
        from: u64,
        to: u64,
    ) -> Result<(), WriteError> {
        let directory = files::quarantine(self.directory);
        self.disk
            .create_directory(&directory)
            .map_err(|source| WriteError {
                verb: "create",
                path: directory.clone(),
                source,
            })?;
        // What a person gave up is kept as a whole.
        let limit = match self.cut_at {
            Some(_) => u64::MAX,
            None => QUARANTINE_LIMIT_BYTES,
        };
        let path = directory.join(format!("{id:020}-{from:020}.torn"));
        let kept = from..from + (to - from).min(limit);
        let made = create_whole(self.disk, &path, FileClass::Other, |file| {
            copy(&*segment.file, kept, file)
        });
        made.map(drop)
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
            self.damaged(id, 0, length.max(segment.must_reach), || {
                format!("header of durable segment {id} is damaged: {why}")
            });
            self.must_reach.push((id, segment.must_reach));
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
            self.damaged(id, 0, length.max(segment.must_reach), || {
                format!("segment {id} begins at sequence {base}, expected {expected}")
            });
            self.must_reach.push((id, segment.must_reach));
            self.allocated_bytes += length;
            return Ok(());
        }
        match self.move_aside(id, &segment.path) {
            Err(OpenError::Disk { source, .. }) if self.does_without(&source) => {
                self.remove(&segment.path)?;
            }
            moved => moved?,
        }
        self.replay.torn_bytes += length;
        Ok(())
    }

    /// Durably, so that it is not there again behind records that this process acknowledges.
    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        let name = path.display();
        tracing::warn!(
            "the volume is full: {name} is removed and no copy of it is kept; none of its records was acknowledged"
        );
        self.disk.unlink(path).map_err(at("remove", path))?;
        let segments = files::segments(self.directory);
        self.disk
            .sync_directory(&segments)
            .map_err(at("sync", &segments))
    }

    pub fn move_aside(&self, id: u64, path: &Path) -> Result<(), OpenError> {
        let directory = files::quarantine(self.directory);
        self.disk
            .create_directory(&directory)
            .map_err(at("create", &directory))?;
        let to = directory.join(format!("{id:020}.segment"));
        self.disk.rename(path, &to).map_err(at("rename", path))?;
        let segments = files::segments(self.directory);
        for synced in [&directory, &segments] {
            self.disk
                .sync_directory(synced)
                .map_err(at("sync", synced))?;
        }
        Ok(())
    }
}
