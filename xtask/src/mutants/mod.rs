//! `cargo xtask mutants`: breaks the code in one place at a time and asks whether a test notices.
//!
//! A test that nothing can make fail is worth nothing. Each mutant is a fault that somebody might make, with the tests that have to
//! notice it. They are made in a copy of the tree with a target folder of its own, one after the other; one that no test notices
//! is a hole in the tests and makes the verb fail.

mod copy;
mod list;
mod run;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::console::{say, seconds, section};
use crate::places;
use copy::Copy;
use list::{Mutant, Selection};
use run::{Outcome, Runner};

#[derive(clap::Args)]
pub struct Options {
    /// Only those whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Name them, with the tests that have to notice, and do nothing
    #[arg(long)]
    list: bool,
    /// How long one selection of tests may run; one that hangs has noticed
    #[arg(long, default_value_t = 600)]
    limit_seconds: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let wanted = options.only.as_deref().unwrap_or_default();
    let mutants: Vec<&Mutant> = list::all()
        .filter(|mutant| mutant.name.contains(wanted))
        .collect();
    if mutants.is_empty() {
        bail!("no mutant's name contains {wanted:?}; see them: cargo xtask mutants --list");
    }
    if options.list {
        for mutant in mutants {
            println!("{:<48} {}", mutant.name, mutant.file);
            for selection in mutant.noticed_by {
                println!("    {selection}");
            }
        }
        return Ok(());
    }
    let root = places::root();
    let folder = root.join("target/mutants");
    let _lock = places::lock(&folder.join("lock"), "it breaks the code, too")?;
    let copy = Copy::of(&root, &folder.join("tree"))?;
    let runner = Runner {
        tree: copy.root().to_owned(),
        target: folder.join("target"),
        limit: Duration::from_secs(options.limit_seconds),
    };
    ensure_green(&runner, &mutants)?;
    let mut verdicts = BTreeMap::new();
    for mutant in &mutants {
        section(mutant.name);
        let begun = Instant::now();
        let verdict = try_one(&copy, &runner, mutant)?;
        say(format_args!("{verdict} ({})", seconds(begun.elapsed())));
        verdicts.insert(mutant.name, verdict);
    }
    report(&verdicts)
}

/// Tests that fail anyhow notice nothing.
fn ensure_green(runner: &Runner, mutants: &[&Mutant]) -> Result<()> {
    section("the tests without any change");
    let mut selections: Vec<&Selection> = mutants
        .iter()
        .flat_map(|mutant| mutant.noticed_by)
        .collect();
    selections.sort();
    selections.dedup();
    for selection in selections {
        match runner.run(selection)? {
            Outcome::Passed => say(format_args!("{selection}: passes")),
            other => bail!("{selection} is to pass before anything is changed: {other}"),
        }
    }
    Ok(())
}

fn try_one(copy: &Copy, runner: &Runner, mutant: &Mutant) -> Result<Verdict> {
    let _changed = copy.change(mutant)?;
    for selection in mutant.noticed_by {
        match runner.run(selection)? {
            Outcome::Passed => say(format_args!("{selection}: passes all the same")),
            Outcome::Failed { tests } => {
                let by = match tests.first() {
                    Some(test) => format!("{selection}: {test}"),
                    None => selection.to_string(),
                };
                return Ok(Verdict::Noticed { by });
            }
            Outcome::TimedOut => {
                return Ok(Verdict::Noticed {
                    by: format!("{selection}, which hangs"),
                });
            }
            Outcome::NotBuilt { said } => return Ok(Verdict::NoMutant { said }),
            Outcome::NothingSelected => bail!("{selection} selects no test"),
        }
    }
    Ok(Verdict::Survived)
}

enum Verdict {
    Noticed {
        by: String,
    },
    Survived,
    /// What does not build is no fault that a test would have to find.
    NoMutant {
        said: String,
    },
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Noticed { by } => write!(f, "noticed by {by}"),
            Verdict::Survived => f.write_str("SURVIVED: no test notices it"),
            Verdict::NoMutant { said } => write!(f, "does not build: {said}"),
        }
    }
}

fn report(verdicts: &BTreeMap<&str, Verdict>) -> Result<()> {
    section("mutants");
    let mut bad = 0;
    for (name, verdict) in verdicts {
        println!("{name:<48} {verdict}");
        bad += usize::from(!matches!(verdict, Verdict::Noticed { .. }));
    }
    if bad > 0 {
        bail!("{bad} of {} mutants were not noticed", verdicts.len());
    }
    Ok(())
}
