//! What one concern adds to the plan.

use aof2_crds::{Gate, WaitReason, status::HistoryEntry};

use crate::{
    cluster::action::{Action, Desired},
    machine::{NextLook, Wait},
};

/// Parts add up in the order in which they were made: so are their waits shown and their actions done.
#[derive(Clone, Debug)]
pub struct Part {
    pub waits: Vec<Wait>,
    pub actions: Vec<Action>,
    /// Rollouts that ended, for the history.
    pub finished: Vec<HistoryEntry>,
    /// Gates that would hold and that a person lets pass.
    pub overridden: Vec<Gate>,
    pub next: NextLook,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            waits: Vec::new(),
            actions: Vec::new(),
            finished: Vec::new(),
            overridden: Vec::new(),
            next: NextLook::AT_POLL,
        }
    }
}

impl Part {
    pub fn add(&mut self, other: Self) {
        let Self {
            waits,
            actions,
            finished,
            overridden,
            next,
        } = other;
        self.waits.extend(waits);
        self.actions.extend(actions);
        self.finished.extend(finished);
        self.overridden.extend(overridden);
        self.look(next);
    }

    /// Adds what a concern asks for, and hands on what it decided.
    pub fn take<T>(&mut self, (decided, part): (T, Self)) -> T {
        self.add(part);
        decided
    }

    pub fn wait(&mut self, gate: Gate, reason: WaitReason, pod: &str, message: impl Into<String>) {
        self.waits.push(Wait::new(gate, reason, pod, message));
    }

    pub fn apply(&mut self, desired: impl Into<Desired>) {
        self.actions.push(Action::Apply(desired.into()));
    }

    pub fn look(&mut self, next: NextLook) {
        self.next = self.next.or(next);
    }
}
