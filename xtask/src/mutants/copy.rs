//! A copy of the tree that may be broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::list::Mutant;
use crate::command::output;

pub struct Copy {
    root: PathBuf,
}

/// Puts the file back when it goes.
pub struct Changed {
    path: PathBuf,
    original: String,
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.original) {
            eprintln!("{} is left broken: {error}", self.path.display());
        }
    }
}

impl Copy {
    /// What git knows, and what is new and not ignored. A file that is the same already keeps its time, so that cargo does not
    /// build it again.
    pub fn of(root: &Path, to: &Path) -> Result<Copy> {
        let listed = output(Command::new("git").current_dir(root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut wanted = BTreeSet::new();
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let (source, copy) = (root.join(name), to.join(name));
            // One that was removed and not committed yet is listed, too.
            let Ok(bytes) = fs::read(&source) else {
                continue;
            };
            wanted.insert(PathBuf::from(name));
            if fs::read(&copy).is_ok_and(|there| there == bytes) {
                continue;
            }
            if let Some(folder) = copy.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(&source, &copy).with_context(|| format!("cannot copy {name}"))?;
        }
        remove_others(to, to, &wanted)?;
        Ok(Copy {
            root: to.to_owned(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn change(&self, mutant: &Mutant) -> Result<Changed> {
        let path = self.root.join(mutant.file);
        let original =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let changed = mutant.apply(&original)?;
        fs::write(&path, changed)?;
        Ok(Changed { path, original })
    }
}

/// Of an earlier copy.
fn remove_others(root: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Ok(name) = path.strip_prefix(root) else {
            bail!("{} is not in {}", path.display(), root.display());
        };
        if path.is_dir() {
            remove_others(root, &path, wanted)?;
        } else if !wanted.contains(name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::list::{Selection, Target};
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        output(Command::new("git").current_dir(folder).args(arguments)).expect("git");
    }

    #[test]
    fn a_copy_follows_its_tree_and_a_change_is_taken_back() {
        let (tree, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        git(tree.path(), &["init", "--quiet"]);
        fs::write(tree.path().join(".gitignore"), "built\n").unwrap();
        fs::write(tree.path().join("built"), "ignored").unwrap();
        fs::write(tree.path().join("one.rs"), "let a = 1;").unwrap();
        fs::write(tree.path().join("two.rs"), "two").unwrap();
        let copy = Copy::of(tree.path(), to.path()).unwrap();
        assert!(!to.path().join("built").exists());
        let mutant = Mutant {
            name: "one is two",
            file: "one.rs",
            find: "= 1",
            replace: "= 2",
            noticed_by: &[Selection {
                package: "p",
                target: Target::Lib,
                filter: "",
            }],
        };
        let read = || fs::read_to_string(to.path().join("one.rs")).unwrap();
        {
            let _changed = copy.change(&mutant).unwrap();
            assert_eq!(read(), "let a = 2;");
        }
        assert_eq!(read(), "let a = 1;");
        fs::remove_file(tree.path().join("two.rs")).unwrap();
        Copy::of(tree.path(), to.path()).unwrap();
        assert!(!to.path().join("two.rs").exists());
    }
}
