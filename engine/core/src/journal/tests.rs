//! The journal alone: its members and its driver are small models.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aof2_format::journal::{
    self, FIRST_COMMIT_OFFSET, Frame, FrameHeader, JournalHeader, Position,
};
use aof2_format::{Seed, StreamNumber};

use super::mark::Mark;
use super::member::{Driver, Member, Taken};
use super::recycle::Files;
use super::replay::Reuse;
use super::{Journal, Parts};
use crate::io::fault::{Call, Fault, FaultDisk, Faults};
use crate::io::sync::Mutex;
use crate::io::{Disk, FileClass, SystemClock, SystemDisk, SystemRng, WriteError};
use crate::metrics::Counters;
use crate::poison::Poison;
use crate::segment::files;
use crate::volume::VolumeIds;

const FILE_BYTES: u64 = 4 << 20;

/// What happens to members, in order.
type Log = Arc<Mutex<Vec<String>>>;

struct Model {
    name: &'static str,
    number: StreamNumber,
    staged: Mutex<Vec<u8>>,
    published: AtomicU64,
    /// What its next syncs answer, the last one first.
    direct_fails: Mutex<Vec<i32>>,
    log: Log,
}

impl Model {
    fn log(&self, what: &str) {
        self.log.lock().push(format!("{} {what}", self.name));
    }
}

impl Member<Store> for Model {
    type Waiters = &'static str;

    fn take(
        self: &Arc<Self>,
        _: &Store,
        commit: &mut Vec<u8>,
        direct_above_bytes: u64,
    ) -> Taken<&'static str> {
        let bytes = std::mem::take(&mut *self.staged.lock());
        let is_direct = bytes.len() as u64 > direct_above_bytes;
        if !is_direct {
            let header = FrameHeader::StreamBytes {
                stream: self.number,
                segment_id: 1,
                position: 0,
                base_sequence: 0,
            };
            journal::encode_frame(commit, &header, &bytes);
        }
        Taken {
            durable: bytes.len() as u64,
            waiters: self.name,
            width: 1,
            is_direct,
            frames: u32::from(!is_direct),
        }
    }

    fn sync_direct(self: &Arc<Self>, _: &Store) -> Result<(), WriteError> {
        self.log("is synced");
        match self.direct_fails.lock().pop() {
            None => Ok(()),
            Some(number) => Err(WriteError {
                verb: "sync",
                path: "a segment".into(),
                source: std::io::Error::from_raw_os_error(number),
            }),
        }
    }

    fn publish(&self, durable: u64) {
        self.published.store(durable, Ordering::SeqCst);
        self.log("is published");
    }

    fn answer(&self, waiters: &'static str) {
        self.log(&format!("answers {waiters}"));
    }

    fn refuse(&self, _: &Store, waiters: &'static str) {
        self.log(&format!("refuses {waiters}"));
    }

    fn refuse_staged(&self, _: &Store) {
        self.log("refuses the rest");
    }
}

#[derive(Default)]
struct Store {
    members: Vec<Arc<Model>>,
    journaled: AtomicU64,
    is_closing: AtomicBool,
}

impl Driver for Store {
    type Member = Model;

    fn members(&self) -> Vec<Arc<Model>> {
        self.members.clone()
    }

    fn checkpoint_table(&self) -> Vec<Position> {
        Vec::new()
    }

    fn ask_for_checkpoint(&self) {}

    fn note_journaled(&self, bytes: u64) {
        self.journaled.fetch_add(bytes, Ordering::SeqCst);
    }

    fn ask_for_file(&self) {}

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    fn ask_to_remove_outdated(&self) {}
}

struct Fixture {
    folder: tempfile::TempDir,
    faults: Arc<Faults>,
    poison: Arc<Poison>,
    journal: Journal<Store>,
    store: Store,
    log: Log,
}

