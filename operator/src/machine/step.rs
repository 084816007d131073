//! What one look of a machine comes to.

use aof2_crds::{Gate, status::HistoryEntry};
use jiff::Timestamp;

use super::{NextLook, Wait};

/// The memo is recorded before anything is done: an action belongs to a step that was recorded in an earlier look.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<Memo, Action, News = ()> {
    /// `None`: nothing runs.
    pub memo: Option<Memo>,
    pub actions: Vec<Action>,
    pub waits: Vec<Wait>,
    pub next: NextLook,
    /// What ended in this look, for the history.
    pub finished: Vec<HistoryEntry>,
    /// Gates that would hold and that a person let pass.
    pub overridden: Vec<Gate>,
    /// What this kind of machine records beside its memo.
    pub news: News,
}

impl<Memo, Action, News: Default> Step<Memo, Action, News> {
    /// Nothing runs, until something changes.
    pub fn idle() -> Self {
        Self {
            memo: None,
            actions: Vec::new(),
            waits: Vec::new(),
            next: NextLook::AT_POLL,
            finished: Vec::new(),
            overridden: Vec::new(),
            news: News::default(),
        }
    }

    /// Nothing runs any more: record that, and look again.
    pub fn ended() -> Self {
        Self {
            next: NextLook::AT_ONCE,
            ..Self::idle()
        }
    }

    /// The memo as it is, recorded and looked at again at once.
    pub fn go_on(memo: Memo) -> Self {
        Self {
            memo: Some(memo),
            ..Self::ended()
        }
    }

    /// The memo stays where it is.
    pub fn stay(memo: Memo) -> Self {
        Self {
            memo: Some(memo),
            next: NextLook::SOON,
            ..Self::idle()
        }
    }

    /// It stays, for this reason, and perhaps for no longer than until then.
    pub fn hold(memo: Memo, wait: Wait, until: Option<Timestamp>) -> Self {
        Self {
            waits: vec![wait],
            next: NextLook::SOON.by(until),
            ..Self::stay(memo)
        }
    }
}
