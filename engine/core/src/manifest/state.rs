//! The manifest as a pure fold: what a stream's records say about its segments. No I/O, no clock.

use std::collections::BTreeMap;

use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};

use super::producer_table;
use crate::tier_port::TierState;

/// Everything that the records up to `next_sequence` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestState {
    pub segments: BTreeMap<u64, Ledger>,
    /// Of the next record.
    pub next_sequence: u64,
    /// Newest table of producers, as of the end of the last sealed segment.
    pub producers: Option<Vec<u8>>,
    /// Records of a type that this release does not know.
    pub unknown_records: u64,
}

/// One segment's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub base_sequence: u64,
    pub epoch: u32,
    pub sealed: Option<SealEntry>,
    pub tier: TierState,
    /// Bytes given back when the local copy went.
    pub evicted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealEntry {
    pub data_end: u64,
    pub crc64: u64,
    pub end_sequence: u64,
}

impl ManifestState {
    /// Records come in the order of their sequences; the caller has checked the chain.
    pub fn apply(&mut self, record: &ManifestRecord) {
        self.next_sequence = record.manifest_sequence + 1;
        let ledger = |segments: &mut BTreeMap<u64, Ledger>, change: &dyn Fn(&mut Ledger)| {
            change(segments.entry(record.segment_id).or_default());
        };
        let segments = &mut self.segments;
        match &record.event {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => ledger(segments, &|entry| {
                entry.base_sequence = *base_sequence;
                entry.epoch = *epoch;
            }),
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                ext_id: _,
                watermark,
                flush_failure: _,
            } => {
                ledger(segments, &|entry| {
                    entry.sealed = Some(SealEntry {
                        data_end: *durable_bytes,
                        crc64: *segment_crc64,
                        end_sequence: *watermark,
                    });
                });
            }
            ManifestEvent::CompressionDone {
                compressed_bytes,
                dictionary_id: _,
            } => ledger(segments, &|entry| {
                entry.tier.compressed_bytes = Some(*compressed_bytes);
            }),
            ManifestEvent::CompressionFailed { reason: _ } => {
                ledger(segments, &|entry| entry.tier.failures += 1)
            }
            ManifestEvent::UploadStarted { key } => ledger(segments, &|entry| {
                entry.tier.upload_started = Some(key.clone());
            }),
            ManifestEvent::UploadDone { key, etag } => ledger(segments, &|entry| {
                entry.tier.upload_started = None;
                entry.tier.uploaded = Some((key.clone(), etag.clone()));
            }),
            ManifestEvent::UploadFailed { key: _, reason: _ } => ledger(segments, &|entry| {
                entry.tier.upload_started = None;
                entry.tier.failures += 1;
            }),
            ManifestEvent::Tier2Deleted { key: _ } => {
                ledger(segments, &|entry| entry.tier.uploaded = None)
            }
            ManifestEvent::LocalEvicted { bytes: _ } => {
                ledger(segments, &|entry| entry.evicted = true)
            }
            ManifestEvent::HydrationDone { bytes: _ } => {
                ledger(segments, &|entry| entry.evicted = false)
            }
            ManifestEvent::CompressionStarted
            | ManifestEvent::Tier2DeleteQueued { key: _ }
            | ManifestEvent::HydrationStarted { source: _ }
            | ManifestEvent::HydrationFailed { reason: _ }
            | ManifestEvent::SnapshotMarker {
                chunk_index: _,
                chunk_offset: _,
                snapshot_id: _,
            } => {}
            ManifestEvent::CustomEvent { schema_id, blob } => {
                if *schema_id == producer_table::SCHEMA_ID {
                    self.producers = Some(blob.clone());
                }
            }
            ManifestEvent::Unknown {
                type_id: _,
                payload: _,
            } => self.unknown_records += 1,
        }
    }

    pub fn sealed(&self) -> impl Iterator<Item = (u64, &Ledger, SealEntry)> {
        self.segments
            .iter()
            .filter_map(|(id, ledger)| ledger.sealed.map(|seal| (*id, ledger, seal)))
    }

    /// Count of records in sealed and uploaded segments, without a hole from the first one on.
    pub fn uploaded_upto(&self) -> u64 {
        let mut upto = 0;
        for (_, ledger, seal) in self.sealed() {
            if ledger.tier.uploaded.is_none() {
                break;
            }
            upto = seal.end_sequence;
        }
        upto
    }

    pub fn sealed_upto(&self) -> u64 {
        self.sealed()
            .map(|(_, _, seal)| seal.end_sequence)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::StreamUuid;

    use super::*;

    fn fold(events: &[(u64, ManifestEvent)]) -> ManifestState {
        let mut state = ManifestState::default();
        for (sequence, (segment_id, event)) in events.iter().enumerate() {
            state.apply(&ManifestRecord {
                stream_uuid: StreamUuid::default(),
                segment_id: *segment_id,
                manifest_sequence: sequence as u64,
                wall_unix_nanos: 0,
                epoch: 1,
                event: event.clone(),
            });
        }
        state
    }

    fn opened(base_sequence: u64) -> ManifestEvent {
        ManifestEvent::SegmentOpened {
            base_sequence,
            epoch: 1,
        }
    }

    fn sealed(end_sequence: u64) -> ManifestEvent {
        ManifestEvent::SealSegment {
            durable_bytes: 4096,
            segment_crc64: 1,
            ext_id: 0,
            watermark: end_sequence,
            flush_failure: false,
        }
    }

    fn uploaded() -> ManifestEvent {
        ManifestEvent::UploadDone {
            key: "k".into(),
            etag: "e".into(),
        }
    }

    #[test]
    fn uploaded_counts_end_at_the_first_segment_that_is_not() {
        let state = fold(&[
            (1, opened(0)),
            (1, sealed(10)),
            (2, opened(10)),
            (2, sealed(20)),
            (3, opened(20)),
            (3, sealed(30)),
            (1, uploaded()),
            (3, uploaded()),
        ]);
        assert_eq!(state.uploaded_upto(), 10);
        assert_eq!(state.sealed_upto(), 30);
        assert_eq!(state.next_sequence, 8);
    }

    #[test]
    fn a_failed_upload_may_be_started_again() {
        let started = ManifestEvent::UploadStarted { key: "k".into() };
        let failed = ManifestEvent::UploadFailed {
            key: "k".into(),
            reason: aof2_format::manifest_record::ReasonCode::BucketOrNetwork,
        };
        let state = fold(&[
            (1, opened(0)),
            (1, sealed(1)),
            (1, started.clone()),
            (1, failed),
        ]);
        let tier = &state.segments[&1].tier;
        assert_eq!((tier.upload_started.as_deref(), tier.failures), (None, 1));
        let state = fold(&[(1, opened(0)), (1, sealed(1)), (1, started)]);
        assert_eq!(state.segments[&1].tier.upload_started.as_deref(), Some("k"));
    }

    #[test]
    fn records_of_later_releases_are_counted_and_change_nothing() {
        let unknown = ManifestEvent::Unknown {
            type_id: 99,
            payload: vec![1],
        };
        let state = fold(&[(1, opened(0)), (7, unknown)]);
        assert_eq!((state.unknown_records, state.segments.len()), (1, 1));
    }
}
