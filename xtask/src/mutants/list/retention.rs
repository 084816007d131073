//! What leaves a stream at its beginning, by a verb or by a rule.

use super::{Mutant, Selection, units};

const TRIM: &[Selection] = &[units("aof2-core", "store::tests::trim")];
const PLAN: &[Selection] = &[units("aof2-core", "plan::retain::tests")];
const CLOCK: &[Selection] = &[units("aof2-core", "retention::clock::tests")];
const STORE: &[Selection] = &[units("aof2-core", "store::tests::retention")];

const DELETE_PLAN: &[Selection] = &[units("aof2-core", "plan::delete::tests")];
const DELETE: &[Selection] = &[units("aof2-core", "store::tests::deletion")];

const TRIM_FILE: &str = "engine/core/src/store/trim.rs";
const PLAN_FILE: &str = "engine/core/src/coordinator/plan/retain.rs";
const DELETE_PLAN_FILE: &str = "engine/core/src/coordinator/plan/delete.rs";
const CLOCK_FILE: &str = "engine/core/src/retention/clock.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a trim is answered before it is durable",
        file: TRIM_FILE,
        find: "stream.manifest.commit(&owned, 0, vec![event])?;",
        replace: "drop((owned, event));",
        noticed_by: TRIM,
    },
    Mutant {
        name: "a trimmed file goes without its record",
        file: TRIM_FILE,
        find: "stream.manifest.commit(&owned, segment_id, vec![dropped])?;",
        replace: "drop((owned, dropped));",
        noticed_by: TRIM,
    },
    Mutant {
        name: "a trim passes the end of what is sealed",
        file: TRIM_FILE,
        find: "if before > sealed {",
        replace: "if before > next {",
        noticed_by: TRIM,
    },
    Mutant {
        name: "a segment that holds the start is dropped",
        file: "engine/core/src/residency/fold.rs",
        find: ".is_some_and(|(_, _, seal)| seal.end_sequence <= self.start_sequence)",
        replace: ".is_some_and(|(_, it, _)| it.base_sequence <= self.start_sequence)",
        noticed_by: TRIM,
    },
    Mutant {
        name: "a trimmed segment whose file a kill left stays over a start",
        file: "engine/core/src/residency/fold.rs",
        find: "!is_needed || (!segment.copies.hot && !segment.copies.is_empty())",
        replace: "is_needed && (!segment.copies.hot && !segment.copies.is_empty())",
        noticed_by: TRIM,
    },
    Mutant {
        name: "a pass takes all of a large stream",
        file: PLAN_FILE,
        find: "false => total / PARTS_PER_PASS,",
        replace: "false => total,",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a segment that is larger than a tenth never goes",
        file: PLAN_FILE,
        find: "start.is_none() || taken + segment.bytes <= most",
        replace: "taken + segment.bytes <= most",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a stream keeps less than it may",
        file: PLAN_FILE,
        find: "total - taken > max",
        replace: "total - taken >= max",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a clock that steps ahead is trusted",
        file: CLOCK_FILE,
        find: "-tolerance <= ahead && ahead <= tolerance + nanos(slack)",
        replace: "-tolerance <= ahead + nanos(slack)",
        noticed_by: CLOCK,
    },
    Mutant {
        name: "any time of not running is believed",
        file: CLOCK_FILE,
        find: "slack: DOWNTIME,",
        replace: "slack: DOWNTIME * 10_000,",
        noticed_by: CLOCK,
    },
    Mutant {
        name: "a clock is trusted again as soon as it stands still",
        file: CLOCK_FILE,
        find: "if now.monotonic >= until {",
        replace: "if now.monotonic > step.monotonic {",
        noticed_by: CLOCK,
    },
    Mutant {
        name: "retention goes by a clock that is not trusted",
        file: "engine/core/src/retention/mod.rs",
        find: "is_trusted.then(|| reading::now(&self.store).wall_unix_nanos)",
        replace: "Some(reading::now(&self.store).wall_unix_nanos)",
        noticed_by: STORE,
    },
    Mutant {
        name: "the last rule that fits counts",
        file: PLAN_FILE,
        find: "rules.iter().position(",
        replace: "rules.iter().rposition(",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a reading of the clock is not kept over a restart",
        file: "engine/core/src/retention/job.rs",
        find: "            reading::store(&self.store);",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "the object of a segment with readable records goes",
        file: DELETE_PLAN_FILE,
        find: "if object.end_sequence > holders.start_sequence {",
        replace: "if object.base_sequence > holders.start_sequence {",
        noticed_by: DELETE_PLAN,
    },
    Mutant {
        name: "an object goes that a catalogue names",
        file: DELETE_PLAN_FILE,
        find: "naming.find(names_it)",
        replace: "naming.find(names_it).filter(|_| object.stage == DeletionStage::NotQueued)",
        noticed_by: DELETE_PLAN,
    },
    Mutant {
        name: "an object goes that a running snapshot may name",
        file: DELETE_PLAN_FILE,
        find: "if holders.is_snapshot_running {",
        replace: "if holders.is_snapshot_running && object.stage == DeletionStage::NotQueued {",
        noticed_by: DELETE_PLAN,
    },
    Mutant {
        name: "an object goes before its grace is over",
        file: DELETE_PLAN_FILE,
        find: "Some(now) if now < until_unix_nanos",
        replace: "Some(now) if now < at_unix_nanos",
        noticed_by: DELETE_PLAN,
    },
    Mutant {
        name: "a grace passes by a clock that is not trusted",
        file: DELETE_PLAN_FILE,
        find: "None => Next::Wait(Why::Clock),",
        replace: "None => Next::Delete,",
        noticed_by: DELETE_PLAN,
    },
    Mutant {
        name: "an object goes though the bucket lacks the manifest that gives it up",
        file: "engine/core/src/deletion/pass.rs",
        find: "            self.publish(stream)?;\n",
        replace: "",
        noticed_by: DELETE,
    },
    Mutant {
        name: "an object of a stream that another volume owns goes",
        file: "engine/core/src/deletion/pass.rs",
        find: "if !to_delete.is_empty() && self.is_owner(stream, names.epoch)? {",
        replace: "if !to_delete.is_empty() {",
        noticed_by: DELETE,
    },
    Mutant {
        name: "an object goes that is not the one of the manifest",
        file: "engine/core/src/deletion/pass.rs",
        find: "Some(meta) if meta.etag != *etag => {",
        replace: "Some(meta) if meta.etag.is_empty() => {",
        noticed_by: DELETE,
    },
    Mutant {
        name: "a catalogue that cannot be read keeps nothing",
        file: "engine/core/src/deletion/catalogues.rs",
        find: "Catalogue::decode(&object.bytes).map_err(|damage| unreadable(damage.to_string()))?;",
        replace: "match Catalogue::decode(&object.bytes) {\n            Ok(catalogue) => catalogue,\n            Err(_) => return Ok(None),\n        };",
        noticed_by: DELETE,
    },
    Mutant {
        name: "a refused deletion makes Tier 2 unreachable",
        file: "engine/core/src/objects/tier2.rs",
        find: "if kind == Kind::Delete\n",
        replace: "if kind == Kind::Get\n",
        noticed_by: DELETE,
    },
];
