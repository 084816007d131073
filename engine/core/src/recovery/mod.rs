//! From what is on the disk to streams that serve: manifests, then segments, then the journal beyond them.
//!
//! 1. Manifest frames of the journal are written into their chunks, and every stream's manifest is folded.
//! 2. Frames of records are written into the segments that are not sealed. Bytes at an offset never change, so doing it again
//!    after another crash changes nothing.
//! 3. Each such segment is scanned as far as its batches follow one another. What lies behind is torn, unless something proves
//!    that it was durable; then it is damage, and nothing of it is touched.
//! 4. Everything is synced before anything is served: from here on the journal is not needed any more.

pub(crate) mod stream;
pub(crate) mod volume;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aof2_format::stream_header::StreamHeader;
use aof2_format::{BLOCK_BYTES, StreamNumber};

use self::stream::{Found, RecoveredStream};
use self::volume::at;
use crate::error::OpenError;
use crate::io::{Clock, Disk};
use crate::journal::replay::{self, Image, Reuse};
use crate::metrics::Replay;
use crate::segment::files;

pub(crate) struct Recovered {
    pub streams: Vec<RecoveredStream>,
    pub journal: Reuse,
    pub last_file_number: u64,
    pub next_commit: u64,
    pub next_stream_number: u64,
    pub replay: Replay,
}

pub(crate) struct Context<'a> {
    pub disk: &'a dyn Disk,
    pub clock: &'a dyn Clock,
    pub root: &'a Path,
    pub journal_file_bytes: u64,
    pub journal_files: usize,
    pub on_progress: Option<Box<dyn Fn(u64, u64) + Send>>,
}

pub(crate) fn recover(context: &Context<'_>) -> Result<Recovered, OpenError> {
    let Context { disk, root, .. } = *context;
    let started = context.clock.monotonic();
    for directory in [files::journal(root), files::streams(root)] {
        disk.create_directory(&directory)
            .map_err(at("create", &directory))?;
    }
    disk.sync_directory(root).map_err(at("sync", root))?;

    let journal_directory = files::journal(root);
    let in_journal = |verb: &'static str| at(verb, &journal_directory);
    let found_files = replay::find(disk, root).map_err(in_journal("list"))?;
    let total: u64 = found_files.iter().map(|file| file.length).sum();
    let mut done = 0;
    let mut progress = |bytes: u64| {
        done += bytes;
        if let Some(told) = &context.on_progress {
            told(done, total);
        }
    };
    let image = replay::read(&found_files, &mut progress).map_err(in_journal("read"))?;
    for damage in &image.damage {
        tracing::error!(
            damage,
            "the journal is damaged; streams that miss bytes will say so"
        );
    }

    let mut streams = find_streams(disk, root)?;
    for stream in streams.values_mut() {
        stream.replay_manifest(disk, &image)?;
        stream.open_segments(disk, &image)?;
    }
    let journal_bytes = apply_frames(&image, &mut streams).map_err(in_journal("replay"))?;
    let mut replay = Replay {
        journal_bytes,
        ..Replay::default()
    };
    let mut recovered = Vec::with_capacity(streams.len());
    let mut next_stream_number = image
        .manifests
        .iter()
        .map(|frame| frame.stream.0 + 1)
        .max()
        .unwrap_or(1);
    for (number, stream) in streams {
        next_stream_number = next_stream_number.max(number.0 + 1);
        recovered.push(stream.recover(disk, &mut replay)?);
    }
    sync_all(&recovered)?;
    let journal = replay::reuse(
        disk,
        root,
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
    Ok(Recovered {
        streams: recovered,
        journal,
        last_file_number: image.last_file_number,
        next_commit: image.next_commit,
        next_stream_number,
        replay,
    })
}

/// Streams that have a header. A directory without one is a creation that was cut off: nothing in it was acknowledged, and the
/// next first append finishes it.
fn find_streams(disk: &dyn Disk, root: &Path) -> Result<BTreeMap<StreamNumber, Found>, OpenError> {
    let directory = files::streams(root);
    let mut streams = BTreeMap::new();
    for entry in disk.list(&directory).map_err(at("list", &directory))? {
        if !entry.is_directory {
            continue;
        }
        let stream_directory = directory.join(&entry.name);
        let path = files::stream_header(&stream_directory);
        if !disk.exists(&path).map_err(at("look for", &path))? {
            continue;
        }
        let bytes =
            crate::io::read_file(disk, &path, BLOCK_BYTES as u64).map_err(at("read", &path))?;
        let header = StreamHeader::decode(&bytes).map_err(|damage| match damage {
            aof2_format::Damage::Version {
                what: _,
                found,
                supported,
            } => OpenError::NewerFormat {
                path: path.clone(),
                found,
                known: supported,
            },
            other => OpenError::Damaged {
                path: path.clone(),
                message: other.to_string(),
            },
        })?;
        if header.stream.as_str() != entry.name {
            let message = format!("it is the header of stream {}", header.stream);
            return Err(OpenError::Damaged { path, message });
        }
        let number = header.stream_number;
        if streams
            .insert(number, Found::new(header, stream_directory))
            .is_some()
        {
            let message = format!("stream number {number} is used twice");
            return Err(OpenError::Damaged { path, message });
        }
    }
    Ok(streams)
}

/// Writes the journal's frames of records to where they belong. Answers how many bytes.
fn apply_frames(image: &Image, streams: &mut BTreeMap<StreamNumber, Found>) -> io::Result<u64> {
    let mut applied = 0;
    for (file, refs) in &image.frames {
        let mut bytes = Vec::new();
        for frame in refs {
            let Some(stream) = streams.get_mut(&frame.stream) else {
                continue;
            };
            let Some(segment) = stream.unsealed.get_mut(&frame.segment_id) else {
                stream.note_absent(frame.segment_id, frame.position + frame.length as u64);
                continue;
            };
            if bytes.is_empty() {
                bytes = vec![0; file.len()? as usize];
                let read = file.read_at(&mut bytes, 0)?;
                bytes.truncate(read);
            }
            let Some(frame_bytes) = bytes.get(frame.at..frame.at + frame.length) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            segment.apply(frame.position, frame_bytes, stream.identity.seed)?;
            applied += frame.length as u64;
        }
    }
    Ok(applied)
}

/// Recovered bytes are acknowledged again from here on, and the journal that holds them is written over: they have to be on
/// stable storage first.
fn sync_all(streams: &[RecoveredStream]) -> Result<(), OpenError> {
    let files: Vec<&Arc<dyn crate::io::DiskFile>> =
        streams.iter().flat_map(|stream| &stream.touched).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let share = || -> Result<(), OpenError> {
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(file) = files.get(index) else {
                return Ok(());
            };
            file.sync_all().map_err(at("sync", file.path()))?;
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..3.min(files.len()))
            .map(|_| scope.spawn(share))
            .collect();
        let mut result = share();
        for other in others {
            match other.join() {
                Ok(theirs) => result = result.and(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    })
}
