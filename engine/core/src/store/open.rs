//! Opening a store: lock, identity, recovery, threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::io::ThreadHandle;
use crate::io::sync::{Mutex, RwLock};
use aof2_format::journal::{FileKind, Position};
use aof2_format::segment::DATA_OFFSET;
use arc_swap::{ArcSwap, ArcSwapOption};

use super::OpenOptions;
use super::admission::Admission;
use super::bases::BaseWriter;
use super::opener::Opener;
use super::pipeline::Pipeline;
use super::seal::Sealer;
use super::work::{SegmentWriter, WorkQueue};
use crate::admit::Space;
use crate::common::Common;
use crate::config::{Config, MIB};
use crate::error::OpenError;
use crate::io::{DirectoryLock, Environment, RestingDisk, SteadyClock, WatchedDisk};
use crate::journal::recycle::Files;
use crate::journal::{self, Journal};
use crate::manifest::ManifestLog;
use crate::metrics::{Counters, Replay};
use crate::pace::{Pacer, Staging};
use crate::poison::Poison;
use crate::recovery::stream::{RecoveredSegment, RecoveredStream};
use crate::recovery::{self, Recovered, volume};
use crate::segment::active::ActiveSegment;
use crate::segment::maps::Maps;
use crate::store::checkpoint::Checkpoint;
use crate::stream::damage::DamageLog;
use crate::stream::table::Streams;
use crate::stream::tail::Tails;
use crate::stream::work::{SealWork, Work};
use crate::stream::{Entry, Quarantined, Staged, Stream};
use crate::threads::StoreThreads;

/// Files of streams that are open at a time, where the process may have as many.
const MOST_OPEN_FILES: usize = 1024;
/// Threads that claim and create streams.
const OPENERS: usize = 4;
/// A journal file holds at least two commits of the largest manifest record.
const LEAST_JOURNAL_FILE_BYTES: u64 = 4 * MIB;

/// What an open store is made of. Each is given what it needs; calls go down this list.
pub(super) struct Parts {
    pub opener: Arc<Opener>,
    pub sealer: Arc<Sealer>,
    pub admission: Arc<Admission>,
    pub pipeline: Arc<Pipeline>,
    /// What this start read of the journal.
    pub replay: Replay,
    /// Held by whoever drops a copy in Tier 0: the next one looks after.
    pub evicting: Mutex<()>,
    /// Told where the start of a stream moved.
    pub on_trimmed: RwLock<Option<super::trim::TrimHook>>,
    /// The newest time that this start found stored with the streams; `None` = there were none.
    pub newest_record_unix_nanos: Option<i64>,
}

/// What keeps an open store alive.
pub(super) struct Running {
    pub parts: Parts,
    pub threads: Vec<ThreadHandle>,
    pub lock: Box<dyn DirectoryLock>,
}

pub(super) fn open(options: OpenOptions) -> Result<Running, OpenError> {
    let poison = Arc::new(Poison::default());
    open_with(options, poison.clone()).map_err(|error| match poison.message() {
        // A sync that failed, or a thread that could not be started.
        Some(message) => OpenError::Poisoned { message },
        None => error,
    })
}

