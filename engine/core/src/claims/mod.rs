//! Who owns a stream, as Tier 2 records it.
//!
//! - A claim is a create-if-absent object, one per stream and epoch; it is never changed and never collected.
//! - The owner is the volume of the highest epoch. After a create the epochs are listed again: only who is still the highest
//!   owns.
//! - The volume owns, not the process: a restart finds its own claim and keeps the epoch.
//! - No claim is made before the prefix is known to be this cluster's, and none on a store that ignores preconditions.
//! - Each claim stands for itself: one that cannot be read says nothing about other streams, and its key alone says that a stream
//!   of a lower epoch was taken over.

mod check;
mod compare;
mod mark;
#[cfg(feature = "testing")]
pub mod suite;

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::io::in_parallel;
use crate::io::sync::Mutex;
use aof2_format::claim::{Claim, ClusterMarker};
use aof2_format::names::ObjectKey;
use aof2_format::{Damage, FORMAT_VERSION, StreamName, VolumeId};

use crate::error::ClaimError;
use crate::objects::conditional::Creation;
use crate::objects::tier2::ATTEMPTS_OF_A_CALLER;
use crate::objects::{ObjectError, Tier2, Upload};
use crate::port::{Claims, LocalStream, Standing, VolumeIdentity};

/// Where other nodes send appends for the streams that are owned here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub String);

/// For people who find `cluster.json` in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName {
    pub namespace: String,
    pub name: String,
}

/// Where a stream's claim stands for one volume and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimStanding {
    Held,
    /// Another epoch, or the same one by another volume, is the highest. `owner` is a node name, or says why it is not known.
    Superseded {
        from: u64,
        to: u64,
        owner: String,
    },
}

/// What became of the claims of many streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Streams that were taken over.
    pub lost: Vec<(Arc<str>, ClaimStanding)>,
    /// Streams about which Tier 2 does not tell.
    pub waiting: Vec<(Arc<str>, ClaimError)>,
}

pub struct StreamClaims {
    tier2: Arc<Tier2>,
    cluster: ClusterName,
    address: Address,
    /// The cluster id with which `cluster.json` was seen.
    cluster_confirmed: Mutex<Option<String>>,
    /// When a stream's claim was last seen to be held, for `ensure_held`.
    held: Mutex<HashMap<(String, u64), Instant>>,
    /// Objects that could not be read when they were last looked at, and why.
    unreadable: Mutex<BTreeMap<String, String>>,
    /// Claims never change: whether one is of this node under another volume is asked once.
    lost: Mutex<HashMap<(StreamName, u32), bool>>,
    /// Where the check of many claims goes on.
    walk: Mutex<check::Walk>,
    /// Names this process in the marks that it leaves.
    process: String,
}

/// Claims that are read at the same time.
const READERS: usize = 16;
/// Creates that meet a rival list again; each round somebody made progress.
const MAX_ROUNDS: u32 = 8;

impl StreamClaims {
    pub fn new(tier2: Arc<Tier2>, cluster: ClusterName, address: Address) -> StreamClaims {
        StreamClaims {
            process: tier2.put_id(),
            tier2,
            cluster,
            address,
            cluster_confirmed: Mutex::default(),
            held: Mutex::default(),
            unreadable: Mutex::default(),
            lost: Mutex::default(),
            walk: Mutex::default(),
        }
    }

    pub fn tier2(&self) -> &Arc<Tier2> {
        &self.tier2
    }

    /// Makes the prefix this cluster's, or finds that it is.
    pub fn ensure_cluster(&self, volume: &VolumeIdentity) -> Result<(), ClaimError> {
        let mut confirmed = self.cluster_confirmed.lock();
        if *confirmed == Some(volume.cluster_id.clone()) {
            return Ok(());
        }
        let marker = ClusterMarker {
            format_version: FORMAT_VERSION,
            cluster_id: parse("cluster id", &volume.cluster_id)?,
            namespace: self.cluster.namespace.clone(),
            name: self.cluster.name.clone(),
        };
        let key = ObjectKey::Cluster.to_key(self.tier2.prefix());
        let upload = Upload::of_bytes(marker.encode().into(), self.tier2.put_id());
        match self
            .tier2
            .create(&key, &upload, ATTEMPTS_OF_A_CALLER)
            .map_err(pending)?
        {
            Creation::Ours { .. } => {}
            // The id alone is no proof: everybody may read it in a status. Whose prefix it is says the namespace with the name, which no
            // two clusters share.
            Creation::Taken(_) => {
                let found = self.read(&key, ClusterMarker::decode)?;
                let of =
                    |it: &ClusterMarker| (it.cluster_id, it.namespace.clone(), it.name.clone());
                if of(&found) != of(&marker) {
                    return Err(ClaimError::PrefixInUse {
                        cluster_id: found.cluster_id.to_string(),
                        owner: format!("{}/{}", found.namespace, found.name),
                    });
                }
            }
        }
        *confirmed = Some(volume.cluster_id.clone());
        Ok(())
    }

