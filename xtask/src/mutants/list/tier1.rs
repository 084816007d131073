//! Files of Tier 1 that are compressed again, and copies that are not compressed alike.

use super::{Mutant, Selection, units};

const AGAIN: &[Selection] = &[units("aof2-core", "store::tests::recompress")];
const LOCAL: &[Selection] = &[units("aof2-core", "tier::tests::local")];
const FETCH: &[Selection] = &[units("aof2-core", "fetch::tests")];
const BASES: &[Selection] = &[units("aof2-core", "manifest::base::tests")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a file is read by the index of the one that it replaced",
        file: "engine/core/src/fetch/session.rs",
        find: "known.is_of_open_file = is_index_of(&opened.source, index);",
        replace: "known.is_of_open_file = true;",
        noticed_by: FETCH,
    },
    Mutant {
        name: "blocks of copies that are cut otherwise are taken for each other",
        file: "engine/core/src/fetch/cache.rs",
        find: "offset: index.blocks[number].uncompressed_offset,\n            bytes: index.uncompressed_bytes(number),",
        replace: "offset: number as u64,\n            bytes: index.blocks.len().min(1),",
        noticed_by: FETCH,
    },
    Mutant {
        name: "nothing says that a file in Tier 1 is being replaced",
        file: "engine/core/src/jobs/recompress.rs",
        find: "if !known.moves.is_compressing_again",
        replace: "if known.moves.is_compressing_again",
        noticed_by: AGAIN,
    },
    Mutant {
        name: "whoever comes next does not look which of two files is there",
        file: "engine/core/src/offline/open.rs",
        find: "recompress::settle(&store);",
        replace: "",
        noticed_by: AGAIN,
    },
    Mutant {
        name: "an object counts as long as the file that was compressed after it",
        file: "engine/core/src/residency/fold.rs",
        find: "if !segment.moves.was_uploaded {\n                    segment.compressed_bytes",
        replace: "{\n                    segment.compressed_bytes",
        noticed_by: AGAIN,
    },
    Mutant {
        name: "a base forgets that a file in Tier 1 was being replaced",
        file: "engine/core/src/manifest/base/keep.rs",
        find: "self.first.insert((id, First::CompressionStarted))\n                    || self.supersede(id, Last::CompressingAgain, sequence)",
        replace: "self.first.insert((id, First::CompressionStarted))",
        noticed_by: BASES,
    },
    Mutant {
        name: "a copy that was evicted meanwhile comes back",
        file: "engine/core/src/jobs/recompress.rs",
        find: "let Some(known) = known.filter(|known| known.copies.warm.is_some()) else {",
        replace: "let Some(known) = known else {",
        noticed_by: LOCAL,
    },
    Mutant {
        name: "an upload begins while its file is being replaced",
        file: "engine/core/src/coordinator/memo.rs",
        find: "self.under_way.contains_key(key) || self.taken.contains(key)",
        replace: "self.under_way.contains_key(key)",
        noticed_by: LOCAL,
    },
    Mutant {
        name: "an upload has the checksum of the file before",
        file: "engine/core/src/coordinator/recompress.rs",
        find: "Some(facts) => state.verified.insert(taken.key.clone(), facts),",
        replace: "Some(_) => None,",
        noticed_by: LOCAL,
    },
];
