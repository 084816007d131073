//! Damage of sealed segments: met, told, passed over by nobody.

use super::{Mutant, Selection, tests, units};

const DAMAGE: &[Selection] = &[tests("aof2-core", "damage", "")];
const TIERS: &[Selection] = &[
    units("aof2-core", "tier::"),
    tests("aof2-core", "tiers", "damaged"),
];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a segment's header may be another's",
        file: "engine/core/src/segment/sealed.rs",
        find: "&& !self.info.is_of_header(stream, header)",
        replace: "&& !self.info.is_of_header(stream, header) && self.info.epoch == u32::MAX",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "a segment's seal may be another's",
        file: "engine/core/src/segment/sealed.rs",
        find: "&& !self.info.is_of_seal(stream, seal)",
        replace: "&& !self.info.is_of_seal(stream, seal) && self.info.epoch == u32::MAX",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "a segment that was cut is opened",
        file: "engine/core/src/segment/sealed.rs",
        find: "if found < needed {",
        replace: "if found < needed.min(1) {",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "a lost segment is not told at the start",
        file: "engine/core/src/recovery/sealed.rs",
        find: "found.damaged.push(whole(&info, &path, object, what));",
        replace: "drop(whole(&info, &path, object, what));",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "a reader passes over damage that it was to read",
        file: "engine/core/src/stream/read.rs",
        find: "Some(resume) if self.next >= hole.to_sequence => {",
        replace: "Some(resume) if self.next >= hole.from_sequence => {",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "a reader does not find what lies behind damage",
        file: "engine/core/src/stream/read.rs",
        find: "Some(resume) if self.next >= hole.to_sequence => {",
        replace: "Some(resume) if self.next == u64::MAX => {",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "damage takes the records before it along",
        file: "engine/core/src/stream/read.rs",
        find: "Err(_) if !records.is_empty() => break,",
        replace: "Err(_) if records.len() == usize::MAX => break,",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "a batch that is left out is not missed",
        file: "engine/core/src/stream/read.rs",
        find: "if base > expected {",
        replace: "if base == u64::MAX {",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "damage is told as often as it is met",
        file: "engine/core/src/stream/damage.rs",
        find: "if ranges.iter().any(|known| is_in(&range, known)) {",
        replace: "if ranges.len() > MAX_RANGES {",
        noticed_by: &[units("aof2-core", "stream::damage"), DAMAGE[0]],
    },
    Mutant {
        name: "damage behind which appends go on is not counted",
        file: "engine/core/src/store/report.rs",
        find: "stream.damage.count() > 0",
        replace: "stream.damage.count() == u64::MAX",
        noticed_by: DAMAGE,
    },
    Mutant {
        name: "each try of a compression is recorded",
        file: "engine/core/src/coordinator/record.rs",
        find: "if !segment.moves.has_failed(FailedStep::Compression, reason)",
        replace: "if segment.segment_id > 0",
        noticed_by: TIERS,
    },
    Mutant {
        name: "each try of an upload is recorded",
        file: "engine/core/src/coordinator/record.rs",
        find: "&& !segment.moves.has_failed(FailedStep::Upload, reason)",
        replace: "&& segment.segment_id > 0",
        noticed_by: TIERS,
    },
    Mutant {
        name: "a drain that damage holds up blames the time",
        file: "engine/core/src/drain/driver.rs",
        find: "if let Some(damage) = damaged_end.or_else(of_segment) {",
        replace: "if let Some(damage) = damaged_end.or_else(of_segment).filter(|_| false) {",
        noticed_by: TIERS,
    },
    Mutant {
        name: "damage that a copy meets is not told to the stream",
        file: "engine/core/src/coordinator/record.rs",
        find: "known: port.note_damage(stream, id, &problem),",
        replace: "known: format!(\"{stream} {id} {problem}\"),",
        noticed_by: TIERS,
    },
];
