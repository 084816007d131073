//! `kill -9` from outside, by strace, at system calls that change something while one eviction, hydration, merge, trim or deletion runs:
//! the real engine on the file system of the test, and a real S3 server. Behind each kill the engine starts again, every record is read,
//! the work is done once more, and every record is read again.
//!
//! A kill is at the first, fourth, sixteenth ... call of a kind that a thread makes; `AOF2_KILLS=all` is at each.

#[path = "support/s3.rs"]
mod s3;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use s3::S3;
use serde_json::Value;
use support::{Engine, wait_for};

/// Kinds of calls, each with its own count. What only some architectures have is marked for strace.
const CALLS: [(&str, &str); 6] = [
    ("write", "pwrite64,pwritev,pwritev2"),
    ("sync", "fsync,fdatasync,sync_file_range,syncfs"),
    ("rename", "?rename,renameat,renameat2"),
    ("unlink", "?unlink,unlinkat"),
    ("allocate", "ftruncate,fallocate"),
    ("send", "sendto,sendmsg,writev"),
];

const SEGMENTS: usize = 8;
const LINES: usize = 1_500;

/// What is killed.
struct Work {
    name: &'static str,
    /// From eight uploaded segments in all three tiers to where it begins.
    before: fn(&World),
    /// Asks for it; the engine may end meanwhile.
    ask: fn(&World),
    is_done: fn(&World) -> bool,
    /// Segments whose records it may take away, all or none.
    takes: usize,
}

struct World {
    folder: PathBuf,
    s3: S3,
    engine: Engine,
}

impl World {
    /// Over what lies in the folder.
    fn start(folder: &Path, more: &str) -> World {
        let s3 = S3::start(folder);
        let config = write_config(&s3, more);
        let engine = Engine::start_with_config(folder, &config);
        World {
            folder: folder.to_owned(),
            s3,
            engine,
        }
    }

    fn configure(&self, more: &str) {
        write_config(&self.s3, more);
    }

    fn segments(&self) -> Vec<Value> {
        let list = self
            .engine
            .admin(&["segments", "list", "orders", "--json"], "");
        match list.code {
            0 => list.json().as_array().expect("a list").clone(),
            _ => Vec::new(),
        }
    }

    /// Those in this state, by `state`, of which each has these copies and lacks those.
    fn are(&self, state: &str, has: &[&str], lacks: &[&str]) -> Option<usize> {
        let mut found = self.segments();
        found.retain(|it| it["state"] == state);
        let is_so = |it: &Value| {
            let copies = it["copies"].to_string();
            has.iter().all(|copy| copies.contains(copy))
                && !lacks.iter().any(|copy| copies.contains(copy))
        };
        found.iter().all(is_so).then_some(found.len())
    }

    /// Of the first half of the segments.
    fn objects_of_trimmed(&self) -> usize {
        let folder = self.folder.join("buckets/aof2-test/p/segments/orders");
        let entries = std::fs::read_dir(folder).expect("a folder");
        let is_trimmed = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.expect("an entry").file_name();
            // <base sequence>-<epoch>-<segment>.aofz
            let name = name.to_string_lossy().into_owned();
            let id = name.split(['-', '.']).nth(2).map(str::parse::<usize>);
            matches!(id, Some(Ok(id)) if id <= HALF)
        };
        entries.map(is_trimmed).filter(|it| *it).count()
    }

    fn read(&self) -> String {
        self.engine.admin(&["read", "orders", "--raw"], "").ok()
    }
}

/// `more` begins in the table of Tier 2.
fn write_config(s3: &S3, more: &str) -> PathBuf {
    let path = s3.config();
    let text = std::fs::read_to_string(&path).expect("there");
    let common =
        "[journal]\nfile_bytes = 4194304\nfiles = 4\n[checkpoint]\njournal_bytes = 4194304\n";
    // A file is replaced, never half written: the engine reads it at any time.
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{text}{more}{common}")).expect("written");
    std::fs::rename(new, &path).expect("renamed");
    path
}

