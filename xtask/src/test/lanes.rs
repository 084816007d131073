//! Test programs side by side: the crash tests wait for the disk half of their time, and the others do not need all of it.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::program::{Counts, Run};
use super::summary::Summary;
use crate::console::{say, seconds};

const LANES: usize = 2;
/// Takes as long as all others together, and therefore begins first.
const LONGEST: (&str, &str) = ("aof2-core", "crash");

/// One program's end.
struct Ended {
    what: String,
    took: Duration,
    output: String,
    counts: Result<Counts>,
}

/// Runs them all. What a program says is printed as a whole at its end, so that two do not mix.
pub fn run(runs: Vec<Run<'_>>, summary: &mut Summary) -> Result<()> {
    let (first, others): (Vec<_>, Vec<_>) = runs
        .into_iter()
        .partition(|run| (run.test.package.as_str(), run.test.target.as_str()) == LONGEST);
    let queue: Mutex<VecDeque<_>> = Mutex::new(first.into_iter().chain(others).collect());
    let (ended, ends) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            let (queue, ended) = (&queue, ended.clone());
            scope.spawn(move || {
                while let Some(run) = next(queue) {
                    let what = super::test_name(run.test);
                    say(format_args!("{what} ..."));
                    if ended.send(to_end(&run, what)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ended);
        for end in ends {
            print!("{}", end.output);
            let counts = end.counts?;
            let verdict = if counts.failed == 0 { "done" } else { "FAILED" };
            say(format_args!(
                "{}: {verdict} in {}",
                end.what,
                seconds(end.took)
            ));
            summary.counted(&end.what, end.took, counts);
        }
        Ok(())
    })
}

fn next<'a>(queue: &Mutex<VecDeque<Run<'a>>>) -> Option<Run<'a>> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front()
}

fn to_end(run: &Run<'_>, what: String) -> Ended {
    let begun = Instant::now();
    let lines = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&lines);
    let counts = run.to_end(move |line| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_str(line);
        kept.push('\n');
    });
    let output = mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    Ended {
        what,
        took: begun.elapsed(),
        output,
        counts,
    }
}
