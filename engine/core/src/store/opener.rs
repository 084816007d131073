//! What an append must not wait for: claiming a stream, creating it, making segments.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::io::sync::{Mutex, RwLock};
use aof2_format::record_batch::BodySummary;
use aof2_format::stream_header::StreamHeader;
use aof2_format::{Salt, Seed, StreamName, StreamNumber, StreamUuid};

use super::admission::Admission;
use super::append::MOMENT;
use super::pipeline::Pipeline;
use crate::error::AppendError;
use crate::error::ClaimError;
use crate::identity::StreamIdentity;
use crate::io::WriteError;
use crate::io::{FileClass, replace_file};
use crate::manifest::state::ManifestState;
use crate::manifest::{ManifestLog, create_chunk};
use crate::port::LocalStream;
use crate::producers::Producers;
use crate::request::{AppendCallback, Appended};
use crate::segment::active::{ActiveSegment, GrowError};
use crate::segment::files;
use crate::stream::append::{Outcome, Pace, held_bytes};
use crate::stream::catalog::Catalog;
use crate::stream::damage::DamageLog;
use crate::stream::tail::Tails;
use crate::stream::work::Work;
use crate::stream::{Quarantined, Staged, Stream};

pub(crate) struct Opener {
    pub pipeline: Arc<Pipeline>,
    admission: Arc<Admission>,
    root: PathBuf,
    catalog: Catalog,
    next_stream_number: AtomicU64,
}

impl Opener {
    pub fn new(
        pipeline: Arc<Pipeline>,
        admission: Arc<Admission>,
        root: PathBuf,
        catalog: Catalog,
        next_stream_number: u64,
    ) -> Opener {
        Opener {
            pipeline,
            admission,
            root,
            catalog,
            next_stream_number: AtomicU64::new(next_stream_number),
        }
    }

    /// A stream that was never appended to. It exists once its first append is claimed and its files are there.
    pub fn new_stream(&self, name: &StreamName) -> Arc<Stream> {
        let salt = Salt(self.pipeline.common.env.rng.next_u64());
        Arc::new(Stream {
            name: name.clone(),
            shared_name: name.as_str().into(),
            identity: StreamIdentity {
                uuid: StreamUuid(*self.pipeline.common.env.rng.uuid().as_bytes()),
                number: StreamNumber(self.next_stream_number.fetch_add(1, Ordering::Relaxed)),
                salt,
                seed: Seed::new(salt),
            },
            directory: files::stream(&self.root, name),
            staged: Mutex::new(Staged::new(0, 0, 1, Producers::default())),
            writing: Mutex::new(()),
            segments: RwLock::new(Vec::new()),
            manifest: ManifestLog::new(ManifestState::default(), 0, None, Vec::new(), 0),
            start: Mutex::new(()),
            tails: Tails::default(),
            damage: DamageLog::default(),
            damaged_end: None,
            possible_cut: None,
            cut: None,
            epoch: AtomicU32::new(0),
            first: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            sealed: AtomicU64::new(0),
            uploaded: AtomicU64::new(0),
            exists: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
        })
    }

