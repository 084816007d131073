//! The operator's epoch: an engine obeys no operator older than one it has seen, across restarts too.
//!
//! The file is a hint next to the data: when it is lost or unreadable the next verb of the newest operator sets it again.

use std::path::PathBuf;

use parking_lot::Mutex;

const FILE: &str = "operator-epoch";

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
            .unwrap_or(0);
        state.file = Some(file);
        let seen = state.highest;
        state.highest = seen.max(stored);
        if seen > stored {
            state.store();
        }
    }

    /// Admits the epoch of a request, or answers the newer one.
    pub fn admit(&self, epoch: u64) -> Result<(), u64> {
        let mut state = self.state.lock();
        if epoch < state.highest {
            return Err(state.highest);
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
        assert_eq!(epochs.admit(6), Err(7));

        let restarted = Epochs::default();
        assert_eq!(
            restarted.admit(3),
            Ok(()),
            "nothing is known before the directory is open"
        );
        restarted.remember_in(directory.path());
        assert_eq!(restarted.admit(6), Err(7));
        assert_eq!(restarted.admit(8), Ok(()));
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
