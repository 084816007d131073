//! The door to Tier 2: the store behind its circuit breaker, the retries, and the probe that must pass before the first
//! conditional write of a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::io::sync::Mutex;
use aof2_format::names::{KeyPrefix, ObjectKey};
use bytes::Bytes;

use super::breaker::{Breakers, Kind};
use super::conditional::{self, Creation};
use super::retry::{Retries, RetryPolicy};
use super::{
    Attempt, ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome, Removal,
    Tier2Reason, Upload, bounds, probe,
};
use crate::io::{Clock, Rng};

/// A caller waits for this one: few attempts, then a refusal that may be retried.
pub const ATTEMPTS_OF_A_CALLER: u32 = 2;

pub struct Tier2 {
    guarded: Guarded,
    prefix: KeyPrefix,
    retries: Retries,
    rng: Arc<dyn Rng>,
    max_attempts: u32,
    probed: Mutex<Probed>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Probed {
    #[default]
    NotYet,
    Passed,
    /// Not tried again by itself: a store does not learn. `Tier2::probe` tries again.
    IgnoresPreconditions(ObjectError),
}

/// What is known about Tier 2 without asking it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tier2Health {
    pub reachable: bool,
    pub probed: bool,
    /// `None` while all is well.
    pub reason: Option<Tier2Reason>,
    pub message: Option<String>,
    pub breaker_open: bool,
    pub retry_attempts: u64,
}

impl Tier2 {
    /// Every key begins with `prefix`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: KeyPrefix,
        policy: RetryPolicy,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Tier2 {
        Tier2 {
            guarded: Guarded {
                store,
                prefix: prefix.clone(),
                breakers: Mutex::default(),
                clock: clock.clone(),
                stopping: AtomicBool::new(false),
            },
            prefix,
            retries: Retries::new(policy, clock, rng.clone()),
            rng,
            max_attempts: policy.max_attempts,
            probed: Mutex::default(),
        }
    }

    pub fn place(&self) -> String {
        self.guarded.place()
    }

    pub fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// One attempt per call, behind the breaker; for reads.
    pub fn store(&self) -> &dyn ObjectStore {
        &self.guarded
    }

    /// A fresh name for one write.
    pub fn put_id(&self) -> String {
        self.retries.put_id()
    }

    /// Creates unless it exists, as `conditional` says. Probes first.
    pub fn create(
        &self,
        key: &str,
        upload: &Upload,
        max_attempts: u32,
    ) -> Result<Creation, ObjectError> {
        self.ensure_probed()?;
        conditional::create(&self.guarded, key, upload, &self.retries, max_attempts)
    }