    /// Claims and creates the stream if it is new, makes a segment if it has none, then does the appends that wait.
    pub fn open(&self, stream: Arc<Stream>) {
        {
            let mut staged = stream.staged.lock();
            if staged.preparing {
                staged.parked = true;
                return;
            }
        }
        let ready = self.make_ready(&stream);
        let mut answers: Vec<(AppendCallback, Result<Appended, AppendError>)> = Vec::new();
        let mut is_behind = false;
        {
            let mut staged = stream.staged.lock();
            staged.opening = false;
            match ready {
                Err(error) => {
                    for (request, callback) in staged.pending.drain(..) {
                        self.pipeline.common.staging.release(held_bytes(&request));
                        super::count_refusal(&self.pipeline, &error);
                        answers.push((callback, Err(error.clone())));
                    }
                    if !stream.exists() {
                        staged.quarantined = Some(Quarantined::Gone);
                        self.pipeline.streams.remove(&stream);
                    }
                }
                Ok(segment) => {
                    if staged.next.is_none() {
                        staged.next = segment;
                    }
                    while !staged.pending.is_empty() {
                        is_behind = stream.is_behind(&*self.pipeline, &staged);
                        if is_behind {
                            staged.opening = true;
                            break;
                        }
                        let Some((request, callback)) = staged.pending.pop_front() else {
                            unreachable!("not empty")
                        };
                        let bytes = held_bytes(&request);
                        let payloads = request.payloads.iter().map(|payload| &payload[..]);
                        let Ok(body) = BodySummary::of(payloads) else {
                            unreachable!("the request was checked before it waited");
                        };
                        let outcome = stream.stage(
                            &*self.pipeline,
                            &mut staged,
                            &request,
                            &body,
                            Some(callback),
                            Pace::Waits,
                        );
                        if !matches!(outcome, Ok(Outcome::NeedsSegment(_))) {
                            self.pipeline.common.staging.release(bytes);
                        }
                        match outcome {
                            Ok(Outcome::Done(answer, callback)) => {
                                let result = |callback| (callback, answer.into_result(&stream));
                                answers.extend(callback.map(result));
                            }
                            Ok(Outcome::Round(_, _)) => {}
                            Ok(Outcome::NeedsSegment(callback)) => {
                                if let Some(callback) = callback {
                                    staged.pending.push_front((request, callback));
                                }
                                staged.opening = true;
                                self.pipeline.work.push(Work::Open(stream.clone()));
                                break;
                            }
                            Ok(Outcome::NeedsDisk(_)) => {
                                unreachable!("this append waits for the disk")
                            }
                            Err((error, callback)) => {
                                super::count_refusal(&self.pipeline, &error);
                                answers.extend(callback.map(|callback| (callback, Err(error))));
                            }
                        }
                    }
                }
            }
        }
        for (callback, answer) in answers {
            callback(answer);
        }
        if is_behind {
            self.pipeline.common.staging.wait(MOMENT);
            self.pipeline.work.push(Work::Open(stream));
        }
    }

    /// Answers a segment, unless there is one.
    fn make_ready(&self, stream: &Arc<Stream>) -> Result<Option<Arc<ActiveSegment>>, AppendError> {
        if self.pipeline.common.poison.is_set() {
            return Err(AppendError::Poisoned {
                message: self.pipeline.common.poison.reason(),
            });
        }
        // The threads that would bring a slow disk forward are ending. What waits is refused as it would be when staged.
        if self.pipeline.common.space.is_closing() {
            return Err(AppendError::Draining {
                reason: "store is closing".to_owned(),
            });
        }
        let is_new = !stream.exists();
        if is_new {
            let epoch = self.claim(stream)?;
            stream.epoch.store(epoch, Ordering::Release);
            stream.claimed.store(true, Ordering::Release);
            self.create_directories(stream)
                .map_err(|error| self.cannot_create(stream, error))?;
        }
        let id = {
            let mut staged = stream.staged.lock();
            if staged.active.is_some() || staged.next.is_some() {
                return Ok(None);
            }
            staged.allocate_segment_id()
        };
        let segment = self
            .create_segment(stream, id)
            .map_err(|error| stream.cannot_grow(&*self.pipeline, error))?;
        if is_new {
            self.create_header(stream)
                .map_err(|error| self.cannot_create(stream, error))?;
            stream.exists.store(true, Ordering::Release);
        }
        Ok(Some(segment))
    }

    /// A segment, and room in the manifest for the record of its opening.
    fn create_segment(
        &self,
        stream: &Arc<Stream>,
        id: u64,
    ) -> Result<Arc<ActiveSegment>, GrowError> {
        let common = &self.pipeline.common;
        let promised = stream
            .manifest
            .promise_opening(&stream.owned(&*self.pipeline));
        promised.map_err(|WriteError { verb, path, source }| {
            let refusal = common.space.refusal_of(&source);
            refusal.map_or(GrowError::Disk { verb, path, source }, GrowError::Refused)
        })?;
        let spare = files::spare(&stream.directory, id);
        let made = ActiveSegment::create(&*common.env.disk, &common.space, &spare, id);
        if made.is_err() {
            stream.manifest.break_promise();
        }
        made
    }

