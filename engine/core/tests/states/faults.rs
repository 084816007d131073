//! The states are worth something only where they find a fault. Each of these is what the store would do to the disk if one step
//! were left out or done too early, and is found within a thousand states.

use aof2_core::io::FileClass;

use crate::disk::{Faults, SyncCall, SyncKind};
use crate::explore::{Plan, explore};
use crate::workloads;

const ENOUGH: u64 = 1_000;

fn is_found(what: &str, faults: Faults) {
    let plan = Plan {
        seed: 1,
        states: Some(ENOUGH),
        faults,
        workloads: workloads::ALL,
    };
    let summary = explore(&plan);
    let Some(failure) = summary.failure else {
        panic!(
            "{what}: {} states are all as they should be",
            summary.states
        );
    };
    println!("{what}: state {}: {}", summary.states, failure.what);
}

fn omits(omits: fn(&SyncCall<'_>) -> bool) -> Faults {
    Faults {
        omits,
        ..Faults::NONE
    }
}

fn is_directory(call: &SyncCall<'_>, name: &str) -> bool {
    call.kind == SyncKind::Directory && call.path.ends_with(name)
}

#[test]
fn a_missing_sync_of_the_directory_of_streams_is_found() {
    is_found(
        "no sync of streams/",
        omits(|call| is_directory(call, "/streams")),
    );
}

#[test]
fn a_missing_sync_of_a_streams_own_directory_is_found() {
    is_found(
        "no sync of a stream's directory",
        omits(|call| {
            let parent = call.path.rsplit_once('/').map_or("", |(parent, _)| parent);
            call.kind == SyncKind::Directory && parent.ends_with("/streams")
        }),
    );
}

#[test]
fn a_missing_sync_of_the_directory_of_manifest_chunks_is_found() {
    is_found(
        "no sync of manifest/",
        omits(|call| is_directory(call, "/manifest")),
    );
}

#[test]
fn a_missing_sync_of_the_directory_of_segments_is_found() {
    is_found(
        "no sync of segments/",
        omits(|call| is_directory(call, "/segments")),
    );
}

#[test]
fn a_missing_sync_of_the_directory_of_the_journal_is_found() {
    is_found(
        "no sync of journal/",
        omits(|call| is_directory(call, "/journal")),
    );
}

#[test]
fn a_missing_sync_of_the_journal_is_found() {
    is_found(
        "no sync of the journal",
        omits(|call| call.class == FileClass::Journal && call.kind == SyncKind::Data),
    );
}

/// By the checkpoint: its threads have its name or none.
#[test]
fn journal_files_that_are_recycled_before_their_segments_are_synced_are_found() {
    is_found(
        "no sync of segments in a checkpoint",
        omits(|call| {
            call.class == FileClass::Segment
                && call.kind == SyncKind::Data
                && matches!(call.thread, "aof2-checkpoint" | "")
        }),
    );
}

#[test]
fn a_manifest_chunk_that_a_checkpoint_does_not_sync_is_found() {
    is_found(
        "no sync of manifest chunks in a checkpoint",
        omits(|call| call.class == FileClass::Manifest && call.kind == SyncKind::Data),
    );
}

/// By a round of the journal: its thread, or the caller that leads it.
#[test]
fn a_large_append_that_is_acknowledged_before_its_segment_is_synced_is_found() {
    is_found(
        "no sync of segments in a round",
        omits(|call| {
            call.class == FileClass::Segment
                && call.kind == SyncKind::Data
                && !matches!(call.thread, "aof2-checkpoint" | "aof2-seal" | "")
        }),
    );
}

#[test]
fn a_seal_that_is_committed_before_its_block_is_synced_is_found() {
    is_found(
        "no sync of the seal block",
        omits(|call| call.kind == SyncKind::All && call.thread == "aof2-seal"),
    );
}

#[test]
fn a_missing_sync_at_the_end_of_recovery_is_found() {
    is_found(
        "no sync at the end of recovery",
        omits(|call| {
            let is_recovered = matches!(call.class, FileClass::Segment | FileClass::Manifest)
                && !call.path.ends_with(".tmp");
            call.kind == SyncKind::All && is_recovered && call.thread != "aof2-seal"
        }),
    );
}

/// Files and names that a killed process left in the cache, and files that were copied.
#[test]
fn a_start_that_syncs_only_what_it_wrote_is_found() {
    is_found(
        "no sync of the volume at the end of recovery",
        omits(|call| call.kind == SyncKind::Volume),
    );
}

#[test]
fn torn_bytes_that_are_not_zeroed_are_found() {
    is_found(
        "torn bytes stay",
        Faults {
            leaves_torn_bytes: true,
            ..Faults::NONE
        },
    );
}
