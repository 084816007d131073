//! New records as they come: a look at every manifest, a pause, and again.
//!
//! Per stream the place is remembered behind which nothing was read: a chunk, an offset in it, and the sequence of the next record. What
//! stands there and does not verify is on its way, unless a chunk follows that goes on somewhere else. A chunk that was pruned meanwhile is
//! stood for by the manifest's base, which keeps the records that still count.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use aof2_format::Seed;
use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::names::file;

use super::base;
use super::bucket::{Bucket, CatalogueRow};
use super::chunk::{Chunk, Record, to_record, used};
use super::files;
use super::filter::Filter;
use super::page;
use crate::exit::{Failure, Outcome};
use crate::render;

/// Between two looks at a volume. Its chunks change with checkpoints.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two lists of a bucket, which cost money.
const LIST_EVERY: Duration = Duration::from_secs(10);

pub fn volume(
    place: &Path,
    only: Option<&str>,
    filter: &Filter,
    json: bool,
) -> Result<Outcome, Failure> {
    if place.is_file() {
        return Err(Failure::Usage(format!(
            "{} is a file, and a chunk is followed by others; give the data directory or the directory of its stream with --follow",
            place.display()
        )));
    }
    let interrupt = interrupted()?;
    let mut printer = Printer::new(filter, json);
    let mut streams: BTreeMap<PathBuf, Place> = BTreeMap::new();
    let mut is_first = true;
    loop {
        for directory in files::chunk_files(place, only)?.keys() {
            let place = streams.entry(directory.clone()).or_default();
            // What was there before is shown where a time asks for it.
            printer.is_quiet = is_first && filter.since_unix_nanos.is_none();
            place.look(directory, &mut printer)?;
        }
        if is_first {
            is_first = false;
            printer.note(&format!("following {} manifests", streams.len()));
        }
        if wait(&interrupt, LOOK_EVERY) {
            return Ok(printer.outcome());
        }
    }
}

