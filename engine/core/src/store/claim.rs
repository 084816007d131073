//! Who owns a stream, as Tier 2 records it.
//!
//! - A claim is a create-if-absent object, one per stream and epoch; it is never changed and never collected.
//! - The owner is the volume of the highest epoch. After a create the epochs are listed again: only who is still the highest
//!   owns.
//! - The volume owns, not the process: a restart finds its own claim and keeps the epoch.
//! - No claim is made before the prefix is known to be this cluster's, and none on a store that ignores preconditions.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_format::claim::{Claim, ClusterMarker};
use aof2_format::names::ObjectKey;
use aof2_format::{Damage, FORMAT_VERSION, StreamName, VolumeId};
use parking_lot::Mutex;

use super::conditional::Creation;
use super::tier2::ATTEMPTS_OF_A_CALLER;
use super::{ObjectError, Tier2, Upload};
use crate::tier_port::{ClaimError, Claims, VolumeIdentity};

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
    /// Another epoch, or the same one by another volume, is the highest. `owner` is a node name.
    Superseded {
        from: u64,
        to: u64,
        owner: String,
    },
}

pub struct StreamClaims {
    tier2: Arc<Tier2>,
    cluster: ClusterName,
    address: Address,
    /// The cluster id with which `cluster.json` was seen.
    cluster_confirmed: Mutex<Option<String>>,
    /// When a stream's claim was last seen to be held, for `ensure_held`.
    held: Mutex<HashMap<(String, u64), Instant>>,
}

/// Creates that meet a rival list again; each round somebody made progress.
const MAX_ROUNDS: u32 = 8;

