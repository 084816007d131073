//! The producers of a stream as bytes: the blob of a `CustomEvent` that is committed with each `SealSegment`, so that recovery
//! reads no sealed segment to know them. Little-endian:
//!
//! `[producers u32]` then per producer `[id u64][next u64][runs u32]` and per run `[first producer sequence u64][first sequence
//! u64][count u64]`.

use std::collections::VecDeque;

use crate::stream::producers::{PRODUCERS_PER_STREAM, Producers, RUNS_PER_PRODUCER, Run, Sent};

/// `CustomEvent.schema_id` of this blob.
pub(crate) const SCHEMA_ID: u32 = 1;
/// Newest runs kept per producer; a blob of 4096 producers stays below the 1 MiB of a manifest record.
const RUNS_STORED: usize = 8;

pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let mut all: Vec<(u64, &Sent)> = producers.iter().collect();
    all.sort_by_key(|(id, _)| *id);
    let mut out = Vec::new();
    out.extend_from_slice(&(all.len() as u32).to_le_bytes());
    for (id, sent) in all {
        let skip = sent.runs.len().saturating_sub(RUNS_STORED);
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&sent.next.to_le_bytes());
        out.extend_from_slice(&((sent.runs.len() - skip) as u32).to_le_bytes());
        for run in sent.runs.iter().skip(skip) {
            for value in [run.first_producer_seq, run.first_sequence, run.count] {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    out
}

/// `None`: not such a table.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Producers> {
    let bytes = &mut bytes;
    let mut producers = Producers::default();
    let count = take_u32(bytes)?;
    if count as usize > PRODUCERS_PER_STREAM {
        return None;
    }
    for _ in 0..count {
        let id = take_u64(bytes)?;
        let next = take_u64(bytes)?;
        let count = take_u32(bytes)?;
        if count as usize > RUNS_PER_PRODUCER {
            return None;
        }
        let mut runs = VecDeque::with_capacity(count as usize);
        for _ in 0..count {
            let run = Run {
                first_producer_seq: take_u64(bytes)?,
                first_sequence: take_u64(bytes)?,
                count: take_u64(bytes)?,
            };
            run.first_producer_seq.checked_add(run.count)?;
            run.first_sequence.checked_add(run.count)?;
            runs.push_back(run);
        }
        producers.restore(id, Sent { next, runs });
    }
    bytes.is_empty().then_some(producers)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (value, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*value))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (value, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_producers() -> Producers {
        let mut producers = Producers::default();
        producers.note(7, 0, 3, 0);
        producers.note(9, 0, 1, 3);
        producers.note(7, 3, 2, 4);
        producers
    }

    #[test]
    fn the_bytes_are_those_of_the_table_above() {
        let expected: Vec<u8> = [
            &2u32.to_le_bytes()[..],
            &7u64.to_le_bytes(),
            &5u64.to_le_bytes(),
            &2u32.to_le_bytes(),
            &[0u64, 0, 3].map(u64::to_le_bytes).concat(),
            &[3u64, 4, 2].map(u64::to_le_bytes).concat(),
            &9u64.to_le_bytes(),
            &1u64.to_le_bytes(),
            &1u32.to_le_bytes(),
            &[0u64, 3, 1].map(u64::to_le_bytes).concat(),
        ]
        .concat();
        assert_eq!(encode(&some_producers()), expected);
        assert_eq!(decode(&expected).as_ref(), Some(&some_producers()));
    }

    #[test]
    fn cut_or_hostile_bytes_are_refused() {
        let bytes = encode(&some_producers());
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(decode(&u32::MAX.to_le_bytes()), None);
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(decode(&longer), None);
    }
}
