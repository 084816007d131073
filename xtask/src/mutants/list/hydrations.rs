//! Copies that come back.

use super::{Mutant, Selection, units};

const STORE: &[Selection] = &[units("aof2-core", "store::tests::hydrations")];
const PLAN: &[Selection] = &[units("aof2-core", "plan::hydrate::tests")];
const QUEUE: &[Selection] = &[units("aof2-core", "coordinator::hydrations::tests")];

const RESTORE_FILE: &str = "engine/core/src/store/restore.rs";
const QUEUE_FILE: &str = "engine/core/src/coordinator/hydrations.rs";
const PLAN_FILE: &str = "engine/core/src/coordinator/plan/hydrate.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a segment trimmed while it came back to Tier 0 is kept",
        file: RESTORE_FILE,
        find: "let trimmed = || RestoreError::Trimmed {",
        replace: "let is_trimmed = || false;\n        let trimmed = || RestoreError::Trimmed {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a copy that came back to Tier 0 has no record",
        file: RESTORE_FILE,
        find: "commit(ManifestEvent::HydrationDone { copy, bytes })?;",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "a copy that came back to Tier 1 has no record",
        file: "engine/core/src/coordinator/hydrate.rs",
        find: "let there = TierRecord::WarmHydrated { bytes };",
        replace: "let there = TierRecord::HydrationStarted { source: HydrationSource::Tier2 };",
        noticed_by: STORE,
    },
    Mutant {
        name: "a segment trimmed while it came back to Tier 1 is recorded",
        file: "engine/core/src/coordinator/hydrate.rs",
        find: "if readable(port, &key).is_none() {",
        replace: "if readable(port, &key).is_none() && false {",
        noticed_by: STORE,
    },
    Mutant {
        name: "what is there already leaves for the rest of its range",
        file: QUEUE_FILE,
        find: "self.wanted.extend(there);",
        replace: "drop(there);",
        noticed_by: STORE,
    },
    Mutant {
        name: "what is wanted leaves for what is wanted",
        file: PLAN_FILE,
        find: "if is_wanted(&key) {",
        replace: "if false {",
        noticed_by: PLAN,
    },
    Mutant {
        name: "an outage costs a hydration one of its tries",
        file: QUEUE_FILE,
        find: "wish.tries = 0;",
        replace: "",
        noticed_by: QUEUE,
    },
    Mutant {
        name: "a half written copy of a killed process stays in Tier 1",
        file: "engine/core/src/coordinator/warm_files.rs",
        find: "let _ = disk.unlink(&path);",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "what open segments take next has no place beside a copy that comes back",
        file: "engine/core/src/admit.rs",
        find: "high - ahead_bytes.min(high - low_mark(budget_bytes))",
        replace: "high - ahead_bytes.min(high - high_mark(budget_bytes))",
        noticed_by: &[
            units("aof2-core", "plan::hydrate::tests"),
            units("aof2-core", "an_append_that_takes_blocks_after"),
        ],
    },
    Mutant {
        name: "a file that is made ahead is not counted before it is there",
        file: "engine/core/src/store/evict.rs",
        find: "None => FIRST_ALLOCATION_BYTES,",
        replace: "None => 0,",
        noticed_by: STORE,
    },
    Mutant {
        name: "half a copy that came back stays over a start",
        file: "engine/core/src/recovery/stream.rs",
        find: "            if entry.name.ends_with(file::TMP_SUFFIX) {\n                disk.unlink(&path).map_err(at(\"remove\", &path))?;\n",
        replace: "            if entry.name.ends_with(file::TMP_SUFFIX) {\n",
        noticed_by: &[units("aof2-core", "tier_kills")],
    },
];
