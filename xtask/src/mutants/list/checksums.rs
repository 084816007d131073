//! Checksums cover what they stand for, and are compared.

use super::{Mutant, Selection, tests, units};

const HOSTILE: &[Selection] = &[tests("aof2-format", "hostile", "every_changed_byte")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "no checksum is compared",
        file: "engine/format/src/checksum.rs",
        find: "if stored == computed || cfg!(fuzzing) {",
        replace: "if stored == computed || !what.is_empty() {",
        noticed_by: HOSTILE,
    },
    Mutant {
        name: "the salt is not part of a checksum",
        file: "engine/format/src/checksum.rs",
        find: "digest.update(&salt.0.to_le_bytes());",
        replace: "digest.update(&(salt.0 & 0).to_le_bytes());",
        noticed_by: &[tests("aof2-format", "hostile", "under_another_salt")],
    },
    Mutant {
        name: "the checksum of a batch's header is not compared",
        file: "engine/format/src/record_batch.rs",
        find: "seed.crc32c(&bytes[..header::HEADER_CRC.0]).into(),",
        replace: "stored.into(),",
        noticed_by: HOSTILE,
    },
    Mutant {
        name: "the checksum of a batch's records is not compared",
        file: "engine/format/src/record_batch.rs",
        find: "checksum::compare(WHAT, header.body.crc.into(), checksum::crc32c(body).into())?;",
        replace: "",
        noticed_by: HOSTILE,
    },
    Mutant {
        name: "the length of a batch is not bounded",
        file: "engine/format/src/record_batch.rs",
        find: "if body.bytes as usize > MAX_BODY_BYTES {",
        replace: "if body.bytes as usize > MAX_BODY_BYTES && body.count == 0 {",
        noticed_by: &[tests("aof2-format", "hostile", "values_out_of_range")],
    },
    Mutant {
        name: "the checksum of a journal commit is not compared",
        file: "engine/format/src/journal.rs",
        find: "seed.crc32c_of_two(&head[..commit::CRC.0], frames).into(),",
        replace: "stored.into(),",
        noticed_by: HOSTILE,
    },
    Mutant {
        name: "the checksum of a manifest commit is not compared",
        file: "engine/format/src/manifest_chunk.rs",
        find: "seed.crc32c_of_two(&head[..commit::CRC.0], body).into(),",
        replace: "chain.into(),",
        noticed_by: HOSTILE,
    },
    Mutant {
        name: "a batch may follow any other",
        file: "engine/core/src/segment/scan.rs",
        find: "if fields.prev_chain != end.chain || fields.base_sequence != end.next_sequence {",
        replace: "if fields.base_sequence != end.next_sequence {",
        noticed_by: &[units("aof2-core", "segment::scan")],
    },
    Mutant {
        name: "a batch may have any sequence",
        file: "engine/core/src/segment/scan.rs",
        find: "if fields.prev_chain != end.chain || fields.base_sequence != end.next_sequence {",
        replace: "if fields.prev_chain != end.chain {",
        noticed_by: &[units("aof2-core", "segment::scan")],
    },
];
