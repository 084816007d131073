//! A start from a manifest's base has what a replay of all chunks has, and no chunk goes that nothing else has.

use super::{Mutant, Selection, tests, units};

const STARTS: &[Selection] = &[units("aof2-core", "store::tests::bases")];
const HISTORIES: &[Selection] = &[units("aof2-core", "manifest::base::tests")];
const SNAPSHOTS: &[Selection] = &[tests("aof2-core", "snapshots", "bases::")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a base of another stream is used",
        file: "engine/core/src/manifest/base/read.rs",
        find: "match owner.owns(&base) {",
        replace: "match owner.owns(&base) || !base.chunks.is_empty() {",
        noticed_by: STARTS,
    },
    Mutant {
        name: "a base is used whatever the chunk behind it goes on from",
        file: "engine/core/src/manifest/base/write.rs",
        find: "if header.prev_chain != chain || header.base_manifest_sequence != sequence {",
        replace: "if header.prev_chain != chain && header.base_manifest_sequence != sequence {",
        noticed_by: STARTS,
    },
    Mutant {
        name: "a base is written before its chunks are",
        file: "engine/core/src/manifest/base/write.rs",
        find: "        self.settle_now(owner)?;\n        let (chunks, bytes)",
        replace: "        let (chunks, bytes)",
        noticed_by: STARTS,
    },
    Mutant {
        name: "a base that cannot be used stays",
        file: "engine/core/src/recovery/manifest.rs",
        find: "disk.unlink(&path).map_err(at(\"remove\", &path))?;\n            disk.sync_directory",
        replace: "disk.sync_directory",
        noticed_by: STARTS,
    },
    Mutant {
        name: "a base stands for the chunk before one without a header",
        file: "engine/core/src/manifest/base/write.rs",
        find: "if in_use.number == upto && in_use.tail == 0 {",
        replace: "if in_use.number == upto && in_use.tail == 1 {",
        noticed_by: STARTS,
    },
    Mutant {
        name: "what was durable behind a base is not asked for",
        file: "engine/core/src/recovery/manifest.rs",
        find: "&& reach > chunk.bytes",
        replace: "&& reach == u64::MAX",
        noticed_by: STARTS,
    },
    Mutant {
        name: "a stream without base and chunks begins with what is left",
        file: "engine/core/src/recovery/manifest.rs",
        find: "return Ok(match is_whole(disk, chunks)? {",
        replace: "return Ok(match is_whole(disk, chunks)? || path.is_absolute() {",
        noticed_by: STARTS,
    },
    Mutant {
        name: "an upload that failed again is under way for ever",
        file: "engine/core/src/manifest/base/keep.rs",
        find: "if !counts_anyway {",
        replace: "if counts_anyway {",
        noticed_by: HISTORIES,
    },
    Mutant {
        name: "parts of producers without their seal are forgotten",
        file: "engine/core/src/manifest/base/keep.rs",
        find: "self.parts.push(sequence);\n                    true",
        replace: "self.parts.push(sequence);\n                    false",
        noticed_by: HISTORIES,
    },
    Mutant {
        name: "a chunk goes whatever its object holds",
        file: "engine/core/src/snapshot/chunks.rs",
        find: "Ok(Some(object)) if object.bytes == bytes => {}",
        replace: "Ok(Some(object)) if !object.bytes.is_empty() => {}",
        noticed_by: SNAPSHOTS,
    },
    Mutant {
        name: "a chunk goes that no snapshot names",
        file: "engine/core/src/manifest/base/prune.rs",
        find: "chunk.is_local && chunk.number < below",
        replace: "chunk.is_local",
        noticed_by: STARTS,
    },
    Mutant {
        name: "chunks go without a look at the base",
        file: "engine/core/src/manifest/base/prune.rs",
        find: "self.read_base(owner, based)?;",
        replace: "",
        noticed_by: SNAPSHOTS,
    },
    Mutant {
        name: "a pruned chunk is missed by the next snapshot",
        file: "engine/core/src/snapshot/take.rs",
        find: "if !is_local {",
        replace: "if number == u64::MAX {",
        noticed_by: SNAPSHOTS,
    },
];
