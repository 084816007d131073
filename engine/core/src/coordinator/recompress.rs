//! A copy in Tier 1 compressed again, while everything else goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::memo::SegmentKey;
use super::observe::key_of;
use super::{Coordinator, Node, file_bytes};
use crate::jobs::recompress::{self, RecompressError, Watch};
use crate::port::SealedSegment;
use crate::tier1::{self, Again};

/// Nothing is begun with a segment for as long as this is held.
struct Taken {
    node: Arc<Node>,
    key: SegmentKey,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(down) = &self.node.down {
            down.state.lock().memo.taken.remove(&self.key);
        }
        self.node.bell.ring();
    }
}

impl Coordinator {
    /// Blocks for as long as zstd takes. The copy may be read meanwhile, and may be evicted until its file is replaced. One that waits for its
    /// upload is left alone while Tier 2 takes uploads, and given up for a drain: a high level takes a minute for a segment.
    pub(crate) fn recompress(
        &self,
        segment: &SealedSegment,
        path: &Path,
        level: i32,
        watch: Watch<'_>,
    ) -> Result<Again, RecompressError> {
        let Some(down) = &self.node.down else {
            return Err(RecompressError::Gone);
        };
        let key = key_of(segment);
        let is_pending = !segment.moves.was_uploaded;
        let hurries = down.hurries.load(Ordering::Acquire);
        {
            let tier2_answers = down.claims.tier2().health().reason.is_none();
            let mut state = down.state.lock();
            if state.memo.is_busy(&key) || (is_pending && tier2_answers) {
                return Ok(Again::Busy);
            }
            state.memo.taken.insert(key.clone());
        }
        let taken = Taken {
            node: self.node.clone(),
            key,
        };
        let port = &*self.node.port;
        // What a start removes there is what an earlier process was writing, not what is written from here on.
        drop(down.dropping(port));
        let disk = &*port.environment().disk;
        let counted = &down.counters.tier1_bytes;
        let gives_way = || is_pending && down.hurries.load(Ordering::Acquire) != hurries;
        let ends = || (watch.is_stopping)() || gives_way();
        let ending = Watch {
            is_stopping: &ends,
            ..watch
        };
        let made = recompress::prepare(disk, path, segment, level, ending);
        let done = made.and_then(|made| {
            let _one_at_a_time = down.dropping(port);
            let before = file_bytes(disk, path);
            let _closed = down.closed(path);
            let finished = tier1::finish(port, segment, made);
            counted.fetch_add(file_bytes(disk, path), Ordering::Relaxed);
            counted.fetch_sub(before, Ordering::Relaxed);
            finished
        });
        // An upload is of the file that is there now.
        let known = match &done {
            Ok(Again::Replaced { before: _, after }) => Some(*after),
            Ok(Again::Same | Again::Busy) | Err(_) => None,
        };
        {
            let mut state = down.state.lock();
            match known {
                Some(facts) => state.verified.insert(taken.key.clone(), facts),
                None => state.verified.remove(&taken.key),
            };
        }
        match done {
            Err(RecompressError::Stopping) if !(watch.is_stopping)() => Ok(Again::Busy),
            other => other,
        }
    }
}
