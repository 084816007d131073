//! Objects that nobody knows.

use super::{Mutant, Selection, units};

const PLAN: &[Selection] = &[units("aof2-core", "plan::orphans::tests")];
const NAMES: &[Selection] = &[units("aof2-core", "residency::names::tests")];
const CHUNKS: &[Selection] = &[units("aof2-core", "deletion::orphans::chunks::tests")];
const STORE: &[Selection] = &[units("aof2-core", "store::tests::orphans")];
const LISTING: &[Selection] = &[units("aof2-core", "objects::listing::tests")];

const PLAN_FILE: &str = "engine/core/src/coordinator/plan/orphans.rs";
const SEARCH_FILE: &str = "engine/core/src/deletion/orphans/search.rs";
const CHUNKS_FILE: &str = "engine/core/src/deletion/orphans/chunks.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "one listing makes an orphan",
        file: PLAN_FILE,
        find: "&& look.listing_began.duration_since(sight.first_seen) >= look.grace;",
        replace: "|| look.grace > Duration::ZERO;",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a young object is an orphan",
        file: PLAN_FILE,
        find: "now >= modified.saturating_add(grace);",
        replace: "now >= modified || grace > 0;",
        noticed_by: PLAN,
    },
    Mutant {
        name: "another object under the key is as old as the one before",
        file: PLAN_FILE,
        find: "before.etag == self.etag\n                && ",
        replace: "",
        noticed_by: PLAN,
    },
    Mutant {
        name: "an id that was not given out may be an orphan",
        file: PLAN_FILE,
        find: "segment.segment_id < next_segment_id)",
        replace: "next_segment_id > 0)",
        noticed_by: PLAN,
    },
    Mutant {
        name: "an object whose upload is under way may be an orphan",
        file: "engine/core/src/residency/names.rs",
        find: "            known.begun_key.as_deref(),\n",
        replace: "",
        noticed_by: NAMES,
    },
    Mutant {
        name: "what an epoch that is over names is an orphan",
        file: CHUNKS_FILE,
        find: "                        named.insert(key.clone());\n",
        replace: "",
        noticed_by: CHUNKS,
    },
    Mutant {
        name: "a missing chunk passes for none",
        file: CHUNKS_FILE,
        find: "if !follows {",
        replace: "if !follows && of == u32::MAX {",
        noticed_by: CHUNKS,
    },
    Mutant {
        name: "orphans are deleted without being asked to",
        file: SEARCH_FILE,
        find: "policy == OrphanPolicy::Delete && !self.runner.is_stopping()",
        replace: "matches!(policy, OrphanPolicy::Delete | OrphanPolicy::Report)",
        noticed_by: STORE,
    },
    Mutant {
        name: "the claim is not read again before an orphan is deleted",
        file: SEARCH_FILE,
        find: "        let _working = runner.working.lock();\n        runner.ensure_owner(stream, names.epoch)?;\n",
        replace: "        let _working = runner.working.lock();\n",
        noticed_by: STORE,
    },
    Mutant {
        name: "an object that was replaced since it was listed is deleted",
        file: SEARCH_FILE,
        find: "Some(meta) if !is_same(&meta) => {",
        replace: "Some(meta) if !is_same(&meta) && meta.etag.is_empty() => {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a listing out of order is believed",
        file: "engine/core/src/objects/listing.rs",
        find: "before.filter(|before| *before >= key.as_str())",
        replace: "before.filter(|before| *before == key.as_str())",
        noticed_by: LISTING,
    },
];
