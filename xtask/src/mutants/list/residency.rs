//! What a segment's copies are is what the manifest says, through every restart.

use super::{Mutant, Selection, units};

const STORE: &[Selection] = &[units("aof2-core", "store::tests::residency")];
const FOLD: &[Selection] = &[units("aof2-core", "residency::tests")];
const FILE: &str = "engine/core/src/residency/fold.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a segment that is elsewhere is no part of its stream",
        file: FILE,
        find: "self.sealed_from(self.start_sequence)",
        replace: "self.sealed_from(self.start_sequence).filter(|(_, segment, _)| segment.copies.hot)",
        noticed_by: STORE,
    },
    Mutant {
        name: "a file counts whose copy was dropped",
        file: "engine/core/src/recovery/sealed.rs",
        find: "if !copies.is_some_and(|copies| copies.hot) {",
        replace: "if copies.is_none() {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a dropped file stays on the volume",
        file: "engine/core/src/recovery/stream.rs",
        find: "if replayed.damage.is_none() && residency.is_dropped(id) {",
        replace: "if replayed.damage.is_some() && residency.is_dropped(id) {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a file goes of which no other copy is named",
        file: FILE,
        find: "!is_needed || (!segment.copies.hot && !segment.copies.is_empty())",
        replace: "!is_needed || (!segment.copies.hot && segment.seal.is_some())",
        noticed_by: FOLD,
    },
    Mutant {
        name: "what was deleted from Tier 2 is uploaded again",
        file: FILE,
        find: "!segment.moves.was_uploaded && has_local",
        replace: "segment.copies.cold.is_none() && has_local",
        noticed_by: FOLD,
    },
    Mutant {
        name: "a count without a hole begins at zero",
        file: FILE,
        find: "self.uploaded_upto = self.uploaded_upto.max(self.start_sequence);",
        replace: "self.uploaded_upto = self.uploaded_upto.max(0);",
        noticed_by: FOLD,
    },
    Mutant {
        name: "an older object of a segment takes the newer one along",
        file: FILE,
        find: "if segment.may_have_object(key) {\n                    segment.copies.cold = None;",
        replace: "if segment.copies.cold.is_some() {\n                    segment.copies.cold = None;",
        noticed_by: FOLD,
    },
    Mutant {
        name: "a seal records another chain than its last batch has",
        file: "engine/core/src/store/seal.rs",
        find: "            chain: *chain,\n            first_unix_nanos",
        replace: "            chain: *chain ^ 1,\n            first_unix_nanos",
        noticed_by: STORE,
    },
];
