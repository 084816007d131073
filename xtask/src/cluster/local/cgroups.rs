//! Control groups (version 1) above the pods: one per cluster, one per node below it, in every hierarchy. A kubelet removes what
//! it does not know below its root, so two kubelets must never share one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::wait_until;

const ROOT: &str = "/sys/fs/cgroup";

/// Refuses a machine on which pods could not run, before anything is built.
pub fn check() -> Result<()> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        bail!(
            "this machine has only cgroup v2, on which the local cluster was never tried. Either install Docker and kind, which \
             are then used, or boot the hybrid hierarchy: add `systemd.unified_cgroup_hierarchy=0` (and, from systemd 256 on, \
             `SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1`) to the kernel command line"
        );
    }
    for controller in ["memory", "cpuset", "pids"] {
        if !root.join(controller).is_dir() {
            bail!(
                "there is no cgroup hierarchy {ROOT}/{controller}; install Docker and kind, or mount the v1 hierarchies"
            );
        }
    }
    Ok(())
}

/// Makes `group` (`cluster/node`) in every hierarchy.
pub fn make(cluster: &str, node: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        // What only version 1 has.
        if !hierarchy.join("cgroup.clone_children").exists() {
            continue;
        }
        let group = hierarchy.join(cluster);
        fs::create_dir_all(&group)
            .with_context(|| format!("cannot make the control group {}", group.display()))?;
        if hierarchy.join("cpuset.cpus").exists() {
            // A new cpuset is empty and admits no process. Children copy ours.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(group.join(file), fs::read(hierarchy.join(file))?)?;
            }
            fs::write(group.join("cgroup.clone_children"), "1")?;
        }
        fs::create_dir_all(group.join(node))?;
    }
    Ok(())
}

/// Removes `group` and all below it. The kernel may take a moment to let go of a group's last process.
pub fn remove(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(group);
        let is_gone = || {
            remove_tree(&group);
            !group.exists()
        };
        wait_until(
            &format!("the control group {} is empty", group.display()),
            Duration::from_secs(10),
            is_gone,
        )?;
    }
    Ok(())
}

/// Control groups go by rmdir, leaves first; their files are not real ones.
fn remove_tree(group: &Path) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
        }
        fs::remove_dir(group).ok();
    }
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("cannot list {ROOT}"))? {
        let entry = entry?;
        // `cpu` may be a link to `cpu,cpuacct`; once is enough.
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
