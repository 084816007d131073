//! Who owns a stream, as Tier 2 records it.
//!
//! - A claim is a create-if-absent object, one per stream and epoch; it is never changed and never collected.
//! - The owner is the volume of the highest epoch. After a create the epochs are listed again: only who is still the highest
//!   owns.
//! - The volume owns, not the process: a restart finds its own claim and keeps the epoch.
//! - No claim is made before the prefix is known to be this cluster's, and none on a store that ignores preconditions.
//! - Each claim stands for itself: one that cannot be read says nothing about other streams, and its key alone says that a stream
//!   of a lower epoch was taken over.

mod compare;
mod mark;
#[cfg(feature = "testing")]
pub mod suite;

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Names this process in the marks that it leaves.
    process: String,
}

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
            // Its own cluster's object may differ in the name: only the id counts.
            Creation::Taken(_) => {
                let found = self.read(&key, ClusterMarker::decode)?;
                if found.cluster_id != marker.cluster_id {
                    return Err(ClaimError::PrefixInUse {
                        cluster_id: found.cluster_id.to_string(),
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

    /// Confirms many streams with one listing. Only a stream whose highest epoch is not the one known to be held costs requests of
    /// its own, and what keeps one from being confirmed keeps no other. A missing claim is made if `may_claim`.
    pub fn refresh(
        &self,
        volume: &VolumeIdentity,
        streams: &[(Arc<str>, u64)],
        may_claim: bool,
    ) -> Result<Refreshed, ClaimError> {
        self.ensure_cluster(volume)?;
        let listed_at = self.now();
        let listed = self.highest_of_all()?;
        let mut refreshed = Refreshed::default();
        for (stream, epoch) in streams {
            let highest = listed.get(&**stream).copied();
            let is_highest = highest.is_some_and(|highest| u64::from(highest) == *epoch);
            if let Some(confirmed_at) = self
                .held
                .lock()
                .get_mut(&(stream.to_string(), *epoch))
                .filter(|_| is_highest)
            {
                *confirmed_at = listed_at.max(*confirmed_at);
                continue;
            }
            let judged = parse("stream name", stream)
                .and_then(|name| self.judge(volume, &name, *epoch, highest));
            let judged = match judged {
                Ok(None) if may_claim => self.confirm(volume, stream, *epoch).map(Some),
                other => other,
            };
            match judged {
                Ok(Some(ClaimStanding::Held) | None) => {}
                Ok(Some(superseded @ ClaimStanding::Superseded { .. })) => {
                    refreshed.lost.push((stream.clone(), superseded));
                }
                Err(error) => refreshed.waiting.push((stream.clone(), error)),
            }
        }
        Ok(refreshed)
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
        let mut lost = Vec::new();
        let mut is_complete = true;
        for claim_of in self.highest_of_all()? {
            let (stream, epoch) = &claim_of;
            let known = self.lost.lock().get(&claim_of).copied();
            let is_lost = match known {
                Some(is_lost) => is_lost,
                None => match self.read_claim(stream, *epoch) {
                    Ok(claim) => claim.node == volume.node && claim.volume_id != volume_id,
                    // It counts for itself: its stream waits, by `claim`.
                    Err(ClaimError::Unreadable { .. }) => {
                        is_complete = false;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if is_lost {
                lost.push(stream.to_string());
            }
            self.lost.lock().insert(claim_of, is_lost);
        }
        Ok((lost, is_complete))
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
                    tracing::error!(%stream, message, "cannot read a claim; appends to its stream wait, other streams continue");
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
mod tests {
    use super::*;
    use crate::claims::suite::{admitted, claims_of, volume};
    use crate::objects::ObjectStore;
    use crate::objects::memory::{Fault, MemoryStore, Verb};

    fn store() -> (Arc<MemoryStore>, Arc<dyn ObjectStore>) {
        let memory = Arc::new(MemoryStore::new());
        (memory.clone(), memory)
    }

    #[test]
    fn with_tier_2_down_a_claim_is_pending_and_succeeds_later() {
        let (memory, store) = store();
        memory.set_unreachable(true);
        let claims = claims_of(&store, "p/", "orders-0");
        let volume = volume("orders-0", 1);
        assert!(matches!(
            claims.check_volume(&volume, admitted(0)),
            Err(ClaimError::Pending { .. })
        ));
        let error = claims.claim(&volume, "s").expect_err("down");
        assert!(
            matches!(&error, ClaimError::Pending { message } if message.contains("no connection")),
            "{error}"
        );
        memory.heal();
        assert_eq!(
            claims_of(&store, "p/", "orders-0").claim(&volume, "s"),
            Ok(1)
        );
    }

    #[test]
    fn a_claim_whose_response_was_lost_is_found_to_be_ours() {
        let (memory, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        let volume = volume("orders-0", 1);
        claims
            .check_volume(&volume, admitted(0))
            .expect("the prefix is ours");
        memory.inject(Verb::PutIfAbsent, Fault::LostResponse, 1);
        memory.inject(Verb::Head, Fault::ServerError, 1);
        assert_eq!(claims.claim(&volume, "s"), Ok(1));
    }

    #[test]
    fn no_claim_is_made_on_a_store_that_ignores_preconditions() {
        let (memory, store) = store();
        memory.ignore_preconditions();
        let error = claims_of(&store, "p/", "orders-0")
            .claim(&volume("orders-0", 1), "s")
            .expect_err("refused");
        assert!(
            matches!(&error, ClaimError::Pending { message } if message.contains("ignores preconditions")),
            "{error}"
        );
        assert_eq!(memory.keys(), Vec::<String>::new());
    }

    #[test]
    fn a_damaged_claim_is_not_taken_for_anybodys() {
        let (memory, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        assert_eq!(claims.claim(&volume("orders-0", 1), "s"), Ok(1));
        memory.damage("p/claims/s/00000000000000000001", 12);
        let error = claims
            .claim(&volume("orders-0", 1), "s")
            .expect_err("damaged");
        match error {
            ClaimError::Unreadable { key, message } => {
                assert_eq!(key, "p/claims/s/00000000000000000001");
                assert!(message.contains("restore it"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn put(store: &Arc<dyn ObjectStore>, key: &str, body: &'static str) {
        let upload = Upload::of_bytes(body.into(), "test".into());
        store.put(key, &upload).expect("put");
    }

    const NEWER: &str = "{\"format\":\"aof2-claim\",\"format_version\":9,\"shape\":\"unknown\"}\n";

    fn refreshed(claims: &StreamClaims, streams: &[&str]) -> Refreshed {
        let streams: Vec<(Arc<str>, u64)> =
            streams.iter().map(|name| ((*name).into(), 1)).collect();
        claims
            .refresh(&volume("orders-0", 1), &streams, true)
            .expect("Tier 2 answers")
    }

    #[test]
    fn many_streams_are_refreshed_with_one_listing_and_a_lost_one_is_named() {
        let (memory, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        let (mine, theirs) = (volume("orders-0", 1), volume("orders-1", 2));
        let streams = ["a", "b", "c"];
        for stream in streams {
            assert_eq!(claims.claim(&mine, stream), Ok(1));
        }
        let (lists, gets) = (memory.calls(Verb::List), memory.calls(Verb::Get));
        assert_eq!(refreshed(&claims, &streams), Refreshed::default());
        assert_eq!(
            (memory.calls(Verb::List), memory.calls(Verb::Get)),
            (lists + 1, gets)
        );
        claims_of(&store, "p/", "orders-1")
            .put_claim(&theirs, "b", 2)
            .expect("taken over");
        let lost = ClaimStanding::Superseded {
            from: 1,
            to: 2,
            owner: "orders-1".into(),
        };
        assert_eq!(refreshed(&claims, &streams).lost, vec![("b".into(), lost)]);
        assert!(claims.is_confirmed("a", 1));
        assert!(!claims.is_confirmed("b", 1));
    }

    #[test]
    fn a_claim_that_cannot_be_read_keeps_no_other_stream_from_learning_that_it_was_taken_over() {
        let (memory, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        let (mine, theirs) = (volume("orders-0", 1), volume("orders-1", 2));
        let streams = ["a", "b", "c", "d"];
        for stream in streams {
            assert_eq!(claims.claim(&mine, stream), Ok(1));
        }
        claims_of(&store, "p/", "orders-1")
            .put_claim(&theirs, "d", 2)
            .expect("taken over");
        // As a new process, which has to read every claim.
        let claims = claims_of(&store, "p/", "orders-0");
        memory.damage("p/claims/a/00000000000000000001", 12);
        put(&store, "p/claims/b/00000000000000000001", NEWER);
        let Refreshed { lost, waiting } = refreshed(&claims, &streams);
        let lost: Vec<&str> = lost.iter().map(|(stream, _)| &**stream).collect();
        let waiting: Vec<&str> = waiting.iter().map(|(stream, _)| &**stream).collect();
        assert_eq!((lost, waiting), (vec!["d"], vec!["a", "b"]));
        assert!(claims.is_confirmed("c", 1));
        let unreadable = claims.unreadable();
        assert_eq!(
            unreadable.keys().collect::<Vec<_>>(),
            [
                "p/claims/a/00000000000000000001",
                "p/claims/b/00000000000000000001"
            ]
        );
        assert!(
            unreadable["p/claims/b/00000000000000000001"].contains("newer engine"),
            "{unreadable:?}"
        );
    }

    #[test]
    fn a_higher_epoch_supersedes_whatever_its_object_holds() {
        let (_, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        assert_eq!(claims.claim(&volume("orders-0", 1), "a"), Ok(1));
        put(&store, "p/claims/a/00000000000000000007", "not a claim");
        let Refreshed { lost, waiting } = refreshed(&claims, &["a"]);
        assert_eq!(waiting, []);
        match &lost[..] {
            [
                (
                    stream,
                    ClaimStanding::Superseded {
                        from: 1,
                        to: 7,
                        owner,
                    },
                ),
            ] => {
                assert_eq!(&**stream, "a");
                assert!(owner.contains("p/claims/a/00000000000000000007"), "{owner}");
            }
            other => panic!("{other:?}"),
        }
        let confirmed = claims.confirm(&volume("orders-0", 1), "a", 1);
        assert!(
            matches!(confirmed, Ok(ClaimStanding::Superseded { to: 7, .. })),
            "{confirmed:?}"
        );
    }

    #[test]
    fn a_claim_that_can_be_read_again_is_not_reported_any_more() {
        let (_, store) = store();
        let key = "p/claims/a/00000000000000000001";
        let mine = volume("orders-0", 1);
        assert_eq!(claims_of(&store, "p/", "orders-0").claim(&mine, "a"), Ok(1));
        let good = store.get(key).expect("get").expect("there").bytes;
        put(&store, key, NEWER);
        let claims = claims_of(&store, "p/", "orders-0");
        assert_eq!(refreshed(&claims, &["a"]).waiting.len(), 1);
        assert_eq!(claims.unreadable().len(), 1);
        store
            .put(key, &Upload::of_bytes(good, "restored".into()))
            .expect("put");
        assert_eq!(refreshed(&claims, &["a"]), Refreshed::default());
        assert_eq!(claims.unreadable().len(), 0);
    }

    #[test]
    fn an_empty_volume_is_admitted_for_good_only_when_every_claim_was_read() {
        let (_, store) = store();
        let (lost, other) = (volume("orders-0", 1), volume("orders-1", 2));
        for stream in ["a", "b"] {
            assert_eq!(
                claims_of(&store, "p/", "orders-1").claim(&other, stream),
                Ok(1)
            );
        }
        let key = "p/claims/c/00000000000000000001";
        assert_eq!(claims_of(&store, "p/", "orders-0").claim(&lost, "c"), Ok(1));
        let good = store.get(key).expect("get").expect("there").bytes;
        put(&store, key, NEWER);
        let claims = claims_of(&store, "p/", "orders-0");
        let (empty, new) = (volume("orders-0", 3), Standing::default());
        assert_eq!(claims.check_volume(&empty, new), Ok(false));
        // Its stream waits, others are served.
        assert!(matches!(
            claims.claim(&empty, "c"),
            Err(ClaimError::Unreadable { .. })
        ));
        assert_eq!(claims.claim(&empty, "d"), Ok(1));
        store
            .put(key, &Upload::of_bytes(good, "restored".into()))
            .expect("put");
        assert_eq!(
            claims.check_volume(&empty, new),
            Err(ClaimError::VolumeLost {
                streams: vec!["c".into()]
            })
        );
    }

    #[test]
    fn a_confirmation_serves_for_its_age_and_no_longer() {
        let (memory, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        let volume = volume("orders-0", 1);
        assert_eq!(claims.claim(&volume, "s"), Ok(1));
        let lists = memory.calls(Verb::List);
        let hour = Duration::from_secs(3600);
        assert_eq!(
            claims.ensure_held(&volume, "s", 1, hour),
            Ok(ClaimStanding::Held)
        );
        assert_eq!(memory.calls(Verb::List), lists);
        assert_eq!(
            claims.ensure_held(&volume, "s", 1, Duration::ZERO),
            Ok(ClaimStanding::Held)
        );
        assert_eq!(memory.calls(Verb::List), lists + 1);
    }
}
