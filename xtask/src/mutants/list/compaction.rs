//! Segments that become one.

use super::{Mutant, Selection, units};

const STORE: &[Selection] = &[units("aof2-core", "store::tests::compaction")];
const PLAN: &[Selection] = &[units("aof2-core", "coordinator::plan::compact")];
const FOLD: &[Selection] = &[units("aof2-core", "residency::")];
const FILE: &[Selection] = &[units("aof2-core", "segment::merge")];

const MERGE: &str = "engine/core/src/store/merge.rs";
const FOLD_FILE: &str = "engine/core/src/residency/merge.rs";
const PLAN_FILE: &str = "engine/core/src/coordinator/plan/compact.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a trim while segments are merged is undone",
        file: MERGE,
        find: "is_cold(id) == has_tier2 && !residency.is_trimmed(*id)",
        replace: "is_cold(id) == has_tier2",
        noticed_by: STORE,
    },
    Mutant {
        name: "segments are swapped whatever became of them",
        file: MERGE,
        find: "sealed.collect::<Option<_>>().filter(|_| holds)",
        replace: "sealed.collect::<Option<_>>().filter(|_| holds || !holds)",
        noticed_by: STORE,
    },
    Mutant {
        name: "a merge that was begun gets another id each time",
        file: MERGE,
        find: "residency.unfinished().filter(|it| it.inputs == inputs)",
        replace: "residency.unfinished().filter(|it| it.inputs == inputs && it.output_id == 0)",
        noticed_by: STORE,
    },
    Mutant {
        name: "the output goes where nobody can tell whether it counts",
        file: MERGE,
        find: "Err(error @ StoreError::Poisoned { .. }) => return Err(error.into()),",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "a merge that fails is recorded at each try",
        file: MERGE,
        find: "it.output_id == output_id && !it.failures.contains(&reason)",
        replace: "it.output_id == output_id",
        noticed_by: STORE,
    },
    Mutant {
        name: "room for the output is not given back",
        file: MERGE,
        find: "self.common.space.remove_segment(self.bytes);",
        replace: "",
        noticed_by: STORE,
    },
    Mutant {
        name: "a reader of a segment that was merged is told of damage",
        file: "engine/core/src/stream/read/blocks.rs",
        find: "            None => {\n                if !self.stream.is_reached(segment) {",
        replace: "            None => {\n                if !self.stream.is_reached(segment) && segment.info.data_end == 0 {",
        noticed_by: STORE,
    },
    Mutant {
        name: "a start takes an output that does not count for an open segment",
        file: "engine/core/src/recovery/stream.rs",
        find: "if residency.is_unsealed_output(id) {",
        replace: "if residency.is_unsealed_output(id) && id == u64::MAX {",
        noticed_by: STORE,
    },
    Mutant {
        name: "files of merged segments stay over a start",
        file: "engine/core/src/residency/fold.rs",
        find: "seal.end_sequence > self.start_sequence && segment.replaced_by.is_none();",
        replace: "seal.end_sequence > self.start_sequence;",
        noticed_by: FOLD,
    },
    Mutant {
        name: "an object of a merged segment goes though a catalogue names it",
        file: "engine/core/src/coordinator/plan/delete.rs",
        find: "(!object.is_superseded || named.segments.contains(object.segment_id))",
        replace: "!object.is_superseded",
        noticed_by: STORE,
    },
    Mutant {
        name: "an object of a merged segment stays though no catalogue names it",
        file: "engine/core/src/coordinator/plan/delete.rs",
        find: "(!object.is_superseded || named.segments.contains(object.segment_id))",
        replace: "!named.segments.contains(u64::MAX)",
        noticed_by: STORE,
    },
    Mutant {
        name: "a merge of segments that are not there is believed",
        file: FOLD_FILE,
        find: "if !self.are_sealed(inputs) {",
        replace: "if inputs.segment_ids.is_empty() {",
        noticed_by: FOLD,
    },
    Mutant {
        name: "inputs are not held against their seals",
        file: "engine/core/src/segment/merge.rs",
        find: "if bytes.len() as u64 != info.data_end || found != info.crc64 {",
        replace: "if bytes.len() as u64 != info.data_end {",
        noticed_by: FILE,
    },
    Mutant {
        name: "the output is not held against its inputs",
        file: "engine/core/src/segment/merge.rs",
        find: "if crc64 != info.crc64 {",
        replace: "if crc64 == 0 {",
        noticed_by: FILE,
    },
    Mutant {
        name: "a byte is rewritten for each few that come",
        file: PLAN_FILE,
        find: "if is_enough && 2 * largest <= bytes {",
        replace: "if is_enough {",
        noticed_by: PLAN,
    },
    Mutant {
        name: "merged segments outlive what a rule of retention keeps",
        file: PLAN_FILE,
        find: "|| span > limits.longest_nanos()",
        replace: "",
        noticed_by: PLAN,
    },
    Mutant {
        name: "segments that wait for their upload are merged",
        file: PLAN_FILE,
        find: "piece.is_settled && 2 * batches_of(piece) <= limits.target_bytes",
        replace: "2 * batches_of(piece) <= limits.target_bytes",
        noticed_by: PLAN,
    },
    Mutant {
        name: "an engine that knows no merges starts on a volume with merged segments",
        file: MERGE,
        find: "self.parts().admission.require_version(MERGES_VERSION)?;",
        replace: "let _ = MERGES_VERSION;",
        noticed_by: STORE,
    },
    Mutant {
        name: "bytes of merged segments count as readable",
        file: FOLD_FILE,
        find: "self.readable_bytes -= readable.map_or(0, |seal| seal.data_end);",
        replace: "let _ = readable;",
        noticed_by: FOLD,
    },
    Mutant {
        name: "objects of merged segments are in no report",
        file: "engine/core/src/residency/usage.rs",
        find: "if residency.is_superseded(id) || ",
        replace: "if ",
        noticed_by: FOLD,
    },
    Mutant {
        name: "what lies under the key of an output that was given up is deleted whatever it is",
        file: "engine/core/src/jobs/upload.rs",
        find: "    problem_of_object(tier2, key, &stated, size_bytes)",
        replace: "    problem_of_object(tier2, key, &stated, size_bytes).map(|_| None)",
        noticed_by: STORE,
    },
];
