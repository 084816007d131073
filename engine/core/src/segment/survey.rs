//! Which of a segment's batches can be served where some do not verify. Pure over what `fetch` answers.
//!
//! Every batch is sealed with its stream's salt and names its sequences, so one that verifies is that stream's wherever it is
//! found; payloads cannot imitate it.

use std::ops::Range;

use aof2_format::Seed;
use aof2_format::record_batch::{self, HEADER_BYTES};
use bytes::Bytes;

/// Sequences of a segment that no batch serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub from_sequence: u64,
    /// First sequence behind that is served again, or the segment's end.
    pub to_sequence: u64,
    /// Where the batch with that sequence begins.
    pub resume: Option<u64>,
    pub what: String,
}

/// Bytes that are looked at together where a segment is not in memory as a whole.
const STEP_BYTES: usize = 4 << 20;

/// The first batch at or behind `offset` that verifies as a whole and holds only sequences of the range. `fetch(offset, least)`
/// answers the bytes from there on: fewer than `least` only at the segment's end.
pub(crate) fn next_batch<E>(
    mut fetch: impl FnMut(u64, usize) -> Result<Bytes, E>,
    seed: Seed,
    offset: u64,
    sequences: &Range<u64>,
) -> Result<Option<(u64, u64)>, E> {
    let magic = record_batch::MAGIC.to_le_bytes();
    let mut at = offset;
    loop {
        let block = fetch(at, STEP_BYTES)?;
        let Some(last) = block.len().checked_sub(HEADER_BYTES) else {
            return Ok(None);
        };
        let mut position = 0;
        while position <= last {
            let candidates = &block[position..=last];
            let Some(skip) = candidates.iter().position(|byte| *byte == magic[0]) else {
                break;
            };
            position += skip;
            let rest = &block[position..];
            let Ok(header) = record_batch::decode_header(rest, seed) else {
                position += 1;
                continue;
            };
            let length = header.batch_bytes();
            let found = at + position as u64;
            let whole = if rest.len() < length {
                fetch(found, length)?
            } else {
                block.slice(position..)
            };
            match record_batch::decode(&whole, seed) {
                Ok(batch)
                    if batch.base_sequence() >= sequences.start
                        && batch.end_sequence() <= sequences.end =>
                {
                    return Ok(Some((found, batch.base_sequence())));
                }
                // Its header verifies, so its length is right.
                Ok(_) | Err(_) => position += length,
            }
        }
        at += position.max(last + 1) as u64;
    }
}

/// Every hole of a segment of which all bytes, header block included, are at hand.
pub(crate) fn holes(
    bytes: &Bytes,
    seed: Seed,
    data_offset: u64,
    sequences: Range<u64>,
) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut offset = data_offset;
    let mut expected = sequences.start;
    while expected < sequences.end {
        let rest = from(bytes, offset);
        let what = match record_batch::decode(&rest, seed) {
            // One of earlier sequences is passed over.
            Ok(batch) if batch.base_sequence() <= expected => {
                expected = expected.max(batch.end_sequence());
                offset += batch.batch_bytes() as u64;
                continue;
            }
            Ok(batch) => out_of_line(batch.base_sequence(), expected),
            Err(_) if rest.is_empty() => "batches end before the segment".to_owned(),
            Err(damage) => damage.to_string(),
        };
        let hole = hole_at(bytes, seed, offset, expected..sequences.end, what);
        expected = hole.to_sequence;
        offset = hole.resume.unwrap_or(bytes.len() as u64);
        holes.push(hole);
    }
    holes
}

/// The hole that begins with the batch at `offset`, where the first sequence of the range was expected.
fn hole_at(bytes: &Bytes, seed: Seed, offset: u64, sequences: Range<u64>, what: String) -> Hole {
    let fetch = |at, _| Ok::<_, std::convert::Infallible>(from(bytes, at));
    let Ok(next) = next_batch(fetch, seed, offset, &sequences);
    hole(sequences, next, what)
}

pub(crate) fn hole(sequences: Range<u64>, next: Option<(u64, u64)>, what: String) -> Hole {
    Hole {
        from_sequence: sequences.start,
        to_sequence: next.map_or(sequences.end, |(_, base)| base),
        resume: next.map(|(offset, _)| offset),
        what,
    }
}

pub(crate) fn out_of_line(found: u64, expected: u64) -> String {
    format!("sequence {found} found, expected {expected}")
}

fn from(bytes: &Bytes, offset: u64) -> Bytes {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    bytes.slice(from.min(bytes.len())..)
}

