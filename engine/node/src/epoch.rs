//! The operator's epoch: an engine obeys no operator older than one it has seen, across restarts too.
//!
//! The file is a hint next to the data: when it is lost or unreadable the next verb of the newest operator sets it again.

use std::path::PathBuf;

use aof2_admin_api::EPOCH_AHEAD;
use parking_lot::Mutex;

const FILE: &str = "operator-epoch";

/// Why an operator is not obeyed.
#[derive(Debug, PartialEq, Eq)]
pub enum Inadmissible {
    Older {
        highest: u64,
    },
    /// Of any clock: taken, it would lock every operator out for good.
    Ahead,
}

fn is_ahead(epoch: u64) -> bool {
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    epoch > now.saturating_add(EPOCH_AHEAD.as_secs())
}

#[derive(Debug, Default)]
pub struct Epochs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    highest: u64,
    /// Known once the data directory is ours.
    file: Option<PathBuf>,
}

impl Epochs {
    pub fn highest(&self) -> u64 {
        self.state.lock().highest
    }

    /// Takes over what the directory remembers, and remembers there from now on. The caller holds the directory's lock.
    pub fn remember_in(&self, directory: &std::path::Path) {
        let mut state = self.state.lock();
        let file = directory.join(FILE);
        let stored = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            // Of an engine that took any: it would obey no operator again.
            .filter(|epoch| !is_ahead(*epoch))
            .unwrap_or(0);
        state.file = Some(file);
        let seen = state.highest;
        state.highest = seen.max(stored);
        if seen > stored {
            state.store();
        }
    }

    /// Forgets what was seen, here and in the directory; returns it. The next operator that asks sets it again.
    pub fn reset(&self) -> u64 {
        let mut state = self.state.lock();
        let forgotten = std::mem::take(&mut state.highest);
        state.store();
        forgotten
    }

    /// Admits the epoch of a request.
    pub fn admit(&self, epoch: u64) -> Result<(), Inadmissible> {
        if is_ahead(epoch) {
            return Err(Inadmissible::Ahead);
        }
        let mut state = self.state.lock();
        if epoch < state.highest {
            return Err(Inadmissible::Older {
                highest: state.highest,
            });
        }
        if epoch > state.highest {
            state.highest = epoch;
            state.store();
        }
        Ok(())
    }
}

impl State {
    fn store(&self) {
        let Some(file) = &self.file else { return };
        let fresh = file.with_extension("new");
        let written = std::fs::write(&fresh, format!("{}\n", self.highest))
            .and_then(|()| std::fs::rename(&fresh, file));
        if let Err(error) = written {
            tracing::warn!(file = %file.display(), %error, "cannot save the operator epoch; it lasts until the engine restarts");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_is_refused_also_after_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let epochs = Epochs::default();
        epochs.remember_in(directory.path());
        assert_eq!(epochs.admit(7), Ok(()));
        assert_eq!(epochs.admit(7), Ok(()));
        assert_eq!(epochs.admit(6), Err(Inadmissible::Older { highest: 7 }));

        let restarted = Epochs::default();
        assert_eq!(
            restarted.admit(3),
            Ok(()),
            "nothing is known before the directory is open"
        );
        restarted.remember_in(directory.path());
        assert_eq!(restarted.admit(6), Err(Inadmissible::Older { highest: 7 }));
        assert_eq!(restarted.admit(8), Ok(()));
    }

    #[test]
    fn an_absurd_epoch_is_neither_taken_nor_believed_of_the_file() {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join(FILE), u64::MAX.to_string()).expect("written");
        let epochs = Epochs::default();
        epochs.remember_in(directory.path());
        let now = u64::try_from(jiff::Timestamp::now().as_second()).expect("after 1970");
        for absurd in [u64::MAX, now + 2 * 86_400] {
            assert_eq!(epochs.admit(absurd), Err(Inadmissible::Ahead), "{absurd}");
        }
        assert_eq!(epochs.admit(now), Ok(()));
        assert_eq!(epochs.admit(now + 60), Ok(()), "clocks differ");
        assert_eq!(epochs.highest(), now + 60);
    }

    #[test]
    fn an_epoch_that_is_reset_is_forgotten_also_after_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let epochs = Epochs::default();
        epochs.remember_in(directory.path());
        epochs.admit(9).expect("first");
        assert_eq!(epochs.reset(), 9);
        let restarted = Epochs::default();
        restarted.remember_in(directory.path());
        for epochs in [epochs, restarted] {
            assert_eq!(epochs.admit(3), Ok(()));
            assert_eq!(epochs.admit(2), Err(Inadmissible::Older { highest: 3 }));
        }
    }

    #[test]
    fn an_epoch_seen_before_the_directory_was_open_is_remembered_there() {
        let directory = tempfile::tempdir().expect("directory");
        let epochs = Epochs::default();
        epochs.admit(9).expect("first");
        epochs.remember_in(directory.path());
        let restarted = Epochs::default();
        restarted.remember_in(directory.path());
        assert_eq!(restarted.highest(), 9);
    }
}