    /// Claims a stream that this volume does not have.
    ///
    /// Its directory is there, and durable, before there is a claim. So a claim of this volume without a directory was made by a later
    /// state of it, and one with an empty directory by a process that ended before it had created the stream.
    fn claim(&self, stream: &Stream) -> Result<u32, AppendError> {
        let Some(claims) = &self.admission.claims else {
            return Ok(1);
        };
        let name = stream.name.as_str();
        let volume = &self.admission.volume.identity;
        let refused = |error| refused_by_claims(stream, error);
        self.admission.settle().map_err(refused)?;
        let is_begun = self
            .pipeline
            .common
            .env
            .disk
            .exists(&stream.directory)
            .map_err(|source| {
                self.cannot_create(stream, failed("look for", &stream.directory, source))
            })?;
        let epoch = match claims.find(volume, name).map_err(refused)? {
            Some(epoch) if !is_begun => {
                return Err(refused(self.admission.refuse_for_claim(name, epoch)));
            }
            Some(epoch) => epoch,
            None => {
                self.begin(stream)
                    .map_err(|error| self.cannot_create(stream, error))?;
                claims.claim(volume, name).map_err(refused)?
            }
        };
        // It begins at sequence 0, so there must be nothing of it.
        let new = LocalStream {
            stream: stream.shared_name.clone(),
            epoch,
            ..LocalStream::default()
        };
        claims.check_streams(volume, &[new]).map_err(refused)?;
        u32::try_from(epoch).map_err(|_| AppendError::ClaimPending {
            stream: name.to_owned(),
            message: format!("epoch {epoch} is out of range"),
        })
    }

    fn begin(&self, stream: &Stream) -> Result<(), WriteError> {
        let disk = &*self.pipeline.common.env.disk;
        disk.create_directory(&stream.directory)
            .map_err(|source| failed("create", &stream.directory, source))?;
        let streams = files::streams(&self.root);
        disk.sync_directory(&streams)
            .map_err(|source| failed("sync", &streams, source))
    }

    /// Everything but the header, which comes last: a directory without one is no stream.
    fn create_directories(&self, stream: &Stream) -> Result<(), WriteError> {
        let disk = &*self.pipeline.common.env.disk;
        let segments = files::segments(&stream.directory);
        let manifest = files::manifest(&stream.directory);
        for directory in [&stream.directory, &segments, &manifest] {
            disk.create_directory(directory)
                .map_err(|source| failed("create", directory, source))?;
        }
        // The header says that they are there, and a directory's entries may reach the device in any order.
        disk.sync_directory(&stream.directory)
            .map_err(|source| failed("sync", &stream.directory, source))?;
        // What a creation that was cut off, or refused for want of space, left behind.
        for directory in [&segments, &manifest] {
            for entry in disk
                .list(directory)
                .map_err(|source| failed("list", directory, source))?
            {
                let path = directory.join(&entry.name);
                disk.unlink(&path)
                    .map_err(|source| failed("remove", &path, source))?;
            }
        }
        stream
            .manifest
            .begin(create_chunk(disk, &stream.directory, stream.epoch(), 0)?);
        Ok(())
    }

    fn create_header(&self, stream: &Stream) -> Result<(), WriteError> {
        let header = StreamHeader {
            cluster_id: self.admission.volume.ids.cluster_id,
            stream: stream.name.clone(),
            stream_uuid: stream.identity.uuid,
            stream_salt: stream.identity.salt,
            stream_number: stream.identity.number,
            epoch: stream.epoch(),
            created_unix_nanos: self.pipeline.common.env.clock.unix_nanos(),
        };
        let path = files::stream_header(&stream.directory);
        replace_file(
            &*self.pipeline.common.env.disk,
            &path,
            &header.encode(),
            FileClass::Other,
        )
        .map_err(|source| failed("write", &path, source))?;
        let streams = files::streams(&self.root);
        self.pipeline
            .common
            .env
            .disk
            .sync_directory(&streams)
            .map_err(|source| failed("sync", &streams, source))?;
        // After the header is durable: an entry without a directory is a loss.
        self.catalog.add(header)
    }

