//! One loop for all: nobody in it waits, and nobody is forgotten.

use super::{Mutant, Selection, units};

const PLAN: &[Selection] = &[units("aof2-core", "coordinator::plan")];
const TURNS: &[Selection] = &[units("aof2-core", "store::tests::turns")];
const TIERS: &[Selection] = &[units("aof2-core", "tier::tests")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a turn waits for a stream that somebody holds",
        file: "engine/core/src/store/snapshot.rs",
        find: "let Some(staged) = stream.staged.try_lock() else {",
        replace: "let Some(staged) = Some(stream.staged.lock()) else {",
        noticed_by: TURNS,
    },
    Mutant {
        name: "claims are checked while a check runs",
        file: "engine/core/src/coordinator/plan/claims.rs",
        find: "    if is_under_way {\n",
        replace: "    if is_under_way && turn.limits.uploads == usize::MAX {\n",
        noticed_by: PLAN,
    },
    Mutant {
        name: "a check of claims that ended is never made again",
        file: "engine/core/src/coordinator/apply.rs",
        find: "                state.memo.claims.is_under_way = false;",
        replace: "                state.memo.claims.is_under_way = true;",
        noticed_by: TIERS,
    },
    Mutant {
        name: "the machines have no turn",
        file: "engine/core/src/coordinator/mod.rs",
        find: "let next = machine.turn(facts);",
        replace: "let next = Some(machine).filter(|_| facts.now > begun).and_then(|it| it.turn(facts));",
        noticed_by: TIERS,
    },
    Mutant {
        name: "only the newest subscriber hears of a seal",
        file: "engine/core/src/store/mod.rs",
        find: "self.parts().sealer.hooks.write().push(hook);",
        replace: "*self.parts().sealer.hooks.write() = vec![hook];",
        noticed_by: &[units("aof2-core", "store::tests::every_subscriber")],
    },
    Mutant {
        name: "a machine whose turn took long does not rest",
        file: "engine/core/src/coordinator/mod.rs",
        find: "ended + (took * REST)",
        replace: "ended + (took * 0)",
        noticed_by: &[units("aof2-core", "coordinator::tests")],
    },
];
