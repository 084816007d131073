//! The list. A file per part of the product; the tests of this module keep every entry true to the code.

mod bases;
mod checksums;
mod compaction;
mod coordinator;
mod damage;
mod drain;
mod durability;
mod evictions;
mod failures;
mod hydrations;
mod journal;
mod operator;
mod orphans;
mod recovery;
mod report;
mod residency;
mod retention;
mod snapshots;
mod streams;
mod tier1;
mod tier2;
mod tiers;

use std::fmt;

use anyhow::{Result, bail};

/// One change to the code, and the tests of which one has to notice it.
pub struct Mutant {
    /// The fault, as a person would tell it.
    pub name: &'static str,
    /// From the root of the repository.
    pub file: &'static str,
    /// Occurs exactly once.
    pub find: &'static str,
    pub replace: &'static str,
    /// Tried in this order.
    pub noticed_by: &'static [Selection],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    pub package: &'static str,
    pub target: Target,
    /// What the names of its tests contain; empty = all.
    pub filter: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The tests in the package's sources.
    Lib,
    /// One of the package's `tests/`.
    Test(&'static str),
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selection {
            package,
            target,
            filter,
        } = self;
        match target {
            Target::Lib => write!(f, "{package} --lib")?,
            Target::Test(name) => write!(f, "{package} --test {name}")?,
        }
        if !filter.is_empty() {
            write!(f, " {filter}")?;
        }
        Ok(())
    }
}

impl Mutant {
    pub fn apply(&self, text: &str) -> Result<String> {
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            found => bail!(
                "mutant {:?}: its text occurs {found} times in {}, once was expected: follow the code",
                self.name,
                self.file
            ),
        }
    }
}

pub fn all() -> impl Iterator<Item = &'static Mutant> {
    [
        bases::MUTANTS,
        checksums::MUTANTS,
        compaction::MUTANTS,
        coordinator::MUTANTS,
        damage::MUTANTS,
        drain::MUTANTS,
        durability::MUTANTS,
        evictions::MUTANTS,
        failures::MUTANTS,
        hydrations::MUTANTS,
        journal::MUTANTS,
        operator::MUTANTS,
        orphans::MUTANTS,
        recovery::MUTANTS,
        report::MUTANTS,
        residency::MUTANTS,
        retention::MUTANTS,
        snapshots::MUTANTS,
        streams::MUTANTS,
        tier1::MUTANTS,
        tier2::MUTANTS,
        tiers::MUTANTS,
    ]
    .into_iter()
    .flatten()
}

/// Tests in a package's sources.
const fn units(package: &'static str, filter: &'static str) -> Selection {
    Selection {
        package,
        target: Target::Lib,
        filter,
    }
}

/// Tests of one of its `tests/`.
const fn tests(package: &'static str, target: &'static str, filter: &'static str) -> Selection {
    Selection {
        package,
        target: Target::Test(target),
        filter,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::places;

    #[test]
    fn every_mutant_changes_one_place_of_the_code_as_it_is() {
        let mut stale = Vec::new();
        for mutant in all() {
            let path = places::root().join(mutant.file);
            match std::fs::read_to_string(&path) {
                Err(error) => stale.push(format!("{:?}: {}: {error}", mutant.name, mutant.file)),
                Ok(text) => match mutant.apply(&text) {
                    Err(error) => stale.push(error.to_string()),
                    Ok(changed) if changed == text => {
                        stale.push(format!("{:?} changes nothing", mutant.name));
                    }
                    Ok(_) => {}
                },
            }
        }
        assert!(stale.is_empty(), "{}", stale.join("\n"));
    }

    #[test]
    fn every_mutant_has_a_name_of_its_own_and_tests_that_notice() {
        let mut names = BTreeSet::new();
        for mutant in all() {
            assert!(names.insert(mutant.name), "{:?} stands twice", mutant.name);
            assert!(!mutant.noticed_by.is_empty(), "{:?}", mutant.name);
        }
    }

    #[test]
    fn text_that_occurs_twice_or_not_at_all_is_refused() {
        let mut mutant = Mutant {
            name: "n",
            file: "f",
            find: "a",
            replace: "b",
            noticed_by: &[],
        };
        assert!(mutant.apply("aa").is_err());
        assert_eq!(mutant.apply("xa").unwrap(), "xb");
        mutant.find = "c";
        assert!(mutant.apply("aa").is_err());
    }
}