#[cfg(test)]
mod tests {
    use aof2_format::Salt;
    use aof2_format::record_batch::Fields;

    use super::*;

    const SEED_SALT: Salt = Salt(7);

    fn seed() -> Seed {
        Seed::new(SEED_SALT)
    }

    /// Batches of ten records each; answers the bytes and where each batch begins.
    fn segment(batches: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut offsets = Vec::new();
        let mut chain = 0;
        for batch in 0..batches {
            offsets.push(bytes.len());
            let fields = Fields {
                base_sequence: batch * 10,
                epoch: 1,
                prev_chain: chain,
                ..Fields::default()
            };
            let payload = vec![batch as u8; 100];
            let payloads = (0..10).map(|_| payload.as_slice());
            chain = record_batch::encode(&mut bytes, &fields, payloads.collect::<Vec<_>>(), seed())
                .expect("fits");
        }
        (bytes, offsets)
    }

    fn ranges(bytes: Vec<u8>, end: u64) -> Vec<(u64, u64)> {
        holes(&bytes.into(), seed(), 0, 0..end)
            .iter()
            .map(|hole| (hole.from_sequence, hole.to_sequence))
            .collect()
    }

    #[test]
    fn a_whole_segment_has_no_hole() {
        let (bytes, _) = segment(5);
        assert_eq!(ranges(bytes, 50), []);
    }

    #[test]
    fn every_flipped_byte_takes_its_own_batch_and_no_other() {
        let (bytes, offsets) = segment(3);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let batch = offsets.partition_point(|offset| *offset <= at) as u64 - 1;
            assert_eq!(
                ranges(flipped, 30),
                [(batch * 10, batch * 10 + 10)],
                "byte {at}"
            );
        }
    }

    #[test]
    fn neighbours_that_are_damaged_are_one_hole_and_others_are_holes_of_their_own() {
        let (mut bytes, offsets) = segment(6);
        for batch in [1, 2, 4] {
            bytes[offsets[batch] + HEADER_BYTES + 3] ^= 1;
        }
        assert_eq!(ranges(bytes, 60), [(10, 30), (40, 50)]);
    }

    #[test]
    fn what_is_cut_off_is_a_hole_up_to_the_segments_end() {
        let (bytes, offsets) = segment(4);
        assert_eq!(ranges(bytes[..offsets[3] - 1].to_vec(), 40), [(20, 40)]);
        assert_eq!(ranges(bytes[..offsets[2]].to_vec(), 40), [(20, 40)]);
        assert_eq!(ranges(Vec::new(), 40), [(0, 40)]);
    }

    #[test]
    fn batches_of_other_sequences_are_passed_over() {
        let (bytes, offsets) = segment(4);
        let mut swapped = bytes[offsets[1]..offsets[2]].to_vec();
        swapped.extend_from_slice(&bytes[offsets[0]..offsets[1]]);
        swapped.extend_from_slice(&bytes[offsets[2]..]);
        assert_eq!(ranges(swapped, 40), [(0, 10)]);
    }

    /// Payloads that begin like batches of the greatest length: their checksum needs the stream's salt, so their length is not followed.
    #[test]
    fn payloads_that_look_like_batches_cost_their_own_bytes() {
        let payload = vec![7; record_batch::MAX_BODY_BYTES - 4];
        let mut forged = Vec::new();
        let other = Seed::new(Salt(8));
        record_batch::encode(&mut forged, &Fields::default(), [&payload[..]], other).expect("fits");
        let mut bytes = forged[..HEADER_BYTES].repeat(40_000);
        let length = bytes.len() as u64;
        let (whole, _) = segment(1);
        bytes.extend_from_slice(&whole);
        let before = aof2_format::checksum::checksummed_bytes();
        assert_eq!(ranges(bytes, 10), [(0, 0)]);
        let work = aof2_format::checksum::checksummed_bytes() - before;
        assert!(work < 2 * length, "{work} bytes checksummed of {length}");
    }

    #[test]
    fn a_batch_is_found_across_the_border_of_two_steps() {
        let (bytes, offsets) = segment(4);
        let bytes = Bytes::from(bytes);
        let third = offsets[2] as u64;
        for step in HEADER_BYTES..offsets[2] {
            let fetch = |at: u64, least: usize| {
                let rest = from(&bytes, at);
                let asked = if least == STEP_BYTES { step } else { least };
                Ok::<_, ()>(rest.slice(..asked.min(rest.len())))
            };
            assert_eq!(
                next_batch(fetch, seed(), 1, &(20..40)),
                Ok(Some((third, 20))),
                "steps of {step}"
            );
        }
    }
}
