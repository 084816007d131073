//! Recovery tells torn from damaged, and forgets neither.

use super::{Mutant, Selection, tests, units};

const STATES: &[Selection] = &[tests("aof2-core", "states", "every_state")];
const CHUNKS: &[Selection] = &[units("aof2-core", "manifest::replay")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a hole in front of what was durable passes for a torn end",
        file: "engine/core/src/recovery/scan.rs",
        find: "if let Some(durable_upto) = behind {",
        replace: "if let Some(durable_upto) = behind.filter(|_| false) {",
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
        find: "if reach > 0 && !state.residency.is_sealed(id) {",
        replace: "if reach == u64::MAX && !is_sealed {",
        noticed_by: &[tests("aof2-core", "faults", "a_lost_segment_is_damage")],
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
        find: "let is_cut = *torn_bytes > 0 && replayed.damage.is_none();",
        replace: "let is_cut = *torn_bytes == usize::MAX;",
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
