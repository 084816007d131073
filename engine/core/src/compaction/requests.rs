//! Passes that somebody asked for, and how far each has come. Lost with the process: what was merged is in the manifest.

use std::collections::VecDeque;
use std::sync::Arc;

/// Requests that can be asked about; the oldest that have ended are forgotten first.
const KEPT_REQUESTS: usize = 64;
/// Requests that may wait.
const MAX_QUEUE: usize = 16;

/// How far a pass has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactionRun {
    pub id: u64,
    /// `None`: of every stream.
    pub stream: Option<Arc<str>>,
    pub has_ended: bool,
    /// Segments that were merged, and what they became.
    pub inputs: u64,
    pub outputs: u64,
    /// Of these, uncompressed.
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub failures: u64,
    /// The last one.
    pub failure: Option<String>,
    /// Why no more was merged.
    pub end: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    last_id: u64,
    /// Ids that wait, the one that is under way first.
    queue: VecDeque<u64>,
    known: VecDeque<CompactionRun>,
}

impl Requests {
    /// `None`: too many wait.
    pub fn ask(&mut self, stream: Option<Arc<str>>) -> Option<CompactionRun> {
        if self.queue.len() >= MAX_QUEUE {
            return None;
        }
        while self.known.len() >= KEPT_REQUESTS
            && let Some(ended) = self.known.iter().position(|run| run.has_ended)
        {
            self.known.remove(ended);
        }
        self.last_id += 1;
        let run = CompactionRun {
            id: self.last_id,
            stream,
            ..CompactionRun::default()
        };
        self.queue.push_back(run.id);
        self.known.push_back(run.clone());
        Some(run)
    }

    pub fn status(&self, id: u64) -> Option<CompactionRun> {
        self.known.iter().find(|run| run.id == id).cloned()
    }

    pub fn front(&self) -> Option<CompactionRun> {
        self.status(*self.queue.front()?)
    }

    /// Of the one in front.
    pub fn note(&mut self, change: impl FnOnce(&mut CompactionRun)) {
        let front = self.queue.front().copied();
        let run = self.known.iter_mut().find(|run| Some(run.id) == front);
        if let Some(run) = run {
            change(run);
        }
    }

    /// The one in front is over.
    pub fn end(&mut self, why: String) {
        self.note(|run| {
            run.has_ended = true;
            run.end = Some(why);
        });
        self.queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_for_their_turn_and_are_bounded() {
        let mut requests = Requests::default();
        let first = requests.ask(None).expect("taken");
        let second = requests.ask(Some("a".into())).expect("taken");
        assert_eq!((first.id, second.id), (1, 2));
        requests.note(|run| run.inputs += 4);
        assert_eq!(requests.front().map(|run| run.inputs), Some(4));
        requests.end("done".to_owned());
        let ended = requests.status(1).expect("kept");
        assert!(ended.has_ended && ended.end.as_deref() == Some("done"));
        assert_eq!(requests.front().map(|run| run.id), Some(2));
        for _ in 1..MAX_QUEUE {
            assert!(requests.ask(None).is_some());
        }
        assert!(requests.ask(None).is_none(), "too many wait");
        for _ in 0..200 {
            requests.end(String::new());
            requests.ask(None).expect("taken");
        }
        assert!(requests.known.len() <= KEPT_REQUESTS);
        assert!(requests.status(1).is_none());
    }
}