    /// Does `volume` still own `stream` at `epoch`? A claim that is missing, because the stream was local before Tier 2 was
    /// configured or because somebody emptied the bucket, is made.
    pub fn confirm(
        &self,
        volume: &VolumeIdentity,
        stream: &str,
        epoch: u64,
    ) -> Result<ClaimStanding, ClaimError> {
        self.ensure_cluster(volume)?;
        let name = parse("stream name", stream)?;
        for _ in 0..MAX_ROUNDS {
            let highest = self.highest_epoch(&name)?;
            match self.judge(volume, &name, epoch, highest)? {
                Some(standing) => return Ok(standing),
                None => self.put_claim(volume, stream, epoch)?,
            }
        }
        Err(self.does_not_settle(stream))
    }

    /// What the highest claim says; `None` when it is below `epoch` or there is none. A higher epoch in a key is proof enough, whatever
    /// the object holds.
    fn judge(
        &self,
        volume: &VolumeIdentity,
        stream: &StreamName,
        epoch: u64,
        highest: Option<u32>,
    ) -> Result<Option<ClaimStanding>, ClaimError> {
        let Some(highest) = highest.filter(|highest| u64::from(*highest) >= epoch) else {
            return Ok(None);
        };
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        let held_as = (stream.to_string(), epoch);
        let owner = match self.read_claim(stream, highest) {
            Ok(claim) if u64::from(highest) == epoch && claim.volume_id == volume_id => {
                self.held.lock().insert(held_as, self.now());
                return Ok(Some(ClaimStanding::Held));
            }
            Ok(claim) => claim.node,
            Err(error) if u64::from(highest) > epoch => {
                format!("an unknown node ({error})")
            }
            Err(error) => return Err(error),
        };
        self.held.lock().remove(&held_as);
        Ok(Some(ClaimStanding::Superseded {
            from: epoch,
            to: highest.into(),
            owner,
        }))
    }

    /// As `confirm`, but content with a confirmation that is younger than `max_age`. Before every publication.
    pub fn ensure_held(
        &self,
        volume: &VolumeIdentity,
        stream: &str,
        epoch: u64,
        max_age: Duration,
    ) -> Result<ClaimStanding, ClaimError> {
        let now = self.now();
        let confirmed_at = self.held.lock().get(&(stream.to_owned(), epoch)).copied();
        if confirmed_at.is_some_and(|at| now.saturating_duration_since(at) < max_age) {
            return Ok(ClaimStanding::Held);
        }
        self.confirm(volume, stream, epoch)
    }

    /// Claims that could not be read when they were last looked at, by key, and why.
    pub fn unreadable(&self) -> BTreeMap<String, String> {
        self.unreadable.lock().clone()
    }

    /// This process has seen the claim in Tier 2, and nothing since that speaks against it.
    pub fn is_confirmed(&self, stream: &str, epoch: u64) -> bool {
        self.held.lock().contains_key(&(stream.to_owned(), epoch))
    }

    fn highest_of_all(&self) -> Result<BTreeMap<StreamName, u32>, ClaimError> {
        let mut highest: BTreeMap<StreamName, u32> = BTreeMap::new();
        for (stream, epoch) in self.list(&ObjectKey::all_claims_prefix(self.tier2.prefix()))? {
            let known = highest.entry(stream).or_default();
            *known = epoch.max(*known);
        }
        // What is not the highest any more is nobody's concern.
        self.unreadable
            .lock()
            .retain(|key, _| match ObjectKey::parse(self.tier2.prefix(), key) {
                Some(ObjectKey::Claim { stream, epoch }) => highest.get(&stream) == Some(&epoch),
                _ => true,
            });
        Ok(highest)
    }

