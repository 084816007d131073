//! Verbs that wait until what is staged has reached a place: flush, seal, close.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::error::StoreError;
use crate::stream::{Quarantined, Staged, Stream};

fn poisoned(shared: &Shared) -> StoreError {
    StoreError::Poisoned {
        message: shared.common.poison.reason(),
    }
}

pub(super) fn flush(shared: &Shared) -> Result<BTreeMap<String, u64>, StoreError> {
    let streams = shared.streams.existing();
    let mut last = 0;
    for stream in &streams {
        let mut staged = stream.staged.lock();
        if stream.durable() < staged.next_sequence && staged.quarantined.is_none() {
            last = last.max(stream.enlist(shared, &mut staged));
        }
    }
    if last > 0 {
        shared.journal.wait(last).map_err(|_| poisoned(shared))?;
    }
    if shared.common.poison.is_set() {
        return Err(poisoned(shared));
    }
    Ok(streams
        .iter()
        .map(|stream| (stream.name.to_string(), stream.durable()))
        .collect())
}

fn begin_seal(shared: &Shared, stream: &Arc<Stream>) -> Result<u64, StoreError> {
    roll_for_seal(shared, stream, &mut stream.staged.lock())
}

/// Answers the count of sealed records that means that the seal is done.
pub(super) fn roll_for_seal(
    shared: &Shared,
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
        stream.roll(shared, staged);
    }
    Ok(staged.next_sequence)
}

pub(super) fn seal(
    shared: &Shared,
    streams: &[Arc<Stream>],
) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut targets = Vec::with_capacity(streams.len());
    for stream in streams {
        match begin_seal(shared, stream) {
            Ok(target) => targets.push((stream, target)),
            Err(error) if streams.len() == 1 => return Err(error),
            Err(_) => {}
        }
    }
    let is_sealed =
        |(stream, target): &(&Arc<Stream>, u64)| stream.sealed.load(Ordering::Acquire) >= *target;
    shared.sealed_changed.wait_until(|| {
        shared.common.poison.is_set()
            || shared.closing.load(Ordering::Acquire)
            || targets.iter().all(is_sealed)
    });
    if shared.common.poison.is_set() {
        return Err(poisoned(shared));
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
fn wait_for_appends(shared: &Shared) {
    // After a failed sync nobody gives back what is held.
    while shared.common.staging.holds() && !shared.common.poison.is_set() {
        shared.work.prepare.wait_idle();
        shared.work.open.wait_idle();
    }
    // The last answers.
    shared.work.open.wait_idle();
}

/// Everything durable, and in segments, so that the next start has nothing to replay.
pub(super) fn before_exit(shared: &Shared) -> Result<(), StoreError> {
    wait_for_appends(shared);
    if shared.common.poison.is_set() {
        return Err(poisoned(shared));
    }
    flush(shared)?;
    if let Err(error) = shared.checkpoint.run_once(shared) {
        shared.poison_by(&error);
        return Err(poisoned(shared));
    }
    Ok(())
}