fn lines(segment: usize) -> String {
    let line = |number: usize| {
        let mut hash = (segment * LINES + number) as u64;
        let word = |_| {
            // What zstd cannot make small, so that copies have a size.
            hash = (hash ^ 0x9e37_79b9_7f4a_7c15)
                .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                .rotate_left(29);
            format!("{hash:016x}")
        };
        let words: String = (0..12).map(word).collect();
        format!("{segment} {number} {words}\n")
    };
    (0..LINES).map(line).collect()
}

/// Records of `orders` from the first one that is left on.
fn expected(from_segment: usize) -> String {
    (from_segment..SEGMENTS).map(lines).collect::<String>() + "open\n"
}

/// Eight uploaded segments in all three tiers, and an open one behind them; stopped.
fn prepare(folder: &Path, work: &Work) {
    let mut world = World::start(folder, "");
    for segment in 0..SEGMENTS {
        world
            .engine
            .admin(&["append", "orders"], &lines(segment))
            .ok();
        world.engine.admin(&["seal"], "").ok();
    }
    world.engine.admin(&["append", "orders"], "open\n").ok();
    wait_for("the uploads", || {
        let uploaded = world.are("Uploaded", &["Hot", "Warm", "Cold"], &[]);
        (uploaded == Some(SEGMENTS)).then_some(())
    });
    (work.before)(&world);
    // As a kill leaves it: the next start replays its journal.
    world.engine.kill();
    world.s3.stop();
}

fn copy(from: &Path, to: &Path) {
    // With the extended attributes in which the server keeps what it knows of objects.
    let from = format!("{}/.", from.display());
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always", &from])
        .arg(to)
        .status();
    assert!(copied.expect("cp runs").success());
}

/// Ends the engine at the n-th call of this kind that one of its threads makes.
struct Killer(Child);

impl Killer {
    fn attach(pid: u32, calls: &str, nth: u32) -> Killer {
        let inject = format!("inject={calls}:signal=SIGKILL:when={nth}");
        let traced = format!("trace={calls}");
        let child = Command::new("strace")
            .args([
                "-f",
                "-qqq",
                "-o",
                "/dev/null",
                "-e",
                &traced,
                "-e",
                &inject,
            ])
            .args(["-p", &pid.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .expect("strace, which `cargo xtask test` installs");
        let mut killer = Killer(child);
        wait_for("strace at every thread", || {
            if let Some(status) = killer.0.try_wait().expect("its state") {
                // A call of the background came first.
                assert!(has_ended(pid), "strace cannot trace the engine: {status}");
                return Some(());
            }
            is_traced(pid).then_some(())
        });
        killer
    }

    /// The engine goes on, unless it is killed in this moment.
    fn detach(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
        wait_for("the end of strace", || {
            self.0.try_wait().expect("its state")
        });
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its first thread has, also while its parent has not looked.
fn has_ended(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.map_or(true, |status| status.contains("State:\tZ"))
}

fn is_traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        // It ended already.
        return true;
    };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status.map_or(true, |status| !status.contains("TracerPid:\t0\n"))
    })
}

/// The counts of calls at which it is killed.
fn next(nth: u32) -> u32 {
    match std::env::var("AOF2_KILLS").as_deref() {
        Ok("all") => nth + 1,
        _ => nth * 4,
    }
}

fn killed_anywhere(work: &Work) {
    let prepared = tempfile::tempdir().expect("a folder");
    prepare(prepared.path(), work);
    let mut kills = 0;
    for (kind, calls) in CALLS {
        let mut nth = 1;
        loop {
            let was_killed = kill_once(prepared.path(), work, calls, nth);
            eprintln!(
                "{}, call {nth} of {kind}: {}",
                work.name,
                if was_killed { "killed" } else { "done before" }
            );
            if !was_killed {
                break;
            }
            kills += 1;
            nth = next(nth);
        }
    }
    // A test of nothing would pass.
    assert!(kills >= CALLS.len(), "{}: only {kills} kills", work.name);
}

