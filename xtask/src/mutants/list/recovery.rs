//! Recovery tells torn from damaged, and forgets neither.

use super::{Mutant, Selection, tests, units};

const STATES: &[Selection] = &[tests("aof2-core", "states", "every_state")];
const CHUNKS: &[Selection] = &[units("aof2-core", "manifest::replay")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a hole in front of what was durable passes for a torn end",
        file: "engine/core/src/recovery/scan.rs",
        find: "if let Some(durable_upto) = behind.filter(|_| !is_given_up) {",
        replace: "if let Some(durable_upto) = behind.filter(|_| is_given_up) {",
        noticed_by: &[tests("aof2-core", "states", "a_hole_below")],
    },
    Mutant {
        name: "torn bytes are not zeroed",
        file: "engine/core/src/recovery/scan.rs",
        find: "while offset < to {",
        replace: "while offset > to {",
        noticed_by: STATES,
    },
    Mutant {
        name: "a segment is not held against how far it was synced",
        file: "engine/core/src/recovery/scan.rs",
        find: "if segment.must_reach > end.offset {",
        replace: "if segment.must_reach == u64::MAX {",
        noticed_by: &[tests("aof2-core", "faults", "a_lost_end_of_a_segment")],
    },
    Mutant {
        name: "the end of a segment is forgotten with the journal that knew it",
        file: "engine/core/src/recovery/scan.rs",
        find: ".push((id, segment.must_reach.max(end.offset)));",
        replace: ".push((id, end.offset));",
        noticed_by: &[tests("aof2-core", "faults", "a_lost_end_of_a_segment")],
    },
    Mutant {
        name: "a segment that is gone before it was sealed is not missed",
        file: "engine/core/src/recovery/stream.rs",
        find: "if reach > 0 && !state.residency.is_sealed(id) && !is_given_up {",
        replace: "if reach == u64::MAX && !is_given_up {",
        noticed_by: &[tests("aof2-core", "faults", "a_lost_segment_is_damage")],
    },
    Mutant {
        name: "what a killed process left in the cache is not synced",
        file: "engine/core/src/recovery/mod.rs",
        find: "    disk.sync_volume(root)\n        .map_err(at(\"sync the volume of\", root))?;\n",
        replace: "",
        noticed_by: &[
            units("aof2-core", "a_start_whose_volume_cannot_be_synced"),
            tests("aof2-core", "states", "every_state"),
        ],
    },
    Mutant {
        name: "a cut gives sequences of lost records again",
        file: "engine/core/src/recovery/cut.rs",
        find: "next_sequence: most.max(facts.durable_upto),",
        replace: "next_sequence: most.min(facts.next_sequence + 1),",
        noticed_by: &[tests("aof2-core", "tiers", "no_sequence_is_given_twice")],
    },
    Mutant {
        name: "a manifest chunk is not held against how far it was durable",
        file: "engine/core/src/manifest/replay.rs",
        find: "if end < found.must_reach {",
        replace: "if end < found.must_reach.min(1) {",
        noticed_by: CHUNKS,
    },
    Mutant {
        name: "a torn end of a manifest chunk is not zeroed",
        file: "engine/core/src/manifest/replay.rs",
        find: "let is_cut = *torn_bytes > 0 && is_whole;",
        replace: "let is_cut = *torn_bytes == usize::MAX && is_whole;",
        noticed_by: CHUNKS,
    },
    Mutant {
        name: "a torn end before a chunk that holds something is no damage",
        file: "engine/core/src/manifest/replay.rs",
        find: "if *torn_bytes > 0 && !may_be_torn {",
        replace: "if *torn_bytes == usize::MAX && !may_be_torn {",
        noticed_by: CHUNKS,
    },
];
