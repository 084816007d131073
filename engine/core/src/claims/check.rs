//! The check of all claims of a node, every `tier2.claim_check`: with a bounded number of listings, however many streams the cluster
//! has. Every node of a cluster of n nodes lists; were each to list everything, the bucket would see n times n.
//!
//! One listing shows up to 1,000 keys of the cluster. A check jumps from one own stream to the next that was not shown yet, and what it
//! does not get to is for the next check. What publishes confirms its stream itself (`ensure_held`), so that a check that comes late
//! costs a node that lost a stream nothing but the news.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aof2_format::StreamName;
use aof2_format::names::ObjectKey;

use super::{ClaimStanding, READERS, Refreshed, StreamClaims, parse, pending};
use crate::error::ClaimError;
use crate::io::in_parallel;
use crate::io::sync::Mutex;
use crate::port::VolumeIdentity;

/// Listings of one check. The first check of a process looks at everything.
pub(super) const LISTINGS: usize = 4;
/// Streams without a confirmed claim that a check asks for one by one when the listings did not get to them.
const UNCONFIRMED: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Folder of the first stream that was not looked at. `None`: from the beginning.
    goes_on_at: Option<String>,
    has_seen_all: bool,
}

/// A stream to be looked at.
struct Own<'a> {
    stream: &'a Arc<str>,
    epoch: u64,
    name: StreamName,
    /// Prefix of its claims.
    folder: String,
}

/// What the listings showed.
#[derive(Default)]
struct Shown {
    /// By the index of the stream.
    streams: BTreeSet<usize>,
    highest: BTreeMap<StreamName, u32>,
}

impl StreamClaims {
    /// Confirms many streams with few listings. Only a stream whose highest epoch is not the one known to be held costs requests of
    /// its own, and what keeps one from being confirmed keeps no other. A missing claim is made if `may_claim`.
    pub fn refresh(
        &self,
        volume: &VolumeIdentity,
        streams: &[(Arc<str>, u64)],
        may_claim: bool,
    ) -> Result<Refreshed, ClaimError> {
        self.ensure_cluster(volume)?;
        let mut refreshed = Refreshed::default();
        let mut own = Vec::new();
        for (stream, epoch) in streams {
            match parse::<StreamName>("stream name", stream) {
                Ok(name) => own.push(Own {
                    stream,
                    epoch: *epoch,
                    folder: ObjectKey::claims_prefix(self.tier2.prefix(), &name),
                    name,
                }),
                Err(error) => refreshed.waiting.push((stream.clone(), error)),
            }
        }
        // As a listing shows them.
        own.sort_by(|one, other| one.folder.cmp(&other.folder));
        let listed_at = self.now();
        let shown = self.show(&own)?;
        self.forget_unreadable(&own, &shown);

        let is_held = |own: &Own<'_>| self.is_confirmed(own.stream, own.epoch);
        let unconfirmed = (0..own.len())
            .filter(|index| !shown.streams.contains(index) && !is_held(&own[*index]))
            .take(UNCONFIRMED);
        let wanted: Vec<usize> = shown.streams.iter().copied().chain(unconfirmed).collect();
        let judged: Mutex<BTreeMap<usize, _>> = Mutex::default();
        let asked = in_parallel(READERS, wanted.len(), |index| {
            let index = wanted[index];
            let own = &own[index];
            let highest = shown.highest.get(&own.name).copied();
            if highest.is_some_and(|highest| u64::from(highest) == own.epoch)
                && let Some(confirmed_at) = self
                    .held
                    .lock()
                    .get_mut(&(own.stream.to_string(), own.epoch))
            {
                *confirmed_at = listed_at.max(*confirmed_at);
                return Ok(());
            }
            let was_shown = shown.streams.contains(&index);
            let outcome = self.judge_own(volume, own, was_shown, highest, may_claim);
            judged.lock().insert(index, outcome);
            Ok::<(), std::convert::Infallible>(())
        });
        match asked {
            Ok(()) => {}
            Err(never) => match never {},
        }
        for (index, outcome) in judged.into_inner() {
            let stream = own[index].stream.clone();
            match outcome {
                Ok(Some(ClaimStanding::Held) | None) => {}
                Ok(Some(superseded @ ClaimStanding::Superseded { .. })) => {
                    refreshed.lost.push((stream, superseded));
                }
                Err(error) => refreshed.waiting.push((stream, error)),
            }
        }
        Ok(refreshed)
    }

    fn judge_own(
        &self,
        volume: &VolumeIdentity,
        own: &Own<'_>,
        was_shown: bool,
        shown: Option<u32>,
        may_claim: bool,
    ) -> Result<Option<ClaimStanding>, ClaimError> {
        let highest = if was_shown {
            shown
        } else {
            self.highest_epoch(&own.name)?
        };
        match self.judge(volume, &own.name, own.epoch, highest)? {
            None if may_claim => self.confirm(volume, own.stream, own.epoch).map(Some),
            judged => Ok(judged),
        }
    }

