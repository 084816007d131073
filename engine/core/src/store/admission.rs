//! May this volume be used? What is on it is held against what Tier 2 knows of it: before anything is served where Tier 2 answers,
//! else as soon as it does.
//!
//! - The check is owed until it was made. Until then nothing is claimed, uploaded or published for this volume. Streams that are on it
//!   go on acknowledging, so that an outage of Tier 2 stops nobody.
//! - A volume that passes leaves its next mark, durable on the volume first. A process that goes on acknowledging leaves one every
//!   `MARK_INTERVAL`, so that a copy of the volume that was made while it ran is found to be older, too.
//! - A refusal is permanent: every stream is quarantined, and whoever opened the store is notified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aof2_format::names::file;
use aof2_format::volume::VolumeIdentity;

use crate::common::Common;
use crate::error::{AcknowledgedSince, OpenError};
use crate::error::{ClaimError, RolledBack, StoreError};
use crate::io::WriteError;
use crate::io::sync::Mutex;
use crate::io::{FileClass, replace_file};
use crate::port::{Claims, LocalStream};
use crate::recovery::volume::standing_of;
use crate::stream::table::Streams;
use crate::stream::{Quarantined, Stream};
use crate::volume::Volume;

/// How old the newest mark may become while records are acknowledged: what is acknowledged within this time after a copy was made is
/// not missed when the copy is put back.
const MARK_INTERVAL: Duration = Duration::from_secs(60);

/// For so long a check that failed answers for itself: appends that wait for it do not ask Tier 2 one after another.
const ASK_AGAIN: Duration = Duration::from_secs(1);

type Callback = Box<dyn FnOnce(OpenError) + Send>;