    /// Streams that the node of this name owns under another volume, by name, and whether every claim could be read.
    pub fn owned_under_another_volume(
        &self,
        volume: &VolumeIdentity,
    ) -> Result<(Vec<String>, bool), ClaimError> {
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        let claims: Vec<_> = self.highest_of_all()?.into_iter().collect();
        let is_complete = AtomicBool::new(true);
        let found = Mutex::new(Vec::new());
        in_parallel(READERS, claims.len(), |index| {
            let claim_of = &claims[index];
            let (stream, epoch) = claim_of;
            let known = self.lost.lock().get(claim_of).copied();
            let is_lost = match known {
                Some(is_lost) => is_lost,
                None => match self.read_claim(stream, *epoch) {
                    Ok(claim) => claim.node == volume.node && claim.volume_id != volume_id,
                    // It counts for itself: its stream waits, by `claim`.
                    Err(ClaimError::Unreadable { .. }) => {
                        is_complete.store(false, Ordering::Relaxed);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                },
            };
            if is_lost {
                found.lock().push(stream.to_string());
            }
            self.lost.lock().insert(claim_of.clone(), is_lost);
            Ok(())
        })?;
        let mut lost = found.into_inner();
        lost.sort();
        Ok((lost, is_complete.into_inner()))
    }

    /// Writes one claim object unless it is there; who owns is decided by listing, not by this.
    pub(crate) fn put_claim(
        &self,
        volume: &VolumeIdentity,
        stream: &str,
        epoch: u64,
    ) -> Result<(), ClaimError> {
        let stream: StreamName = parse("stream name", stream)?;
        let epoch = u32::try_from(epoch).map_err(|_| ClaimError::Pending {
            message: format!("epoch {epoch} of stream {stream} is out of range"),
        })?;
        let claim = Claim {
            format_version: FORMAT_VERSION,
            cluster_id: parse("cluster id", &volume.cluster_id)?,
            stream: stream.clone(),
            epoch,
            node_id: parse("node id", &volume.node_id)?,
            volume_id: parse("volume id", &volume.volume_id)?,
            node: volume.node.clone(),
            address: self.address.0.clone(),
        };
        let key = ObjectKey::Claim { stream, epoch }.to_key(self.tier2.prefix());
        let upload = Upload::of_bytes(claim.encode().into(), self.tier2.put_id());
        self.tier2
            .create(&key, &upload, ATTEMPTS_OF_A_CALLER)
            .map_err(pending)?;
        Ok(())
    }

    fn highest_epoch(&self, stream: &StreamName) -> Result<Option<u32>, ClaimError> {
        let keys = self.list(&ObjectKey::claims_prefix(self.tier2.prefix(), stream))?;
        Ok(keys.into_iter().map(|(_, epoch)| epoch).max())
    }

    fn list(&self, folder: &str) -> Result<Vec<(StreamName, u32)>, ClaimError> {
        let keys = self.tier2.store().list(folder, None).map_err(pending)?;
        let claim = |key: &String| match ObjectKey::parse(self.tier2.prefix(), key) {
            Some(ObjectKey::Claim { stream, epoch }) => Some((stream, epoch)),
            _ => None,
        };
        Ok(keys.iter().filter_map(claim).collect())
    }

    /// A claim that was listed. `Unreadable`, and remembered as such, when what lies there says nothing.
    fn read_claim(&self, stream: &StreamName, epoch: u32) -> Result<Claim, ClaimError> {
        let key = ObjectKey::Claim {
            stream: stream.clone(),
            epoch,
        }
        .to_key(self.tier2.prefix());
        let claim = self.read(&key, Claim::decode).and_then(|claim| {
            if claim.stream == *stream && claim.epoch == epoch {
                return Ok(claim);
            }
            let problem = format!(
                "content names stream {} epoch {}",
                claim.stream, claim.epoch
            );
            Err(self.unreadable_object(&key, &problem))
        });
        match &claim {
            Ok(_) => {
                if self.unreadable.lock().remove(&key).is_some() {
                    tracing::info!(key, "claim is readable again");
                }
            }
            Err(ClaimError::Unreadable { key, message }) => {
                let mut unreadable = self.unreadable.lock();
                if unreadable.insert(key.clone(), message.clone()).as_ref() != Some(message) {
                    tracing::error!(%stream, error = message, "cannot read a claim; appends to its stream wait, other streams continue");
                }
            }
            Err(_) => {}
        }
        claim
    }

    fn unreadable_object(&self, key: &str, problem: &str) -> ClaimError {
        ClaimError::Unreadable {
            key: key.to_owned(),
            message: format!(
                "object {key} at {} is damaged ({problem}); restore it",
                self.tier2.place()
            ),
        }
    }

    /// Objects that a listing showed; claims are never collected, so a missing one is damage, not news.
    fn read<T>(
        &self,
        key: &str,
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<T, ClaimError> {
        let mut attempt = 1;
        let object = loop {
            match self.tier2.store().get(key) {
                Ok(Some(object)) => break object,
                Ok(None) if attempt >= ATTEMPTS_OF_A_CALLER => {
                    return Err(self.unreadable_object(key, "listed but missing"));
                }
                Err(ObjectError::Corrupt { attempt: _, cause }) => {
                    return Err(self.unreadable_object(key, &cause));
                }
                // It counts for itself: other streams go on.
                Err(error) if error.concerns_one_object() => {
                    return Err(ClaimError::Unreadable {
                        key: key.to_owned(),
                        message: error.to_string(),
                    });
                }
                Err(error) if attempt >= ATTEMPTS_OF_A_CALLER || !error.is_outage() => {
                    return Err(pending(error));
                }
                Ok(None) | Err(_) => {}
            }
            if !self.tier2.retries().pause_after(attempt) {
                return Err(ClaimError::Pending {
                    message: format!("cannot read {key}; the engine retries"),
                });
            }
            attempt += 1;
        };
        decode(&object.bytes).map_err(|damage| match damage {
            newer if newer.is_newer_version() => ClaimError::Unreadable {
                key: key.to_owned(),
                message: format!(
                    "object {key} at {} was written by a newer engine ({newer}); use that engine version",
                    self.tier2.place()
                ),
            },
            damage => self.unreadable_object(key, &damage.to_string()),
        })
    }

    fn does_not_settle(&self, stream: &str) -> ClaimError {
        ClaimError::Pending {
            message: format!(
                "{} does not list the new claim of stream {stream} yet; the engine retries",
                self.tier2.place()
            ),
        }
    }

    fn now(&self) -> Instant {
        self.tier2.retries().clock().monotonic()
    }
}

impl Claims for StreamClaims {
    fn check_volume(
        &self,
        volume: &VolumeIdentity,
        standing: Standing,
    ) -> Result<bool, ClaimError> {
        self.ensure_cluster(volume)?;
        self.check_marks(volume, standing.mark)?;
        // A volume that was admitted once begins no stream of another one again at sequence 0.
        if standing.is_admitted {
            return Ok(true);
        }
        let (streams, is_complete) = self.owned_under_another_volume(volume)?;
        if streams.is_empty() {
            Ok(is_complete)
        } else {
            Err(ClaimError::VolumeLost { streams })
        }
    }

    fn check_streams(
        &self,
        volume: &VolumeIdentity,
        streams: &[LocalStream],
    ) -> Result<(), ClaimError> {
        self.compare_with_objects(volume, streams)
    }

    fn leave_mark(&self, volume: &VolumeIdentity, mark: u64) -> Result<(), ClaimError> {
        self.ensure_cluster(volume)?;
        self.put_mark(volume, mark)
    }

    fn find(&self, volume: &VolumeIdentity, stream: &str) -> Result<Option<u64>, ClaimError> {
        self.ensure_cluster(volume)?;
        let name = parse("stream name", stream)?;
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        let Some(epoch) = self.highest_epoch(&name)? else {
            return Ok(None);
        };
        let claim = self.read_claim(&name, epoch)?;
        if claim.volume_id == volume_id {
            let epoch = claim.epoch.into();
            self.held
                .lock()
                .insert((stream.to_owned(), epoch), self.now());
            Ok(Some(epoch))
        } else if claim.node == volume.node {
            Err(ClaimError::VolumeLost {
                streams: vec![stream.to_owned()],
            })
        } else {
            Err(ClaimError::NotOwner {
                stream: stream.to_owned(),
                owner: claim.node,
                address: claim.address,
            })
        }
    }

    fn claim(&self, volume: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError> {
        for _ in 0..MAX_ROUNDS {
            match self.find(volume, stream)? {
                Some(epoch) => return Ok(epoch),
                None => self.put_claim(volume, stream, 1)?,
            }
        }
        Err(self.does_not_settle(stream))
    }
}

/// Whatever Tier 2 could not do, the claim waits for it; the text says what and who has to act.
fn pending(error: ObjectError) -> ClaimError {
    ClaimError::Pending {
        message: error.to_string(),
    }
}

/// Identities come from the volume's own file and from checked requests; an invalid one is reported, not assumed.
fn parse<T: FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, ClaimError> {
    text.parse().map_err(|error| ClaimError::Pending {
        message: format!("{what} {text:?} is invalid, so no claim is made: {error}"),
    })
}

#[cfg(test)]
mod tests;
