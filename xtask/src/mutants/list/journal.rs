//! The journal: nothing is acknowledged before it is in it, and what it lost is told.

use super::{Mutant, Selection, tests, units};

/// The journal with models of its members.
const ALONE: &[Selection] = &[units("aof2-core", "journal::tests")];
const STATES: &[Selection] = &[tests("aof2-core", "states", "every_state")];
const METADATA: &[Selection] = &[tests("aof2-core", "metadata", "after_a_kill")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a commit is acknowledged before it is synced",
        file: "engine/core/src/journal/writer.rs",
        find: "file.file.sync_data().map_err(|source| {",
        replace: "Ok::<(), std::io::Error>(()).map_err(|source| {",
        noticed_by: ALONE,
    },
    Mutant {
        name: "a large append is acknowledged before its segment is synced",
        file: "engine/core/src/journal/writer.rs",
        find: "direct(journal, driver, taken)?;",
        replace: "",
        noticed_by: ALONE,
    },
    Mutant {
        name: "members are answered before they are published",
        file: "engine/core/src/journal/writer.rs",
        find: "        member.publish(part.durable);\n    }",
        replace: "        let _ = (member, part);\n    }",
        noticed_by: ALONE,
    },
    Mutant {
        name: "a round that failed answers its members",
        file: "engine/core/src/journal/writer.rs",
        find: "member.refuse(driver, part.waiters);",
        replace: "member.answer(part.waiters);",
        noticed_by: ALONE,
    },
    Mutant {
        name: "every use of a journal file has the same salt",
        file: "engine/core/src/journal/writer.rs",
        find: "self.salt = Salt(parts.rng.next_u64());",
        replace: "self.salt = Salt(files.file_bytes);",
        noticed_by: &[tests("aof2-core", "states", "each_use_of")],
    },
    Mutant {
        name: "a journal file is not marked before it holds what is acknowledged",
        file: "engine/core/src/journal/writer.rs",
        find: "journal.mark.write().map_err(End::Failed)?;",
        replace: "",
        noticed_by: &[tests("aof2-core", "states", "the_mark_names")],
    },
    Mutant {
        name: "a journal file is written over before the mark says so",
        file: "engine/core/src/journal/writer.rs",
        find: "if file.number > 0 {",
        replace: "if file.number == u64::MAX {",
        noticed_by: &[tests("aof2-core", "states", "only_after_the_mark")],
    },
    Mutant {
        name: "the mark of a new volume says nothing",
        file: "engine/core/src/journal/mark.rs",
        find: "let newest = found.or(holds_nothing.then_some(none));",
        replace: "let newest = found;",
        noticed_by: STATES,
    },
    Mutant {
        name: "the last commits are not held against the mark",
        file: "engine/core/src/journal/replay.rs",
        find: "None if synced.file_number == file.header.file_number => synced.commit,",
        replace: "None if synced.file_number == u64::MAX => synced.commit,",
        noticed_by: METADATA,
    },
    Mutant {
        name: "commits that were synced and do not verify are not missed",
        file: "engine/core/src/journal/replay.rs",
        find: "if missing.is_empty() {",
        replace: "if missing.len() < usize::MAX {",
        noticed_by: METADATA,
    },
    Mutant {
        name: "a journal file that is gone is not missed",
        file: "engine/core/src/journal/replay.rs",
        find: "if !numbers.contains(&number) {",
        replace: "if !numbers.contains(&number) && number == 0 {",
        noticed_by: METADATA,
    },
    Mutant {
        name: "files that are not needed any more are missed",
        file: "engine/core/src/journal/replay.rs",
        find: "for number in image.settled_before.max(1)..=newest {",
        replace: "for number in 1..=newest {",
        noticed_by: STATES,
    },
    Mutant {
        name: "journal files of another volume are replayed",
        file: "engine/core/src/journal/replay.rs",
        find: "if is_foreign {",
        replace: "if is_foreign && slot == u32::MAX {",
        noticed_by: &[tests("aof2-core", "faults", "of_another_volume")],
    },
    Mutant {
        name: "records of a damaged commit are taken without their checksums",
        file: "engine/core/src/recovery/mod.rs",
        find: "if !frame.is_proven && !stream.identity.is_own(frame.position, bytes) {",
        replace: "if !frame.is_proven && bytes.is_empty() {",
        noticed_by: &[tests("aof2-core", "faults", "over_good_ones")],
    },
    Mutant {
        name: "a manifest of a damaged commit is taken without its checksums",
        file: "engine/core/src/manifest/replay.rs",
        find: "|| manifest_chunk::is_whole(position, &bytes, seed)",
        replace: "|| manifest_chunk::is_whole(position, &[], seed) || !bytes.is_empty()",
        noticed_by: &[tests("aof2-core", "faults", "over_good_ones")],
    },
    Mutant {
        name: "a commit out of line is checksummed as a whole",
        file: "engine/core/src/journal/scan.rs",
        find: "if head.fields.number >= next_commit",
        replace: "if head.fields.number > 0",
        noticed_by: &[units("aof2-core", "journal::scan")],
    },
    Mutant {
        name: "a frame's checksum does not cover its header",
        file: "engine/format/src/journal_frame.rs",
        find: "crc.update(&head[..frame::CRC.0]);",
        replace: "crc.update(&head[..0]);",
        noticed_by: &[units("aof2-core", "journal::salvage")],
    },
    Mutant {
        name: "the second copy of a journal file's header is not used",
        file: "engine/format/src/journal.rs",
        find: "let copies = (0..HEADER_COPIES)",
        replace: "let copies = (0..1)",
        noticed_by: &[tests("aof2-format", "golden", "either_copy_of")],
    },
];
