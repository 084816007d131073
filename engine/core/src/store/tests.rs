//! What only the inside of a store shows.

mod bases;
mod cold_scans;
mod compaction;
mod deletion;
mod deletion_answers;
mod evictions;
mod hydrations;
mod killer;
mod kills;
mod node;
mod on_demand;
mod orphans;
mod recompress;
mod rejections;
mod residency;
mod retention;
mod snapshot_deletion;
mod start;
mod tier_kills;
mod trim;
mod trimmed_uploads;
mod turns;
mod usage;
mod warm_reads;
mod whole;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use aof2_format::manifest_record::ManifestEvent;
use bytes::Bytes;

use super::*;
use crate::error::ClaimError;
use crate::io::fault::{Call, Fault, FaultDisk};
use crate::io::{Disk, FileClass, SystemDisk};
use crate::port::{LocalStream, Standing};
use crate::request::Durability;
use crate::testing;
use crate::tier::testing::until;

fn options(directory: &std::path::Path) -> OpenOptions {
    let mut config = testing::small_config(directory);
    // No checkpoint by itself.
    config.checkpoint.interval = Duration::from_secs(3600);
    config.checkpoint.journal_bytes = Config::new(directory).checkpoint.journal_bytes;
    testing::options(config)
}

fn durable(stream: &str) -> AppendRequest {
    AppendRequest {
        stream: stream.to_owned(),
        payloads: vec![Bytes::from_static(b"a record")],
        durability: Durability::Durable,
        producer: None,
    }
}

/// The claim of the stream `held` takes as long as the test wants.
struct SlowClaim {
    asked: mpsc::Sender<()>,
    may_go_on: Mutex<mpsc::Receiver<()>>,
}

impl Claims for SlowClaim {
    fn check_volume(&self, _: &VolumeIdentity, _: Standing) -> Result<bool, ClaimError> {
        Ok(true)
    }

    fn check_streams(&self, _: &VolumeIdentity, _: &[LocalStream]) -> Result<(), ClaimError> {
        Ok(())
    }

    fn leave_mark(&self, _: &VolumeIdentity, _: u64) -> Result<(), ClaimError> {
        Ok(())
    }

    fn find(&self, _: &VolumeIdentity, _: &str) -> Result<Option<u64>, ClaimError> {
        Ok(None)
    }

    fn claim(&self, _: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError> {
        if stream == "held" {
            self.asked.send(()).expect("it is waited for");
            self.may_go_on.lock().recv().expect("it is told");
        }
        Ok(1)
    }
}

#[test]
fn appends_that_wait_for_a_claim_when_the_store_is_poisoned_are_refused_and_hold_nothing_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (asked, is_asked) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(folder.path());
    options.environment.disk = disk;
    options.claims = Some(Arc::new(SlowClaim {
        asked,
        may_go_on: Mutex::new(may_go_on),
    }));
    let store = Store::open(options).expect("the directory opens");
    store.append(durable("other")).expect("acknowledged");
    let (told, outcome) = mpsc::channel();
    store.append_with(
        durable("held"),
        Box::new(move |result| told.send(result).expect("it is waited for")),
    );
    is_asked.recv().expect("a claim is made");
    assert!(store.pipeline().common.staging.holds());

    faults.fail_sync(FileClass::Journal, 0);
    store.append(durable("other")).expect_err("poisoned");
    let refused = outcome.recv().expect("an answer").expect_err("refused");
    assert!(matches!(refused, AppendError::Poisoned { .. }), "{refused}");
    let held_bytes = store.pipeline().common.staging.held_bytes();

    go_on.send(()).expect("it is waited for");
    let (closed, is_closed) = mpsc::channel();
    std::thread::spawn(move || closed.send(store.close()));
    let end = is_closed.recv_timeout(Duration::from_secs(20));
    let end = end.expect("nothing is waited for that never comes");
    assert!(matches!(end, Err(StoreError::Poisoned { .. })), "{end:?}");
    assert_eq!(held_bytes, 0);
}