    /// `own` in the order of a listing.
    fn show(&self, own: &[Own<'_>]) -> Result<Shown, ClaimError> {
        let mut walk = self.walk.lock();
        let all = ObjectKey::all_claims_prefix(self.tier2.prefix());
        // Kept where a listing fails: checks that fail now and then would else see the first streams again and again.
        let begins_at = walk.goes_on_at.clone().unwrap_or_default();
        let mut next = own.partition_point(|own| own.folder < begins_at);
        if next >= own.len() {
            next = 0;
        }
        let mut shown = Shown::default();
        if own.is_empty() {
            // The check tells, too, whether Tier 2 answers.
            self.tier2.store().list_page(&all, None).map_err(pending)?;
        }
        let mut left = if walk.has_seen_all {
            LISTINGS
        } else {
            usize::MAX
        };
        let mut after = None;
        while let Some(first) = own.get(next)
            && left > 0
        {
            left -= 1;
            let from = after.take().unwrap_or_else(|| first.folder.clone());
            let page = self.tier2.store().list_page(&all, Some(&from));
            let page = page.map_err(pending)?;
            for key in &page.keys {
                if let Some(ObjectKey::Claim { stream, epoch }) =
                    ObjectKey::parse(self.tier2.prefix(), key)
                {
                    let known = shown.highest.entry(stream).or_default();
                    *known = epoch.max(*known);
                }
            }
            let is_whole = |own: &Own<'_>| match page.keys.last() {
                Some(last) if !page.is_last => *last > own.folder && !last.starts_with(&own.folder),
                Some(_) | None => true,
            };
            while own.get(next).is_some_and(is_whole) {
                shown.streams.insert(next);
                next += 1;
            }
            // More epochs of one stream than an answer holds.
            if let (Some(own), Some(last)) = (own.get(next), page.keys.last())
                && *last > own.folder
            {
                after = Some(last.clone());
            }
        }
        walk.goes_on_at = own.get(next).map(|own| own.folder.clone());
        walk.has_seen_all |= next >= own.len();
        Ok(shown)
    }

