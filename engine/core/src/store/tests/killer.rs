//! Takes what a `kill -9` would leave before each system call that changes the volume and before each request to the bucket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::node::Node;
use crate::io::fault::Faults;
use crate::io::sync::Mutex;
use crate::objects::memory::MemoryStore;

/// Started at a time: they wait more than they work.
const STARTED: usize = 6;

/// What a kill leaves.
pub(super) struct Left {
    pub directory: tempfile::TempDir,
    pub memory: Arc<MemoryStore>,
    /// Steps that had been answered.
    pub answered: u64,
    /// It came at a request, and not at a system call.
    pub is_request: bool,
}

pub(super) struct Killer {
    faults: Arc<Faults>,
    memory: Arc<MemoryStore>,
    directory: PathBuf,
    is_on: AtomicBool,
    answered: AtomicU64,
    left: Mutex<Vec<Left>>,
}

impl Killer {
    /// From now on.
    pub fn begin(node: &Node, memory: &Arc<MemoryStore>, directory: &Path) -> Arc<Killer> {
        let killer = Arc::new(Killer {
            faults: node.faults.clone(),
            memory: memory.clone(),
            directory: directory.to_owned(),
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
        killer
    }

    /// Another step was answered.
    pub fn answered(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// What it took, once nothing runs any more.
    pub fn end(&self) -> Vec<Left> {
        self.is_on.store(false, Ordering::SeqCst);
        self.faults.before_each_change(None);
        std::mem::take(&mut *self.left.lock())
    }

    fn take(&self, is_request: bool) {
        if !self.is_on.load(Ordering::SeqCst) {
            return;
        }
        let directory = tempfile::tempdir().expect("a folder");
        // Before the copy: an answer that comes meanwhile is none of it.
        let answered = self.answered.load(Ordering::SeqCst);
        let memory = self.faults.at_one_moment(|| {
            copy_sparse(&self.directory, directory.path());
            Arc::new(self.memory.copy())
        });
        self.left.lock().push(Left {
            directory,
            memory,
            answered,
            is_request,
        });
    }
}

/// Several at a time.
pub(super) fn each(left: &[Left], check: impl Fn(&Left, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..STARTED {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(left) = left.get(number) else { return };
                    check(left, number);
                }
            });
        }
    });
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
