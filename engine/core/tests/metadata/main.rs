//! Every file and directory of a data directory, damaged in every way that a disk, a careless hand or a partial restore has: each byte
//! flipped, each length cut, emptied, removed, put back to an older state of itself.
//!
//! What must hold: a stream never has fewer records and a good state. Damage is healed, or told; of a stream's own files only this
//! stream is affected; and only the volume's identity may keep the whole node from starting.
//!
//! CI tries every eleventh byte, and every 401st that is like the one before it; `AOF2_METADATA=all` tries every byte, a million openings;
//! `AOF2_METADATA=3/8` the fourth of eight parts of them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod fixture;
mod mutation;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fixture::Fixture;
use crate::mutation::Mutation;
use crate::verdict::Verdict;

/// Threads that open mutated copies.
const THREADS: usize = 2;
/// Mutations from one line of progress to the next.
const PROGRESS: usize = 10_000;

/// What became of the mutations of one file.
type Tally = BTreeMap<(String, Verdict), u64>;

/// Applies every mutation to a copy of its own, and judges what opens.
fn judge_all(fixture: &Fixture, mutations: &[Mutation]) -> Tally {
    println!("{}: {} mutations", fixture.name, mutations.len());
    let begun = std::time::Instant::now();
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::new());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let scratch = fixture::scratch();
                let copy = scratch.path().join("copy");
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutation) = mutations.get(at) else {
                        return;
                    };
                    if at > 0 && at.is_multiple_of(PROGRESS) {
                        println!("{}: {at} after {:?}", fixture.name, begun.elapsed());
                    }
                    fixture.copy_to(&copy);
                    mutation.apply(&copy);
                    match verdict::of(&copy, fixture, mutation) {
                        Ok(verdict) => {
                            let key = (mutation.kind_of_file(), verdict);
                            *tally.lock().unwrap().entry(key).or_default() += 1;
                        }
                        Err(violation) => {
                            let told = format!("{mutation}: {violation}");
                            println!("{told}");
                            failures.lock().unwrap().push(told);
                        }
                    }
                }
            });
        }
    });
    println!("{}: judged in {:?}", fixture.name, begun.elapsed());
    let failures = failures.into_inner().unwrap();
    let shown: Vec<&String> = failures.iter().take(20).collect();
    assert!(
        failures.is_empty(),
        "{} of {} mutations of {}: {shown:#?}",
        failures.len(),
        mutations.len(),
        fixture.name
    );
    let tally = tally.into_inner().unwrap();
    for ((file, verdict), count) in &tally {
        println!("{}: {file}: {verdict:?} {count}", fixture.name);
    }
    tally
}

/// Which part of all mutations, of how many; `None`: the sample of CI.
fn part() -> Option<(usize, usize)> {
    let text = std::env::var("AOF2_METADATA").ok()?;
    if text == "all" {
        return Some((0, 1));
    }
    let part = text
        .split_once('/')
        .and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)))
        .filter(|(part, of)| part < of);
    Some(
        part.unwrap_or_else(|| {
            panic!("AOF2_METADATA={text} is neither `all` nor a part such as 3/8")
        }),
    )
}

/// Files below the directory, relative to it, and directories.
fn contents(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                directories.push(relative);
                open.push(path);
            } else {
                files.push(relative);
            }
        }
    }
    files.sort();
    directories.sort();
    (files, directories)
}

fn every_mutation_of(fixture: &Fixture) {
    let (files, directories) = contents(fixture.data());
    let mut mutations = Vec::new();
    for file in &files {
        if file.ends_with("lock") {
            continue; // empty, and made again
        }
        mutation::of_file(fixture, file, part().is_some(), &mut mutations);
    }
    for directory in &directories {
        mutations.push(Mutation::remove(directory));
        mutations.push(Mutation::empty(directory));
    }
    if let Some((part, of)) = part() {
        let mut at = 0;
        mutations.retain(|_| {
            at += 1;
            (at - 1) % of == part
        });
    }
    let tally = judge_all(fixture, &mutations);
    let noticed: u64 = tally
        .iter()
        .filter(|((_, verdict), _)| *verdict != Verdict::Harmless)
        .map(|(_, count)| count)
        .sum();
    println!(
        "{}: {} mutations, {noticed} noticed",
        fixture.name,
        mutations.len()
    );
    assert!(noticed > 0);
}

#[test]
fn after_a_kill_no_damaged_file_passes_for_fewer_records() {
    every_mutation_of(&Fixture::killed());
}

#[test]
fn after_a_clean_stop_no_damaged_file_passes_for_fewer_records() {
    every_mutation_of(&Fixture::closed());
}