    /// What is not the highest claim any more is nobody's concern.
    fn forget_unreadable(&self, own: &[Own<'_>], shown: &Shown) {
        let streams: BTreeSet<&StreamName> = shown
            .streams
            .iter()
            .map(|index| &own[*index].name)
            .collect();
        let prefix = self.tier2.prefix();
        self.unreadable
            .lock()
            .retain(|key, _| match ObjectKey::parse(prefix, key) {
                Some(ObjectKey::Claim { stream, epoch }) if streams.contains(&stream) => {
                    shown.highest.get(&stream) == Some(&epoch)
                }
                _ => true,
            });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::claims::suite::{claims_of, volume};
    use crate::objects::memory::{MemoryStore, Verb};
    use crate::objects::{ObjectStore, Upload};
    use crate::port::{Claims, Standing};

    fn stream(node: usize, number: usize) -> Arc<str> {
        // Streams of a node lie scattered over the names of the cluster.
        format!("s-{number:04}-{node:03}").into()
    }

    /// `nodes` with `each` streams; answers the store and what the first node owns.
    fn cluster(nodes: usize, each: usize) -> (Arc<MemoryStore>, Vec<(Arc<str>, u64)>) {
        let memory = Arc::new(MemoryStore::new());
        let store: Arc<dyn ObjectStore> = memory.clone();
        for node in 0..nodes {
            let claims = claims_of(&store, "p/", &format!("orders-{node}"));
            let volume = volume(&format!("orders-{node}"), node as u32);
            claims.ensure_cluster(&volume).expect("the prefix is ours");
            for number in 0..each {
                let stream = stream(node, number);
                claims.put_claim(&volume, &stream, 1).expect("claimed");
            }
        }
        (
            memory,
            (0..each).map(|number| (stream(0, number), 1)).collect(),
        )
    }

    fn requests(memory: &MemoryStore) -> u64 {
        [Verb::List, Verb::Get, Verb::Head, Verb::PutIfAbsent]
            .map(|verb| memory.calls(verb))
            .iter()
            .sum()
    }

    #[test]
    fn a_check_costs_at_most_four_requests_however_large_the_cluster_is() {
        for nodes in [1, 10, 100] {
            let (memory, own) = cluster(nodes, 100);
            let store: Arc<dyn ObjectStore> = memory.clone();
            let claims = claims_of(&store, "p/", "orders-0");
            let mine = volume("orders-0", 0);
            claims.refresh(&mine, &own, true).expect("the first check");
            assert!(
                own.iter()
                    .all(|(name, epoch)| claims.is_confirmed(name, *epoch))
            );
            let checks = 20;
            let before = requests(&memory);
            for _ in 0..checks {
                assert_eq!(claims.refresh(&mine, &own, true), Ok(Refreshed::default()));
            }
            let each = (requests(&memory) - before) as f64 / f64::from(checks);
            println!("{nodes} nodes with 100 streams each: {each} requests per check");
            assert!(each <= LISTINGS as f64, "{nodes} nodes: {each}");
        }
    }

    #[test]
    fn a_check_asks_tier_2_whatever_the_node_owns() {
        let (memory, own) = cluster(1, 2);
        let store: Arc<dyn ObjectStore> = memory.clone();
        let claims = claims_of(&store, "p/", "orders-0");
        let mine = volume("orders-0", 0);
        // Also when the stream at which it would go on is gone.
        claims.walk.lock().goes_on_at = Some("p/claims/z/".into());
        for streams in [&own[..], &own[..1], &[]] {
            let before = memory.calls(Verb::List);
            claims.refresh(&mine, streams, true).expect("checked");
            assert!(memory.calls(Verb::List) > before, "{streams:?}");
            assert!(claims.tier2().health().reachable);
        }
        memory.set_unreachable(true);
        claims.refresh(&mine, &[], true).expect_err("down");
        assert!(!claims.tier2().health().reachable);
        memory.heal();
        claims.refresh(&mine, &[], true).expect("checked");
        assert!(claims.tier2().health().reachable);
    }

    #[test]
    fn every_stream_that_was_taken_over_is_found_within_a_round() {
        let (memory, own) = cluster(100, 100);
        let store: Arc<dyn ObjectStore> = memory.clone();
        let claims = claims_of(&store, "p/", "orders-0");
        let (mine, other) = (volume("orders-0", 0), volume("orders-1", 1));
        claims.refresh(&mine, &own, true).expect("the first check");
        let thief = claims_of(&store, "p/", "orders-1");
        for (stream, _) in &own {
            thief.put_claim(&other, stream, 2).expect("claimed");
        }
        let mut lost = BTreeSet::new();
        // 10 answers hold all claims.
        for _ in 0..10_usize.div_ceil(LISTINGS) {
            let refreshed = claims.refresh(&mine, &own, true).expect("checked");
            lost.extend(refreshed.lost.into_iter().map(|(stream, _)| stream));
        }
        assert_eq!(lost.len(), own.len());
    }

    #[test]
    fn a_check_that_failed_is_made_up_for_by_the_next() {
        let (memory, own) = cluster(100, 100);
        let store: Arc<dyn ObjectStore> = memory.clone();
        let claims = claims_of(&store, "p/", "orders-0");
        let mine = volume("orders-0", 0);
        claims.refresh(&mine, &own, true).expect("the first check");
        let thief = claims_of(&store, "p/", "orders-1");
        let last = own.last().expect("a stream");
        thief
            .put_claim(&volume("orders-1", 1), &last.0, 2)
            .expect("claimed");
        let mut lost = 0;
        // 10 answers hold all claims, and every other check fails.
        for _ in 0..10_usize.div_ceil(LISTINGS) {
            memory.set_unreachable(true);
            claims.refresh(&mine, &own, true).expect_err("down");
            memory.heal();
            let refreshed = claims.refresh(&mine, &own, true).expect("checked");
            lost += refreshed.lost.len();
        }
        assert_eq!(lost, 1);
    }

    #[test]
    fn a_stream_with_more_epochs_than_an_answer_holds_is_judged_by_the_highest() {
        let (memory, own) = cluster(1, 3);
        let store: Arc<dyn ObjectStore> = memory.clone();
        for epoch in 2..2_600 {
            let key = format!("p/claims/{}/{epoch:020}", own[1].0);
            let upload = Upload::of_bytes(b"x"[..].to_vec().into(), "test".into());
            store.put(&key, &upload).expect("put");
        }
        let claims = claims_of(&store, "p/", "orders-0");
        let refreshed = claims.refresh(&volume("orders-0", 0), &own, true);
        match &refreshed.expect("checked").lost[..] {
            [
                (
                    stream,
                    ClaimStanding::Superseded {
                        from: 1, to: 2_599, ..
                    },
                ),
            ] => {
                assert_eq!(stream, &own[1].0);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_volume_reads_the_claims_of_the_cluster_side_by_side() {
        let (memory, _) = cluster(3, 100);
        let store: Arc<dyn ObjectStore> = memory.clone();
        let claims = claims_of(&store, "p/", "orders-9");
        let mine = volume("orders-9", 9);
        claims.ensure_cluster(&mine).expect("the prefix is ours");
        let gets = memory.calls(Verb::Get);
        let (inside, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = most.clone();
        memory.before_each_call(move |verb| {
            if verb != Verb::Get {
                return;
            }
            let now_inside = inside.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now_inside, Ordering::SeqCst);
            // A reader stays until it has seen another one, as far as there is one.
            for _ in 0..1_000_000 {
                if seen.load(Ordering::SeqCst) > 1 {
                    break;
                }
                std::hint::spin_loop();
            }
            inside.fetch_sub(1, Ordering::SeqCst);
        });
        let admitted = claims.check_volume(&mine, Standing::default());
        assert_eq!(admitted, Ok(true));
        assert!(most.load(Ordering::SeqCst) > 1, "one by one");
        assert_eq!(memory.calls(Verb::Get) - gets, 300);
    }
}
