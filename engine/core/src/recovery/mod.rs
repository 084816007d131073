//! From what is on the disk to streams that serve: manifests, then segments, then the journal beyond them.
//!
//! 1. The volume is synced as it was found. Then manifest frames of the journal are written into their chunks, and every stream's manifest
//!    is folded.
//! 2. Frames of records are written into the segments that are not sealed. Bytes at an offset never change, so doing it again
//!    after another crash changes nothing.
//! 3. Each such segment is scanned as far as its batches follow one another. What lies behind is torn, unless something proves
//!    that it was durable; then it is damage, and nothing of it is touched.
//! 4. Everything that this start wrote is synced before anything is served: from here on the journal is not needed any more.

mod cut;
mod manifest;
mod scan;
mod sealed;
pub(crate) mod stream;
mod streams;
pub(crate) mod volume;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aof2_format::StreamNumber;
use aof2_format::names::file;

use self::stream::{Found, JournalFacts, RecoveredStream};
use self::volume::at;
use crate::error::OpenError;
use crate::io::{Clock, Disk, each_in_parallel, in_parallel};
use crate::journal::mark::{Mark, Synced};
use crate::journal::replay::{self, Image, Reuse};
use crate::metrics::Replay;
use crate::segment::files;
use crate::stream::catalog::{self, Catalog};
use crate::volume::Volume;

/// Streams that are looked at at a time: a start waits for the disk most of its time. Each may hold some of the largest batches in memory.
const THREADS: usize = 4;

pub(crate) struct Recovered {
    pub streams: Vec<RecoveredStream>,
    pub catalog: Catalog,
    pub journal: Reuse,
    pub mark: Mark,
    pub last_file_number: u64,
    pub next_commit: u64,
    pub next_stream_number: u64,
    pub replay: Replay,
}

pub(crate) struct Context<'a> {
    pub disk: &'a dyn Disk,
    pub clock: &'a dyn Clock,
    pub root: &'a Path,
    pub volume: &'a Volume,
    pub journal_file_bytes: u64,
    pub journal_files: usize,
    pub on_progress: Option<Box<dyn Fn(u64, u64) + Send>>,
}

pub(crate) fn recover(context: &Context<'_>) -> Result<Recovered, OpenError> {
    let Context {
        disk, root, volume, ..
    } = *context;
    let started = context.clock.monotonic();
    for directory in [files::journal(root), files::streams(root)] {
        disk.create_directory(&directory)
            .map_err(at("create", &directory))?;
    }
    disk.sync_directory(root).map_err(at("sync", root))?;
    // What is there may be in the cache of the machine alone, names of files among it: a process was killed, or somebody copied the files
    // to this volume. It has to be durable before anything durable is built on it.
    disk.sync_volume(root)
        .map_err(at("sync the volume of", root))?;
    remove_marker(disk, root)?;
    remove_unfinished(disk, root)?;

    let journal_directory = files::journal(root);
    let in_journal = |verb: &'static str| at(verb, &journal_directory);
    let holds_nothing = holds_nothing(disk, root)?;
    let (mark, found_mark) = Mark::open(disk, root, &volume.ids, holds_nothing)
        .map_err(at("open the journal mark in", root))?;
    let known = catalog::read(disk, root, volume.ids.volume_id)
        .map_err(at("read the stream catalog in", root))?;
    let streams::FoundStreams {
        streams,
        catalog,
        next_number,
    } = streams::find(disk, root, volume, &known)?;
    let found_files = replay::find(disk, root, &volume.ids).map_err(in_journal("list"))?;
    let journal_files = found_files.len();
    let total: u64 = found_files.iter().map(|file| file.length).sum();
    let mut done = 0;
    let mut progress = |bytes: u64| {
        done += bytes;
        if let Some(told) = &context.on_progress {
            told(done, total);
        }
    };
    let settled_before = mark.settled_before();
    let has_streams = !streams.is_empty();
    let image = replay::read(
        &found_files,
        found_mark,
        settled_before,
        has_streams,
        &mut progress,
    )
    .map_err(in_journal("read"))?;
    for damage in &image.damage {
        tracing::error!(
            damage,
            "journal damaged; `aof2-admin streams` lists the affected streams"
        );
    }

    let opened = each_in_parallel(THREADS, streams, |(number, mut stream)| {
        stream.replay_manifest(disk, &image)?;
        stream.open_segments(disk, &image)?;
        Ok::<_, OpenError>((number, stream))
    })?;
    let mut streams: BTreeMap<StreamNumber, Found> = opened.into_iter().collect();
    let journal_bytes = apply_frames(&image, &mut streams).map_err(in_journal("replay"))?;
    let newest = image.manifests.last_key_value();
    let mut next_stream_number = newest
        .map_or(1, |(number, _)| number.0 + 1)
        .max(next_number);
    // A stream whose directory and entry are gone leaves its number here.
    for (number, _, _) in image.positions.keys() {
        next_stream_number = next_stream_number.max(number.0 + 1);
    }
    let journal = JournalFacts {
        lost: image.lost.as_deref(),
        // Of files that are gone, too.
        bytes: total.max(context.journal_file_bytes * context.journal_files as u64),
        next_commit: image.next_commit,
    };
    let recovered = each_in_parallel(THREADS, streams.into_values(), |stream| {
        let mut replay = Replay::default();
        let recovered = stream.recover(disk, &journal, &mut replay)?;
        Ok::<_, OpenError>((recovered, replay))
    })?;
    let (recovered, replays): (Vec<RecoveredStream>, Vec<Replay>) = recovered.into_iter().unzip();
    let mut replay = replays.iter().fold(Replay::default(), Replay::plus);
    replay.journal_bytes = journal_bytes;
    sync_all(&recovered)?;
    // What is recovered is acknowledged again from here on.
    mark.note(Synced {
        commit: image.next_commit - 1,
        file_number: image.last_file_number,
    });
    let journal = replay::reuse(
        disk,
        root,
        &image,
        found_files,
        context.journal_file_bytes,
        context.journal_files,
    )
    .map_err(in_journal("clear"))?;
    replay.milliseconds = context
        .clock
        .monotonic()
        .duration_since(started)
        .as_millis() as u64;
    if !holds_nothing {
        tracing::info!(
            directory = %root.display(),
            streams = recovered.len(),
            journal_files,
            journal_file_bytes = total,
            replayed_bytes = replay.journal_bytes,
            scanned_bytes = replay.segment_bytes,
            records = replay.records,
            torn_bytes = replay.torn_bytes,
            milliseconds = replay.milliseconds,
            "recovered from the journal and the segments of this volume"
        );
    }
    Ok(Recovered {
        streams: recovered,
        catalog,
        journal,
        mark,
        last_file_number: image.last_file_number,
        next_commit: image.next_commit,
        next_stream_number,
        replay,
    })
}