pub(crate) struct Admission {
    common: Arc<Common>,
    streams: Arc<Streams>,
    pub claims: Option<Arc<dyn Claims>>,
    pub volume: Volume,
    identity_file: PathBuf,
    /// The check was made, and passed.
    is_settled: AtomicBool,
    /// Held while Tier 2 is asked.
    state: Mutex<State>,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct State {
    refused: Option<ClaimError>,
    /// When Tier 2 did not tell last, and why.
    failed: Option<(Instant, ClaimError)>,
    /// When the newest mark was left, and the count of records that were acknowledged then.
    marked: Option<(Instant, u64)>,
    /// Counts of records at open, while the check is owed.
    at_open: BTreeMap<Arc<str>, u64>,
}

#[derive(Default)]
struct Listeners {
    callbacks: Vec<Callback>,
    refused: Option<ClaimError>,
}

impl Admission {
    pub fn new(
        common: Arc<Common>,
        streams: Arc<Streams>,
        claims: Option<Arc<dyn Claims>>,
        volume: Volume,
        root: &Path,
    ) -> Admission {
        Admission {
            common,
            streams,
            claims,
            volume,
            identity_file: root.join(file::VOLUME),
            is_settled: AtomicBool::new(false),
            state: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// After recovery, before anything is served.
    pub fn at_open(&self) -> Result<(), OpenError> {
        let Some(claims) = &self.claims else {
            return Ok(());
        };
        let mut state = self.state.lock();
        let error = match self.volume.admission.clone() {
            Some(admitted) => match self.compare_and_mark(&**claims, admitted, &mut state) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            None => ClaimError::Pending {
                message: "no answer from Tier 2".to_owned(),
            },
        };
        let message = error.to_string();
        if let Some(refused) = OpenError::of_claims(&self.volume.identity.node, error) {
            return Err(refused);
        }
        tracing::warn!(
            error = message,
            "Tier 2 has not checked this volume yet; new streams and uploads wait"
        );
        state.at_open = self.counts();
        Ok(())
    }

    pub fn is_owed(&self) -> bool {
        self.claims.is_some() && !self.is_settled.load(Ordering::Acquire)
    }

    /// Makes the check if it is owed. Before every claim and every publication; blocks on Tier 2 then, and costs nothing later.
    pub fn settle(&self) -> Result<(), ClaimError> {
        let Some(claims) = &self.claims else {
            return Ok(());
        };
        if self.is_settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.state.lock();
        if let Some(error) = &state.refused {
            return Err(error.clone());
        }
        if self.is_settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let now = self.common.env.clock.monotonic();
        if let Some((at, error)) = &state.failed
            && now.saturating_duration_since(*at) < ASK_AGAIN
        {
            return Err(error.clone());
        }
        let standing = standing_of(&self.volume.stored.lock());
        let admitted = claims.check_volume(&self.volume.identity, standing);
        match self.compare_and_mark(&**claims, admitted, &mut state) {
            Ok(()) => {
                tracing::info!("Tier 2 confirmed this volume");
                Ok(())
            }
            Err(error) => {
                state.failed = Some((self.common.env.clock.monotonic(), error.clone()));
                Err(self.judge(state, error))
            }
        }
    }

    /// Every now and then: the check if it is owed, what it had to leave open, and the next mark if it is due.
    pub fn keep(&self) -> Result<(), ClaimError> {
        let Some(claims) = &self.claims else {
            return Ok(());
        };
        self.settle()?;
        let mut state = self.state.lock();
        if let Some(error) = &state.refused {
            return Err(error.clone());
        }
        let standing = standing_of(&self.volume.stored.lock());
        let was_admitted = standing.is_admitted;
        let kept = match was_admitted {
            true => Ok(true),
            false => claims.check_volume(&self.volume.identity, standing),
        }
        .and_then(|is_admitted| {
            let total: u64 = self.counts().values().sum();
            let now = self.common.env.clock.monotonic();
            let is_due = is_admitted != was_admitted
                || state.marked.is_none_or(|(at, acknowledged)| {
                    acknowledged != total && now.saturating_duration_since(at) >= MARK_INTERVAL
                });
            if is_due {
                // Where Tier 2 does not take it, the next one is as far away: each try is written to the volume first.
                if let Some((at, _)) = &mut state.marked {
                    *at = now;
                }
                self.leave_mark(&**claims, is_admitted, &mut state)
            } else {
                Ok(())
            }
        });
        kept.map_err(|error| self.judge(state, error))
    }

    /// A stream that this volume owns and does not have: its later state did.
    pub fn refuse_for_claim(&self, stream: &str, epoch: u64) -> ClaimError {
        let proof = RolledBack::Claim {
            stream: stream.to_owned(),
            epoch,
        };
        let error = ClaimError::RolledBack {
            proofs: vec![proof],
        };
        self.judge(self.state.lock(), error)
    }

    /// Called once, with the refusal; at once if there is one.
    pub fn on_refused(&self, callback: Callback) {
        let mut listeners = self.listeners.lock();
        match listeners.refused.clone() {
            None => listeners.callbacks.push(callback),
            Some(error) => {
                drop(listeners);
                self.callback_with(&error, AcknowledgedSince::default(), callback);
            }
        }
    }

    fn compare_and_mark(
        &self,
        claims: &dyn Claims,
        admitted: Result<bool, ClaimError>,
        state: &mut State,
    ) -> Result<(), ClaimError> {
        let streams: Vec<LocalStream> = self
            .streams
            .existing()
            .iter()
            .filter_map(|stream| local(stream))
            .collect();
        let is_admitted = match admitted {
            Ok(is_admitted) => is_admitted,
            Err(ClaimError::RolledBack { proofs: of_volume }) => {
                let mut proofs = match claims.check_streams(&self.volume.identity, &streams) {
                    Err(ClaimError::RolledBack { proofs }) => proofs,
                    // One proof is enough.
                    Ok(()) | Err(_) => Vec::new(),
                };
                proofs.extend(of_volume);
                return Err(ClaimError::RolledBack { proofs });
            }
            Err(error) => return Err(error),
        };
        claims.check_streams(&self.volume.identity, &streams)?;
        self.leave_mark(claims, is_admitted, state)?;
        state.at_open.clear();
        self.is_settled.store(true, Ordering::Release);
        Ok(())
    }

    /// On the volume first.
    fn leave_mark(
        &self,
        claims: &dyn Claims,
        is_admitted: bool,
        state: &mut State,
    ) -> Result<(), ClaimError> {
        // Read before the mark is durable: a copy made after it is compared with the next one.
        let acknowledged = self.counts().values().sum();
        let mark = self.record(is_admitted)?;
        claims.leave_mark(&self.volume.identity, mark)?;
        state.marked = Some((self.common.env.clock.monotonic(), acknowledged));
        Ok(())
    }

    /// Writes the next mark to the identity file. Never one that was tried before: its object may still arrive.
    fn record(&self, is_admitted: bool) -> Result<u64, ClaimError> {
        let mut stored = self.volume.stored.lock();
        let next = VolumeIdentity {
            mark: stored.mark + 1,
            is_admitted,
            ..stored.clone()
        };
        let pending = |error: StoreError| ClaimError::Pending {
            message: error.to_string(),
        };
        self.write_identity(&mut stored, next).map_err(pending)?;
        Ok(stored.mark)
    }

    /// From here on engines that know data directories of older versions alone refuse this one. Blocks until that is durable.
    pub fn require_version(&self, version: u16) -> Result<(), StoreError> {
        let mut stored = self.volume.stored.lock();
        if stored.format_version >= version {
            return Ok(());
        }
        let next = VolumeIdentity {
            format_version: version,
            ..stored.clone()
        };
        self.write_identity(&mut stored, next)?;
        tracing::info!(
            version,
            "data directory has a newer format version from now on; engines that do not know it refuse it"
        );
        Ok(())
    }

    fn write_identity(
        &self,
        stored: &mut VolumeIdentity,
        next: VolumeIdentity,
    ) -> Result<(), StoreError> {
        let poison = &self.common.poison;
        if poison.is_set() {
            return Err(StoreError::Poisoned {
                message: poison.reason(),
            });
        }
        let path = self.identity_file.clone();
        let disk = &*self.common.env.disk;
        let Err(source) = replace_file(disk, &path, &next.encode(), FileClass::Other) else {
            *stored = next;
            return Ok(());
        };
        if let Some(lack) = StoreError::of_lack(&source, path.display().to_string()) {
            return Err(lack);
        }
        let message = format!("cannot write {}: {source}", path.display());
        let verb = "write";
        poison.set_by(&WriteError { verb, path, source });
        Err(StoreError::Poisoned { message })
    }

    /// A refusal quarantines every stream and is reported; anything else is answered.
    fn judge(
        &self,
        mut state: crate::io::sync::MutexGuard<'_, State>,
        error: ClaimError,
    ) -> ClaimError {
        let node = &self.volume.identity.node;
        let Some(refusal) = OpenError::of_claims(node, error.clone()) else {
            return error;
        };
        if let Some(first) = &state.refused {
            return first.clone();
        }
        state.refused = Some(error.clone());
        self.is_settled.store(false, Ordering::Release);
        let quarantined = Quarantined::Refused {
            reason: refusal.reason(),
            message: error.to_string().into(),
        };
        for stream in self.streams.everything() {
            let mut staged = stream.staged.lock();
            if staged.quarantined != Some(Quarantined::Gone) {
                staged.quarantined = Some(quarantined.clone());
            }
        }
        // Nothing is acknowledged any more.
        let now = self.counts();
        let since = AcknowledgedSince(
            state
                .at_open
                .iter()
                .filter_map(|(stream, from)| {
                    let to = *now.get(stream)?;
                    (to > *from).then(|| (stream.clone(), *from, to))
                })
                .collect(),
        );
        tracing::error!(reason = refusal.reason(), "{refusal}{since}");
        drop(state);
        let callbacks = {
            let mut listeners = self.listeners.lock();
            listeners.refused = Some(error.clone());
            std::mem::take(&mut listeners.callbacks)
        };
        for callback in callbacks {
            self.callback_with(&error, since.clone(), callback);
        }
        error
    }

    fn callback_with(
        &self,
        error: &ClaimError,
        acknowledged: AcknowledgedSince,
        callback: Callback,
    ) {
        let node = &self.volume.identity.node;
        match OpenError::of_claims(node, error.clone()) {
            Some(OpenError::RolledBack {
                node,
                proofs,
                since: _,
            }) => callback(OpenError::RolledBack {
                node,
                proofs,
                since: acknowledged,
            }),
            Some(other) => callback(other),
            None => unreachable!("only refusals are reported"),
        }
    }

    fn counts(&self) -> BTreeMap<Arc<str>, u64> {
        self.streams
            .existing()
            .iter()
            .map(|stream| (stream.shared_name.clone(), stream.durable()))
            .collect()
    }
}

/// `None` where nothing can be said: a damaged stream knows less than it did, and takes no appends; one that was taken over is another's.
fn local(stream: &Stream) -> Option<LocalStream> {
    match &stream.staged.lock().quarantined {
        None => {}
        Some(
            Quarantined::Damaged { .. }
            | Quarantined::Superseded { .. }
            | Quarantined::Refused { .. }
            | Quarantined::Gone,
        ) => return None,
    }
    let chunk = stream.manifest.chunk_in_use()?;
    let (uploaded, uploads_begun) = stream.manifest.read(|state| {
        let uploaded = state.residency.uploaded_upto();
        let begun = state
            .residency
            .segments()
            .filter(|(_, segment)| segment.base_sequence >= uploaded && segment.moves.upload_begun)
            .map(|(id, _)| id);
        (uploaded, begun.collect())
    });
    Some(LocalStream {
        stream: stream.shared_name.clone(),
        epoch: stream.epoch().into(),
        records: stream.durable(),
        uploaded,
        uploads_begun,
        chunk,
    })
}
