//! What was done, how long it took and how it ended, as one table at the end.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::program::Counts;
use crate::console::{say, seconds, timed};

#[derive(Default)]
pub struct Summary {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Step { is_ok: bool },
    Tests(Counts),
}

impl Summary {
    /// A step that either works or does not.
    pub fn step<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let result = timed(what, work);
        if let Err(error) = &result {
            say(format_args!("{what}: {error:#}"));
        }
        self.rows.push(Row {
            what: what.to_owned(),
            took: begun.elapsed(),
            outcome: Outcome::Step {
                is_ok: result.is_ok(),
            },
        });
        result
    }

    /// A test program. Whether all its tests passed.
    pub fn tests(&mut self, what: &str, work: impl FnOnce() -> Result<Counts>) -> Result<bool> {
        let begun = Instant::now();
        let counts = timed(what, work)?;
        self.rows.push(Row {
            what: what.to_owned(),
            took: begun.elapsed(),
            outcome: Outcome::Tests(counts),
        });
        Ok(counts.failed == 0)
    }

    pub fn has_failures(&self) -> bool {
        self.rows.iter().any(|row| match row.outcome {
            Outcome::Step { is_ok } => !is_ok,
            Outcome::Tests(counts) => counts.failed > 0,
        })
    }

    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.rows {
            if let Outcome::Tests(counts) = row.outcome {
                total.passed += counts.passed;
                total.failed += counts.failed;
                total.ignored += counts.ignored;
                total.skipped += counts.skipped;
            }
        }
        total
    }

    pub fn print(&self) {
        println!();
        for Row {
            what,
            took,
            outcome,
        } in &self.rows
        {
            let outcome = match outcome {
                Outcome::Step { is_ok: true } => "ok".to_owned(),
                Outcome::Step { is_ok: false } => "FAILED".to_owned(),
                Outcome::Tests(Counts {
                    passed: 0,
                    failed: 0,
                    ..
                }) => continue,
                Outcome::Tests(counts) => in_words(*counts),
            };
            println!("{:>10}  {what:<44} {outcome}", seconds(*took));
        }
        println!("{}", in_words(self.total()));
    }
}

fn in_words(
    Counts {
        passed,
        failed,
        ignored,
        skipped,
    }: Counts,
) -> String {
    let mut words = format!("{} passed, {failed} failed", passed - skipped.min(passed));
    for (number, what) in [(ignored, "ignored"), (skipped, "skipped")] {
        if number > 0 {
            words += &format!(", {number} {what}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn one_failed_test_or_step_fails_the_run() {
        let mut summary = Summary::default();
        summary.step("fine", || Ok(())).unwrap();
        assert!(
            summary
                .tests("fine", || Ok(Counts {
                    passed: 3,
                    ..Counts::default()
                }))
                .unwrap()
        );
        assert!(!summary.has_failures());
        assert!(
            !summary
                .tests("bad", || Ok(Counts {
                    passed: 1,
                    failed: 1,
                    ..Counts::default()
                }))
                .unwrap()
        );
        assert!(summary.has_failures());
        assert_eq!(in_words(summary.total()), "4 passed, 1 failed");
        summary
            .tests("elsewhere", || {
                Ok(Counts {
                    passed: 3,
                    skipped: 2,
                    ..Counts::default()
                })
            })
            .unwrap();
        assert_eq!(
            in_words(summary.total()),
            "5 passed, 1 failed, 2 skipped",
            "what was skipped did not pass"
        );

        let mut summary = Summary::default();
        assert!(summary.step("bad", || Err::<(), _>(anyhow!("no"))).is_err());
        assert!(summary.has_failures());
    }
}