/// An earlier form of 0.1.0 left it while a start had not synced yet. It means nothing any more.
const OLD_MARKER: &str = "starting";

fn remove_marker(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    let path = root.join(OLD_MARKER);
    match disk.unlink(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Files of the node itself that a process did not finish: whoever writes one next would, and perhaps nobody does.
fn remove_unfinished(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    for entry in disk.list(root).map_err(at("list", root))? {
        if entry.name.ends_with(file::TMP_SUFFIX) {
            let path = root.join(&entry.name);
            disk.unlink(&path).map_err(at("remove", &path))?;
        }
    }
    Ok(())
}

/// Neither a journal file nor anything of a stream. The mark is made before either.
fn holds_nothing(disk: &dyn Disk, root: &Path) -> Result<bool, OpenError> {
    for directory in [files::journal(root), files::streams(root)] {
        let entries = disk.list(&directory).map_err(at("list", &directory))?;
        if !entries.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the journal's frames of records to where they belong. Answers how many bytes.
fn apply_frames(image: &Image, streams: &mut BTreeMap<StreamNumber, Found>) -> io::Result<u64> {
    let mut applied = 0;
    image.for_each_frame(|frame, bytes| {
        let Some(stream) = streams.get_mut(&frame.stream) else {
            return Ok(());
        };
        let reach = frame.position + frame.length as u64;
        let Some(segment) = stream.unsealed.get_mut(&frame.segment_id) else {
            stream.note_absent(frame.segment_id, reach);
            return Ok(());
        };
        segment.must_reach = segment.must_reach.max(reach);
        if !frame.is_proven && !stream.identity.is_own(frame.position, bytes) {
            return Ok(());
        }
        segment.apply(frame.position, bytes, stream.identity.seed)?;
        applied += frame.length as u64;
        Ok(())
    })?;
    Ok(applied)
}

/// Recovered bytes are acknowledged again from here on, and the journal that holds them is written over: they have to be on
/// stable storage first.
fn sync_all(streams: &[RecoveredStream]) -> Result<(), OpenError> {
    let files: Vec<&Arc<dyn crate::io::DiskFile>> =
        streams.iter().flat_map(|stream| &stream.touched).collect();
    in_parallel(THREADS, files.len(), |index| {
        let file = files[index];
        file.sync_all().map_err(at("sync", file.path()))
    })
}
