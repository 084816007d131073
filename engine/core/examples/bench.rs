//! Appends against raw writes, in one run: the ratios carry over to other machines, the rates do not.
//!
//! `cargo run --release -p aof2-core --example bench -- [directory] [seconds per measurement] [durable | buffered | reopen]`

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aof2_core::{
    AppendError, AppendRequest, Config, Durability, Identity, OpenOptions, Store, WouldBlockKind,
};
use bytes::Bytes;

const RECORD_BYTES: usize = 1024;
/// The raw file is written over from the start when it ends.
const RAW_FILE_BYTES: u64 = 64 << 20;
/// 128 MiB: less than what may be in memory and not on the device.
const BURST_RECORDS: usize = 128 << 10;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let seconds: f64 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3.0);
    let only = arguments.next();
    if let Some(unknown) = only
        .as_deref()
        .filter(|only| !["durable", "buffered", "reopen"].contains(only))
    {
        eprintln!("part {unknown:?} is not one of durable, buffered and reopen");
        return ExitCode::from(2);
    }
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let directory = tempfile::tempdir_in(directory).expect("the directory is writable");
    let time = Duration::from_secs_f64(seconds);
    if wanted("durable") {
        durable(directory.path(), time);
    }
    if wanted("buffered") {
        buffered(directory.path(), time);
    }
    if wanted("reopen") {
        reopen(directory.path());
    }
    ExitCode::SUCCESS
}

fn durable(directory: &Path, time: Duration) {
    let raw = raw_synced(directory, time);
    println!("raw write + fdatasync, one thread, prezeroed: {raw:.0}/s");
    for (writers, streams) in [(1, 1), (16, 1), (64, 1), (64, 64), (64, 1000)] {
        let rate = appends(directory, writers, streams, Durability::Durable, time);
        println!(
            "durable, {writers} writers, {streams} streams: {rate:.0}/s, {:.2} of raw",
            rate / raw
        );
    }
}

fn buffered(directory: &Path, time: Duration) {
    let raw = raw_buffered(directory, time);
    println!("raw write, one thread: {raw:.0}/s");
    for streams in [1, 64] {
        let rate = bursts(directory, streams, time);
        println!(
            "buffered, 1 writer, {streams} streams, in bursts: {rate:.0}/s, {:.2} of raw",
            rate / raw
        );
    }
    let rate = appends(directory, 1, 1, Durability::Buffered, time);
    println!(
        "buffered, 1 writer, 1 stream, without a pause: {rate:.0}/s, {:.2} of raw",
        rate / raw
    );
}

/// A file whose blocks are written, so that a sync carries no metadata.
fn prezeroed(path: &Path) -> File {
    let file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .expect("the file is created");
    let zeroes = vec![0; 1 << 20];
    for offset in (0..RAW_FILE_BYTES).step_by(zeroes.len()) {
        file.write_all_at(&zeroes, offset).expect("zeroed");
    }
    file.sync_all().expect("synced");
    file
}

fn raw(path: &Path, time: Duration, sync: bool) -> f64 {
    let file = prezeroed(path);
    let record = [7; RECORD_BYTES];
    let started = Instant::now();
    let mut count = 0u64;
    while started.elapsed() < time {
        let offset = count * RECORD_BYTES as u64 % RAW_FILE_BYTES;
        file.write_all_at(&record, offset).expect("written");
        if sync {
            file.sync_data().expect("synced");
        }
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

fn raw_synced(directory: &Path, time: Duration) -> f64 {
    raw(&directory.join("raw"), time, true)
}

fn raw_buffered(directory: &Path, time: Duration) -> f64 {
    raw(&directory.join("raw"), time, false)
}

fn open(directory: &Path) -> Store {
    let identity = Identity {
        cluster_id: "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b".to_owned(),
        node: "bench-0".to_owned(),
    };
    let mut config = Config::new(directory);
    config.journal.files = 4;
    Store::open(OpenOptions::new(config, identity)).expect("the store opens")
}

fn append(store: &Store, stream: &str, payload: &Bytes, durability: Durability) {
    loop {
        let request = AppendRequest {
            stream: stream.to_owned(),
            payloads: vec![payload.clone()],
            durability,
            producer: None,
        };
        match store.append(request) {
            Ok(_) => return,
            Err(AppendError::WouldBlock {
                kind: WouldBlockKind::Flush,
                ..
            }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn appends(
    directory: &Path,
    writers: usize,
    streams: usize,
    durability: Durability,
    time: Duration,
) -> f64 {
    let directory = tempfile::tempdir_in(directory).expect("the directory is writable");
    let store = open(directory.path());
    let names: Vec<String> = (0..streams).map(|index| format!("s{index}")).collect();
    let payload = Bytes::from(vec![7; RECORD_BYTES]);
    for name in &names {
        append(&store, name, &payload, Durability::Durable);
    }
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (store, names, payload, count, stop) = (&store, &names, &payload, &count, &stop);
            scope.spawn(move || {
                let mut at = writer;
                while !stop.load(Ordering::Relaxed) {
                    append(store, &names[at % names.len()], payload, durability);
                    at += writers;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
}

/// Buffered appends of one writer in bursts that the store takes without waiting for the device: the median rate of the bursts.
fn bursts(directory: &Path, streams: usize, time: Duration) -> f64 {
    let directory = tempfile::tempdir_in(directory).expect("the directory is writable");
    let store = open(directory.path());
    let names: Vec<String> = (0..streams).map(|index| format!("s{index}")).collect();
    let payload = Bytes::from(vec![7; RECORD_BYTES]);
    for name in &names {
        append(&store, name, &payload, Durability::Durable);
    }
    let mut rates = Vec::new();
    let mut spent = Duration::ZERO;
    while spent < time || rates.len() < 5 {
        let started = Instant::now();
        for index in 0..BURST_RECORDS {
            append(
                &store,
                &names[index % streams],
                &payload,
                Durability::Buffered,
            );
        }
        let took = started.elapsed();
        rates.push(BURST_RECORDS as f64 / took.as_secs_f64());
        spent += took;
        store.flush().expect("flushed");
    }
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Time to open what a process left that never closed: a copy, taken while the store runs and is quiet.
fn reopen(directory: &Path) {
    let original = tempfile::tempdir_in(directory).expect("the directory is writable");
    let store = open(original.path());
    let payload = Bytes::from(vec![7; RECORD_BYTES]);
    for index in 0..20_000 {
        append(
            &store,
            &format!("s{}", index % 64),
            &payload,
            Durability::Buffered,
        );
    }
    store.flush().expect("flushed");
    let copy = directory.join("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([original.path(), &copy])
        .status();
    assert!(copied.is_ok_and(|status| status.success()), "cp -a");
    let started = Instant::now();
    let store = open(&copy);
    let replay = store.metrics().replay;
    println!(
        "reopen after a kill, 64 streams: {} ms, {} journal bytes, {} records",
        started.elapsed().as_millis(),
        replay.journal_bytes,
        replay.records
    );
}
