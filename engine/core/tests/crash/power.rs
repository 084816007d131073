//! Power cuts: `FS_IOC_SHUTDOWN` without a log flush on a loop-mounted ext4 or XFS, unmount, mount, recover. A kill keeps the
//! page cache, so only this finds a sync that is missing.
//!
//! The process is stopped (SIGSTOP, every thread) before the cut. One that runs on loses acknowledged records now and then, on
//! ext4, and the engine cannot know: an fdatasync that was begun before the shutdown answers 0 after it for bytes that are gone.
//! Traces of ten such losses (`AOF2_CRASH_RUNS_ON_MILLIS=30 AOF2_CRASH_TRACE=DIRECTORY`, and the kernel's events of ext4 and of
//! write-back errors beside) all say the same: the last fdatasync of the lost segment straddles the shutdown and answers Ok, and no
//! call on that file, paced write-out included, is told of an error; where the kernel's events were looked at, it noted none for the
//! inode either (`filemap_set_wb_err`). A power cut does not answer system calls, so this is no state that one leaves.
//!
//! What these cuts cannot show is a missing sync of a directory: any sync on ext4 commits the entries of its neighbours. The
//! enumerated states (`tests/states`) do.
//!
//! `AOF2_CRASH_CUTS=N` is the long form: N cuts of each file system, with a busy loop per core beside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aof2_core::io::fault::cut_power;

use crate::child::{Plan, Without, Workload};
use crate::model::Model;
use crate::trace::{self, Trace};
use crate::{Dice, Writer, check_copy};

const CUTS: &str = "AOF2_CRASH_CUTS";
const SEED: &str = "AOF2_CRASH_SEED";
const RUNS_ON_MILLIS: &str = "AOF2_CRASH_RUNS_ON_MILLIS";

#[derive(Clone, Copy, Debug)]
enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    fn make(self) -> (&'static str, &'static [&'static str]) {
        match self {
            FileSystem::Ext4 => (
                "mkfs.ext4",
                &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            ),
            FileSystem::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        }
    }

    fn image_bytes(self) -> u64 {
        match self {
            FileSystem::Ext4 => 192 << 20,
            // mkfs.xfs refuses less than 300 MiB.
            FileSystem::Xfs => 320 << 20,
        }
    }
}

/// A file system of its own, in a file.
struct Volume {
    _directory: tempfile::TempDir,
    image: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
}

