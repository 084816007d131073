//! What of a stream's segments is known to be damaged.
//!
//! Damage is met by whoever looks: recovery, a reader, the compressor. Each notes it here, and it is reported once: one line in
//! the log, one entry in the reports. A damaged range is no end of the log: appends go on, and what lies behind is served. An end
//! that is damaged is another matter, see [`Quarantined`](super::Quarantined).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::io::sync::Mutex;
use aof2_format::segment::DATA_OFFSET;

use super::{Entry, Stream};
use crate::below::{BlockReader, FetchError};
use crate::common::Common;
use crate::error::{ReadError, WouldBlockKind};
use crate::request::DamagedRange;
use crate::segment::sealed::{Fault, Mapped, Sealed, SealedInfo};
use crate::segment::survey::{Hole, holes};

/// Ranges that are listed of one stream. A volume that rots away is not reported batch by batch.
const MAX_RANGES: usize = 256;
/// Of these, the ones that stand in a line of text.
const MAX_TOLD: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct DamageLog {
    ranges: Mutex<Vec<DamagedRange>>,
}

impl DamageLog {
    /// Known ranges tell nothing new, also where they are parts of another.
    pub fn note(&self, stream: &str, range: DamagedRange) {
        let mut ranges = self.ranges.lock();
        let is_in = |inner: &DamagedRange, outer: &DamagedRange| {
            inner.segment_id == outer.segment_id
                && outer.from_sequence <= inner.from_sequence
                && inner.to_sequence <= outer.to_sequence
        };
        if ranges.iter().any(|known| is_in(&range, known)) {
            return;
        }
        ranges.retain(|known| !is_in(known, &range));
        if ranges.len() >= MAX_RANGES {
            return;
        }
        let DamagedRange {
            segment_id,
            from_sequence,
            to_sequence,
            what,
            remedy,
        } = &range;
        tracing::error!(
            stream,
            segment_id,
            from_sequence,
            to_sequence,
            remedy,
            "segment damaged: {what}"
        );
        let place = ranges.partition_point(|known| known.from_sequence <= range.from_sequence);
        ranges.insert(place, range);
    }

    /// Ascending by sequence.
    pub fn ranges(&self) -> Vec<DamagedRange> {
        self.ranges.lock().clone()
    }

    pub fn count(&self) -> u64 {
        self.ranges.lock().len() as u64
    }

    /// What lies wholly below is read by nobody any more.
    pub fn forget_below(&self, sequence: u64) {
        let mut ranges = self.ranges.lock();
        ranges.retain(|range| range.to_sequence > sequence);
    }

    /// Whole copies of what these held are in another segment.
    pub fn forget_segments(&self, segment_ids: &[u64]) {
        let mut ranges = self.ranges.lock();
        ranges.retain(|range| !segment_ids.contains(&range.segment_id));
    }

    pub fn is_damaged(&self, segment_id: u64) -> bool {
        let ranges = self.ranges.lock();
        ranges.iter().any(|range| range.segment_id == segment_id)
    }

    fn of_segment(&self, segment_id: u64) -> Vec<DamagedRange> {
        let mut ranges = self.ranges();
        ranges.retain(|range| range.segment_id == segment_id);
        ranges
    }
}

