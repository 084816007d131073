//! The append verb: what is checked before a stream is locked, and who waits for what.

use std::sync::Arc;
use std::time::Duration;

use crate::io::sync::{self, MutexGuard};
use aof2_format::StreamName;
use aof2_format::record_batch::{BodySummary, MAX_BODY_BYTES, RECORD_OVERHEAD_BYTES};
use bytes::Bytes;

use super::opener::Opener;
use super::pipeline::Pipeline;
use crate::error::{AppendError, WouldBlockKind};
use crate::metrics::add;
use crate::request::{AppendCallback, AppendRequest, Appended};
use crate::stream::append::{Outcome, Pace};
use crate::stream::{Quarantined, Staged, Stream};

/// How long a blocking append waits for the disk to catch up, or for the next segment, before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the disk is waited for before it is looked at again.
pub(super) const MOMENT: Duration = Duration::from_millis(5);

/// How often a stream's lock is tried by a caller that does not wait: it is held for less, where nobody waits for the disk.
const TRIES: usize = 100;

/// A batch is verified as a whole whenever a record of it is read, and each record costs more memory than its bytes.
pub const MAX_APPEND_RECORDS: usize = 524_288;

/// A request that may be staged.
struct Checked {
    request: AppendRequest,
    body: BodySummary,
    stream: Arc<Stream>,
}

fn bytes_with(overhead_bytes: usize, payloads: &[Bytes]) -> u64 {
    let bytes = payloads
        .iter()
        .map(|payload| payload.len() + overhead_bytes);
    bytes.sum::<usize>() as u64
}

fn check(opener: &Opener, request: AppendRequest) -> Result<Checked, AppendError> {
    let pipeline = &*opener.pipeline;
    let found = match pipeline.streams.get(&request.stream) {
        Some(stream) => Ok(stream),
        None => Err(StreamName::new(&request.stream).map_err(|refused| {
            AppendError::InvalidStreamName {
                name: refused.name,
                rule: "1 to 63 lower-case letters, digits and inner hyphens",
            }
        })?),
    };
    if request.payloads.is_empty() {
        return Err(AppendError::EmptyBatch {
            stream: request.stream,
        });
    }
    let limit_bytes = pipeline.common.config.load().append.max_record_bytes;
    let largest = request
        .payloads
        .iter()
        .map(|payload| payload.len() as u64)
        .max()
        .unwrap_or(0);
    if largest > limit_bytes {
        return Err(AppendError::RecordTooLarge {
            size_bytes: largest,
            limit_bytes,
        });
    }
    let records = request.payloads.len();
    if records > MAX_APPEND_RECORDS {
        return Err(AppendError::TooManyRecords {
            records: records as u64,
            limit: MAX_APPEND_RECORDS as u64,
        });
    }
    let body = BodySummary::of(request.payloads.iter().map(|payload| &payload[..]));
    let body = body.map_err(|_| AppendError::BatchTooLarge {
        size_bytes: bytes_with(RECORD_OVERHEAD_BYTES, &request.payloads),
        overhead_bytes: RECORD_OVERHEAD_BYTES as u64,
        limit_bytes: MAX_BODY_BYTES as u64,
    })?;
    let stream = match found {
        Ok(stream) => stream,
        Err(free) => {
            // Before the name is taken: a node that drains gets no new streams.
            if let Some(reason) = pipeline.common.space.admission_closed() {
                return Err(AppendError::Draining { reason });
            }
            stream_named(opener, &free)
        }
    };
    Ok(Checked {
        request,
        body,
        stream,
    })
}

fn stream_named(opener: &Opener, name: &StreamName) -> Arc<Stream> {
    let streams = &opener.pipeline.streams;
    streams.get_or_insert(name.as_str(), || opener.new_stream(name))
}

/// An append that was not tried, since the disk or its stream is busy.
pub struct Busy {
    pub request: AppendRequest,
    pub on_done: AppendCallback,
}