impl Volume {
    /// `Err`: why there can be none here.
    fn create(file_system: FileSystem) -> Result<Volume, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = directory.path().join("image");
        let mount = directory.path().join("mount");
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(file_system.image_bytes())
            .map_err(|error| error.to_string())?;
        let (program, arguments) = file_system.make();
        run(program, arguments, &[&image])?;
        let mut volume = Volume {
            _directory: directory,
            image,
            mount,
            is_mounted: false,
        };
        volume.mount()?;
        Ok(volume)
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o", "loop"], &[&self.image, &self.mount])?;
        self.is_mounted = true;
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Tried for a while: a process that another test has forked holds our descriptors until it executes its program.
    fn unmount(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match run("umount", &[], &[&self.mount]) {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = self.unmount()
        {
            eprintln!("{error}");
        }
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .args(paths)
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[derive(Clone, Copy)]
struct Plans {
    file_system: FileSystem,
    cuts: u64,
    without: Option<Without>,
    workloads: &'static [Workload],
    seed: u64,
    /// The process goes on for this long after the cut. `None`: it is stopped before.
    runs_on: Option<Duration>,
}

#[derive(Default)]
struct Cuts {
    done: u64,
    acknowledged: u64,
    /// Of each volume the first one; nothing else is tried on it.
    violations: Vec<String>,
}

/// Cuts the power up to `cuts` times, with a fresh volume now and then, until something is lost; a process that runs on is
/// watched to the end. `None` where there can be no volume, which CI does not take for an answer.
fn cut(plans: Plans) -> Option<Cuts> {
    if let Err(reason) = Volume::create(plans.file_system) {
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        println!(
            "skipped: {reason} (this test needs root, mkfs.ext4 and mkfs.xfs, and a loop device)"
        );
        return None;
    }
    let mut dice = Dice::new(plans.seed);
    let mut result = Cuts::default();
    while result.done < plans.cuts && (result.violations.is_empty() || plans.runs_on.is_some()) {
        if let Err(error) = cut_one_volume(&plans, &mut dice, &mut result) {
            panic!("the harness failed after {} cuts: {error}", result.done);
        }
    }
    Some(result)
}

fn cut_one_volume(plans: &Plans, dice: &mut Dice, result: &mut Cuts) -> Result<(), String> {
    const CUTS_PER_VOLUME: u64 = 10;
    let Plans {
        file_system,
        cuts,
        without,
        workloads,
        seed: _,
        runs_on,
    } = *plans;
    let mut volume = Volume::create(file_system)?;
    let mut model = Model::default();
    for _ in 0..CUTS_PER_VOLUME.min(cuts - result.done) {
        let workload = workloads[(result.done % workloads.len() as u64) as usize];
        let trace = std::env::var_os(trace::DIRECTORY).map(|directory| {
            Path::new(&directory).join(format!("{file_system:?}-{}", result.done))
        });
        let plan = Plan {
            seed: dice.roll(u64::MAX),
            quiet_after: None,
            without,
            workload,
            trace: trace.clone(),
        };
        let mut writer = Writer::start(&volume.data(), &plan);
        if writer
            .wait_for_ack(&mut model, Duration::from_secs(60))
            .is_none()
        {
            writer.kill(&mut model);
            result
                .violations
                .push("the store does not open, or acknowledges nothing".to_owned());
            return Ok(());
        }
        match workload {
            Workload::NewStreams => {
                // Right behind an acknowledgement: nothing else had a reason to sync the directory.
                for _ in 0..dice.roll(4) {
                    writer.wait_for_ack(&mut model, Duration::from_secs(20));
                }
            }
            Workload::Everything => {
                writer.note_acks_for(&mut model, Duration::from_millis(dice.roll(150)))
            }
            Workload::ManyBytes => {
                // More than the journal holds.
                for _ in 0..500 {
                    writer.wait_for_ack(&mut model, Duration::from_secs(20));
                }
            }
        }
        if runs_on.is_none() {
            writer.stop();
        }
        let power_goes = || cut_power(&volume.mount);
        match &trace {
            Some(path) => Trace::open(path).around("cut", power_goes),
            None => power_goes(),
        }
        .map_err(|error| format!("FS_IOC_SHUTDOWN: {error}"))?;
        if let Some(time) = runs_on {
            writer.note_acks_for(&mut model, time);
        }
        writer.kill(&mut model);
        volume.unmount()?;
        volume.mount()?;
        result.done += 1;
        let checked = check_copy(&volume.data(), &mut model);
        if let Err(violation) = checked {
            println!("{file_system:?}, cut {}: {violation}", result.done);
            result.violations.push(violation);
            break;
        }
        if let Some(path) = trace {
            std::fs::remove_file(path).map_err(|error| error.to_string())?;
        }
    }
    result.acknowledged += model.acknowledged();
    Ok(())
}

/// Keeps every core busy, so that threads are taken off in places where they seldom are.
struct BusyLoops(Arc<AtomicBool>);

impl BusyLoops {
    fn start() -> BusyLoops {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let is_over = is_over.clone();
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        BusyLoops(is_over)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const WORKLOADS: &[Workload] = &[
    Workload::Everything,
    Workload::NewStreams,
    Workload::Everything,
    Workload::ManyBytes,
    Workload::NewStreams,
];

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

fn nothing_is_lost(file_system: FileSystem) {
    const IN_CI: u64 = 25;
    let asked = number(CUTS);
    let _busy = asked.map(|_| BusyLoops::start());
    let runs_on = number(RUNS_ON_MILLIS).map(Duration::from_millis);
    let plans = Plans {
        file_system,
        cuts: asked.unwrap_or(IN_CI),
        without: None,
        // Syncs that are under way when the power goes are of the most kinds there.
        workloads: match runs_on {
            Some(_) => &[Workload::Everything],
            None => WORKLOADS,
        },
        seed: number(SEED).unwrap_or(7),
        runs_on,
    };
    let Some(found) = cut(plans) else {
        return;
    };
    let Cuts {
        done,
        acknowledged,
        violations,
    } = found;
    println!(
        "{file_system:?}: {done} power cuts, {acknowledged} acknowledged records, {} losses",
        violations.len()
    );
    assert_eq!(violations, Vec::<String>::new(), "after {done} cuts");
    assert_eq!(done, plans.cuts);
}

#[test]
fn no_power_cut_loses_an_acknowledged_record_on_ext4() {
    nothing_is_lost(FileSystem::Ext4);
}

#[test]
fn no_power_cut_loses_an_acknowledged_record_on_xfs() {
    nothing_is_lost(FileSystem::Xfs);
}

/// The harness finds what it is there to find.
fn a_loss_is_found(without: Without, workloads: &'static [Workload]) {
    let plans = Plans {
        file_system: FileSystem::Ext4,
        cuts: 20,
        without: Some(without),
        workloads,
        seed: 11,
        runs_on: None,
    };
    let Some(cuts) = cut(plans) else {
        return;
    };
    let Some(violation) = cuts.violations.first() else {
        panic!("{} power cuts without {without:?} lost nothing", cuts.done);
    };
    println!(
        "without {without:?}: found after {} cuts: {violation}",
        cuts.done
    );
}

#[test]
fn a_missing_sync_of_the_journal_is_found() {
    a_loss_is_found(Without::Journal, &[Workload::Everything]);
}

#[test]
fn a_missing_sync_of_the_checkpoint_is_found() {
    a_loss_is_found(Without::Checkpoint, &[Workload::ManyBytes]);
}
