//! Merges of small segments.

use aof2_core::compaction::CompactionStatus;

use super::page::Page;

pub(super) fn of(page: &mut Page, status: &CompactionStatus) {
    let CompactionStatus {
        is_enabled,
        merges,
        inputs,
        read_bytes,
        written_bytes,
        failures,
        last: _,
        end: _,
    } = status;
    page.gauge(
        "compaction_enabled",
        "1 while small segments are merged automatically",
        u64::from(*is_enabled),
    );
    page.counters(
        "compaction_merges",
        "Merges of small segments since start, by result",
        "result",
        [("done", *merges), ("failed", *failures)],
    );
    page.counters(
        "compaction_segments",
        "Segments read and written by merges since start",
        "role",
        [("input", *inputs), ("output", *merges)],
    );
    page.counters(
        "compaction_bytes",
        "Uncompressed bytes read and written by merges since start",
        "role",
        [("input", *read_bytes), ("output", *written_bytes)],
    );
}
