//! What one stream holds, for the storage report. The manifest's lock is held for a few segments at a time: commits of a stream with many
//! segments do not wait for whoever looks at it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Store;
use crate::error::StoreError;
use crate::port::RecordTimes;
use crate::residency::usage::SegmentUsage;
use crate::residency::{Held, Objects};
use crate::store::trim::can_be_trimmed;
use crate::stream::{Quarantined, Stream};

/// Walked under one lock.
const SEGMENTS_AT_ONCE: usize = 1024;

/// A stream that changes meanwhile is described as of no single moment, and no segment counts twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamUsage {
    /// First sequence that can be read.
    pub start_sequence: u64,
    /// Behind the last record, staged ones included.
    pub next_sequence: u64,
    /// Its start can be moved. Not of a stream that another volume owns, or whose volume is refused.
    pub can_be_trimmed: bool,
    pub sealed: SegmentUsage,
    pub open: OpenUsage,
}

/// What no sealed segment holds yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenUsage {
    /// Files, with what they take of the volume.
    pub files: Held,
    /// Headers and batches.
    pub bytes: u64,
    /// Of the records in the segment that takes appends; `None` where it has none.
    pub times: Option<RecordTimes>,
}

impl Store {
    /// Names of all streams, in their order.
    pub(crate) fn names_of_streams(&self) -> Vec<Arc<str>> {
        let streams = self.pipeline().streams.existing();
        let names = streams.iter().map(|stream| stream.shared_name.clone());
        names.collect()
    }

    /// What an engine says about itself with every report: a sum per stream is read, and no segment.
    pub(super) fn objects(&self, is_confirmed: &dyn Fn(&str, u64) -> bool) -> Option<Objects> {
        let mut all = Objects::default();
        for stream in self.pipeline().streams.existing() {
            let is_superseded = matches!(
                stream.staged.lock().quarantined,
                Some(Quarantined::Superseded { .. })
            );
            // Its owner counts them.
            if is_superseded {
                continue;
            }
            let objects = stream.manifest.read(|state| state.residency.objects());
            if objects.count > 0 && !is_confirmed(&stream.shared_name, stream.epoch().into()) {
                return None;
            }
            all.add(objects);
        }
        Some(all)
    }

    /// `since_unix_nanos`: from when on it matters what was appended, though it is trimmed by now.
    pub(crate) fn usage(
        &self,
        stream: &str,
        since_unix_nanos: i64,
    ) -> Result<StreamUsage, StoreError> {
        let stream = self.known(stream)?;
        Ok(usage_of(&stream, since_unix_nanos, SEGMENTS_AT_ONCE))
    }
}

/// In steps of `at_once` segments.
pub(super) fn usage_of(stream: &Stream, since_unix_nanos: i64, at_once: usize) -> StreamUsage {
    // In this order a segment that is sealed meanwhile counts once: as an open one, or as a sealed one.
    let mut open = stream.open_segments();
    let sealed_upto = stream.sealed.load(Ordering::Acquire);
    open.retain(|segment| segment.base_sequence() >= sealed_upto);
    let (next_sequence, times, can_be_trimmed) = {
        let staged = stream.staged.lock();
        let has_records = staged.active.is_some() && staged.tail > 0;
        (
            staged.next_sequence,
            has_records.then_some(staged.times),
            can_be_trimmed(staged.quarantined.as_ref()),
        )
    };
    let mut usage = OpenUsage {
        times,
        ..OpenUsage::default()
    };
    for segment in open {
        usage.files.note(segment.allocated());
        usage.bytes += segment.staged_end();
    }
    let mut sealed = SegmentUsage::default();
    let manifest = &stream.manifest;
    let start_sequence = manifest.read(|state| state.residency.start_sequence());
    let mut next = Some(0);
    while let Some(from) = next {
        next = manifest
            .read(|state| sealed.add_leaving(&state.residency, from, start_sequence, at_once));
    }
    let mut next = Some(start_sequence);
    while let Some(from) = next {
        next = manifest
            .read(|state| sealed.add_readable(&state.residency, from, sealed_upto, at_once));
    }
    let mut next = Some(sealed.first_sequence.unwrap_or(start_sequence));
    while let Some(below) = next {
        next = manifest.read(|state| {
            sealed.add_trimmed_lately(&state.residency, below, since_unix_nanos, at_once)
        });
    }
    StreamUsage {
        start_sequence,
        next_sequence,
        can_be_trimmed,
        sealed,
        open: usage,
    }
}