fn open_with(options: OpenOptions, poison: Arc<Poison>) -> Result<Running, OpenError> {
    let OpenOptions {
        config,
        identity,
        environment,
        claims,
        on_progress,
    } = options;
    check(&config)?;
    let files = crate::io::raise_open_file_limit();
    let root = config.directory.clone();
    let clock = Arc::new(SteadyClock::new(environment.clock));
    let env = Environment {
        clock: clock.clone(),
        disk: Arc::new(RestingDisk::new(
            Arc::new(WatchedDisk::new(environment.disk, poison.clone())),
            descriptors_of_streams(files),
        )),
        threads: Arc::new(StoreThreads {
            threads: environment.threads,
            poison: poison.clone(),
        }),
        ..environment
    };
    let disk = env.disk.clone();
    let lock = volume::lock(&*disk, &root)?;
    let volume = volume::identify(&*disk, &*env.rng, &root, &identity, claims.as_ref())?;
    let context = recovery::Context {
        disk: &*disk,
        clock: &*env.clock,
        root: &root,
        volume: &volume,
        journal_file_bytes: config.journal.file_bytes,
        journal_files: config.journal.files,
        on_progress,
    };
    let Recovered {
        streams,
        catalog,
        journal,
        mark,
        last_file_number,
        next_commit,
        next_stream_number,
        replay,
    } = recovery::recover(&context)?;

    let journal_config = config.journal.clone();
    let config = Arc::new(ArcSwap::from_pointee(config));
    let files = Files::new(
        journal,
        last_file_number,
        journal_config.file_bytes,
        journal_config.files,
    );
    while files.count() < 2 {
        files.add(&*disk, &root).map_err(|error| OpenError::Disk {
            verb: error.verb,
            path: error.path,
            source: error.source,
        })?;
    }
    let space = Space::new(disk.clone(), config.clone());
    space.note_other(journal_config.file_bytes * journal_config.files as u64);
    let counters = Arc::new(Counters::default());
    let journal_parts = journal::Parts {
        poison: poison.clone(),
        clock: env.clock.clone(),
        rng: env.rng.clone(),
        counters: counters.clone(),
        volume: volume.ids,
    };
    let common = Common {
        config,
        env,
        ids: volume.ids,
        poison,
        space,
        counters,
        staging: Staging::default(),
        pacer: Pacer::default(),
        maps: Maps::default(),
        has_tier2: claims.is_some(),
        lower_tiers: ArcSwapOption::empty(),
    };
    let common = Arc::new(common);
    let all_streams = Arc::new(Streams::default());
    let pipeline = Arc::new(Pipeline {
        common: common.clone(),
        streams: all_streams.clone(),
        journal: Journal::new(journal_parts, files, mark, next_commit),
        checkpoint: Checkpoint::default(),
        segment_writer: SegmentWriter::default(),
        bases: BaseWriter::default(),
        work: WorkQueue::default(),
    });
    let sealer = Arc::new(Sealer::new(pipeline.clone()));
    let ending = (Arc::downgrade(&pipeline), Arc::downgrade(&sealer));
    common.poison.on_set(Box::new(move |_| {
        if let (Some(pipeline), Some(sealer)) = (ending.0.upgrade(), ending.1.upgrade()) {
            pipeline.end_waits();
            sealer.changed.notify_all();
        }
    }));
    let newest_record_unix_nanos = streams.iter().map(|it| it.newest_unix_nanos()).max();
    if let Some(newest) = newest_record_unix_nanos {
        clock.note(newest);
    }
    for stream in streams {
        add_recovered(&pipeline, stream);
    }
    let admission = Arc::new(Admission::new(common, all_streams, claims, volume, &root));
    admission.at_open()?;
    let opener = Opener::new(
        pipeline.clone(),
        admission.clone(),
        root,
        catalog,
        next_stream_number,
    );
    let parts = Parts {
        pipeline,
        admission,
        opener: Arc::new(opener),
        sealer,
        replay,
        evicting: Mutex::default(),
        on_trimmed: RwLock::default(),
        newest_record_unix_nanos,
    };
    let threads = start(&parts)?;
    Ok(Running {
        parts,
        threads,
        lock,
    })
}

/// How many files of streams may be open at a time: half of what the process may have, the rest is for connections and Tier 2.
fn descriptors_of_streams(limit: u64) -> usize {
    usize::try_from(limit / 2).map_or(MOST_OPEN_FILES, |half| half.min(MOST_OPEN_FILES))
}

fn check(config: &Config) -> Result<(), OpenError> {
    let refuse = |key: &'static str, value: u64, rule: &'static str| {
        Err(OpenError::Config {
            key,
            value: value.to_string(),
            rule,
        })
    };
    let journal = &config.journal;
    if journal.file_bytes < LEAST_JOURNAL_FILE_BYTES || !journal.file_bytes.is_multiple_of(4096) {
        return refuse(
            "journal.file_bytes",
            journal.file_bytes,
            "a multiple of 4096, at least 4194304",
        );
    }
    if journal.files < 2 {
        return refuse("journal.files", journal.files as u64, "at least 2");
    }
    if config.segment.target_bytes < MIB {
        return refuse(
            "segment.target_bytes",
            config.segment.target_bytes,
            "at least 1048576",
        );
    }
    Ok(())
}

