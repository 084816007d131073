//! Snapshots that somebody deletes.

use super::{Mutant, Selection, units};

const DELETION: &[Selection] = &[units("aof2-core", "store::tests::snapshot_deletion")];
const BASES: &[Selection] = &[units("aof2-core", "manifest::base::tests")];

const FILE: &str = "engine/core/src/deletion/snapshots.rs";

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a catalogue goes before the manifest says so",
        file: FILE,
        find: "self.store.note_snapshot_deletion(stream, id, begun)?;",
        replace: "remove(self.claims.tier2(), &self.key(&names, id), 0).ok();\n        self.store.note_snapshot_deletion(stream, id, begun)?;",
        noticed_by: DELETION,
    },
    Mutant {
        name: "who lost the stream behind the record deletes its catalogue",
        file: FILE,
        find: "self.ensure_owner(stream, names.epoch)?;",
        replace: "",
        noticed_by: DELETION,
    },
    Mutant {
        name: "a snapshot is deleted though no newer one is verified",
        file: FILE,
        find: "match verdict.fault {",
        replace: "match verdict.fault.filter(|_| false) {",
        noticed_by: DELETION,
    },
    Mutant {
        name: "the newest snapshot is deleted for an older one",
        file: FILE,
        find: "newer.retain(|marked| marked.snapshot_id > id);",
        replace: "newer.retain(|marked| marked.snapshot_id >= id);",
        noticed_by: DELETION,
    },
    Mutant {
        name: "a verification of before counts for a newer snapshot",
        file: FILE,
        find: "known.is_some_and(|(known, at)| is_fresh(at) && is_there(known))",
        replace: "known.is_some_and(|(_, at)| is_fresh(at))",
        noticed_by: DELETION,
    },
    Mutant {
        name: "a catalogue of another stream is deleted",
        file: FILE,
        find: "&& catalogue.stream_uuid == names.uuid",
        replace: "",
        noticed_by: DELETION,
    },
    Mutant {
        name: "a snapshot that is being verified is deleted",
        file: "engine/core/src/snapshot/uses.rs",
        find: "if held.reading.contains_key(&key) {",
        replace: "if held.reading.len() > usize::MAX - 1 {",
        noticed_by: DELETION,
    },
    Mutant {
        name: "a deletion that a kill left half done stays so",
        file: "engine/core/src/store/delete.rs",
        find: "!state.deleting.is_empty()",
        replace: "state.deleting.len() > 1",
        noticed_by: DELETION,
    },
    Mutant {
        name: "a base forgets a deletion that has begun",
        file: "engine/core/src/manifest/base/keep.rs",
        find: "let mut old = vec![self.deleting.remove(&id)];",
        replace: "let mut old = vec![self.deleting.remove(&id), Some(sequence).filter(|_| stage == DeletionStage::Begun)];",
        noticed_by: BASES,
    },
];
