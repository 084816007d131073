//! One bolero target per decoder: a property test of a few thousand inputs here, a fuzz target with
//! `cargo bolero test -p aof2-format fuzz_<thing>`, where `cfg(fuzzing)` lets wrong checksums pass.

mod support;

use support::decoders::{DECODERS, Decoder};

fn fuzz(name: &str) {
    let (_, decode): &(&str, Decoder) = DECODERS
        .iter()
        .find(|(found, _)| *found == name)
        .expect("a decoder of this name");
    bolero::check!()
        .with_iterations(2000)
        .for_each(|input: &[u8]| {
            let _ = decode(input);
        });
}

macro_rules! targets {
    ($($target:ident: $name:literal,)*) => {
        $(#[test]
        fn $target() {
            fuzz($name);
        })*

        #[test]
        fn every_decoder_has_a_target() {
            let mut targets = vec![$($name),*];
            // A gap is a batch: the same decoder.
            targets.push("record_batch_gap");
            assert!(DECODERS.iter().all(|(name, _)| targets.contains(name)));
        }
    };
}

targets! {
    fuzz_record_batch: "record_batch",
    fuzz_segment_header: "segment_header",
    fuzz_segment_seal: "segment_seal",
    fuzz_stream_header: "stream_header",
    fuzz_manifest_commit: "manifest_commit",
    fuzz_producer_changes: "producer_changes",
    fuzz_start_sequence: "start_sequence",
    fuzz_snapshot_deletion: "snapshot_deletion",
    fuzz_compaction_begun: "compaction_begun",
    fuzz_compaction_merged: "compaction_merged",
    fuzz_compaction_failed: "compaction_failed",
    fuzz_compaction_given_up: "compaction_given_up",
    fuzz_manifest_base: "manifest_base",
    fuzz_manifest_chunk_header: "manifest_chunk_header",
    fuzz_journal_header: "journal_header",
    fuzz_journal_commit: "journal_commit",
    fuzz_journal_mark: "journal_mark",
    fuzz_stream_catalog_entry: "stream_catalog_entry",
    fuzz_warm_header: "warm_header",
    fuzz_warm_tail: "warm_tail",
    fuzz_claim: "claim",
    fuzz_cluster: "cluster",
    fuzz_volume: "volume",
    fuzz_mark: "mark",
    fuzz_clock_reading: "clock_reading",
    fuzz_snapshot: "snapshot",
    fuzz_recovery: "recovery",
    fuzz_snapshot_note: "snapshot_note",
}
