//! Warm files that stay open between two readers, each with its verified index: a point read of Tier 1 is one call then. They hold their
//! blocks on the volume, so whoever removes or replaces a file says so before, and an idle one is closed after a short time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_format::warm::WarmIndex;

use super::cache::Content;
use crate::io::sync::Mutex;
use crate::jobs::warm::FileSource;

/// Descriptors at most: few beside the thousand that a process has by default.
const MOST: usize = 64;
/// An open one that nobody reads is closed after this.
const IDLE: Duration = Duration::from_secs(10);

/// An open warm file.
#[derive(Clone)]
pub(super) struct Open {
    pub source: Arc<FileSource>,
    /// Of this file.
    pub index: Arc<WarmIndex>,
    pub path: Arc<Path>,
}

#[derive(Default)]
pub struct OpenFiles(Mutex<State>);

#[derive(Default)]
struct State {
    kept: Vec<Kept>,
    /// How often files were removed or replaced, begun and done.
    changes: u64,
    /// Being removed or replaced now.
    closing: Vec<PathBuf>,
}

struct Kept {
    content: Content,
    open: Open,
    used: Instant,
}

/// What was opened before a file was removed or replaced is not kept after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u64);

/// For as long as this is held, the file at its path is not kept open.
#[must_use]
pub struct Closing<'a> {
    files: &'a OpenFiles,
    path: PathBuf,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.files.0.lock();
        state.changes += 1;
        let at = state.closing.iter().position(|path| *path == self.path);
        if let Some(at) = at {
            state.closing.swap_remove(at);
        }
    }
}

impl OpenFiles {
    /// Before a file is opened.
    pub fn seen(&self) -> Seen {
        Seen(self.0.lock().changes)
    }

    pub fn get(&self, content: &Content, now: Instant) -> Option<Open> {
        let mut state = self.0.lock();
        let kept = state.kept.iter_mut().find(|it| it.content == *content)?;
        kept.used = now;
        Some(kept.open.clone())
    }

    /// Of a file that was opened after `seen`.
    pub fn keep(&self, content: &Content, open: Open, seen: Seen, now: Instant) {
        let mut state = self.0.lock();
        let is_closing = state.closing.iter().any(|path| **path == *open.path);
        let is_there = state.kept.iter().any(|it| it.content == *content);
        if is_closing || is_there || seen != Seen(state.changes) {
            return;
        }
        let oldest = state.kept.iter().enumerate().min_by_key(|(_, it)| it.used);
        let oldest = oldest.map(|(at, _)| at);
        let closed = match oldest {
            Some(at) if state.kept.len() >= MOST => Some(state.kept.swap_remove(at)),
            Some(_) | None => None,
        };
        state.kept.push(Kept {
            content: content.clone(),
            open,
            used: now,
        });
        drop(state);
        drop(closed);
    }

    /// What lies there is not what it should be.
    pub fn forget(&self, content: &Content) {
        let mut state = self.0.lock();
        state.kept.retain(|it| it.content != *content);
    }

    /// Before a file is removed or replaced, by whoever does that.
    pub fn close(&self, path: &Path) -> Closing<'_> {
        let mut state = self.0.lock();
        state.changes += 1;
        state.kept.retain(|it| *it.open.path != *path);
        state.closing.push(path.to_owned());
        Closing {
            files: self,
            path: path.to_owned(),
        }
    }

    /// Closes those that nobody has read for a while.
    pub fn close_idle(&self, now: Instant) {
        let is_used = |it: &Kept| now.saturating_duration_since(it.used) < IDLE;
        self.0.lock().kept.retain(is_used);
    }

    pub fn close_all(&self) {
        self.0.lock().kept.clear();
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.lock().kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::uploaded;
    use super::*;
    use crate::io::{Disk, SystemDisk};
    use crate::jobs::compress::warm_path;
    use crate::jobs::warm;
    use crate::port::Port;

    fn content(segment_id: u64) -> Content {
        Content {
            stream: "a".into(),
            epoch: 1,
            segment_id,
            base_sequence: 0,
            crc64: segment_id,
        }
    }

    fn open(path: &Path) -> Open {
        let file = SystemDisk.open_read(path).expect("opened");
        let source = FileSource::new(file).expect("there");
        let index = warm::read_index(&source, "a file").expect("an index");
        Open {
            source: Arc::new(source),
            index: Arc::new(index),
            path: path.into(),
        }
    }

    fn a_file(folder: &Path) -> PathBuf {
        let (port, _) = uploaded(folder);
        let segment = port.segment("a", 1).0;
        warm_path(&port.tier1_directory(), &segment).expect("a path")
    }

    #[test]
    fn files_that_stay_open_are_bounded_and_idle_ones_are_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = a_file(folder.path());
        let (files, start) = (OpenFiles::default(), Instant::now());
        for id in 0..3 * MOST as u64 {
            let now = start + Duration::from_millis(id);
            files.keep(&content(id), open(&path), files.seen(), now);
            // Somebody reads this one each time.
            files.get(&content(0), now);
        }
        assert_eq!(files.count(), MOST);
        assert!(files.get(&content(0), start).is_some());
        assert!(files.get(&content(1), start).is_none());
        let newest = content(3 * MOST as u64 - 1);
        let later = start + IDLE;
        assert!(files.get(&newest, later).is_some());
        files.close_idle(later + IDLE / 2);
        assert_eq!(files.count(), 1);
        files.forget(&newest);
        assert_eq!(files.count(), 0);
    }

    #[test]
    fn a_file_that_goes_is_closed_before_and_not_kept_by_whoever_opened_it_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = a_file(folder.path());
        let (files, now) = (OpenFiles::default(), Instant::now());
        let keep = |seen| {
            files.keep(&content(1), open(&path), seen, now);
            files.count()
        };
        let before = files.seen();
        assert_eq!(keep(before), 1);
        let closing = files.close(&path);
        assert_eq!(files.count(), 0);
        assert_eq!(keep(files.seen()), 0, "it is about to go");
        let meanwhile = files.seen();
        drop(closing);
        assert_eq!(keep(before), 0, "it may be the one that went");
        assert_eq!(keep(meanwhile), 0);
        assert_eq!(keep(files.seen()), 1);
        drop(files.close(&folder.path().join("another.aofz")));
        assert_eq!(files.count(), 1);
    }
}
