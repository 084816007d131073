//! Reading: a range in bounded batches, from memory, from the active segment's file, from the map of a sealed segment, or in blocks from
//! the tiers below. Every batch is verified on every read.

use std::sync::Arc;

use aof2_format::Damage;
use aof2_format::record_batch::{self, HEADER_BYTES, MAX_BATCH_BYTES, RecordBatch};
use bytes::{Bytes, BytesMut};

mod blocks;

use super::{Entry, Quarantined, Stream};
use crate::below::{BlockReader, Pending};
use crate::common::Common;
use crate::error::ReadError;
use crate::metrics::{self, add};
use crate::request::Record;
use crate::segment::survey::{hole, next_batch, out_of_line};

const READ_BYTES: usize = 256 << 10;
/// What a record counts besides its payload: at least what it takes in memory, and in a message.
pub const RECORD_BYTES: usize = 64;

const _: () = assert!(size_of::<Record>() <= RECORD_BYTES);

/// Records of a range, in order, in bounded batches.
pub struct Reader {
    common: Arc<Common>,
    stream: Arc<Stream>,
    next: u64,
    /// Records still wanted.
    left: u64,
    include_staged: bool,
    /// Where the batch that holds `next` is, if the last read ended there.
    cursor: Option<Cursor>,
    /// The segment that is read out of a lower tier.
    below: Option<(u64, Box<dyn BlockReader>)>,
    /// What was fetched ahead at the end of the one before.
    ahead_bytes: u64,
    /// Segment behind whose end this many bytes were asked for ahead.
    asked_behind: Option<(u64, u64)>,
    /// Since something was read.
    has_waited: bool,
}

/// What a reader has at the moment.
#[derive(Debug)]
pub enum Progress {
    /// Not empty.
    Records(Vec<Record>),
    /// At the limit, or at the end of what may be read now.
    End,
    /// The next records are on their way from a lower tier; ask again after.
    Waits(Pending),
}

/// Why a step of reading goes no further.
enum Stop {
    Error(ReadError),
    Waits(Pending),
    /// Another segment holds what is wanted, since this one was found.
    Again,
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        Stop::Error(error)
    }
}

#[derive(Clone, Copy)]
struct Cursor {
    segment_id: u64,
    offset: u64,
    /// Sequence of the batch that is expected there.
    sequence: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("stream", &self.stream.name)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(
        common: Arc<Common>,
        stream: Arc<Stream>,
        from: u64,
        limit: u64,
        include_staged: bool,
    ) -> Reader {
        let left = if limit == 0 { u64::MAX } else { limit };
        Reader {
            common,
            stream,
            next: from,
            left,
            include_staged,
            cursor: None,
            below: None,
            ahead_bytes: 0,
            asked_behind: None,
            has_waited: false,
        }
    }

    /// Sequence of the record that comes next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next records: one, or as many as are at most `max_bytes` where each counts its payload and [`RECORD_BYTES`], so that they
    /// are bounded in number too. What they hold of memory is bounded likewise, but for maps of sealed segments and blocks of lower tiers.
    /// `None` at the limit or at the end of what may be read now (call again later to go on from there). Blocks until lower tiers have
    /// answered.
    pub fn next_batch(&mut self, max_bytes: usize) -> Result<Option<Vec<Record>>, ReadError> {
        loop {
            match self.poll_batch(max_bytes)? {
                Progress::Records(records) => return Ok(Some(records)),
                Progress::End => return Ok(None),
                Progress::Waits(pending) => pending.wait(),
            }
        }
    }

