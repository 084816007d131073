//! What the tests of several programs begin with: a small store's configuration, and a copy of a directory.

#![allow(clippy::disallowed_methods)] // no part of the store

use std::path::Path;

use crate::config::{Config, MIB};
use crate::store::OpenOptions;
use crate::volume::Identity;

pub const CLUSTER: &str = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

/// Small files, so that tests roll and recycle.
pub fn small_config(directory: &Path) -> Config {
    let mut config = Config::new(directory);
    config.journal.file_bytes = 4 * MIB;
    config.journal.files = 3;
    config.segment.target_bytes = MIB;
    config.checkpoint.journal_bytes = 4 * MIB;
    config
}

pub fn identity() -> Identity {
    Identity {
        cluster_id: CLUSTER.to_owned(),
        node: "orders-0".to_owned(),
    }
}

pub fn options(config: Config) -> OpenOptions {
    OpenOptions::new(config, identity())
}

/// The files below `from`, as they are when each of them is read: of a store that runs, call it `at_one_moment`.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
