//! What leaves a stream at its beginning, by a verb or by a rule.

use super::{Mutant, Selection, units};

const TRIM: &[Selection] = &[units("aof2-core", "store::tests::trim")];
const PLAN: &[Selection] = &[units("aof2-core", "plan::retain::tests")];
const CLOCK: &[Selection] = &[units("aof2-core", "retention::clock::tests")];
const STORE: &[Selection] = &[units("aof2-core", "store::tests::retention")];

const PASSES: &[Selection] = &[units("aof2-core", "retention::passes::tests")];
const SCHEDULE: &[Selection] = &[units("aof2-core", "deletion::schedule::tests")];
const KILLS: &[Selection] = &[units("aof2-core", "store::tests::kills")];
const UPLOADS: &[Selection] = &[units("aof2-core", "store::tests::trimmed_uploads")];

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
        find: "let before_it = publish(&stream, before, committed?);",
        replace: "drop(committed);\n            let before_it = publish(&stream, before, 0);",
        noticed_by: TRIM,
    },
    Mutant {
        name: "a trimmed file goes without its record",
        file: TRIM_FILE,
        find: ".commit_and_read(&owned, segment_id, vec![dropped], uploaded_upto);",
        replace: ".commit_and_read(&owned, segment_id, Vec::new(), uploaded_upto);\n        drop(dropped);",
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
        file: "engine/core/src/residency/leaving.rs",
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
        find: "false => total_bytes / PARTS_PER_PASS,",
        replace: "false => total_bytes,",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a segment that is larger than a tenth never goes",
        file: PLAN_FILE,
        find: "is_first || taken + segment.bytes <= most",
        replace: "(is_first && taken > 0) || taken + segment.bytes <= most",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a stream keeps less than it may",
        file: PLAN_FILE,
        find: "limits.max_bytes.is_some_and(|max| kept_bytes > max)",
        replace: "limits.max_bytes.is_some_and(|max| kept_bytes >= max)",
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
        file: "engine/core/src/retention/job.rs",
        find: "clock.map(Trusted::wall_unix_nanos)",
        replace: "clock.map(Trusted::wall_unix_nanos).or(Some(reading::now(&self.store).wall_unix_nanos))",
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
        find: "        reading::store(&self.store, trusted);",
        replace: "        drop(trusted);",
        noticed_by: STORE,
    },
    Mutant {
        name: "the first reading of the clock is held against nothing",
        file: "engine/core/src/retention/reading.rs",
        find: "newest_record_unix_nanos: store.newest_record_unix_nanos(),",
        replace: "newest_record_unix_nanos: None,",
        noticed_by: STORE,
    },
    Mutant {
        name: "a pass over the rules takes all of one stream first",
        file: "engine/core/src/retention/passes.rs",
        find: "running.waiting.push_back(Waiting { stream, left_bytes });",
        replace: "running.waiting.push_front(Waiting { stream, left_bytes });",
        noticed_by: PASSES,
    },
    Mutant {
        name: "a file that could not be removed is forgotten",
        file: "engine/core/src/retention/job.rs",
        find: "        self.state.lock().drops.leave(stream, left);",
        replace: "        drop(left);",
        noticed_by: TRIM,
    },
    Mutant {
        name: "an upload of a trimmed segment goes on",
        file: "engine/core/src/objects/conditional.rs",
        find: "if !is_wanted() {",
        replace: "if attempt > max_attempts && !is_wanted() {",
        noticed_by: UPLOADS,
    },
    Mutant {
        name: "what an upload left of a trimmed segment is looked for by nobody",
        file: "engine/core/src/residency/fold.rs",
        find: "segment.begun_key = Some(key.clone());",
        replace: "segment.begun_key = None;",
        noticed_by: UPLOADS,
    },
    Mutant {
        name: "the object of a segment with readable records goes",
        file: DELETE_PLAN_FILE,
        find: "if object.end_sequence > holders.start_sequence && ",
        replace: "if object.base_sequence > holders.start_sequence && ",
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
        find: "        self.ensure_owner(stream, names.epoch)?;\n        for object in delete {",
        replace: "        for object in delete {",
        noticed_by: DELETE,
    },
    Mutant {
        name: "an object of a stream that another volume owns is queued",
        file: "engine/core/src/deletion/pass.rs",
        find: "            self.ensure_owner(stream, names.epoch)?;\n            self.store.queue_deletion(stream, &queue)?;",
        replace: "            self.store.queue_deletion(stream, &queue)?;",
        noticed_by: DELETE,
    },
    Mutant {
        name: "an object counts as deleted before it is",
        file: "engine/core/src/deletion/pass.rs",
        find: "                remove(tier2, key, meta.size_bytes)?\n",
        replace: "                self.store.note_deleted(stream, *segment_id, key)?;\n                remove(tier2, key, meta.size_bytes)?\n",
        noticed_by: KILLS,
    },
    Mutant {
        name: "an object counts as deleted that is still there",
        file: "engine/core/src/deletion/pass.rs",
        find: "if store.head(key)?.is_some() {",
        replace: "if store.head(key)?.is_some_and(|meta| meta.etag.is_empty()) {",
        noticed_by: DELETE,
    },
    Mutant {
        name: "streams with objects to delete have their turns by name",
        file: "engine/core/src/deletion/schedule.rs",
        find: "        due.sort();\n",
        replace: "",
        noticed_by: SCHEDULE,
    },
    Mutant {
        name: "a turn of a stream deletes all that it has",
        file: "engine/core/src/deletion/pass.rs",
        find: "let mut left = self.steps_of_turn;",
        replace: "let mut left = usize::MAX;",
        noticed_by: DELETE,
    },
    Mutant {
        name: "an object goes that is not the one of the manifest",
        file: "engine/core/src/deletion/pass.rs",
        find: "Some(etag) if meta.etag == *etag => Ok(None),",
        replace: "Some(etag) if !etag.is_empty() => Ok(None),",
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
    Mutant {
        name: "a stream that falls under a stricter rule is not told",
        file: "engine/core/src/retention/shortened.rs",
        find: "is_covered = pattern::contains(&from.streams, &to.streams);",
        replace: "is_covered = true;",
        noticed_by: &[units("aof2-core", "retention::shortened::tests")],
    },
    Mutant {
        name: "a grace that is lowered counts hours later",
        file: "engine/core/src/deletion/schedule.rs",
        find: "if before.is_none_or(|before| before == grace) {",
        replace: "if before.is_none_or(|before| before >= grace) {",
        noticed_by: SCHEDULE,
    },
];