impl StreamClaims {
    pub fn new(tier2: Arc<Tier2>, cluster: ClusterName, address: Address) -> StreamClaims {
        StreamClaims {
            tier2,
            cluster,
            address,
            cluster_confirmed: Mutex::default(),
            held: Mutex::default(),
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
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        for _ in 0..MAX_ROUNDS {
            match self.highest(&name)? {
                Some(claim) if u64::from(claim.epoch) >= epoch => {
                    let is_ours = u64::from(claim.epoch) == epoch && claim.volume_id == volume_id;
                    let mut held = self.held.lock();
                    if is_ours {
                        held.insert((stream.to_owned(), epoch), self.now());
                        return Ok(ClaimStanding::Held);
                    }
                    held.remove(&(stream.to_owned(), epoch));
                    return Ok(ClaimStanding::Superseded {
                        from: epoch,
                        to: claim.epoch.into(),
                        owner: claim.node,
                    });
                }
                Some(_) | None => self.put_claim(volume, stream, epoch)?,
            }
        }
        Err(self.does_not_settle(stream))
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
    /// its own. Answers those that were lost.
    pub fn refresh(
        &self,
        volume: &VolumeIdentity,
        streams: &[(Arc<str>, u64)],
    ) -> Result<Vec<(Arc<str>, ClaimStanding)>, ClaimError> {
        self.ensure_cluster(volume)?;
        let listed_at = self.now();
        let highest = self.highest_of_all()?;
        let mut lost = Vec::new();
        for (stream, epoch) in streams {
            let is_highest = highest
                .get(&**stream)
                .is_some_and(|highest| u64::from(*highest) == *epoch);
            if let Some(confirmed_at) = self
                .held
                .lock()
                .get_mut(&(stream.to_string(), *epoch))
                .filter(|_| is_highest)
            {
                *confirmed_at = listed_at.max(*confirmed_at);
                continue;
            }
            match self.confirm(volume, stream, *epoch)? {
                ClaimStanding::Held => {}
                superseded @ ClaimStanding::Superseded { .. } => {
                    lost.push((stream.clone(), superseded))
                }
            }
        }
        Ok(lost)
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
        Ok(highest)
    }

    /// Streams that the node of this name owns under another volume, by name.
    pub fn owned_under_another_volume(
        &self,
        volume: &VolumeIdentity,
    ) -> Result<Vec<String>, ClaimError> {
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        let mut lost = Vec::new();
        for (stream, epoch) in self.highest_of_all()? {
            let claim = self.read_claim(&stream, epoch)?;
            if claim.node == volume.node && claim.volume_id != volume_id {
                lost.push(stream.to_string());
            }
        }
        Ok(lost)
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

    /// The claim of a stream's highest epoch.
    fn highest(&self, stream: &StreamName) -> Result<Option<Claim>, ClaimError> {
        let keys = self.list(&ObjectKey::claims_prefix(self.tier2.prefix(), stream))?;
        match keys.into_iter().map(|(_, epoch)| epoch).max() {
            Some(epoch) => Ok(Some(self.read_claim(stream, epoch)?)),
            None => Ok(None),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<(StreamName, u32)>, ClaimError> {
        let keys = self.tier2.store().list(folder, None).map_err(pending)?;
        let claim = |key: &String| match ObjectKey::parse(self.tier2.prefix(), key) {
            Some(ObjectKey::Claim { stream, epoch }) => Some((stream, epoch)),
            _ => None,
        };
        Ok(keys.iter().filter_map(claim).collect())
    }

    fn read_claim(&self, stream: &StreamName, epoch: u32) -> Result<Claim, ClaimError> {
        let key = ObjectKey::Claim {
            stream: stream.clone(),
            epoch,
        }
        .to_key(self.tier2.prefix());
        let claim = self.read(&key, Claim::decode)?;
        if claim.stream != *stream || claim.epoch != epoch {
            let message = format!(
                "{key} speaks of stream {} epoch {}: restore that object",
                claim.stream, claim.epoch
            );
            return Err(ClaimError::Pending { message });
        }
        Ok(claim)
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
                    let message = format!(
                        "{key} was listed and is not there: restore that object in {}",
                        self.tier2.place()
                    );
                    return Err(ClaimError::Pending { message });
                }
                Err(error) if attempt >= ATTEMPTS_OF_A_CALLER || !error.is_outage() => {
                    return Err(pending(error));
                }
                Ok(None) | Err(_) => {}
            }
            if !self.tier2.retries().pause_after(attempt) {
                return Err(ClaimError::Pending {
                    message: format!("{key} cannot be read now"),
                });
            }
            attempt += 1;
        };
        decode(&object.bytes).map_err(|error| ClaimError::Pending {
            message: format!(
                "{key} at {} cannot be understood ({error}): restore that object",
                self.tier2.place()
            ),
        })
    }

    fn does_not_settle(&self, stream: &str) -> ClaimError {
        ClaimError::Pending {
            message: format!(
                "{} does not list the claim of stream {stream} that was just made",
                self.tier2.place()
            ),
        }
    }

    fn now(&self) -> Instant {
        self.tier2.retries().clock().monotonic()
    }
}

impl Claims for StreamClaims {
    fn check_volume(&self, volume: &VolumeIdentity) -> Result<(), ClaimError> {
        self.ensure_cluster(volume)?;
        // Only an empty directory can begin a stream again at sequence 0.
        if !volume.is_new {
            return Ok(());
        }
        let streams = self.owned_under_another_volume(volume)?;
        if streams.is_empty() {
            Ok(())
        } else {
            Err(ClaimError::VolumeLost { streams })
        }
    }

    fn claim(&self, volume: &VolumeIdentity, stream: &str) -> Result<u64, ClaimError> {
        self.ensure_cluster(volume)?;
        let name = parse("stream name", stream)?;
        let volume_id = parse::<VolumeId>("volume id", &volume.volume_id)?;
        for _ in 0..MAX_ROUNDS {
            match self.highest(&name)? {
                Some(claim) if claim.volume_id == volume_id => {
                    let epoch = claim.epoch.into();
                    self.held
                        .lock()
                        .insert((stream.to_owned(), epoch), self.now());
                    return Ok(epoch);
                }
                Some(claim) if claim.node == volume.node => {
                    return Err(ClaimError::VolumeLost {
                        streams: vec![stream.to_owned()],
                    });
                }
                Some(claim) => {
                    return Err(ClaimError::NotOwner {
                        stream: stream.to_owned(),
                        owner: claim.node,
                        address: claim.address,
                    });
                }
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

/// Identities come from the volume's own file and from checked requests; one that is not what it should be is told, not assumed.
fn parse<T: FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, ClaimError> {
    text.parse().map_err(|error| ClaimError::Pending {
        message: format!("no claim is made for {what} {text:?}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ObjectStore;
    use crate::store::memory::{Fault, MemoryStore, Verb};
    use crate::store::suite::{claims_of, volume};

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
            claims.check_volume(&volume),
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
        claims.check_volume(&volume).expect("the prefix is ours");
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
        assert!(matches!(error, ClaimError::Pending { .. }), "{error}");
    }

    #[test]
    fn many_streams_are_refreshed_with_one_listing_and_a_lost_one_is_named() {
        let (memory, store) = store();
        let claims = claims_of(&store, "p/", "orders-0");
        let (mine, theirs) = (volume("orders-0", 1), volume("orders-1", 2));
        let streams: Vec<(Arc<str>, u64)> = ["a", "b", "c"].map(|name| (name.into(), 1)).into();
        for (stream, _) in &streams {
            assert_eq!(claims.claim(&mine, stream), Ok(1));
        }
        let (lists, gets) = (memory.calls(Verb::List), memory.calls(Verb::Get));
        assert_eq!(claims.refresh(&mine, &streams), Ok(vec![]));
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
        assert_eq!(
            claims.refresh(&mine, &streams),
            Ok(vec![("b".into(), lost)])
        );
        assert!(claims.is_confirmed("a", 1));
        assert!(!claims.is_confirmed("b", 1));
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