pub fn bucket(
    bucket: &Bucket,
    only: Option<&str>,
    filter: &Filter,
    json: bool,
) -> Result<Outcome, Failure> {
    let interrupt = interrupted()?;
    let mut printer = Printer::new(filter, json);
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut is_first = true;
    loop {
        let streams = match bucket.streams(only) {
            Ok(streams) => streams,
            // It may come back; at the start it is more likely that something is spelt wrong.
            Err(error) if !is_first => {
                printer.outage(&error);
                if wait(&interrupt, LIST_EVERY) {
                    return Ok(printer.outcome());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let is_quiet = is_first && filter.since_unix_nanos.is_none();
        for (stream, objects) in &streams {
            for key in &objects.chunks {
                if seen.contains_key(key) {
                    continue;
                }
                if is_quiet {
                    seen.insert(key.clone(), ());
                    continue;
                }
                let chunk = match bucket.chunk(key) {
                    Ok(chunk) => chunk,
                    Err(error) if !is_first => {
                        printer.outage(&error);
                        break;
                    }
                    Err(error) => return Err(error),
                };
                seen.insert(key.clone(), ());
                let from = next.entry(stream.clone()).or_default();
                printer.chunk(&chunk, *from)?;
                let last = chunk.records.last();
                *from = last.map_or(*from, |last| last.manifest_sequence + 1);
            }
            for key in &objects.catalogues {
                if seen.contains_key(key) {
                    continue;
                }
                if !is_quiet && filter.events.is_empty() {
                    match bucket.catalogue(key) {
                        Ok(row) => printer.catalogue(&row)?,
                        Err(error) if !is_first => {
                            printer.outage(&error);
                            break;
                        }
                        Err(error) => return Err(error),
                    }
                }
                seen.insert(key.clone(), ());
            }
        }
        if is_first {
            is_first = false;
            printer.note(&format!("following {} streams", streams.len()));
        }
        if wait(&interrupt, LIST_EVERY) {
            return Ok(printer.outcome());
        }
    }
}

/// SIGINT or SIGTERM.
fn interrupted() -> Result<Receiver<()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| {
        Failure::Unavailable(format!("cannot wait for an interruption: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    // Registered before the first look, so that none is missed.
    let (interrupt, terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    let (send, receive) = channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let (mut interrupt, mut terminate) = (interrupt, terminate);
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            // Nobody waits any more where it has ended meanwhile.
            let _ = send.send(());
        })
        .map_err(failed)?;
    Ok(receive)
}

/// `true`: it is over.
fn wait(interrupt: &Receiver<()>, pause: Duration) -> bool {
    !matches!(
        interrupt.recv_timeout(pause),
        Err(RecvTimeoutError::Timeout)
    )
}

/// Lines for people, or JSON; what is no record goes to standard error.
pub(super) struct Printer<'a> {
    filter: &'a Filter,
    json: bool,
    is_quiet: bool,
    is_damaged: bool,
    is_out: bool,
}

impl<'a> Printer<'a> {
    fn new(filter: &'a Filter, json: bool) -> Printer<'a> {
        Printer {
            filter,
            json,
            is_quiet: false,
            is_damaged: false,
            is_out: false,
        }
    }

    fn outcome(&self) -> Outcome {
        match self.is_damaged {
            true => Outcome::Negative,
            false => Outcome::Clean,
        }
    }

    fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    fn damage(&mut self, place: &str, damage: &str) {
        self.is_damaged = true;
        eprintln!("DAMAGED: {place}: {damage}");
    }

    /// Once, however long it lasts.
    fn outage(&mut self, error: &Failure) {
        if !std::mem::replace(&mut self.is_out, true)
            && let Failure::Unavailable(message) = error
        {
            eprintln!("waiting for the bucket: {message}");
        }
    }

    fn record(&mut self, stream: &str, record: &Record) -> Result<(), Failure> {
        if self.is_quiet || !self.filter.shows(record) {
            return Ok(());
        }
        if !self.json {
            return render::line(&page::line(stream, record));
        }
        let mut line = serde_json::json!({"stream": stream});
        if let (serde_json::Value::Object(line), Ok(serde_json::Value::Object(record))) =
            (&mut line, serde_json::to_value(record))
        {
            line.extend(record);
        }
        render::line(&line.to_string())
    }

    fn chunk(&mut self, chunk: &Chunk, from: u64) -> Result<(), Failure> {
        self.is_out = false;
        let new = chunk.records.iter();
        for record in new.filter(|record| record.manifest_sequence >= from) {
            self.record(&chunk.stream, record)?;
        }
        if let Some(damage) = &chunk.damage {
            self.damage(&chunk.file, damage);
        }
        Ok(())
    }

    fn catalogue(&mut self, row: &CatalogueRow) -> Result<(), Failure> {
        self.is_out = false;
        if let Some(damage) = &row.damage {
            self.damage(&row.key, damage);
            return Ok(());
        }
        if !row.is_since(self.filter.since_unix_nanos) {
            return Ok(());
        }
        let CatalogueRow {
            stream,
            snapshot_id,
            created_at,
            uploaded_sequence,
            segments,
            key,
            ..
        } = row;
        match self.json {
            true => {
                let line = serde_json::json!({"stream": stream, "catalogue": row});
                render::line(&line.to_string())
            }
            false => render::line(&format!(
                "{created_at} {stream} catalogue {snapshot_id} uploaded_sequence={uploaded_sequence} segments={segments} key={key}"
            )),
        }
    }
}

/// Behind what was read of a stream's manifest.
#[derive(Default)]
pub(super) struct Place {
    /// Of the next record.
    next: u64,
    chunk: Option<InChunk>,
    /// Of damage that was reported.
    reported: Option<(u64, u64)>,
}

/// Where the next commit of a chunk begins.
struct InChunk {
    number: u64,
    path: PathBuf,
    stream: String,
    seed: Seed,
    at: u64,
    chain: u32,
}

/// What a look at a chunk came to.
enum Looked {
    /// Up to its last whole commit; so many bytes behind are not zero.
    ToItsEnd {
        unfinished_bytes: u64,
    },
    Gone,
}

impl Place {
    fn look(&mut self, directory: &Path, printer: &mut Printer<'_>) -> Result<(), Failure> {
        loop {
            let Some(in_chunk) = &mut self.chunk else {
                if !self.begin(directory, printer)? {
                    return Ok(());
                }
                continue;
            };
            let unfinished_bytes = match in_chunk.read_on(&mut self.next, printer)? {
                Looked::Gone => {
                    self.chunk = None;
                    continue;
                }
                Looked::ToItsEnd { unfinished_bytes } => unfinished_bytes,
            };
            let (number, at, path) = (in_chunk.number, in_chunk.at, in_chunk.path.clone());
            let Some(follower) = header_of_next(directory, number)? else {
                return Ok(());
            };
            if follower.base_manifest_sequence < self.next {
                // Of another history: nothing of it continues here.
                return Ok(());
            }
            if follower.base_manifest_sequence > self.next || unfinished_bytes > 0 {
                // The commit may have come between the two looks.
                let again = in_chunk.read_on(&mut self.next, printer)?;
                let is_whole = follower.base_manifest_sequence == self.next
                    && matches!(
                        again,
                        Looked::ToItsEnd {
                            unfinished_bytes: 0
                        }
                    );
                if !is_whole && self.reported != Some((number, at)) {
                    self.reported = Some((number, at));
                    let found = format!("offset {at}: commits end before those of the next chunk");
                    printer.damage(&path.display().to_string(), &found);
                }
            }
            self.next = self.next.max(follower.base_manifest_sequence);
            self.chunk = None;
        }
    }

    /// Finds the chunk that holds the next record, and shows what of those before it is left in the base. `false`: there is none yet.
    fn begin(&mut self, directory: &Path, printer: &mut Printer<'_>) -> Result<bool, Failure> {
        let listed = files::list(directory)?;
        let mut holds_next = None;
        for path in &listed {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some((_, number)) = name.and_then(file::parse_manifest_chunk) else {
                continue;
            };
            let Some(header) = header(path)? else {
                continue;
            };
            let is_first = holds_next.is_none();
            if is_first || header.base_manifest_sequence <= self.next {
                holds_next = Some((number, path.clone(), header));
            }
        }
        let Some((number, path, header)) = holds_next else {
            return Ok(false);
        };
        if header.base_manifest_sequence > self.next {
            self.show_base(&listed, header.base_manifest_sequence, printer)?;
        }
        self.chunk = Some(InChunk {
            number,
            path,
            stream: header.stream.to_string(),
            seed: Seed::new(header.stream_salt),
            at: DATA_OFFSET,
            chain: header.prev_chain,
        });
        Ok(true)
    }

    /// Records that the chunks before held, as far as they still count.
    fn show_base(
        &mut self,
        listed: &[PathBuf],
        upto: u64,
        printer: &mut Printer<'_>,
    ) -> Result<(), Failure> {
        let from = self.next;
        self.next = upto;
        let Some(path) = listed.iter().find(|path| base::is_one(path)) else {
            printer.note(&format!(
                "manifest records {from} to {} are not on this volume",
                upto - 1
            ));
            return Ok(());
        };
        // By itself it shows all of its records.
        let mut shown = base::read(path, std::slice::from_ref(path))?;
        shown
            .records
            .retain(|record| record.manifest_sequence < upto);
        if from > 0 {
            printer.note(&format!(
                "manifest chunks of stream {} were pruned; of the records {from} to {} those that count are shown from its base",
                shown.stream,
                upto - 1
            ));
        }
        printer.chunk(&shown, from)
    }
}

impl InChunk {
    /// Shows the commits from here on, from record `next` on.
    fn read_on(&mut self, next: &mut u64, printer: &mut Printer<'_>) -> Result<Looked, Failure> {
        let unreadable = |error: std::io::Error| {
            Failure::Unavailable(format!("{}: {error}", self.path.display()))
        };
        let mut file = match fs::File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Looked::Gone),
            opened => opened.map_err(unreadable)?,
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.at)).map_err(unreadable)?;
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        let mut offset = 0;
        for commit in manifest_chunk::commits(&bytes, 0, self.seed) {
            let Ok(commit) = commit else { break };
            if commit.prev_chain != self.chain {
                break;
            }
            for record in &commit.records {
                if record.manifest_sequence >= *next {
                    printer.record(&self.stream, &to_record(record))?;
                    *next = record.manifest_sequence + 1;
                }
            }
            self.chain = commit.chain;
            offset += commit.bytes;
        }
        self.at += offset as u64;
        Ok(Looked::ToItsEnd {
            unfinished_bytes: used(&bytes[offset..]),
        })
    }
}

fn header_of_next(directory: &Path, number: u64) -> Result<Option<ManifestChunkHeader>, Failure> {
    for path in files::list(directory)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let found = name.and_then(file::parse_manifest_chunk);
        if found.is_some_and(|(_, found)| found == number + 1) {
            return header(&path);
        }
    }
    Ok(None)
}

/// `None`: it has none yet, or was pruned.
fn header(path: &Path) -> Result<Option<ManifestChunkHeader>, Failure> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(DATA_OFFSET).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(ManifestChunkHeader::decode(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Unavailable(format!("{}: {error}", path.display()))),
    }
}
