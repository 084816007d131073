//! Verbs that wait until what is staged has reached a place: flush, seal, close.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::pipeline::Pipeline;
use super::seal::Sealer;
use crate::error::StoreError;
use crate::io::is_rejection;
use crate::stream::{Quarantined, Staged, Stream};

fn poisoned(pipeline: &Pipeline) -> StoreError {
    StoreError::Poisoned {
        message: pipeline.common.poison.reason(),
    }
}

pub(super) fn flush(pipeline: &Pipeline) -> Result<BTreeMap<String, u64>, StoreError> {
    let streams = pipeline.streams.existing();
    let mut last = 0;
    for stream in &streams {
        let mut staged = stream.staged.lock();
        if stream.durable() < staged.next_sequence && staged.quarantined.is_none() {
            last = last.max(stream.enlist(pipeline, &mut staged));
        }
    }
    if last > 0 {
        pipeline
            .journal
            .wait(last)
            .map_err(|_| poisoned(pipeline))?;
    }
    if pipeline.common.poison.is_set() {
        return Err(poisoned(pipeline));
    }
    Ok(streams
        .iter()
        .map(|stream| (stream.name.to_string(), stream.durable()))
        .collect())
}

fn begin_seal(pipeline: &Pipeline, stream: &Arc<Stream>) -> Result<u64, StoreError> {
    roll_for_seal(pipeline, stream, &mut stream.staged.lock())
}

/// Answers the count of sealed records that means that the seal is done.
pub(super) fn roll_for_seal(
    pipeline: &Pipeline,
    stream: &Arc<Stream>,
    staged: &mut Staged,
) -> Result<u64, StoreError> {
    if let Some(Quarantined::Damaged { message, .. }) = &staged.quarantined {
        return Err(StoreError::Damaged {
            stream: stream.name.to_string(),
            message: message.clone(),
        });
    }
    if staged.active.is_some() && staged.tail > 0 {
        stream.roll(pipeline, staged);
    }
    Ok(staged.next_sequence)
}

pub(super) fn seal(
    pipeline: &Pipeline,
    sealer: &Sealer,
    streams: &[Arc<Stream>],
) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut targets = Vec::with_capacity(streams.len());
    for stream in streams {
        match begin_seal(pipeline, stream) {
            Ok(target) => targets.push((stream, target)),
            Err(error) if streams.len() == 1 => return Err(error),
            Err(_) => {}
        }
    }
    pipeline.work.retry_seals();
    let is_sealed =
        |(stream, target): &(&Arc<Stream>, u64)| stream.sealed.load(Ordering::Acquire) >= *target;
    let rejected = || {
        let mut open = targets.iter().filter(|target| !is_sealed(target));
        open.find_map(|(stream, _)| pipeline.work.rejected_seals.of(stream))
    };
    // As it was found: it is on its way to be tried again at any time.
    let mut rejection = None;
    sealer.changed.wait_until(|| {
        rejection = rejected();
        rejection.is_some()
            || pipeline.common.poison.is_set()
            || pipeline.common.space.is_closing()
            || targets.iter().all(is_sealed)
    });
    if pipeline.common.poison.is_set() {
        return Err(poisoned(pipeline));
    }
    if let Some(error) = rejection {
        return Err(error);
    }
    if !targets.iter().all(is_sealed) {
        return Err(StoreError::Closed);
    }
    Ok(streams
        .iter()
        .map(|stream| {
            (
                stream.name.to_string(),
                stream.sealed.load(Ordering::Acquire),
            )
        })
        .collect())
}

/// Until no append waits for a claim or a segment. One that does is with an opener, or with the thread that makes segments, which
/// gives it back to an opener.
fn wait_for_appends(pipeline: &Pipeline) {
    // After a failed sync nobody gives back what is held.
    while pipeline.common.staging.holds() && !pipeline.common.poison.is_set() {
        pipeline.work.prepare.wait_idle();
        pipeline.work.open.wait_idle();
    }
    // The last answers.
    pipeline.work.open.wait_idle();
}

/// Everything durable, and in segments, so that the next start has nothing to replay.
pub(super) fn before_exit(pipeline: &Pipeline) -> Result<(), StoreError> {
    wait_for_appends(pipeline);
    if pipeline.common.poison.is_set() {
        return Err(poisoned(pipeline));
    }
    flush(pipeline)?;
    match pipeline.checkpoint.run_once(pipeline) {
        // What is not in segments is in the journal, and the next start replays it.
        Err(error) if is_rejection(&error.source) => {
            tracing::warn!(path = %error.path.display(), error = %error.source, "last checkpoint not done; the next start replays the journal");
            Ok(())
        }
        Err(error) => {
            pipeline.common.poison.set_by(&error);
            Err(poisoned(pipeline))
        }
        Ok(()) => Ok(()),
    }
}