/// May wait for the disk.
pub(super) fn append_with(opener: &Opener, request: AppendRequest, on_done: AppendCallback) {
    if attempt(opener, request, on_done, Pace::Waits).is_some() {
        unreachable!("this append waits for the disk");
    }
}

/// Never waits for the disk, nor for a lock whose holder may.
pub(super) fn try_append_with(
    opener: &Opener,
    request: AppendRequest,
    on_done: AppendCallback,
) -> Result<(), Busy> {
    match attempt(opener, request, on_done, Pace::NeverWaits) {
        None => Ok(()),
        Some(busy) => Err(busy),
    }
}

fn lock(stream: &Stream, pace: Pace) -> Option<MutexGuard<'_, Staged>> {
    if pace == Pace::Waits {
        return Some(stream.staged.lock());
    }
    (0..TRIES).find_map(|_| {
        let staged = stream.staged.try_lock();
        if staged.is_none() {
            std::hint::spin_loop();
        }
        staged
    })
}

/// Gives back what it could not do without waiting.
fn attempt(
    opener: &Opener,
    request: AppendRequest,
    on_done: AppendCallback,
    pace: Pace,
) -> Option<Busy> {
    let pipeline = &*opener.pipeline;
    let checked = match check(opener, request) {
        Ok(checked) => checked,
        Err(error) => {
            refuse(pipeline, error, Some(on_done));
            return None;
        }
    };
    let Checked {
        request,
        body,
        mut stream,
    } = checked;
    loop {
        let Some(mut staged) = lock(&stream, pace) else {
            return Some(Busy { request, on_done });
        };
        if staged.quarantined == Some(Quarantined::Gone) {
            // Its first append failed just now; the name is free again.
            drop(staged);
            sync::yield_now();
            stream = stream_named(opener, &stream.name);
            continue;
        }
        if pipeline.common.poison.is_set() {
            drop(staged);
            let error = AppendError::Poisoned {
                message: pipeline.common.poison.reason(),
            };
            refuse(pipeline, error, Some(on_done));
            return None;
        }
        if staged.opening || !staged.pending.is_empty() {
            return wait_for_segment(pipeline, &stream, staged, request, on_done, pace);
        }
        let callback = Some(on_done);
        match stream.stage(pipeline, &mut staged, &request, &body, callback, pace) {
            Ok(Outcome::Done(answer, callback)) => {
                drop(staged);
                if let Some(callback) = callback {
                    callback(answer.into_result(&stream));
                }
            }
            Ok(Outcome::Round(_, _)) => {}
            Ok(Outcome::NeedsSegment(Some(callback))) => {
                return wait_for_segment(pipeline, &stream, staged, request, callback, pace);
            }
            Ok(Outcome::NeedsDisk(Some(on_done))) => return Some(Busy { request, on_done }),
            Ok(Outcome::NeedsSegment(None) | Outcome::NeedsDisk(None)) => unreachable!("given"),
            Err((error, callback)) => {
                drop(staged);
                refuse(pipeline, error, callback);
            }
        }
        return None;
    }
}

fn wait_for_segment(
    pipeline: &Pipeline,
    stream: &Arc<Stream>,
    mut staged: MutexGuard<'_, Staged>,
    request: AppendRequest,
    callback: AppendCallback,
    pace: Pace,
) -> Option<Busy> {
    let space = &pipeline.common.space;
    let closed = match pace {
        Pace::Waits => space.admission_closed(),
        Pace::NeverWaits => match space.try_admission() {
            Some(closed) => closed.clone(),
            None => {
                let on_done = callback;
                return Some(Busy { request, on_done });
            }
        },
    };
    let waits = match closed {
        Some(reason) => Err((AppendError::Draining { reason }, Some(callback))),
        None => stream.wait_for_segment(pipeline, &mut staged, request, callback),
    };
    // A callback is not called under the stream's lock.
    drop(staged);
    if let Err((error, callback)) = waits {
        refuse(pipeline, error, callback);
    }
    None
}

