//! `kill -9` at each system call that changes the volume, and at each request to the bucket, of a trim and of what follows it: copies that leave
//! the node, objects that are queued and deleted. Each state that a kill can leave is started again and has to come to the same end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::node::node_at;
use super::retention::SetClock;
use super::trim::has_warm_file_below;
use super::whole::{Whole, objects, start, trim, whole};
use crate::io::fault::Faults;
use crate::io::sync::Mutex;
use crate::objects::memory::MemoryStore;
use crate::tier::testing::until;

/// Started at a time: they wait more than they work.
const STARTED: usize = 6;

/// What a kill leaves.
struct Left {
    directory: tempfile::TempDir,
    memory: Arc<MemoryStore>,
    /// The trim had been answered.
    is_answered: bool,
    /// It came at a request, and not at a system call.
    is_request: bool,
}

struct Killer {
    faults: Arc<Faults>,
    memory: Arc<MemoryStore>,
    directory: PathBuf,
    is_on: AtomicBool,
    answered: AtomicU64,
    left: Mutex<Vec<Left>>,
}

impl Killer {
    fn take(&self, is_request: bool) {
        if !self.is_on.load(Ordering::SeqCst) {
            return;
        }
        let directory = tempfile::tempdir().expect("a folder");
        // Before the copy: an answer that comes meanwhile is none of it.
        let is_answered = self.answered.load(Ordering::SeqCst) > 0;
        let memory = self.faults.at_one_moment(|| {
            copy_sparse(&self.directory, directory.path());
            Arc::new(self.memory.copy())
        });
        self.left.lock().push(Left {
            directory,
            memory,
            is_answered,
            is_request,
        });
    }
}

/// As the files are, with holes where they end in zeroes: a journal is mostly empty.
fn copy_sparse(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("created");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_sparse(&entry.path(), &target);
            continue;
        }
        let bytes = std::fs::read(entry.path()).expect("read");
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        std::fs::write(&target, &bytes[..used]).expect("written");
        let file = std::fs::File::options().write(true).open(&target);
        let sized = file.and_then(|file| file.set_len(bytes.len() as u64));
        sized.expect("as long as it was");
    }
}

/// Five records, of which four are in uploaded segments of their own; the start is moved behind two.
fn kills() -> (Vec<Left>, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(MemoryStore::new());
    let whole = start(&memory, folder.path());
    for payload in [&b"0"[..], b"1", b"2", b"3"] {
        whole.node.segment(payload);
    }
    whole.node.append(b"4");
    let keys = objects(&memory);
    until("the uploads are over", || {
        whole.node.tiers.coordinator().is_idle()
    });
    let killer = Arc::new(Killer {
        faults: whole.node.faults.clone(),
        memory: memory.clone(),
        directory: folder.path().to_owned(),
        is_on: AtomicBool::new(true),
        answered: AtomicU64::new(0),
        left: Mutex::default(),
    });
    let at_call = killer.clone();
    let hook = move || at_call.take(false);
    killer.faults.before_each_change(Some(Arc::new(hook)));
    let at_request = Arc::downgrade(&killer);
    memory.before_each_call(move |_| {
        if let Some(killer) = at_request.upgrade() {
            killer.take(true);
        }
    });
    trim(&whole, 2);
    killer.answered.store(1, Ordering::SeqCst);
    until("all of it is done", || is_done(&whole, &memory, &keys));
    killer.is_on.store(false, Ordering::SeqCst);
    killer.faults.before_each_change(None);
    whole.stop();
    let left = std::mem::take(&mut *killer.left.lock());
    (left, keys)
}

fn is_done(whole: &Whole, memory: &MemoryStore, keys: &[String]) -> bool {
    let there = memory.keys();
    let status = whole.status();
    let trimmed = whole.node.store.trimmed_on_node("a", 9);
    keys[..2].iter().all(|key| !there.contains(key))
        && status.waiting.is_empty()
        && trimmed.expect("a stream").is_empty()
        && whole.node.store.streams_with_trimmed_objects().is_empty()
}

fn comes_to_the_same_end(left: &Left, keys: &[String], number: usize) {
    let Left {
        directory,
        memory,
        is_answered,
        is_request,
    } = left;
    let told = format!("kill {number}, at a request: {is_request}, answered: {is_answered}");
    let clock = SetClock::new();
    let node = node_at(memory, directory.path(), clock.clone(), |config| {
        config.tier2.delete_grace = Duration::ZERO;
    });
    let whole = whole(node);
    let store = &whole.node.store;
    let info = store.describe("a").expect("a stream");
    let first = info.first_sequence;
    assert!(
        first == 2 || (first == 0 && !is_answered),
        "{told}: {first}"
    );
    assert_eq!(info.damage, None, "{told}");
    let payloads = [b"0", b"1", b"2", b"3", b"4"].map(|it| it.to_vec());
    let read = whole.node.read(first).expect("readable");
    assert_eq!(read, payloads[first as usize..], "{told}");
    trim(&whole, 2);
    until(&told, || {
        // Passes come every second.
        clock.pass(Duration::from_secs(1));
        is_done(&whole, memory, keys)
    });
    let there = memory.keys();
    assert!(keys[2..].iter().all(|key| there.contains(key)), "{told}");
    until("no file is left", || {
        !has_warm_file_below(directory.path(), 2)
    });
    assert_eq!(
        whole.node.read(2).expect("readable"),
        payloads[2..],
        "{told}"
    );
    assert_eq!(whole.status().failed.streams, 0, "{told}");
    whole.stop();
}

#[test]
fn a_kill_at_each_call_of_a_trim_and_a_deletion_comes_to_the_same_end() {
    let (left, keys) = kills();
    let of = |is_answered: bool, is_request: bool| {
        let such = |it: &&Left| (it.is_answered, it.is_request) == (is_answered, is_request);
        left.iter().filter(such).count()
    };
    let (before, calls, requests) = (of(false, false), of(true, false), of(true, true));
    println!(
        "kills before the answer: {before}, at calls behind it: {calls}, at requests: {requests}"
    );
    assert!(
        before >= 1 && calls >= 12 && requests >= 8,
        "{before} {calls} {requests}"
    );
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..STARTED {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(left) = left.get(number) else { return };
                    comes_to_the_same_end(left, &keys, number);
                }
            });
        }
    });
}
