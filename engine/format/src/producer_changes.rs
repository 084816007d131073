//! What a segment changed of a stream's producers: blobs of `CustomEvent`s that stand before the segment's `SealSegment`. Folded in
//! the order of the seals they are the stream's table of producers, and recovery reads no sealed segment to know it. Layout:
//! `producer_changes.md`.

use crate::FORMAT_VERSION;
use crate::checksum::{self, Crc32c};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::manifest_record::MAX_PAYLOAD_BYTES;

const WHAT: &str = "producer changes";

/// `CustomEvent.schema_id` of such a blob.
pub const SCHEMA_ID: u32 = 1;
/// `PC2A` on disk.
pub const MAGIC: u32 = u32::from_le_bytes(*b"PC2A");
/// A part takes no further producer once it is longer.
pub const PART_TARGET_BYTES: usize = 256 << 10;
/// Runs of one producer in one part: it stays below the largest manifest record whatever part it is put into.
pub const MAX_RUNS: usize = 4096;

layout! {
    /// Begins a part.
    header: 32, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        PART: 6, 2;
        FORGOTTEN_BEFORE: 8, 8;
        RECENT_FROM: 16, 8;
        PRODUCERS: 24, 4;
        CRC: 28, 4;
    }
}

layout! {
    /// One producer; its runs follow.
    producer: 16, {
        ID: 0, 8;
        RUNS: 8, 4;
        RESERVED: 12, 4;
    }
}

layout! {
    /// Consecutive producer numbers at consecutive sequences.
    run: 24, {
        FIRST_PRODUCER_SEQ: 0, 8;
        FIRST_SEQUENCE: 8, 8;
        COUNT: 16, 8;
    }
}

const _: () = assert!(
    PART_TARGET_BYTES + producer::BYTES + MAX_RUNS * run::BYTES + 4 <= MAX_PAYLOAD_BYTES,
    "a part that is as long as it may be is a manifest record"
);

/// Consecutive producer numbers at consecutive sequences. Holds at least one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerRun {
    pub first_producer_seq: u64,
    pub first_sequence: u64,
    pub count: u64,
}

impl ProducerRun {
    /// Producer number behind its last record.
    pub fn end_producer_seq(&self) -> u64 {
        self.first_producer_seq + self.count
    }

    /// Sequence behind its last record.
    pub fn end_sequence(&self) -> u64 {
        self.first_sequence + self.count
    }
}

/// One part of a segment's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerChanges {
    /// From 0 within the segment.
    pub part: u16,
    /// As of the end of the segment: a producer whose last record has a lower sequence is forgotten.
    pub forgotten_before: u64,
    /// As of the end of the segment: a producer whose last record has a lower sequence is forgotten next.
    pub recent_from: u64,
    /// Ids, each with the newest of its runs in the segment: at least one, ascending.
    pub producers: Vec<(u64, Vec<ProducerRun>)>,
}

impl ProducerChanges {
    pub fn encode(&self) -> Vec<u8> {
        let Self {
            part,
            forgotten_before,
            recent_from,
            producers,
        } = self;
        let mut out = vec![0; header::BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::PART.write(&mut out, *part);
        header::FORGOTTEN_BEFORE.write(&mut out, *forgotten_before);
        header::RECENT_FROM.write(&mut out, *recent_from);
        header::PRODUCERS.write(&mut out, producers.len() as u32);
        for (id, runs) in producers {
            let mut row = [0; producer::BYTES];
            producer::ID.write(&mut row, *id);
            producer::RUNS.write(&mut row, runs.len() as u32);
            out.extend_from_slice(&row);
            for known in runs {
                let ProducerRun {
                    first_producer_seq,
                    first_sequence,
                    count,
                } = *known;
                let mut row = [0; run::BYTES];
                run::FIRST_PRODUCER_SEQ.write(&mut row, first_producer_seq);
                run::FIRST_SEQUENCE.write(&mut row, first_sequence);
                run::COUNT.write(&mut row, count);
                out.extend_from_slice(&row);
            }
        }
        let crc = crc_of(&out);
        header::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::need(WHAT, bytes, header::BYTES)?;
        let magic = header::MAGIC.read(bytes);
        if magic != MAGIC {
            return Err(Damage::Magic {
                what: WHAT,
                found: magic.into(),
            });
        }
        damage::version(WHAT, header::VERSION.read(bytes))?;
        checksum::compare(WHAT, header::CRC.read(bytes).into(), crc_of(bytes).into())?;
        let mut rest = &bytes[header::BYTES..];
        let mut producers = Vec::new();
        for _ in 0..header::PRODUCERS.read(bytes) {
            producers.push(take_producer(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(damage::value(
                WHAT,
                "bytes behind the last run",
                rest.len() as u64,
            ));
        }
        Ok(Self {
            part: header::PART.read(bytes),
            forgotten_before: header::FORGOTTEN_BEFORE.read(bytes),
            recent_from: header::RECENT_FROM.read(bytes),
            producers,
        })
    }
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::default();
    crc.update(&bytes[..header::CRC.0]);
    crc.update(&bytes[header::BYTES..]);
    crc.finish()
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Damage> {
    damage::need(WHAT, rest, bytes)?;
    let (taken, left) = rest.split_at(bytes);
    *rest = left;
    Ok(taken)
}

fn take_producer(rest: &mut &[u8]) -> Result<(u64, Vec<ProducerRun>), Damage> {
    let row = take(rest, producer::BYTES)?;
    damage::zero(WHAT, "reserved bytes", &producer::RESERVED.get(row))?;
    let count = producer::RUNS.read(row);
    if count == 0 || count as usize > MAX_RUNS {
        return Err(damage::value(WHAT, "runs", count));
    }
    let rows = take(rest, count as usize * run::BYTES)?;
    let mut runs: Vec<ProducerRun> = Vec::with_capacity(count as usize);
    for row in rows.chunks_exact(run::BYTES) {
        let found = ProducerRun {
            first_producer_seq: run::FIRST_PRODUCER_SEQ.read(row),
            first_sequence: run::FIRST_SEQUENCE.read(row),
            count: run::COUNT.read(row),
        };
        let ends = found
            .first_producer_seq
            .checked_add(found.count)
            .and(found.first_sequence.checked_add(found.count));
        if found.count == 0 || ends.is_none() {
            return Err(damage::value(WHAT, "records of a run", found.count));
        }
        let follows = runs.last().is_none_or(|before| {
            before.end_producer_seq() <= found.first_producer_seq
                && before.end_sequence() <= found.first_sequence
        });
        if !follows {
            return Err(damage::value(
                WHAT,
                "first sequence of a run",
                found.first_sequence,
            ));
        }
        runs.push(found);
    }
    Ok((producer::ID.read(row), runs))
}