fn refuse(pipeline: &Pipeline, error: AppendError, callback: Option<AppendCallback>) {
    count_refusal(pipeline, &error);
    if let Some(callback) = callback {
        callback(Err(error));
    }
}

pub(crate) fn count_refusal(pipeline: &Pipeline, error: &AppendError) {
    match error {
        AppendError::WouldBlock { kind, .. } => pipeline.common.counters.count_would_block(*kind),
        AppendError::DiskFull { .. } => add(&pipeline.common.counters.disk_full_refusals, 1),
        AppendError::InvalidStreamName { .. }
        | AppendError::NotOwner { .. }
        | AppendError::ClaimPending { .. }
        | AppendError::RecordTooLarge { .. }
        | AppendError::BatchTooLarge { .. }
        | AppendError::TooManyRecords { .. }
        | AppendError::Draining { .. }
        | AppendError::SequenceGap { .. }
        | AppendError::AlreadyAppended { .. }
        | AppendError::ProducerForgotten { .. }
        | AppendError::Damaged { .. }
        | AppendError::Poisoned { .. }
        | AppendError::Superseded { .. }
        | AppendError::VolumeRefused { .. }
        | AppendError::EmptyBatch { .. } => {}
    }
}

/// Waits for the acknowledgement, and for a disk that is behind.
pub(super) fn append(opener: &Opener, request: AppendRequest) -> Result<Appended, AppendError> {
    let pipeline = &*opener.pipeline;
    let result = append_patiently(opener, request);
    if let Err(error) = &result {
        count_refusal(pipeline, error);
    }
    result
}

fn append_patiently(opener: &Opener, request: AppendRequest) -> Result<Appended, AppendError> {
    let pipeline = &*opener.pipeline;
    let mut checked = check(opener, request)?;
    let mut deadline = None;
    loop {
        match append_once(opener, &mut checked) {
            Err(AppendError::WouldBlock {
                kind: WouldBlockKind::Flush | WouldBlockKind::Rollover,
                ..
            }) if pipeline.common.env.clock.monotonic()
                < *deadline
                    .get_or_insert_with(|| pipeline.common.env.clock.monotonic() + PATIENCE) =>
            {
                pipeline.common.staging.wait(MOMENT);
            }
            other => return other,
        }
    }
}

fn append_once(opener: &Opener, checked: &mut Checked) -> Result<Appended, AppendError> {
    let pipeline = &*opener.pipeline;
    let Checked {
        request,
        body,
        stream,
    } = checked;
    let mut staged = stream.staged.lock();
    let is_gone = staged.quarantined == Some(Quarantined::Gone);
    if !staged.opening && staged.pending.is_empty() && !is_gone {
        match stream.stage(pipeline, &mut staged, request, body, None, Pace::Waits) {
            Ok(Outcome::Done(answer, _)) => return answer.into_result(stream),
            Ok(Outcome::Round(round, answer)) => {
                drop(staged);
                return match pipeline.journal.wait_or_lead(pipeline, round) {
                    Ok(()) => answer.into_result(stream),
                    Err(_) => Err(AppendError::Poisoned {
                        message: pipeline.common.poison.reason(),
                    }),
                };
            }
            Ok(Outcome::NeedsSegment(_) | Outcome::NeedsDisk(_)) => {}
            Err((error, _)) => return Err(error),
        }
    }
    drop(staged);
    if is_gone {
        *stream = stream_named(opener, &stream.name);
    }
    // The opener answers.
    let (answer, answered) = sync::answer();
    append_with(
        opener,
        request.clone(),
        Box::new(move |result| {
            answer.send(result);
        }),
    );
    match answered.wait() {
        Some(result) => result,
        None => Err(AppendError::Poisoned {
            message: pipeline.common.poison.reason(),
        }),
    }
}