fn add_recovered(pipeline: &Pipeline, recovered: RecoveredStream) {
    let RecoveredStream {
        header,
        directory,
        identity,
        epoch,
        state,
        manifest_chain,
        chunk,
        closed_chunks,
        chunk_substance,
        chunks_must_reach,
        segments_must_reach,
        sealed,
        damaged,
        unsealed,
        next_sequence,
        chain,
        next_segment_id,
        producers,
        allocated_bytes,
        damage,
        possible_cut,
        cut,
        touched: _,
    } = recovered;
    // The journal that said so is written over, and a stream that rests joins no checkpoint.
    let chunks = chunks_must_reach
        .into_iter()
        .map(|known| (FileKind::ManifestChunk, known));
    let segments = segments_must_reach
        .into_iter()
        .map(|known| (FileKind::Segment, known));
    for (file, (file_id, synced_bytes)) in chunks.chain(segments) {
        pipeline.checkpoint.note_synced(Position {
            stream: identity.number,
            file,
            file_id,
            synced_bytes,
        });
    }
    let mut staged = Staged::new(next_sequence, chain, next_segment_id, producers);
    let is_damaged = damage.is_some();
    let damaged_end = damage.as_ref().map(|(_, message)| message.clone());
    staged.quarantined =
        damage.map(|(sequence, message)| Quarantined::Damaged { sequence, message });
    let residency = &state.residency;
    let (sealed_upto, uploaded_upto) = (residency.sealed_upto(), residency.uploaded_upto());
    let first = residency.start_sequence();
    let mut entries: Vec<Entry> = sealed
        .into_iter()
        .map(|sealed| Entry::Sealed(Arc::new(sealed)))
        .collect();
    let mut seals = Vec::new();
    for segment in unsealed {
        let RecoveredSegment {
            id,
            file,
            path,
            is_spare,
            base_sequence,
            epoch,
            end,
            end_sequence,
            chain,
            times,
            allocated,
            index,
            changes,
        } = segment;
        let segment = Arc::new(ActiveSegment::recovered(
            file,
            id,
            allocated,
            end,
            index,
            is_spare.then_some(path),
        ));
        segment.begin(base_sequence, epoch, pipeline.common.env.clock.monotonic());
        entries.push(Entry::Open(segment.clone()));
        seals.push((segment, end, end_sequence, chain, times, changes));
    }
    let stream = Arc::new(Stream {
        shared_name: header.stream.as_str().into(),
        name: header.stream,
        identity,
        directory,
        staged: Mutex::new(staged),
        writing: Mutex::new(()),
        segments: RwLock::new(entries),
        manifest: ManifestLog::new(state, manifest_chain, chunk, closed_chunks, chunk_substance),
        start: Mutex::new(()),
        tails: Tails::default(),
        damage: DamageLog::default(),
        damaged_end,
        possible_cut,
        cut,
        epoch: AtomicU32::new(epoch),
        first: AtomicU64::new(first),
        durable: AtomicU64::new(next_sequence),
        sealed: AtomicU64::new(sealed_upto),
        uploaded: AtomicU64::new(uploaded_upto),
        exists: AtomicBool::new(true),
        claimed: AtomicBool::new(true),
    });
    for range in damaged {
        stream.note_damage(range);
    }
    pipeline.common.space.add_segment(allocated_bytes);
    if !is_damaged {
        for (segment, end, end_sequence, chain, times, changes) in seals {
            debug_assert!(end > DATA_OFFSET, "an empty segment is not kept");
            pipeline.work.push(Work::Seal(SealWork {
                stream: stream.clone(),
                segment,
                end,
                end_sequence,
                chain,
                times,
                changes,
            }));
        }
    }
    pipeline.streams.insert(stream);
}

fn start(parts: &Parts) -> Result<Vec<ThreadHandle>, OpenError> {
    type Body = Box<dyn FnOnce() + Send>;
    let pipeline = &parts.pipeline;
    let of_pipeline = |run: fn(&Pipeline)| -> Body {
        let pipeline = pipeline.clone();
        Box::new(move || run(&pipeline))
    };
    let (opener, sealer) = (parts.opener.clone(), parts.sealer.clone());
    let mut bodies: Vec<(&'static str, Body)> = vec![
        ("journal", of_pipeline(|all| all.journal.run(all))),
        ("segments", of_pipeline(|all| all.segment_writer.run(all))),
        ("pace", of_pipeline(|all| all.common.pacer.run())),
        ("checkpoint", of_pipeline(|all| all.checkpoint.run(all))),
        ("bases", of_pipeline(|all| all.bases.run(all))),
        (
            "prepare",
            Box::new(move || {
                let work = &opener.pipeline.work;
                work.prepare.run(|work| opener.prepare(work));
            }),
        ),
        ("seal", Box::new(move || sealer.work())),
    ];
    for _ in 0..OPENERS {
        let opener = parts.opener.clone();
        let body = move || opener.pipeline.work.open.run(|stream| opener.open(stream));
        bodies.push(("open", Box::new(body)));
    }
    let mut threads = Vec::with_capacity(bodies.len());
    for (name, body) in bodies {
        match pipeline.common.env.spawn(name, body) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stop(pipeline, threads);
                let message = error.to_string();
                return Err(OpenError::Poisoned { message });
            }
        }
    }
    Ok(threads)
}

/// Ends the threads in the order in which they feed each other. Everything that matters is durable already.
pub(super) fn stop(pipeline: &Pipeline, threads: Vec<ThreadHandle>) {
    pipeline.common.space.begin_closing();
    pipeline.work.open.stop();
    pipeline.work.prepare.stop();
    pipeline.work.seal.stop();
    pipeline.segment_writer.stop();
    pipeline.checkpoint.stop();
    pipeline.bases.stop();
    pipeline.common.pacer.stop();
    pipeline.journal.stop();
    for thread in threads {
        // A panic has been reported.
        let _ = thread.join();
    }
    for stream in pipeline.streams.everything() {
        stream.tails.clear();
    }
}

/// Paths that callers ask for.
pub(super) fn tier1_directory(config: &Config) -> std::path::PathBuf {
    config.tier1_root()
}