    /// For want of something: a refusal, and the next first append tries again. Otherwise the disk is broken.
    fn cannot_create(&self, stream: &Stream, error: WriteError) -> AppendError {
        let WriteError { verb, path, source } = error;
        let refusal = self.pipeline.common.space.refusal_of(&source);
        let error = refusal.map_or(GrowError::Disk { verb, path, source }, GrowError::Refused);
        stream.cannot_grow(&*self.pipeline, error)
    }

    /// Work of the preparing thread.
    pub fn prepare(&self, work: Work) {
        match work {
            Work::Prepare(stream) => self.prepare_next(&stream),
            Work::JournalFile | Work::Name { .. } if self.pipeline.common.poison.is_set() => {}
            Work::JournalFile => match self
                .pipeline
                .journal
                .files
                .add(&*self.pipeline.common.env.disk, &self.root)
            {
                Ok(_) => {}
                Err(error) if crate::io::is_rejection(&error.source) => {
                    tracing::warn!(path = %error.path.display(), error = %error.source, "cannot make another journal file; continuing with fewer");
                }
                Err(error) => self.pipeline.common.poison.set_by(&error),
            },
            Work::OutdatedJournal => self
                .pipeline
                .journal
                .files
                .remove_outdated(&*self.pipeline.common.env.disk, &self.root),
            Work::Name { stream, segment } => {
                let path = files::segment(
                    &stream.directory,
                    segment.base_sequence(),
                    segment.epoch(),
                    segment.id,
                );
                // Its seal names it where this is rejected; until then recovery takes either name.
                if let Err(source) = segment.name(&*self.pipeline.common.env.disk, &path)
                    && !crate::io::is_rejection(&source)
                {
                    self.pipeline
                        .common
                        .poison
                        .set_by(&failed("rename", &path, source));
                }
            }
            Work::Seal(_) | Work::Open(_) => unreachable!("these have threads of their own"),
        }
    }

    fn prepare_next(&self, stream: &Arc<Stream>) {
        let made = (!self.pipeline.common.poison.is_set()).then(|| {
            let id = stream.staged.lock().allocate_segment_id();
            self.create_segment(stream, id)
        });
        let mut staged = stream.staged.lock();
        staged.preparing = false;
        if std::mem::take(&mut staged.parked) {
            self.pipeline.work.push(Work::Open(stream.clone()));
        }
        let Some(made) = made else {
            return;
        };
        match made {
            Ok(segment) => {
                staged.next = Some(segment);
                staged.next_refused = None;
            }
            // Told to the append that cannot do without it.
            Err(GrowError::Refused(refusal)) => staged.next_refused = Some(refusal),
            Err(GrowError::Disk { verb, path, source }) => {
                drop(staged);
                self.pipeline
                    .common
                    .poison
                    .set_by(&WriteError { verb, path, source });
            }
        }
    }
}

fn refused_by_claims(stream: &Stream, error: ClaimError) -> AppendError {
    let message = error.to_string();
    let reason = match error {
        ClaimError::NotOwner {
            stream,
            owner,
            address,
        } => {
            return AppendError::NotOwner {
                stream,
                owner,
                address,
            };
        }
        ClaimError::Pending { message: _ } | ClaimError::Unreadable { key: _, message: _ } => {
            return AppendError::ClaimPending {
                stream: stream.name.to_string(),
                message,
            };
        }
        ClaimError::VolumeLost { streams: _ } => "VolumeLost",
        ClaimError::RolledBack { proofs: _ } => "RolledBack",
        ClaimError::PrefixInUse {
            cluster_id: _,
            owner: _,
        } => "PrefixInUse",
    };
    AppendError::VolumeRefused {
        stream: stream.name.to_string(),
        reason,
        message,
    }
}

fn failed(verb: &'static str, path: &std::path::Path, source: std::io::Error) -> WriteError {
    WriteError {
        verb,
        path: path.to_owned(),
        source,
    }
}
