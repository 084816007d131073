//! Where things are: the repository, and the cache folder that outlives a checkout.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::console::say;

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest)
        .parent()
        .expect("xtask lies in a folder of the repository")
        .to_path_buf()
}

/// `${XDG_CACHE_HOME:-$HOME/.cache}/aof2`: built programs in `bin/`, one folder per local cluster in `clusters/`.
pub fn cache() -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => bail!("neither XDG_CACHE_HOME nor HOME is set, so there is no place for the cache"),
    };
    let cache = base.join("aof2");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let cache = cache.canonicalize()?;
    // A local node mounts folders of its own over these, and would not see the cache any more.
    for taken in ["/run", "/var/lib", "/var/log"] {
        if cache.starts_with(taken) {
            bail!(
                "the cache folder {} lies under {taken}; set XDG_CACHE_HOME to another place",
                cache.display()
            );
        }
    }
    Ok(cache)
}

pub fn bin() -> Result<PathBuf> {
    let bin = cache()?.join("bin");
    fs::create_dir_all(&bin)?;
    Ok(bin)
}

pub fn clusters() -> Result<PathBuf> {
    let clusters = cache()?.join("clusters");
    fs::create_dir_all(&clusters)?;
    Ok(clusters)
}

/// Holds `file` locked until dropped, so that two of us never do the same work at once.
pub fn lock(file: &Path, waiting_for: &str) -> Result<File> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let lock = File::options()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| format!("cannot open the lock file {}", file.display()))?;
    if lock.try_lock().is_err() {
        say(format_args!(
            "waiting for another cargo xtask: {waiting_for}"
        ));
        lock.lock()
            .with_context(|| format!("cannot lock {}", file.display()))?;
    }
    Ok(lock)
}
