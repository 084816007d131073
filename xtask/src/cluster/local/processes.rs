//! The processes of a cluster. Each is recorded in a file as "PID start-time", so that a number which the kernel has given to
//! somebody else since is never taken for ours.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::settings::Settings;
use crate::command::{last_lines, wait_until};

pub struct Processes {
    records: PathBuf,
    logs: PathBuf,
}

impl Processes {
    pub fn of(settings: &Settings) -> Self {
        Self {
            records: settings.folder.join("run"),
            logs: settings.folder.join("log"),
        }
    }

    pub fn make_folders(&self) -> Result<()> {
        fs::create_dir_all(&self.records)?;
        fs::create_dir_all(&self.logs)?;
        Ok(())
    }

    /// All that were started and not stopped by us, alive or not.
    pub fn names(&self) -> Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(&self.records) else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".pid").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    pub fn pid(&self, name: &str) -> Option<u32> {
        let record = fs::read_to_string(self.record_file(name)).ok()?;
        let (pid, started) = record.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (Stat::read(pid)?.started_at()? == started).then_some(pid)
    }

    pub fn is_alive(&self, name: &str) -> bool {
        self.pid(name).is_some()
    }

    /// Starts a process that outlives us, unless it runs.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<()> {
        if self.is_alive(name) {
            return Ok(());
        }
        let pid = self.spawn(name, command)?;
        self.record(name, pid)
    }

    /// The same for a command that forks once, into a PID namespace, and waits: what counts is the child.
    pub fn start_forking(&self, name: &str, command: &mut Command) -> Result<()> {
        if self.is_alive(name) {
            return Ok(());
        }
        let parent = self.spawn(name, command)?;
        let mut child = None;
        let appears = || {
            child = child_of(parent);
            child.is_some()
        };
        wait_until(&format!("{name} starts"), Duration::from_secs(10), appears)
            .with_context(|| self.last_words(name))?;
        self.record(name, child.context("the child is there")?)
    }

    /// Ends a process and waits until it is gone. By KILL: nothing it keeps is used again.
    pub fn stop(&self, name: &str) -> Result<()> {
        if let Some(pid) = self.pid(name).and_then(|pid| Pid::from_raw(pid as i32)) {
            kill_process(pid, Signal::KILL).ok(); // it may end by itself between the look and the shot
            wait_until(&format!("{name} ends"), Duration::from_secs(20), || {
                !self.is_alive(name)
            })?;
        }
        self.forget(name)
    }

    /// Ends everything that is recorded, also what others left with the cluster, such as the demo's collector.
    pub fn stop_all(&self) -> Result<()> {
        for name in self.names()? {
            self.stop(&name)?;
        }
        Ok(())
    }

    pub fn forget(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.record_file(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// An error when any of the recorded has ended.
    pub fn check_all(&self) -> Result<()> {
        for name in self.names()? {
            if !self.is_alive(&name) {
                bail!("{name} has ended. {}", self.last_words(&name));
            }
        }
        Ok(())
    }

    pub fn last_words(&self, name: &str) -> String {
        let log = self.logs.join(format!("{name}.log"));
        let text = fs::read(&log).unwrap_or_default();
        format!(
            "{} ends with:\n{}",
            log.display(),
            last_lines(&String::from_utf8_lossy(&text))
        )
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<u32> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.logs.join(format!("{name}.log")))?;
        // A session of its own, or the end of the user's terminal would be the end of the cluster. Where it may, it execs in
        // place and the PID stays.
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(key, value),
                None => detached.env_remove(key),
            };
        }
        let child = detached
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(child.id())
    }

    fn record(&self, name: &str, pid: u32) -> Result<()> {
        let started = Stat::read(pid)
            .and_then(|stat| stat.started_at().map(str::to_owned))
            .with_context(|| format!("{name} ended at once. {}", self.last_words(name)))?;
        fs::write(self.record_file(name), format!("{pid} {started}\n"))?;
        Ok(())
    }

    fn record_file(&self, name: &str) -> PathBuf {
        self.records.join(format!("{name}.pid"))
    }
}

/// `/proc/PID/stat` behind the program's name, which may hold anything.
struct Stat(Vec<String>);

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = text.rsplit_once(')')?;
        Some(Self(fields.split_whitespace().map(str::to_owned).collect()))
    }

    fn parent(&self) -> Option<u32> {
        self.0.get(1)?.parse().ok()
    }

    /// None for one that has ended: a zombie's parent may be slow to collect it.
    fn started_at(&self) -> Option<&str> {
        let state = self.0.first()?;
        (state != "Z" && state != "X")
            .then(|| self.0.get(19).map(String::as_str))
            .flatten()
    }
}

fn child_of(parent: u32) -> Option<u32> {
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (Stat::read(pid)?.parent() == Some(parent)).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(folder: &std::path::Path) -> Processes {
        let processes = Processes {
            records: folder.join("run"),
            logs: folder.join("log"),
        };
        processes.make_folders().unwrap();
        processes
    }

    #[test]
    fn a_started_process_is_alive_until_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let processes = processes(folder.path());
        processes
            .start("sleeper", Command::new("sleep").arg("60"))
            .unwrap();
        let pid = processes.pid("sleeper").unwrap();
        processes
            .start("sleeper", Command::new("sleep").arg("60"))
            .unwrap();
        assert_eq!(
            processes.pid("sleeper"),
            Some(pid),
            "it runs, so a second start does nothing"
        );
        processes.stop("sleeper").unwrap();
        assert!(!processes.is_alive("sleeper"));
        assert!(processes.names().unwrap().is_empty());
    }

    #[test]
    fn what_another_program_recorded_ends_with_the_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let processes = processes(folder.path());
        let ours = |name: &str| {
            processes
                .start(name, Command::new("sleep").arg("60"))
                .unwrap();
            processes.pid(name).unwrap()
        };
        let both = [ours("apiserver"), ours("demo-collector")];
        processes.stop_all().unwrap();
        assert!(processes.names().unwrap().is_empty());
        let is_running =
            |pid: &u32| Stat::read(*pid).is_some_and(|stat| stat.started_at().is_some());
        assert!(!both.iter().any(is_running));
    }

    #[test]
    fn a_recorded_number_that_belongs_to_another_process_is_not_alive() {
        let folder = tempfile::tempdir().unwrap();
        let processes = processes(folder.path());
        let myself = std::process::id();
        fs::write(processes.record_file("stranger"), format!("{myself} 1\n")).unwrap();
        assert!(!processes.is_alive("stranger"));
        processes.stop("stranger").unwrap(); // and we live on
    }

    #[test]
    fn the_child_of_a_forking_command_is_what_counts() {
        let folder = tempfile::tempdir().unwrap();
        let processes = processes(folder.path());
        processes
            .start_forking("nested", Command::new("sh").args(["-c", "sleep 60; true"]))
            .unwrap();
        let pid = processes.pid("nested").unwrap();
        let is_sleep = || {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == "sleep")
        };
        wait_until("the child is the sleep", Duration::from_secs(10), is_sleep).unwrap();
        processes.stop("nested").unwrap();
    }
}
