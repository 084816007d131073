//! Lets segments and manifest chunks catch up with the journal, so that its files can be used again.
//!
//! Order matters: the current journal file is read before the list of dirty streams is taken, and a stream joins the list
//! before its bytes can reach the journal. So whatever lies in a file before the cut is settled before that file is freed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::io::sync::{Condvar, Mutex};
use aof2_format::StreamNumber;
use aof2_format::journal::{FileKind, Position};

use crate::io::WriteError;
use crate::io::{in_parallel, is_rejection};
use crate::metrics::add;
use crate::store::pipeline::Pipeline;
use crate::stream::Stream;

/// How long buffered records wait for the disk at most.
const TICK: Duration = Duration::from_secs(1);
/// Threads that sync; more where many files are dirty.
const THREADS: usize = 4;
const MANY_THREADS: usize = 8;
const MANY_STREAMS: usize = 500;
/// How long a checkpoint waits for paced write-out before it syncs.
const PACE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Checkpoint {
    dirty: Mutex<Vec<Arc<Stream>>>,
    dirty_manifests: Mutex<Vec<Arc<Stream>>>,
    /// Synced positions of files that recovery has to look at.
    table: Mutex<BTreeMap<(StreamNumber, FileKind, u64), u64>>,
    journal_bytes: AtomicU64,
    asked: Mutex<Asked>,
    changed: Condvar,
    running: Mutex<()>,
}

#[derive(Default)]
struct Asked {
    now: bool,
    /// The last one was rejected.
    next_tick: bool,
    stop: bool,
}

impl Checkpoint {
    /// The caller holds the stream's lock and has set its `is_dirty`.
    pub fn mark_dirty(&self, stream: &Arc<Stream>) {
        self.dirty.lock().push(stream.clone());
    }

    pub fn mark_manifest_dirty(&self, stream: &Arc<Stream>) {
        self.dirty_manifests.lock().push(stream.clone());
    }

    pub fn note_journaled(&self, bytes: u64, limit_bytes: u64) {
        let before = self.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < limit_bytes && before + bytes >= limit_bytes {
            self.ask();
        }
    }

    /// Wakes the checkpoint thread.
    pub fn ask(&self) {
        self.asked.lock().now = true;
        self.changed.notify_all();
    }

    fn ask_later(&self) {
        self.asked.lock().next_tick = true;
    }

    pub fn stop(&self) {
        self.asked.lock().stop = true;
        self.changed.notify_all();
    }

    pub fn table(&self) -> Vec<Position> {
        self.table
            .lock()
            .iter()
            .map(|((stream, file, file_id), synced_bytes)| Position {
                stream: *stream,
                file: *file,
                file_id: *file_id,
                synced_bytes: *synced_bytes,
            })
            .collect()
    }

    pub fn note_synced(&self, position: Position) {
        let Position {
            stream,
            file,
            file_id,
            synced_bytes,
        } = position;
        let mut table = self.table.lock();
        // A damaged file does not reach as far as it was synced once, and that must not be forgotten.
        let known = table.entry((stream, file, file_id)).or_default();
        *known = (*known).max(synced_bytes);
        // Every snapshot closes a chunk. What lies behind the chunk before this one is vouched for by the chain alone.
        if file == FileKind::ManifestChunk {
            let old = (stream, file, 0)..(stream, file, file_id.saturating_sub(1));
            let old: Vec<_> = table.range(old).map(|(key, _)| *key).collect();
            for key in old {
                table.remove(&key);
            }
        }
    }

    /// A sealed segment is vouched for by the manifest.
    pub fn forget_segment(&self, stream: StreamNumber, segment_id: u64) {
        self.table
            .lock()
            .remove(&(stream, FileKind::Segment, segment_id));
    }

    /// The checkpoint thread.
    pub fn run(&self, pipeline: &Pipeline) {
        let mut last = pipeline.common.env.clock.monotonic();
        let mut is_told = false;
        loop {
            let now = {
                let mut asked = self.asked.lock();
                if !asked.now && !asked.stop {
                    let _ = self.changed.wait_for(&mut asked, TICK);
                }
                if asked.stop {
                    return;
                }
                std::mem::take(&mut asked.now) | std::mem::take(&mut asked.next_tick)
            };
            if pipeline.common.poison.is_set() {
                return;
            }
            let now_is = pipeline.common.env.clock.monotonic();
            let is_due =
                now_is.duration_since(last) >= pipeline.common.config.load().checkpoint.interval;
            let result = if now || is_due {
                last = now_is;
                self.run_once(pipeline)
            } else {
                self.settle_buffered(pipeline)
            };
            match result {
                Ok(()) => is_told = false,
                // Everything is in the journal, and goes on waiting there: the next tick tries again.
                Err(error) if is_rejection(&error.source) => {
                    if !is_told {
                        is_told = true;
                        tracing::warn!(path = %error.path.display(), error = %error.source, "checkpoint not done, retrying");
                    }
                    self.ask_later();
                }
                Err(error) => {
                    pipeline.common.poison.set_by(&error);
                    return;
                }
            }
            pipeline.work.retry_seals();
            pipeline.journal.write_mark();
            pipeline.common.env.disk.rest();
            crate::stream::roll_old_segments(pipeline, &pipeline.streams.existing());
        }
    }