    /// The same while `is_wanted`, which is asked right before each request that may create the object. `None`: it is wanted no longer,
    /// and an earlier request of this call may have landed all the same.
    pub fn create_while(
        &self,
        key: &str,
        upload: &Upload,
        max_attempts: u32,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Creation>, ObjectError> {
        self.ensure_probed()?;
        let (store, retries) = (&self.guarded, &self.retries);
        conditional::create_while(store, key, upload, retries, max_attempts, is_wanted)
    }

    /// Replaces what has this etag, as `conditional` says.
    pub fn replace(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        let (store, attempts) = (&self.guarded, self.max_attempts);
        conditional::replace(store, key, upload, etag, &self.retries, attempts)
    }

    /// The verdict of this process's probe; probes where there is none yet.
    pub fn ensure_probed(&self) -> Result<(), ObjectError> {
        let mut probed = self.probed.lock();
        match &*probed {
            Probed::Passed => Ok(()),
            Probed::IgnoresPreconditions(error) => Err(error.clone()),
            Probed::NotYet => self.run_probe(&mut probed),
        }
    }

    /// Probes now, whatever the last verdict was.
    pub fn probe(&self) -> Result<(), ObjectError> {
        self.run_probe(&mut self.probed.lock())
    }

    /// An outage says nothing about preconditions: an earlier pass stands.
    fn run_probe(&self, probed: &mut Probed) -> Result<(), ObjectError> {
        let key = ObjectKey::Probe {
            uuid: self.rng.uuid().into_bytes(),
        }
        .to_key(&self.prefix);
        let verdict = probe::probe(&self.guarded, &key, &self.put_id());
        match &verdict {
            Ok(()) => *probed = Probed::Passed,
            Err(error @ ObjectError::IgnoresPreconditions { .. }) => {
                tracing::error!(place = %self.place(), "{error}");
                *probed = Probed::IgnoresPreconditions(error.clone());
            }
            Err(_) => {}
        }
        verdict
    }

    pub fn health(&self) -> Tier2Health {
        // A probe that is under way holds its lock for as long as the network takes: not a thing to wait for here.
        let probed = self
            .probed
            .try_lock()
            .map(|probed| probed.clone())
            .unwrap_or_default();
        let breakers = self.guarded.breakers.lock();
        let refused = match &probed {
            Probed::IgnoresPreconditions(error) => Some(error),
            Probed::NotYet | Probed::Passed => breakers.last_failure(),
        };
        Tier2Health {
            reachable: breakers.is_reachable(),
            probed: probed == Probed::Passed,
            reason: refused.map(ObjectError::reason),
            message: refused.map(ToString::to_string),
            breaker_open: breakers.is_open(),
            retry_attempts: self.retries.repeated(),
        }
    }

    /// When an attempt that needs every kind of request makes sense, while a breaker is open.
    pub fn rests_until(&self) -> Option<Instant> {
        self.guarded.breakers.lock().rests_until()
    }

    /// Somebody wants to know now: the next request of each kind is a trial.
    pub fn end_rests(&self) {
        let now = self.guarded.clock.monotonic();
        self.guarded.breakers.lock().end_rests(now);
    }

    pub fn is_stopping(&self) -> bool {
        self.guarded.stopping.load(Ordering::Acquire)
    }

    /// Running requests end at once, and there are no later ones: `Stopping`.
    pub fn stop(&self) {
        self.guarded.stopping.store(true, Ordering::Release);
        self.retries.stop();
        self.guarded.store.stop();
    }
}

/// Every single attempt passes the breaker and is judged by it.
struct Guarded {
    store: Arc<dyn ObjectStore>,
    prefix: KeyPrefix,
    breakers: Mutex<Breakers>,
    clock: Arc<dyn Clock>,
    stopping: AtomicBool,
}

/// A request that a breaker has let through.
struct UnderWay<'a> {
    breakers: &'a Mutex<Breakers>,
    kind: Kind,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.breakers.lock().ended(self.kind);
    }
}

impl Guarded {
    fn put_kind(&self, key: &str) -> Kind {
        match ObjectKey::parse(&self.prefix, key) {
            Some(ObjectKey::Segment { .. }) => Kind::Upload,
            _ => Kind::Put,
        }
    }

    fn attempt<T>(
        &self,
        kind: Kind,
        key: &str,
        call: impl FnOnce(&dyn ObjectStore) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        // What works through many objects sees it between any two.
        if self.stopping.load(Ordering::Acquire) {
            return Err(ObjectError::Stopping {
                place: self.store.place(),
            });
        }
        if let Some(error) = self.breakers.lock().refusal(kind, self.clock.monotonic()) {
            // Whatever the last failure was, this attempt was not made.
            let attempt = Attempt {
                verb: kind.verb(),
                key: key.to_owned(),
                place: self.store.place(),
            };
            return Err(ObjectError::BackingOff {
                attempt,
                cause: error.to_string(),
            });
        }
        // Also behind a panic: nobody else is let through before.
        let _under_way = UnderWay {
            breakers: &self.breakers,
            kind,
        };
        let answer = call(self.store.as_ref());
        let now = self.clock.monotonic();
        let mut breakers = self.breakers.lock();
        match &answer {
            Ok(_) => breakers.succeeded(kind, now),
            Err(error)
                if error.concerns_one_object() && !matches!(kind, Kind::Put | Kind::Upload) =>
            {
                breakers.succeeded(kind, now);
            }
            // Whoever deletes says why it cannot. Nobody else is kept waiting by it.
            Err(error)
                if kind == Kind::Delete
                    && !error.is_outage()
                    && !error.concerns_every_request() =>
            {
                breakers.succeeded(kind, now);
            }
            Err(error) => breakers.failed(kind, error, now),
        }
        answer
    }
}

