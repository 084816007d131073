//! Records are read through the engine: nobody else has access to the data directory, whatever umask made it and whoever mounts it.
//!
//! New files are made so. A directory of an earlier engine is narrowed when it is opened: it and its entries, since what lies below an
//! entry is reached only through it. A volume with an fsGroup is a case of its own. Kubernetes widens it for that group, marks its root
//! with the setgid bit and would do all of it again if the root's group lost its access: there the group keeps its access to the root, and to
//! nothing in it.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

const PRIVATE: u32 = 0o700;
const SETGID: u32 = 0o2000;

/// Makes the directory where it is not there, and takes access from everybody but this user.
pub fn make(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(directory)?;
    // What cannot be narrowed, such as a mount point of another user, holds up nothing.
    if let Err(error) = narrow_all(directory) {
        tracing::warn!(path = %directory.display(), %error, "cannot take access to the data directory from other users");
    }
    Ok(())
}

fn narrow_all(directory: &Path) -> io::Result<()> {
    let root = std::fs::metadata(directory)?;
    let is_of_a_group = root.mode() & SETGID != 0;
    narrow(directory, if is_of_a_group { 0o007 } else { 0o077 })?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() {
            narrow(&entry.path(), 0o077)?;
        }
    }
    Ok(())
}

/// Only an owner may, and need.
fn narrow(path: &Path, without: u32) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        // A socket of an engine that ends.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let is_data = metadata.is_dir() || metadata.is_file();
    if !is_ours || !is_data || metadata.mode() & without == 0 {
        return Ok(());
    }
    let mode = metadata.mode() & 0o7777 & !without;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    }

    #[test]
    fn a_directory_that_was_open_to_others_is_narrowed_with_its_entries() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("a/b");
        make(&data).expect("made");
        assert_eq!(mode(&data), 0o700);
        for (root, after) in [(0o755, 0o700), (0o777, 0o700), (0o2775, 0o2770)] {
            set(&data, root);
            let (streams, volume) = (data.join("streams"), data.join("volume"));
            std::fs::create_dir_all(&streams).expect("a directory");
            std::fs::write(&volume, "it").expect("a file");
            set(&streams, 0o2775);
            set(&volume, 0o664);
            let elsewhere = folder.path().join("elsewhere");
            std::fs::write(&elsewhere, "it").expect("a file");
            set(&elsewhere, 0o644);
            let _ = std::os::unix::fs::symlink(&elsewhere, data.join("link"));
            make(&data).expect("made");
            assert_eq!(mode(&data), after);
            assert_eq!((mode(&streams), mode(&volume)), (0o2700, 0o600));
            assert_eq!(mode(&elsewhere), 0o644, "not the engine's");
        }
    }
}