    /// One checkpoint, from cut to recycled files. Where it fails, no file is recycled, and what was dirty still is.
    pub fn run_once(&self, pipeline: &Pipeline) -> Result<(), WriteError> {
        let _one_at_a_time = self.running.lock();
        let cut = pipeline.journal.files.current_number();
        self.journal_bytes.store(0, Ordering::Relaxed);
        let streams = std::mem::take(&mut *self.dirty.lock());
        for stream in &streams {
            stream.staged.lock().is_dirty = false;
        }
        let manifests = std::mem::take(&mut *self.dirty_manifests.lock());
        if streams.is_empty() && manifests.is_empty() && !pipeline.journal.files.has_closed() {
            return Ok(());
        }
        let done = self.settle_all(pipeline, &streams, &manifests);
        if done.is_err() {
            for stream in streams {
                let mut staged = stream.staged.lock();
                if !std::mem::replace(&mut staged.is_dirty, true) {
                    self.mark_dirty(&stream);
                }
            }
            // All of them, each once: one that somebody else is settling just now is dirty again if that fails.
            let mut list = self.dirty_manifests.lock();
            let mut known: BTreeSet<u64> = list.iter().map(|it| it.identity.number.0).collect();
            list.extend(
                manifests
                    .iter()
                    .filter(|it| known.insert(it.identity.number.0))
                    .cloned(),
            );
        }
        done?;
        if pipeline.common.poison.is_set() {
            return Ok(());
        }
        // Freed before the table is durable: the files that it is about are synced already, and the journal may be waiting.
        pipeline.journal.files.recycle(cut);
        pipeline.journal.enlist_positions(self.table());
        add(&pipeline.common.counters.checkpoints, 1);
        // Where no snapshot closes chunks, and writes the base behind its marker.
        if !pipeline.common.has_tier2 {
            pipeline.bases.ask(pipeline, &manifests);
        }
        Ok(())
    }

    fn settle_all(
        &self,
        pipeline: &Pipeline,
        streams: &[Arc<Stream>],
        manifests: &[Arc<Stream>],
    ) -> Result<(), WriteError> {
        for stream in streams {
            stream.write_out(pipeline, true)?;
        }
        pipeline
            .common
            .pacer
            .drain(pipeline.common.env.clock.monotonic() + PACE_PATIENCE);
        in_parallel(threads_for(manifests.len()), manifests.len(), |index| {
            let stream = &manifests[index];
            for (chunk, synced_bytes) in stream.manifest.settle()? {
                self.note_synced(Position {
                    stream: stream.identity.number,
                    file: FileKind::ManifestChunk,
                    file_id: chunk,
                    synced_bytes,
                });
            }
            Ok(())
        })?;
        self.settle_streams(pipeline, streams)
    }

    fn settle_streams(
        &self,
        pipeline: &Pipeline,
        streams: &[Arc<Stream>],
    ) -> Result<(), WriteError> {
        in_parallel(threads_for(streams.len()), streams.len(), |index| {
            let stream = &streams[index];
            let durable = stream.settle(pipeline)?;
            for segment in stream.open_segments() {
                let position = Position {
                    stream: stream.identity.number,
                    file: FileKind::Segment,
                    file_id: segment.id,
                    synced_bytes: segment.synced(),
                };
                self.note_synced(position);
            }
            if let Some(count) = durable
                && let Some(_publishing) = pipeline.common.poison.publish()
            {
                stream.publish_durable(count);
            }
            Ok(())
        })
    }

    /// Streams with records that no round is going to take.
    fn settle_buffered(&self, pipeline: &Pipeline) -> Result<(), WriteError> {
        let waiting: Vec<Arc<Stream>> = {
            let dirty = self.dirty.lock().clone();
            dirty
                .into_iter()
                .filter(|stream| stream.has_buffered())
                .collect()
        };
        let _one_at_a_time = self.running.lock();
        self.settle_streams(pipeline, &waiting)
    }
}

/// How many threads sync that many streams.
fn threads_for(count: usize) -> usize {
    if count > MANY_STREAMS {
        MANY_THREADS
    } else {
        THREADS
    }
}
