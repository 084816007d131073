//! The drain's token says that everything is uploaded, and holds only as long as that is true.

use super::{Mutant, Selection, units};

const MACHINE: &[Selection] = &[units("aof2-core", "drain::machine")];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a token is given before everything is uploaded",
        file: "engine/core/src/drain/machine.rs",
        find: "            if facts.is_done() {",
        replace: "            if facts.has_reached(&[]) {",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "sealed counts as uploaded",
        file: "engine/core/src/drain/machine.rs",
        find: ".all(|mark| mark.acked <= self.uploaded(mark) && mark.unsealed_bytes == 0)",
        replace: ".all(|mark| mark.acked <= mark.sealed && mark.unsealed_bytes == 0)",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "what nobody acknowledged yet does not keep a token back",
        file: "engine/core/src/drain/machine.rs",
        find: ".all(|mark| mark.acked <= self.uploaded(mark) && mark.unsealed_bytes == 0)",
        replace: ".all(|mark| mark.acked <= self.uploaded(mark))",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "appends are admitted while the rest is uploaded",
        file: "engine/core/src/drain/machine.rs",
        find: "vec![Action::CloseAdmission, Action::Seal],",
        replace: "vec![Action::Seal],",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "a token never expires",
        file: "engine/core/src/drain/machine.rs",
        find: "} else if facts.now >= expires_at {",
        replace: "} else if facts.now >= expires_at && token.is_empty() {",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "a token that is not true any more is kept",
        file: "engine/core/src/drain/machine.rs",
        find: "} else if !facts.is_done() {",
        replace: "} else if !facts.is_done() && token.is_empty() {",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "a drained engine that terminates opens again",
        file: "engine/core/src/drain/machine.rs",
        find: "drained @ State::Drained { .. } if facts.is_terminating => (drained, vec![]),",
        replace: "drained @ State::Drained { .. } if facts.watermarks.is_empty() => (drained, vec![]),",
        noticed_by: MACHINE,
    },
    Mutant {
        name: "an older operator is obeyed",
        file: "engine/node/src/epoch.rs",
        find: "if epoch < state.highest {",
        replace: "if epoch < state.highest && epoch == 0 {",
        noticed_by: &[units("aof2-node", "epoch::")],
    },
];
