//! Copies that come back.

use super::{Mutant, Selection, units};

const STORE: &[Selection] = &[units("aof2-core", "store::tests::hydrations")];
const PLAN: &[Selection] = &[units("aof2-core", "plan::hydrate::tests")];
const QUEUE: &[Selection] = &[units("aof2-core", "coordinator::hydrations::tests")];

const DEMAND: &[Selection] = &[units("aof2-core", "demand::tests")];
const ON_DEMAND: &[Selection] = &[units("aof2-core", "store::tests::on_demand")];
const OPEN: &[Selection] = &[units("aof2-core", "open_files::tests")];
const WARM_READS: &[Selection] = &[units("aof2-core", "store::tests::warm_reads")];

const DEMAND_FILE: &str = "engine/core/src/coordinator/demand.rs";
const DEMAND_PLAN_FILE: &str = "engine/core/src/coordinator/plan/demand.rs";
const OPEN_FILE: &str = "engine/core/src/fetch/open_files.rs";

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
    Mutant {
        name: "what is read once is demand",
        file: "engine/core/src/fetch/demand.rs",
        find: "if had && (is_ahead || !was_ahead) {",
        replace: "if is_ahead || !was_ahead {",
        noticed_by: &[
            units("aof2-core", "fetch::demand::tests"),
            units("aof2-core", "store::tests::on_demand"),
        ],
    },
    Mutant {
        name: "what was fetched ahead and lost is demand",
        file: "engine/core/src/fetch/demand.rs",
        find: "if had && (is_ahead || !was_ahead) {",
        replace: "if had {",
        noticed_by: DEMAND,
    },
    Mutant {
        name: "copies that are read more go for one that comes back on demand",
        file: DEMAND_PLAN_FILE,
        find: "let is_less = 2 * u128::from(theirs) * u128::from(bytes) <= ours;",
        replace: "let is_less = 2 * u128::from(theirs) <= 1 + ours;",
        noticed_by: DEMAND,
    },
    Mutant {
        name: "Tier 0 takes a copy on demand above its low mark",
        file: DEMAND_PLAN_FILE,
        find: "usage.used_bytes + bytes <= low_mark(quota_bytes)",
        replace: "usage.used_bytes + bytes <= high_mark(quota_bytes)",
        noticed_by: DEMAND,
    },
    Mutant {
        name: "what was evicted again right away is fetched in a loop",
        file: DEMAND_PLAN_FILE,
        find: "    ripe.retain(|it| demand.rest.get(&it.key).is_none_or(|until| *until <= now));\n",
        replace: "    let _ = now;\n",
        noticed_by: ON_DEMAND,
    },
    Mutant {
        name: "what left again rests no longer the next time",
        file: DEMAND_FILE,
        find: "last.times.saturating_add(1)",
        replace: "last.times",
        noticed_by: DEMAND,
    },
    Mutant {
        name: "segments come back for readers during a drain",
        file: DEMAND_FILE,
        find: "self.settings.read().hydrate_on_demand && !self.is_draining.load(Ordering::Acquire)",
        replace: "self.settings.read().hydrate_on_demand",
        noticed_by: ON_DEMAND,
    },
    Mutant {
        name: "what somebody asks for waits for what readers want",
        file: DEMAND_FILE,
        find: "if is_asked || is_nearly_full",
        replace: "if is_nearly_full",
        noticed_by: ON_DEMAND,
    },
    Mutant {
        name: "a hydration on demand asks Tier 2 while a reader waits",
        file: "engine/core/src/fetch/flight.rs",
        find: "let is_free = state.waiting.is_empty() && state.under_way < self.most_requests;",
        replace: "let is_free = state.under_way < self.most_requests;",
        noticed_by: &[units("aof2-core", "a_request_behind_readers_has_half")],
    },
    Mutant {
        name: "a file that goes stays open",
        file: OPEN_FILE,
        find: "        state.kept.retain(|it| *it.open.path != *path);\n",
        replace: "",
        noticed_by: &[
            units("aof2-core", "open_files::tests"),
            units("aof2-core", "a_copy_that_leaves_tier_1"),
        ],
    },
    Mutant {
        name: "a file that went meanwhile is kept open",
        file: OPEN_FILE,
        find: "if is_closing || is_there || seen != Seen(state.changes) {",
        replace: "if is_closing || is_there {",
        noticed_by: OPEN,
    },
    Mutant {
        name: "files that nobody reads stay open",
        file: "engine/core/src/coordinator/mod.rs",
        find: "            fetch.close_idle_files();\n",
        replace: "            let _ = fetch;\n",
        noticed_by: WARM_READS,
    },
    Mutant {
        name: "a file that is replaced by one compressed again stays open",
        file: "engine/core/src/coordinator/recompress.rs",
        find: "            let _closed = down.closed(path);\n",
        replace: "",
        noticed_by: WARM_READS,
    },
];