#[test]
fn a_cut_behind_a_roll_leaves_nothing_of_the_closed_chunk_to_the_next_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(options(folder.path())).expect("the directory opens");
    store.append(durable("orders")).expect("acknowledged");
    let stream = store.known("orders").expect("it exists");
    let commit = |event: ManifestEvent| {
        let committed = stream
            .manifest
            .commit(&stream.owned(store.pipeline()), 1, vec![event]);
        committed.expect("durable");
    };
    for _ in 0..2 {
        commit(ManifestEvent::CustomEvent {
            schema_id: 1000,
            blob: vec![7; 600_000],
        });
    }
    // The chunk is long: this one rolls it, and stands in the next one alone.
    commit(ManifestEvent::SnapshotMarker {
        chunk_index: 0,
        chunk_offset: 0,
        snapshot_id: 1,
    });
    let cut = store.cut_manifest("orders").expect("cut");
    let [closed] = cut.chunks[..] else {
        panic!("{cut:?}")
    };
    let bytes = store.closed_chunk_bytes("orders", closed);
    assert_eq!(bytes.expect("whole").len() as u64, closed.bytes);
    store.close().expect("closes");
}

/// Its record is staged, and the power may take it yet.
#[test]
fn an_upload_counts_when_its_record_is_durable_whoever_commits_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(folder.path());
    options.environment.disk = disk;
    let store = Store::open(options).expect("the directory opens");
    store.append(durable("orders")).expect("acknowledged");
    store.seal(Some("orders")).expect("sealed");
    let stream = store.known("orders").expect("it exists");
    let uploaded = TierRecord::UploadDone {
        key: "k".to_owned(),
        etag: "e".to_owned(),
    };
    let commit = |record| {
        let store = store.clone();
        std::thread::spawn(move || store.commit_manifest("orders", 1, record))
    };
    let attempt = || {
        faults.at_one_moment(|| {
            let writes = || faults.calls(Call::Write, FileClass::Journal);
            let before = writes();
            let first = commit(TierRecord::CompressionStarted);
            let deadline = Instant::now() + Duration::from_secs(1);
            while writes() == before {
                if Instant::now() > deadline {
                    return Err(first);
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            let second = commit(uploaded.clone());
            let staged = || {
                stream
                    .manifest
                    .read(|state| state.residency.uploaded_upto())
            };
            until("the second record is staged", || staged() == 1);
            // That of the round with the first is let through.
            faults.add(Fault::of(Call::Sync).class(FileClass::Journal).after(1));
            Ok((first, second))
        })
    };
    let (first, second) = loop {
        match attempt() {
            Ok(both) => break both,
            // The thread of the journal was at a change of another kind, and is held there.
            Err(first) => first.join().expect("no panic").expect("durable"),
        };
    };
    first.join().expect("no panic").expect("durable");
    second.join().expect("no panic").expect_err("not durable");
    let told = store.describe("orders").expect("it exists");
    assert_eq!(told.uploaded_sequence, 0);
}

#[test]
fn a_caller_that_waits_alone_runs_its_round_itself_and_one_with_a_callback_does_not() {
    let directory = tempfile::tempdir().expect("a folder");
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    let mut options = options(directory.path());
    options.environment.disk = disk;
    let store = Store::open(options).expect("opened");
    let me = std::thread::current().id();
    // Not each of them: the first is staged by the thread that makes the stream, and while the journal's thread is still at what
    // it does besides (a manifest's commit, the end of the round before) it takes what comes as well.
    let is_led = (0..1000).any(|_| {
        store.append(durable("a")).expect("appended");
        faults.last_synced_by(FileClass::Journal) == Some(me)
    });
    assert!(
        is_led,
        "a thousand appends, and the caller ran none of their rounds"
    );

    let (answer, answered) = mpsc::channel();
    let answer = move |result| answer.send(result).expect("it is waited for");
    store.append_with(durable("a"), Box::new(answer));
    answered.recv().expect("answered").expect("appended");
    assert_ne!(faults.last_synced_by(FileClass::Journal), Some(me));
}

/// Whoever leads a round leaves with it what came meanwhile: an append that nobody takes would wait for ever.
#[test]
fn appends_of_every_kind_side_by_side_are_all_answered() {
    const THREADS: usize = 6;
    const APPENDS: usize = 300;
    let directory = tempfile::tempdir().expect("a folder");
    let store = Store::open(options(directory.path())).expect("opened");
    let (done, all_done) = mpsc::channel();
    for thread in 0..THREADS {
        let (store, done) = (store.clone(), done.clone());
        std::thread::spawn(move || {
            for index in 0..APPENDS {
                let stream = format!("s{}", (thread + index) % 3);
                match (thread + index) % 5 {
                    0 => {
                        store.flush().expect("flushed");
                    }
                    1 | 2 => {
                        let (answer, answered) = mpsc::channel();
                        let answer = move |result| answer.send(result).expect("it is waited for");
                        store.append_with(durable(&stream), Box::new(answer));
                        answered.recv().expect("answered").expect("appended");
                    }
                    _ => {
                        store.append(durable(&stream)).expect("appended");
                    }
                }
            }
            done.send(()).expect("it is waited for");
        });
    }
    for _ in 0..THREADS {
        let limit = Duration::from_secs(60);
        all_done
            .recv_timeout(limit)
            .expect("every append is answered");
    }
}

/// Says nothing against anybody, and looks at the volume when a claim is made.
struct LooksAtTheVolume {
    streams: std::path::PathBuf,
    was_there: mpsc::Sender<bool>,
}

impl Claims for LooksAtTheVolume {
    fn check_volume(&self, _: &VolumeIdentity, _: Standing) -> Result<bool, ClaimError> {
        Ok(true)
    }

    fn check_streams(&self, _: &VolumeIdentity, _: &[LocalStream]) -> Result<(), ClaimError> {
        Ok(())
    }

    fn leave_mark(&self, _: &VolumeIdentity, _: u64) -> Result<(), ClaimError> {
        Ok(())
    }

    fn find(&self, _: &VolumeIdentity, _: &str) -> Result<Option<u64>, ClaimError> {
        Ok(None)
    }

    fn claim(&self, _: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError> {
        let was_there = SystemDisk
            .exists(&self.streams.join(stream))
            .expect("looked at");
        self.was_there.send(was_there).expect("it is waited for");
        Ok(1)
    }
}

#[test]
fn a_new_stream_has_its_directory_before_it_has_a_claim() {
    let folder = tempfile::tempdir().expect("a folder");
    let (was_there, told) = mpsc::channel();
    let mut options = options(folder.path());
    options.claims = Some(Arc::new(LooksAtTheVolume {
        streams: folder.path().join("streams"),
        was_there,
    }));
    let store = Store::open(options).expect("the directory opens");
    store.append(durable("new")).expect("acknowledged");
    assert_eq!(told.recv(), Ok(true));
    store.close().expect("closes");
}

#[test]
fn every_subscriber_hears_of_a_seal() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(options(folder.path())).expect("the directory opens");
    let (told, heard) = mpsc::channel();
    for subscriber in [1, 2] {
        let told = told.clone();
        store.on_sealed(Arc::new(move |segment| {
            told.send((subscriber, segment.segment_id))
                .expect("it is waited for");
        }));
    }
    store.append(durable("a")).expect("acknowledged");
    store.seal(None).expect("sealed");
    let limit = Duration::from_secs(20);
    let mut both = [(); 2].map(|()| heard.recv_timeout(limit).expect("told"));
    both.sort_unstable();
    assert_eq!(both, [(1, 1), (2, 1)]);
    store.close().expect("closes");
}
