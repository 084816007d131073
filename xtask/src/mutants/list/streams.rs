//! Streams as clients see them: producers, and batches that fit a message.

use super::{Mutant, Selection, tests, units};

const PRODUCERS: &[Selection] = &[units("aof2-core", "producers")];
const READ_BACK: &[Selection] = &[tests("aof2-core", "messages", "every_request")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a producer that is forgotten is taken for a new one",
        file: "engine/core/src/producers.rs",
        find: "_ if since < self.forgotten_before => Verdict::Forgotten {",
        replace: "_ if since == u64::MAX => Verdict::Forgotten {",
        noticed_by: PRODUCERS,
    },
    Mutant {
        name: "runs of a producer pass for one",
        file: "engine/core/src/producers.rs",
        find: "            && newest.end_sequence() == run.first_sequence",
        replace: "            && newest.end_sequence() <= run.first_sequence",
        noticed_by: PRODUCERS,
    },
    Mutant {
        name: "a duplicate over several runs is given the first one's sequences",
        file: "engine/core/src/producers.rs",
        find: "holds(&run).then(|| run.first_sequence + (first - run.first_producer_seq))",
        replace: "Some(run.first_sequence + (first - run.first_producer_seq))",
        noticed_by: PRODUCERS,
    },
    Mutant {
        name: "a stream does not know how far it has forgotten",
        file: "engine/core/src/producers.rs",
        find: "self.forgotten_before = std::mem::replace(&mut self.recent_from, at);",
        replace: "self.recent_from = at;",
        noticed_by: PRODUCERS,
    },
    Mutant {
        name: "producers that a seal recorded badly are an empty table",
        file: "engine/core/src/manifest/producer_table.rs",
        find: "if let Err(why) = taken {",
        replace: "if let Some(why) = taken.err().filter(String::is_empty) {",
        noticed_by: &[units("aof2-core", "manifest::producer_table")],
    },
    Mutant {
        name: "a message is not cut between records",
        file: "engine/core/src/stream/read.rs",
        find: "if !records.is_empty() && *bytes + more > max_bytes {",
        replace: "if !records.is_empty() && *bytes + more == usize::MAX {",
        noticed_by: READ_BACK,
    },
    Mutant {
        name: "a record costs a message nothing but its payload",
        file: "engine/core/src/stream/read.rs",
        find: "            let more = payload.len() + RECORD_BYTES;",
        replace: "            let more = payload.len();",
        noticed_by: READ_BACK,
    },
    Mutant {
        name: "a slow reader holds as many batches as it likes",
        file: "engine/node/src/data/budget.rs",
        find: "own: Arc::new(Semaphore::new(1)),",
        replace: "own: Arc::new(Semaphore::new(1024)),",
        noticed_by: &[units("aof2-node", "data::budget")],
    },
];