/// In one line.
pub(crate) fn list_ranges(ranges: &[DamagedRange]) -> Option<String> {
    let mut told: Vec<String> = ranges
        .iter()
        .take(MAX_TOLD)
        .map(ToString::to_string)
        .collect();
    if let more @ 1.. = ranges.len().saturating_sub(MAX_TOLD) {
        told.push(format!("{more} more"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// Of a sealed segment. `object` is the key of its copy in Tier 2.
pub(crate) fn remedy(path: &Path, object: Option<&str>) -> String {
    let also = object.map_or_else(String::new, |key| format!(" (object {key} has a copy too)"));
    format!(
        "restore {} from a copy of the volume{also} and restart the engine",
        path.display()
    )
}

/// All of a sealed segment.
pub(crate) fn whole(
    info: &SealedInfo,
    path: &Path,
    object: Option<&str>,
    what: String,
) -> DamagedRange {
    DamagedRange {
        segment_id: info.segment_id,
        from_sequence: info.base_sequence,
        to_sequence: info.end_sequence,
        what,
        remedy: remedy(path, object),
    }
}

impl Stream {
    fn object_of(&self, segment_id: u64) -> Option<String> {
        self.manifest.read(|state| {
            let cold = &state.residency.segment(segment_id)?.copies.cold;
            cold.as_ref().map(|cold| cold.key.clone())
        })
    }

    pub fn note_damage(&self, range: DamagedRange) {
        self.damage.note(&self.shared_name, range);
    }

    /// Where the stream begins behind this sequence.
    pub fn trimmed(&self, sequence: u64) -> Option<ReadError> {
        let first = self.first.load(Ordering::Acquire);
        (sequence < first).then(|| ReadError::Trimmed {
            stream: self.name.to_string(),
            from: sequence,
            first,
        })
    }

    pub fn damaged(&self, range: DamagedRange) -> ReadError {
        self.note_damage(range.clone());
        ReadError::Damaged {
            stream: self.name.to_string(),
            sequence: range.from_sequence,
            to_sequence: Some(range.to_sequence),
            segment_id: Some(range.segment_id),
            message: range.to_string(),
        }
    }

    /// No segment that the manifest knows holds these sequences.
    pub fn nowhere(&self, sequences: Range<u64>) -> ReadError {
        ReadError::Damaged {
            stream: self.name.to_string(),
            sequence: sequences.start,
            to_sequence: Some(sequences.end),
            segment_id: None,
            message: "no segment holds these sequences".to_owned(),
        }
    }

    /// A reader of a sealed segment without a file in Tier 0.
    pub fn open_below(
        &self,
        common: &Common,
        sealed: &Sealed,
        ahead_bytes: u64,
    ) -> Result<Box<dyn BlockReader>, ReadError> {
        let segment_id = sealed.info.segment_id;
        let segment = self.manifest.read(|state| {
            state
                .residency
                .sealed_segment(&self.shared_name, segment_id)
        });
        if let Some(trimmed) = self.trimmed(sealed.info.end_sequence - 1) {
            return Err(trimmed);
        }
        let Some(segment) = segment.filter(|segment| !segment.copies.is_empty()) else {
            // A file at its place would not be served: the manifest dropped it.
            let what = "no copy of it in the manifest".to_owned();
            return Err(self.damaged(DamagedRange {
                remedy: "restore the volume from a copy that has it; no tool brings it back"
                    .to_owned(),
                ..whole(&sealed.info, &sealed.path, None, what)
            }));
        };
        match &*common.lower_tiers.load() {
            Some(lower) => Ok(lower.0.open(segment, ahead_bytes)),
            None => Err(self.not_resident(segment_id)),
        }
    }

    /// For callers that need the file itself.
    pub fn not_resident(&self, segment_id: u64) -> ReadError {
        ReadError::NotResident {
            stream: self.name.to_string(),
            segment_id,
        }
    }

    /// What a reader is told where a block of a lower tier is not to be had.
    pub fn not_fetched(&self, sealed: &Sealed, error: FetchError) -> ReadError {
        let info = &sealed.info;
        let stream = self.name.to_string();
        let segment_id = info.segment_id;
        match error {
            FetchError::Busy { .. } => ReadError::WouldBlock {
                stream,
                kind: WouldBlockKind::Hydration,
                message: format!("{error}; retry later"),
            },
            FetchError::Unavailable(message) => ReadError::Unavailable {
                stream,
                segment_id,
                message,
            },
            FetchError::Damaged {
                place,
                what,
                sequences,
            } => {
                let lost = sequences.unwrap_or(info.base_sequence..info.end_sequence);
                self.damaged(DamagedRange {
                    segment_id,
                    from_sequence: lost.start,
                    to_sequence: lost.end,
                    what,
                    remedy: format!("restore {place} from a copy"),
                })
            }
        }
    }

    /// Notes what is wrong with a sealed segment's file as a whole. `None`: it is not in Tier 0.
    pub fn mapped(
        &self,
        common: &Common,
        sealed: &Arc<Sealed>,
    ) -> Result<Option<Arc<Mapped>>, ReadError> {
        let info = &sealed.info;
        let object = || self.object_of(info.segment_id);
        let fault = match sealed.mapped(&*common.env.disk, &common.maps, self.identity.uuid) {
            Ok(mapped) => {
                if let Some(flaw) = &mapped.flaw {
                    self.note_flaw(sealed, flaw.clone());
                }
                return Ok(Some(mapped));
            }
            Err(Fault::NotHot) => return Ok(None),
            Err(fault) => fault,
        };
        let range = fault
            .damage()
            .map(|what| whole(info, &sealed.path, object().as_deref(), what));
        match (fault, range) {
            (Fault::Damaged(_), Some(range)) => Err(self.damaged(range)),
            (Fault::Disk(source), range) => {
                range.into_iter().for_each(|range| self.note_damage(range));
                Err(ReadError::Disk {
                    path: sealed.path.clone(),
                    source: Arc::new(source),
                })
            }
            (Fault::Damaged(_) | Fault::NotHot, None | Some(_)) => {
                unreachable!("damage says what it is")
            }
        }
    }

    /// Damage that takes no record.
    fn note_flaw(&self, sealed: &Sealed, what: String) {
        let object = self.object_of(sealed.info.segment_id);
        let mut range = whole(&sealed.info, &sealed.path, object.as_deref(), what);
        range.to_sequence = range.from_sequence;
        self.note_damage(range);
    }

    pub fn range_of(&self, entry: &Entry, hole: &Hole) -> DamagedRange {
        let remedy = match entry {
            Entry::Open(_) => {
                "restart the engine to replay what the journal still holds".to_owned()
            }
            Entry::Sealed(sealed) => remedy(&sealed.path, self.object_of(entry.id()).as_deref()),
        };
        DamagedRange {
            segment_id: entry.id(),
            from_sequence: hole.from_sequence,
            to_sequence: hole.to_sequence,
            what: hole.what.clone(),
            remedy,
        }
    }

    /// Goes through a sealed segment whose bytes are not those that were sealed, notes every hole, and answers all that is known
    /// of it. `problem` is reported where every batch verifies.
    pub fn survey(&self, common: &Common, sealed: &Arc<Sealed>, problem: &str) -> String {
        if let Ok(Some(mapped)) = self.mapped(common, sealed) {
            let sequences = sealed.info.base_sequence..sealed.info.end_sequence;
            let found = holes(&mapped.bytes, self.identity.seed, DATA_OFFSET, sequences);
            let entry = Entry::Sealed(sealed.clone());
            for hole in &found {
                self.note_damage(self.range_of(&entry, hole));
            }
            if found.is_empty() && mapped.flaw.is_none() {
                self.note_flaw(sealed, problem.to_owned());
            }
        }
        let known = self.damage.of_segment(sealed.info.segment_id);
        list_ranges(&known).unwrap_or_else(|| problem.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(segment_id: u64, from_sequence: u64, to_sequence: u64) -> DamagedRange {
        DamagedRange {
            segment_id,
            from_sequence,
            to_sequence,
            what: "torn".into(),
            remedy: "mend it".into(),
        }
    }

    fn noted(ranges: &[DamagedRange]) -> Vec<(u64, u64, u64)> {
        let log = DamageLog::default();
        for range in ranges {
            log.note("s", range.clone());
        }
        log.ranges()
            .iter()
            .map(|range| (range.segment_id, range.from_sequence, range.to_sequence))
            .collect()
    }

    #[test]
    fn the_same_range_and_parts_of_it_are_one_entry() {
        let known = [
            range(1, 10, 20),
            range(1, 10, 20),
            range(1, 12, 14),
            range(1, 10, 10),
        ];
        assert_eq!(noted(&known), [(1, 10, 20)]);
    }

    #[test]
    fn a_wider_range_takes_the_place_of_its_parts() {
        let parts = [
            range(1, 10, 12),
            range(1, 15, 16),
            range(2, 30, 40),
            range(1, 10, 30),
        ];
        assert_eq!(noted(&parts), [(1, 10, 30), (2, 30, 40)]);
    }

    #[test]
    fn many_ranges_are_told_in_a_line_that_ends() {
        let log = DamageLog::default();
        for segment in 0..MAX_RANGES as u64 + 10 {
            log.note("s", range(segment, segment * 10, segment * 10 + 1));
        }
        assert_eq!(log.count(), MAX_RANGES as u64);
        let told = list_ranges(&log.ranges()).expect("damaged");
        assert!(
            told.starts_with("segment 0, sequence 0: torn; mend it; "),
            "{told}"
        );
        assert!(told.ends_with("; 252 more"), "{told}");
        assert_eq!(list_ranges(&[]), None);
    }
}