impl ObjectStore for Guarded {
    fn place(&self) -> String {
        self.store.place()
    }

    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        self.attempt(self.put_kind(key), key, |store| {
            store.put_if_absent(key, upload)
        })
    }

    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.attempt(self.put_kind(key), key, |store| {
            store.put_if_match(key, upload, etag)
        })
    }

    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        self.attempt(self.put_kind(key), key, |store| store.put(key, upload))
    }

    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        let max_bytes = max_bytes.min(bounds::max_bytes_of(&self.prefix, key));
        self.attempt(Kind::Get, key, |store| store.get_within(key, max_bytes))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        self.attempt(Kind::Get, key, |store| store.get_range(key, offset, length))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.attempt(Kind::Head, key, |store| store.head(key))
    }

    fn class(&self, key: &str) -> Result<Option<String>, ObjectError> {
        self.attempt(Kind::Head, key, |store| store.class(key))
    }

    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        self.attempt(Kind::List, prefix, |store| store.list(prefix, start_after))
    }

    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        self.attempt(Kind::List, prefix, |store| {
            store.list_page(prefix, start_after)
        })
    }

    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        self.attempt(Kind::List, prefix, |store| {
            store.list_objects(prefix, start_after)
        })
    }

    fn checks_what_it_receives(&self) -> bool {
        self.store.checks_what_it_receives()
    }

    fn note_landed(&self, key: &str) {
        let now = self.clock.monotonic();
        self.breakers.lock().succeeded(self.put_kind(key), now);
    }

    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        self.attempt(Kind::Delete, key, |store| store.delete(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Refusal;
    use crate::objects::memory::{Fault, MemoryStore, Verb};
    use crate::objects::suite::test_tier2;

    fn upload(bytes: &'static [u8]) -> Upload {
        Upload::of_bytes(Bytes::from_static(bytes), "put-1".into())
    }

    #[test]
    fn the_first_conditional_write_is_preceded_by_a_probe_and_later_ones_are_not() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        for key in ["a", "b"] {
            tier2.create(key, &upload(b"x"), 1).expect("created");
        }
        // Two of the probe, two of ours.
        assert_eq!(memory.calls(Verb::PutIfAbsent), 4);
        assert!(tier2.health().probed);
    }

    #[test]
    fn nothing_is_created_on_a_store_that_ignores_preconditions() {
        let memory = Arc::new(MemoryStore::new());
        memory.ignore_preconditions();
        let tier2 = test_tier2(memory.clone());
        let error = tier2.create("a", &upload(b"x"), 3).expect_err("refused");
        assert_eq!(error.reason(), Tier2Reason::IgnoresPreconditions);
        assert_eq!(memory.keys(), Vec::<String>::new());
        assert_eq!(
            tier2.health().reason,
            Some(Tier2Reason::IgnoresPreconditions)
        );
        let puts = memory.calls(Verb::PutIfAbsent);
        tier2
            .create("a", &upload(b"x"), 3)
            .expect_err("still refused");
        assert_eq!(
            memory.calls(Verb::PutIfAbsent),
            puts,
            "the verdict stands without asking again"
        );
    }

    #[test]
    fn an_outage_leaves_the_probe_to_be_made_later() {
        let memory = Arc::new(MemoryStore::new());
        memory.set_unreachable(true);
        let tier2 = test_tier2(memory.clone());
        assert_eq!(
            tier2
                .create("a", &upload(b"x"), 1)
                .expect_err("down")
                .reason(),
            Tier2Reason::Unreachable
        );
        assert!(!tier2.health().reachable);
        memory.heal();
        tier2.create("a", &upload(b"x"), 1).expect("created");
        assert!(tier2.health().reachable);
    }

    #[test]
    fn one_damaged_object_does_not_make_tier_2_unreachable() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        tier2.create("a", &upload(b"x"), 1).expect("created");
        memory.damage("a", 0);
        let error = tier2.store().get("a").expect_err("damaged");
        assert_eq!(error.reason(), Tier2Reason::Corrupt);
        let health = tier2.health();
        assert_eq!((health.reachable, health.reason), (true, None));
    }

    #[test]
    fn writes_that_are_throttled_do_not_keep_anybody_from_reading() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        tier2.create("a", &upload(b"x"), 1).expect("created");
        memory.inject(Verb::Put, Fault::Throttled, 100);
        for _ in 0..4 {
            tier2.store().put("b", &upload(b"x")).expect_err("503");
        }
        assert_eq!(memory.calls(Verb::Put), 3, "then it is not asked");
        assert!(tier2.store().get("a").expect("get").is_some());
        assert_eq!(tier2.store().list("", None).expect("list"), ["a"]);
        let health = tier2.health();
        assert_eq!(health.reason, Some(Tier2Reason::Unreachable));
        assert!(
            health
                .message
                .is_some_and(|text| text.contains("throttled"))
        );
    }

    #[test]
    fn uploads_that_a_full_bucket_refuses_are_reported_though_claims_are_still_written() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        tier2.ensure_probed().expect("probed");
        let full = Fault::Refused(Refusal::QuotaExceeded);
        memory.inject(Verb::PutIfAbsent, full, 1);
        let segment = "segments/s/00000000000000000000-0000000001-00000000000000000001.aofz";
        tier2.create(segment, &upload(b"x"), 1).expect_err("full");
        tier2
            .create("claims/s/00000000000000000001", &upload(b"x"), 1)
            .expect("created");
        assert_eq!(tier2.health().reason, Some(Tier2Reason::QuotaExceeded));
        tier2.end_rests();
        tier2.create(segment, &upload(b"x"), 1).expect("room again");
        assert_eq!(tier2.health().reason, None);
    }

    #[test]
    fn puts_that_landed_without_an_answer_are_no_outage() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        tier2.ensure_probed().expect("probed");
        let puts = memory.calls(Verb::PutIfAbsent);
        memory.inject(Verb::PutIfAbsent, Fault::LostResponse, 10);
        for key in 0..10 {
            let created = tier2.create(&format!("claims/s/{key:020}"), &upload(b"x"), 2);
            assert!(matches!(created, Ok(Creation::Ours { .. })), "{created:?}");
            let health = tier2.health();
            assert_eq!((health.reachable, health.reason), (true, None));
        }
        assert_eq!(
            memory.calls(Verb::PutIfAbsent),
            puts + 10,
            "each is sent once"
        );
    }

    #[test]
    fn a_full_bucket_is_asked_again_only_after_its_rest_or_when_somebody_wants_to_know() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        tier2.ensure_probed().expect("probed");
        memory.inject(Verb::PutIfAbsent, Fault::Refused(Refusal::QuotaExceeded), 2);
        let segment = "segments/s/00000000000000000000-0000000001-00000000000000000001.aofz";
        tier2.create(segment, &upload(b"x"), 1).expect_err("full");
        let puts = memory.calls(Verb::PutIfAbsent);
        let error = tier2.create(segment, &upload(b"x"), 1).expect_err("rests");
        for told in ["the bucket is full", "raise the quota"] {
            assert!(error.to_string().contains(told), "{error}");
        }
        assert_eq!(memory.calls(Verb::PutIfAbsent), puts);
        assert_eq!(tier2.health().reason, Some(Tier2Reason::QuotaExceeded));
        tier2.end_rests();
        tier2.create(segment, &upload(b"x"), 1).expect_err("full");
        tier2.end_rests();
        tier2.create(segment, &upload(b"x"), 1).expect("room again");
        assert_eq!(tier2.health().reason, None);
    }

    #[test]
    fn an_archived_object_does_not_make_tier_2_unreachable() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        tier2.create("a", &upload(b"x"), 1).expect("created");
        memory.inject(Verb::Get, Fault::Refused(Refusal::Archived), 1);
        let error = tier2.store().get("a").expect_err("archived");
        assert_eq!(error.reason(), Tier2Reason::ObjectArchived);
        let health = tier2.health();
        assert_eq!((health.reachable, health.reason), (true, None));
    }

    #[test]
    fn the_breaker_answers_instead_of_a_store_that_is_down() {
        let memory = Arc::new(MemoryStore::new());
        let tier2 = test_tier2(memory.clone());
        memory.inject(Verb::Head, Fault::ServerError, 3);
        for _ in 0..3 {
            tier2.store().head("a").expect_err("500");
        }
        let error = tier2.store().head("a").expect_err("not tried");
        assert!(error.to_string().contains("not attempted"), "{error}");
        assert_eq!(memory.calls(Verb::Head), 3);
        assert!(tier2.health().breaker_open);
    }
}
