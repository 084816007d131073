//! What a cluster changes on the machine itself: a bridge, routes, and a few kernel settings that kubelets write.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::processes::Processes;
use super::settings::{Settings, other_clusters};
use crate::command::{output, succeeds};
use crate::places;

/// A kubelet sets these for the whole machine.
const KERNEL_SETTINGS: &[&str] = &[
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

pub fn ip(arguments: &str) -> Result<()> {
    output(Command::new("ip").args(arguments.split(' '))).map(|_| ())
}

/// The bridge that joins host and nodes.
pub fn make_bridge(settings: &Settings) -> Result<()> {
    let bridge = settings.bridge();
    if !succeeds(Command::new("ip").args(["link", "show", &bridge])) {
        ip(&format!("link add {bridge} type bridge"))?;
    }
    // Idempotent each, since a run may have ended between them.
    ip(&format!(
        "address replace {}/24 dev {bridge}",
        settings.host()
    ))?;
    ip(&format!("link set {bridge} up"))
}

pub fn remove_bridge(settings: &Settings) -> Result<()> {
    let bridge = settings.bridge();
    if succeeds(Command::new("ip").args(["link", "show", &bridge])) {
        ip(&format!("link delete {bridge}"))?;
    }
    Ok(())
}

/// Notes the kernel settings as they were before the first cluster.
pub fn note_kernel_settings() -> Result<()> {
    let note = note_file()?;
    if note.is_file() {
        return Ok(());
    }
    let mut lines = String::new();
    for setting in KERNEL_SETTINGS {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{setting}")) {
            lines.push_str(&format!("{setting} {}\n", value.trim()));
        }
    }
    fs::write(note, lines)?;
    Ok(())
}

/// Puts them back when the last cluster goes.
pub fn restore_kernel_settings(settings: &Settings) -> Result<()> {
    for other in other_clusters(&settings.name)? {
        if let Some(other) = Settings::recorded(&other)?
            && !Processes::of(&other).names()?.is_empty()
        {
            return Ok(());
        }
    }
    let note = note_file()?;
    let Ok(lines) = fs::read_to_string(&note) else {
        return Ok(());
    };
    for (setting, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
        fs::write(format!("/proc/sys/{setting}"), value).ok(); // not ours to change in a container
    }
    fs::remove_file(note)?;
    Ok(())
}

fn note_file() -> Result<PathBuf> {
    Ok(places::clusters()?.join("kernel-settings"))
}
