//! Where records are in a segment: one entry per stretch of bytes, found by sequence.

/// Bytes between two entries, at least.
const STRETCH_BYTES: u64 = 32 * 1024;

/// Offsets of batches, ascending in both columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    entries: Vec<(u64, u64)>,
}

impl SparseIndex {
    /// Notes a batch: its first sequence and its offset. Most are not kept.
    pub fn note(&mut self, sequence: u64, offset: u64) {
        if self
            .entries
            .last()
            .is_none_or(|(_, last)| offset >= last + STRETCH_BYTES)
        {
            self.entries.push((sequence, offset));
        }
    }

    /// First sequence and offset of a batch at or before the one that holds `sequence`.
    pub fn find(&self, sequence: u64) -> Option<(u64, u64)> {
        let after = self
            .entries
            .partition_point(|(first, _)| *first <= sequence);
        after.checked_sub(1).map(|at| self.entries[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_found_at_or_before_its_batch() {
        let mut index = SparseIndex::default();
        assert_eq!(index.find(0), None);
        for batch in 0..100u64 {
            index.note(batch * 10, 64 + batch * 10_000);
        }
        assert!(
            index.entries.len() < 40,
            "most batches have no entry of their own"
        );
        for sequence in 0..1000u64 {
            let (first, offset) = index.find(sequence).unwrap();
            let batch = (offset - 64) / 10_000;
            assert_eq!(first, batch * 10);
            assert!(batch * 10 <= sequence && sequence - batch * 10 < 60);
        }
    }
}
