//! Files that are made from others and checked in: the CRDs, in `crds/generated` and in the chart.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::{self, Built, Targets};
use crate::console::say;
use crate::{command, places};

const PROGRAM: &str = "crdgen";
const FOLDERS: &[&str] = &["crds/generated", "charts/aof2-operator/crds"];

pub fn run() -> Result<()> {
    let built = cargo::build(Targets::Only(PROGRAM), None)?;
    command::run(&mut Command::new(built.program(PROGRAM)?))?;
    say(format_args!("made {}", FOLDERS.join(", ")));
    Ok(())
}

/// An error that names what making them again would change. The files stay as they were.
pub fn check(built: &Built) -> Result<()> {
    let before = contents()?;
    command::run(&mut Command::new(built.program(PROGRAM)?))?;
    let after = contents()?;
    let mut stale = Vec::new();
    for path in before
        .keys()
        .chain(after.keys().filter(|path| !before.contains_key(*path)))
    {
        if before.get(path) == after.get(path) {
            continue;
        }
        stale.push(path.display().to_string());
        match before.get(path) {
            Some(content) => fs::write(path, content)?,
            None => fs::remove_file(path)?,
        }
    }
    if !stale.is_empty() {
        bail!(
            "stale: {}; run `cargo xtask generate` and commit the result",
            stale.join(", ")
        );
    }
    Ok(())
}

fn contents() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    for folder in FOLDERS {
        let Ok(entries) = fs::read_dir(places::root().join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_file() {
                contents.insert(path.clone(), fs::read(path)?);
            }
        }
    }
    Ok(contents)
}
