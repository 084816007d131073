//! Power cuts: `FS_IOC_SHUTDOWN` without a log flush on a loop-mounted ext4, unmount, mount, recover. A kill keeps the page
//! cache, so only this finds a sync that is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aof2_core::io::fault::cut_power;

use crate::child::{Plan, Without, Workload};
use crate::model::Model;
use crate::{Dice, Writer, check_copy};

const IMAGE_BYTES: u64 = 192 << 20;

/// A file system of its own, in a file.
struct Volume {
    _directory: tempfile::TempDir,
    image: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
}

impl Volume {
    /// `Err`: why there can be none here.
    fn create() -> Result<Volume, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = directory.path().join("image");
        let mount = directory.path().join("mount");
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(IMAGE_BYTES)
            .map_err(|error| error.to_string())?;
        run(
            "mkfs.ext4",
            &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            &[&image],
        )?;
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

    fn unmount(&mut self) -> Result<(), String> {
        run("umount", &[], &[&self.mount])?;
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

struct Cuts {
    done: u64,
    acknowledged: u64,
    violation: Option<String>,
}

/// Cuts the power up to `cuts` times, with a fresh volume now and then, until something is lost.
fn cut(
    cuts: u64,
    without: Option<Without>,
    workloads: &[Workload],
    seed: u64,
) -> Result<Cuts, String> {
    const CUTS_PER_VOLUME: u64 = 10;
    let mut dice = Dice::new(seed);
    let mut result = Cuts {
        done: 0,
        acknowledged: 0,
        violation: None,
    };
    while result.done < cuts {
        let mut volume = Volume::create()?;
        let mut model = Model::default();
        for _ in 0..CUTS_PER_VOLUME.min(cuts - result.done) {
            let workload = workloads[(result.done % workloads.len() as u64) as usize];
            let plan = Plan {
                seed: dice.roll(u64::MAX),
                quiet_after: None,
                without,
                workload,
            };
            let mut writer = Writer::start(&volume.data(), &plan);
            if writer
                .wait_for_ack(&mut model, Duration::from_secs(20))
                .is_none()
            {
                result.violation =
                    Some("the store does not open, or acknowledges nothing".to_owned());
                writer.kill(&mut model);
                return Ok(result);
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
            cut_power(&volume.mount).map_err(|error| format!("FS_IOC_SHUTDOWN: {error}"))?;
            writer.kill(&mut model);
            volume.unmount()?;
            volume.mount()?;
            result.done += 1;
            if let Err(violation) = check_copy(&volume.data(), &mut model) {
                result.violation = Some(violation);
                result.acknowledged += model.acknowledged();
                return Ok(result);
            }
        }
        result.acknowledged += model.acknowledged();
    }
    Ok(result)
}

/// The reason why power cannot be cut here, printed.
fn is_skipped(result: Result<Cuts, String>) -> Option<Cuts> {
    match result {
        Ok(cuts) => Some(cuts),
        Err(reason) => {
            println!("skipped: {reason} (this test needs root, mkfs.ext4 and a loop device)");
            None
        }
    }
}

#[test]
fn no_power_cut_loses_an_acknowledged_record() {
    let workloads = [
        Workload::Everything,
        Workload::NewStreams,
        Workload::Everything,
        Workload::ManyBytes,
        Workload::NewStreams,
    ];
    let Some(cuts) = is_skipped(cut(50, None, &workloads, 7)) else {
        return;
    };
    assert_eq!(cuts.violation, None, "after {} cuts", cuts.done);
    assert_eq!(cuts.done, 50);
    println!(
        "{} power cuts, {} acknowledged records, 0 lost",
        cuts.done, cuts.acknowledged
    );
}

/// The harness finds what it is there to find.
fn a_loss_is_found(without: Without, workload: Workload) {
    let Some(cuts) = is_skipped(cut(20, Some(without), &[workload], 11)) else {
        return;
    };
    let violation = cuts
        .violation
        .unwrap_or_else(|| panic!("{} power cuts without {without:?} lost nothing", cuts.done));
    println!(
        "without {without:?}: found after {} cuts: {violation}",
        cuts.done
    );
}

#[test]
fn a_missing_sync_of_the_journal_is_found() {
    a_loss_is_found(Without::Journal, Workload::Everything);
}

#[test]
fn a_missing_sync_of_a_directory_is_found() {
    a_loss_is_found(Without::Directory, Workload::NewStreams);
}

#[test]
fn a_missing_sync_of_the_checkpoint_is_found() {
    a_loss_is_found(Without::Checkpoint, Workload::ManyBytes);
}
