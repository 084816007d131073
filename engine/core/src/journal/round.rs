//! Exact tickets: a caller waits for the number of the round that takes its bytes, and a finished round wakes its own waiters
//! only. Four words are enough, because waiters of a round that is four rounds old have all been woken.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::io::sync::Word;

pub(crate) struct Rounds {
    done: AtomicU64,
    /// Set once no round will finish any more.
    ended: AtomicU32,
    words: [Word; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

impl Rounds {
    pub fn new() -> Rounds {
        Rounds {
            done: AtomicU64::new(0),
            ended: AtomicU32::new(0),
            words: [const { Word::new() }; 4],
        }
    }

    pub fn wait(&self, round: u64) -> Result<(), Ended> {
        let word = &self.words[(round & 3) as usize];
        loop {
            let seen = word.load();
            if self.done.load(Ordering::SeqCst) >= round {
                return Ok(());
            }
            if self.ended.load(Ordering::SeqCst) != 0 {
                return Err(Ended);
            }
            word.wait_while(seen);
        }
    }

    pub fn finish(&self, round: u64) {
        self.done.store(round, Ordering::SeqCst);
        self.wake((round & 3) as usize);
    }

    pub fn end(&self) {
        self.ended.store(1, Ordering::SeqCst);
        for index in 0..self.words.len() {
            self.wake(index);
        }
    }

    fn wake(&self, index: usize) {
        self.words[index].change();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn waiters_of_finished_rounds_go_on_and_the_rest_learn_of_the_end() {
        let rounds = Arc::new(Rounds::new());
        let waiting: Vec<_> = (1..=8u64)
            .map(|round| {
                let rounds = rounds.clone();
                std::thread::spawn(move || rounds.wait(round))
            })
            .collect();
        for round in 1..=5 {
            rounds.finish(round);
        }
        rounds.end();
        let results: Vec<_> = waiting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(results[..5], [Ok(()); 5]);
        assert_eq!(results[5..], [Err(Ended); 3]);
    }
}