/// Whether it was killed before it was done.
fn kill_once(prepared: &Path, work: &Work, calls: &str, nth: u32) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    copy(prepared, folder.path());
    let mut world = World::start(folder.path(), "");
    let killer = Killer::attach(world.engine.pid(), calls, nth);
    (work.ask)(&world);
    let pid = world.engine.pid();
    let was_killed = wait_for("the end of it, or of the engine", || {
        if has_ended(pid) {
            return Some(true);
        }
        (work.is_done)(&world).then_some(false)
    });
    if !was_killed {
        killer.detach();
        return false;
    }
    // Now and then strace leaves a thread of what it killed, for which the parent would wait for ever.
    drop(killer);
    world.configure("");
    world.engine.restart();
    let told = format!("{} killed at call {nth} of {calls}", work.name);
    is_whole(&world, work, &told);
    (work.ask)(&world);
    wait_for(&format!("{told}: the work after the start"), || {
        (work.is_done)(&world).then_some(())
    });
    is_whole(&world, work, &told);
    let snapshot = world.engine.admin(&["snapshot", "take", "orders"], "");
    assert_eq!(snapshot.code, 0, "{told}: {snapshot:?}");
    true
}

/// Every record is read, but for those that the work may take.
fn is_whole(world: &World, work: &Work, told: &str) {
    let read = world.read();
    let is_whole = [0, work.takes].iter().any(|from| read == expected(*from));
    assert!(
        is_whole,
        "{told}: read {} bytes of {}",
        read.len(),
        expected(0).len()
    );
    let dump = world.engine.admin(&["dump", "--json"], "").json();
    let damage = dump["damage"].as_array();
    assert!(damage.is_none_or(Vec::is_empty), "{told}: {damage:?}");
}

const HALF: usize = SEGMENTS / 2;

fn trim(world: &World) {
    let before = (HALF * LINES).to_string();
    let trim = ["trim", "orders", "--before", &before, "--yes"];
    world.engine.admin(&trim, "");
}

/// A start seals what was open, so there may be one more behind them.
fn is_trimmed(world: &World) -> bool {
    world.are("Trimmed", &["Cold"], &["Hot", "Warm"]) == Some(HALF)
}

fn evict(world: &World) {
    world.configure("[tier0]\ninstance_quota_bytes = 2097152\n");
}

fn is_evicted(world: &World) -> bool {
    let all = world.segments();
    let is_hot = |it: &&Value| it["copies"].to_string().contains("Hot");
    let hot = all.iter().filter(is_hot).count();
    (1..SEGMENTS).contains(&hot)
}

#[test]
fn an_eviction() {
    killed_anywhere(&Work {
        name: "eviction",
        before: |_| {},
        ask: evict,
        is_done: is_evicted,
        takes: 0,
    });
}

#[test]
fn a_hydration() {
    killed_anywhere(&Work {
        name: "hydration",
        before: |world| {
            evict(world);
            wait_for("the eviction", || is_evicted(world).then_some(()));
            for id in 1..=SEGMENTS {
                let delete = [
                    "segments",
                    "delete",
                    "--tier",
                    "1",
                    "orders",
                    &id.to_string(),
                ];
                world.engine.admin(&delete, "").ok();
            }
        },
        ask: |world| {
            let hydrate = ["hydrate", "orders", "--tier", "0", "--wait"];
            world.engine.admin(&hydrate, "");
        },
        is_done: |world| {
            let hot = world.are("Uploaded", &["Hot", "Cold"], &[]);
            hot.is_some_and(|hot| hot >= SEGMENTS)
        },
        takes: 0,
    });
}

#[test]
fn a_merge() {
    killed_anywhere(&Work {
        name: "merge",
        before: |_| {},
        ask: |world| {
            world.engine.admin(&["compact", "orders"], "");
        },
        is_done: |world| {
            let replaced = world.are("Replaced", &["Cold"], &["Hot", "Warm"]);
            replaced.is_some_and(|inputs| inputs >= SEGMENTS)
        },
        takes: 0,
    });
}

#[test]
fn a_trim() {
    killed_anywhere(&Work {
        name: "trim",
        before: |_| {},
        ask: trim,
        is_done: is_trimmed,
        takes: HALF,
    });
}

#[test]
fn a_deletion() {
    killed_anywhere(&Work {
        name: "deletion",
        before: |world| {
            trim(world);
            wait_for("the trim", || is_trimmed(world).then_some(()));
            assert_eq!(world.objects_of_trimmed(), HALF);
        },
        ask: |world| world.configure("delete_grace = \"0s\"\nclaim_check = \"1s\"\n"),
        is_done: |world| world.objects_of_trimmed() == 0,
        takes: HALF,
    });
}