impl Fixture {
    /// Members by name, and what each has staged.
    fn new(members: &[(&'static str, usize)]) -> Fixture {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk) as Arc<dyn Disk>);
        let volume = VolumeIds {
            cluster_id: "0192f0aa-0000-7000-8000-000000000001"
                .parse()
                .expect("an id"),
            node_id: "0192f0aa-0000-7000-8000-000000000002"
                .parse()
                .expect("an id"),
            volume_id: "0192f0aa-0000-7000-8000-000000000003"
                .parse()
                .expect("an id"),
        };
        disk.create_directory(&files::journal(folder.path()))
            .expect("created");
        let (mark, _) = Mark::open(&*disk, folder.path(), &volume, true).expect("a mark");
        let files = Files::new(Reuse::default(), 0, FILE_BYTES, 2);
        while files.count() < 2 {
            files.add(&*disk, folder.path()).expect("a journal file");
        }
        let poison = Arc::new(Poison::default());
        let parts = Parts {
            poison: poison.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            counters: Arc::new(Counters::default()),
            volume,
        };
        let log = Log::default();
        let models = (1..).zip(members).map(|(number, (name, bytes))| {
            Arc::new(Model {
                name,
                number: StreamNumber(number),
                staged: Mutex::new(vec![number as u8; *bytes]),
                published: AtomicU64::new(0),
                direct_fails: Mutex::new(match *name {
                    "broken" => vec![libc::EIO],
                    "lacks" => vec![libc::EMFILE; 3],
                    _ => Vec::new(),
                }),
                log: log.clone(),
            })
        });
        let store = Store {
            members: models.collect(),
            ..Store::default()
        };
        Fixture {
            folder,
            faults,
            poison,
            journal: Journal::new(parts, files, mark, 1),
            store,
            log,
        }
    }

    /// One round with every member, led by this thread.
    fn round(&self) -> Result<(), super::round::Ended> {
        let mut round = 0;
        for member in &self.store.members {
            round = self.journal.enlist_and_lead(member);
        }
        self.journal.wait_or_lead(&self.store, round)
    }

    fn wait_for_poison(&self) {
        let (sender, poisoned) = std::sync::mpsc::channel();
        // Nobody listens any more when the time is over.
        self.poison.on_set(Box::new(move |_| {
            let _ = sender.send(());
        }));
        poisoned
            .recv_timeout(Duration::from_secs(20))
            .expect("the journal is poisoned");
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }
}

#[test]
fn a_round_is_on_stable_storage_before_it_is_published_and_published_before_anybody_is_answered() {
    let fixture = Fixture::new(&[("a", 100), ("b", 200)]);
    let syncs = fixture.faults.syncs();
    assert_eq!(fixture.round(), Ok(()));
    assert_eq!(
        fixture.log(),
        [
            "a is published",
            "b is published",
            "a answers a",
            "b answers b"
        ]
    );
    // The commit, and the mark, since it is the first of its file.
    assert_eq!(fixture.faults.syncs() - syncs, 2);
    assert!(fixture.store.journaled.load(Ordering::SeqCst) > 300);

    let file = files::journal(fixture.folder.path()).join(aof2_format::names::file::journal(0));
    let bytes = std::fs::read(file).expect("the file");
    let header = JournalHeader::decode(&bytes[..4096]).expect("a header");
    let at = &bytes[FIRST_COMMIT_OFFSET as usize..];
    let commit = journal::decode_commit(at, header.salt, Seed::new(header.salt)).expect("a commit");
    let bodies: Vec<(u64, usize)> = commit
        .frames()
        .filter_map(|frame| match frame {
            Frame::StreamBytes { stream, bytes, .. } => Some((stream.0, bytes.len())),
            Frame::Manifest { .. }
            | Frame::CheckpointPositions { .. }
            | Frame::CheckpointTable { .. }
            | Frame::Unknown { .. } => None,
        })
        .collect();
    assert_eq!(bodies, [(1, 100), (2, 200)]);
}

#[test]
fn a_sync_that_fails_publishes_nobody_and_refuses_everyone() {
    let fixture = Fixture::new(&[("a", 100), ("b", 200)]);
    fixture
        .faults
        .add(Fault::of(Call::Sync).class(FileClass::Journal));
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.round());
        fixture.wait_for_poison();
        // No round comes any more; the thread of the journal says so.
        fixture.journal.run(&fixture.store);
        waiting.join().expect("no panic")
    });
    assert!(ended.is_err());
    let log = fixture.log();
    assert_eq!(log[..2], ["a refuses a", "b refuses b"]);
    assert!(
        !log.iter().any(|line| line.contains("published")),
        "{log:?}"
    );
    assert_eq!(log[2..], ["a refuses the rest", "b refuses the rest"]);
    assert!(fixture.poison.reason().contains("cannot sync"));
}

#[test]
fn what_is_too_large_for_the_journal_is_synced_by_its_member_before_anything_is_published() {
    let fixture = Fixture::new(&[("small", 100), ("large", 1 << 20)]);
    assert_eq!(fixture.round(), Ok(()));
    assert_eq!(
        fixture.log(),
        [
            "large is synced",
            "small is published",
            "large is published",
            "small answers small",
            "large answers large",
        ]
    );

    let fixture = Fixture::new(&[("small", 100), ("broken", 1 << 20)]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.round());
        fixture.wait_for_poison();
        fixture.journal.run(&fixture.store);
        assert!(waiting.join().expect("no panic").is_err());
    });
    let log = fixture.log();
    assert!(
        !log.iter().any(|line| line.contains("published")),
        "{log:?}"
    );
}

#[test]
fn a_round_waits_for_what_a_segment_lacks_and_not_while_the_store_closes() {
    let fixture = Fixture::new(&[("lacks", 1 << 20), ("small", 100)]);
    // Instead of a wait for a round that never comes.
    fixture.poison.on_set(Box::new(|why| panic!("{why}")));
    assert_eq!(fixture.round(), Ok(()));
    let log = fixture.log();
    assert_eq!(log[..4], ["lacks is synced"; 4]);
    assert_eq!(log[4..6], ["lacks is published", "small is published"]);

    let fixture = Fixture::new(&[("lacks", 1 << 20)]);
    fixture.store.is_closing.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.round());
        fixture.wait_for_poison();
        fixture.journal.run(&fixture.store);
        assert!(waiting.join().expect("no panic").is_err());
    });
    assert_eq!(fixture.log()[0], "lacks is synced");
}