    /// The same, without a wait for Tier 2.
    pub fn poll_batch(&mut self, max_bytes: usize) -> Result<Progress, ReadError> {
        if let Some(trimmed) = self.stream.trimmed(self.next) {
            return Err(trimmed);
        }
        let quarantined = self.stream.staged.lock().quarantined.clone();
        if let Some(Quarantined::Superseded { to }) = quarantined {
            let from = self.stream.epoch().into();
            return Err(ReadError::Superseded {
                stream: self.stream.name.to_string(),
                from,
                to,
            });
        }
        if let Some(Quarantined::Refused { reason, message }) = quarantined {
            return Err(ReadError::VolumeRefused {
                stream: self.stream.name.to_string(),
                reason,
                message: message.to_string(),
            });
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        loop {
            let end = self.end();
            if self.left == 0 || self.next >= end || bytes >= max_bytes {
                break;
            }
            match self.read_some(end, max_bytes, &mut bytes, &mut records) {
                Ok(()) => {}
                Err(Stop::Again) => {}
                // What was read before it comes first; the next call meets it again.
                Err(_) if !records.is_empty() => break,
                // What was in its way may be that the segment went.
                Err(Stop::Error(error)) => {
                    return Err(self.stream.trimmed(self.next).unwrap_or(error));
                }
                Err(Stop::Waits(pending)) => {
                    self.has_waited = true;
                    return Ok(Progress::Waits(pending));
                }
            }
        }
        if records.is_empty() {
            return match quarantined {
                Some(Quarantined::Damaged { sequence, message })
                    if self.left > 0 && self.next >= sequence =>
                {
                    Err(ReadError::Damaged {
                        stream: self.stream.name.to_string(),
                        sequence,
                        to_sequence: None,
                        segment_id: None,
                        message,
                    })
                }
                _ => {
                    self.below = None;
                    Ok(Progress::End)
                }
            };
        }
        add(&self.common.counters.records_read, records.len() as u64);
        Ok(Progress::Records(records))
    }

    fn end(&self) -> u64 {
        if self.include_staged {
            self.stream.staged.lock().next_sequence
        } else {
            self.stream.durable()
        }
    }

    /// Reads one block, or passes over damage that lies before what is wanted. An error when it leads no further.
    fn read_some(
        &mut self,
        end: u64,
        max_bytes: usize,
        bytes: &mut usize,
        records: &mut Vec<Record>,
    ) -> Result<(), Stop> {
        let entry = self.stream.entry_that_holds(self.next, end)?;
        if let Some((_, below)) = self.below.take_if(|(id, _)| *id != entry.id()) {
            let carries_on = self.next == entry.base_sequence();
            self.ahead_bytes = if carries_on { below.ahead_bytes() } else { 0 };
        }
        // What may lie behind its last record is not looked at.
        let end = match &entry {
            Entry::Sealed(sealed) => end.min(sealed.info.end_sequence),
            Entry::Open(_) => end,
        };
        let Cursor {
            offset,
            sequence: mut expected,
            ..
        } = match self.cursor {
            Some(cursor) if cursor.segment_id == entry.id() => cursor,
            _ => self.find(&entry)?,
        };
        let mut block = self.block(&entry, offset, READ_BYTES)?;
        let mut at = 0;
        if block.is_empty() {
            let what = "batches end before the segment".to_owned();
            return self.damaged(&entry, offset, expected, end, what);
        }
        let taken = records.len();
        while self.left > 0 && self.next < end && *bytes < max_bytes {
            if at == block.len() {
                break;
            }
            let batch = match record_batch::decode(&block[at..], self.stream.identity.seed) {
                Ok(batch) => batch,
                Err(Damage::Short { .. }) if at > 0 => break,
                Err(Damage::Short { need, .. }) if block.len() < MAX_BATCH_BYTES => {
                    let longer = self.block(
                        &entry,
                        offset,
                        (need as usize).max(block.len() + HEADER_BYTES),
                    )?;
                    if longer.len() <= block.len() {
                        let what = "segment ends inside a batch".to_owned();
                        return self.damaged(&entry, offset, expected, end, what);
                    }
                    block = longer;
                    continue;
                }
                Err(damage) => {
                    let offset = offset + at as u64;
                    return self.damaged(&entry, offset, expected, end, damage.to_string());
                }
            };
            let (base, batch_end) = (batch.base_sequence(), batch.end_sequence());
            let length = batch.batch_bytes();
            if base > expected {
                let offset = offset + at as u64;
                return self.damaged(&entry, offset, expected, end, out_of_line(base, expected));
            }
            if batch_end > self.next {
                self.take(&batch, &block, end, max_bytes, bytes, records);
                if self.next < batch_end {
                    break;
                }
            }
            expected = expected.max(batch_end);
            at += length;
        }
        self.count_served(&records[taken..]);
        if let Entry::Open(_) = &entry {
            detach(&mut records[taken..], block.len());
        }
        self.cursor = Some(Cursor {
            segment_id: entry.id(),
            offset: offset + at as u64,
            sequence: expected,
        });
        Ok(())
    }

    fn count_served(&mut self, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let from = match (&self.below, self.has_waited) {
            (None, _) => metrics::From::Tier0,
            (Some(_), false) => metrics::From::Lower,
            (Some(_), true) => metrics::From::Waited,
        };
        self.has_waited = false;
        let bytes = records.iter().map(|record| record.payload.len() as u64);
        self.common.counters.count_served(from, bytes.sum());
    }

    /// The batch at `offset`, of sequence `expected`, is not to be had. Goes on behind the hole where what is wanted lies there.
    fn damaged(
        &mut self,
        entry: &Entry,
        offset: u64,
        expected: u64,
        end: u64,
        what: String,
    ) -> Result<(), Stop> {
        let sequences = expected..self.stream.end_of(entry, end);
        let seed = self.stream.identity.seed;
        let next = next_batch(
            |at, least| self.whole_block(entry, at, least),
            seed,
            offset,
            &sequences,
        )?;
        let hole = hole(sequences, next, what);
        let range = self.stream.range_of(entry, &hole);
        match hole.resume {
            Some(resume) if self.next >= hole.to_sequence => {
                self.stream.note_damage(range);
                self.cursor = Some(Cursor {
                    segment_id: entry.id(),
                    offset: resume,
                    sequence: hole.to_sequence,
                });
                Ok(())
            }
            _ => Err(self.stream.damaged(range).into()),
        }
    }

    fn take(
        &mut self,
        batch: &RecordBatch<'_>,
        block: &Bytes,
        end: u64,
        max_bytes: usize,
        bytes: &mut usize,
        records: &mut Vec<Record>,
    ) {
        if batch.gap().is_some() {
            self.next = batch.end_sequence();
            return;
        }
        let fields = batch.fields();
        for (index, payload) in batch.payloads().enumerate() {
            let sequence = fields.base_sequence + index as u64;
            if sequence < self.next {
                continue;
            }
            if sequence >= end || self.left == 0 {
                return;
            }
            let more = payload.len() + RECORD_BYTES;
            if !records.is_empty() && *bytes + more > max_bytes {
                *bytes = max_bytes;
                return;
            }
            let has_producer = fields.producer.id != 0;
            records.push(Record {
                sequence,
                payload: block.slice_ref(payload),
                producer_id: fields.producer.id,
                producer_seq: if has_producer {
                    fields.producer.seq + index as u64
                } else {
                    0
                },
                appended_unix_nanos: fields.appended_unix_nanos,
            });
            *bytes += more;
            self.next = sequence + 1;
            self.left -= 1;
        }
    }
}

/// Copies payloads out of a block that they are a small part of: a record that a slow reader keeps must not keep the rest, nor the
/// chunk of staging memory that it lies in.
fn detach(records: &mut [Record], block_bytes: usize) {
    let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
    if bytes >= READ_BYTES && 2 * bytes >= block_bytes {
        return;
    }
    let mut copy = BytesMut::with_capacity(bytes);
    for record in records.iter() {
        copy.extend_from_slice(&record.payload);
    }
    let mut copy = copy.freeze();
    for record in records {
        record.payload = copy.split_to(record.payload.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_an_open_segment_keeps_no_more_in_memory_than_itself() {
        let block = Bytes::from(vec![7; 8 << 20]);
        let record = |from: usize, bytes: usize| Record {
            sequence: from as u64,
            payload: block.slice(from..from + bytes),
            producer_id: 0,
            producer_seq: 0,
            appended_unix_nanos: 0,
        };
        let within = |record: &Record| block.as_ptr_range().contains(&record.payload.as_ptr());
        let mut small = [record(100, 10), record(200, 0), record(300, 1 << 20)];
        detach(&mut small, block.len());
        assert!(!small.iter().any(within));
        let sizes = small.iter().map(|record| record.payload.len());
        assert_eq!(sizes.collect::<Vec<_>>(), [10, 0, 1 << 20]);
        assert!(
            small
                .iter()
                .all(|record| record.payload.iter().all(|byte| *byte == 7))
        );
        let mut most = [record(0, 5 << 20)];
        detach(&mut most, block.len());
        assert!(within(&most[0]), "a copy would only cost");
    }
}
