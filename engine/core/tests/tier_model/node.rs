//! A real node, on a volume and a bucket in memory, in the time of the scheduler.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use aof2_core::claims::suite as claims_suite;
use aof2_core::compaction::Compaction;
use aof2_core::config::{KIB, MIB};
use aof2_core::deletion::Deletion;
use aof2_core::io::{Clock, Rng};
use aof2_core::objects::ObjectStore;
use aof2_core::objects::memory::MemoryStore;
use aof2_core::retention::Retention;
use aof2_core::snapshot::Snapshots;
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Config, Identity, OpenOptions, Store};
use parking_lot::Mutex;

use crate::baton::Baton;
use crate::bucket::Bucket;
use crate::dice::Dice;
use crate::disk::{MemoryDisk, ROOT};
use crate::image::Image;
use crate::power::Power;

pub const PREFIX: &str = "p/";
const CLUSTER: &str = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

/// Time of the scheduler; the wall clock may stand elsewhere.
pub struct WorldClock {
    baton: Arc<Baton>,
    step_nanos: AtomicI64,
}

impl WorldClock {
    pub fn new(baton: Arc<Baton>) -> Arc<WorldClock> {
        Arc::new(WorldClock {
            baton,
            step_nanos: AtomicI64::new(0),
        })
    }

    /// How far the wall clock is ahead of the time that has passed.
    pub fn set_step(&self, nanos: i64) {
        self.step_nanos.store(nanos, Ordering::SeqCst);
    }

    /// As if the machine had been stopped.
    pub fn skip(&self, time: Duration) {
        self.baton.skip(time);
    }

    /// Where the wall clock should stand.
    pub fn true_nanos(&self) -> i64 {
        self.baton.unix_nanos()
    }
}

impl Clock for WorldClock {
    fn monotonic(&self) -> Instant {
        self.baton.monotonic()
    }

    fn unix_nanos(&self) -> i64 {
        self.true_nanos() + self.step_nanos.load(Ordering::SeqCst)
    }

    fn sleep(&self, duration: Duration) {
        Clock::sleep(&*self.baton, duration);
    }
}

#[derive(Debug)]
struct SeededRng(Mutex<Dice>);

impl SeededRng {
    fn of(dice: &mut Dice) -> Arc<SeededRng> {
        Arc::new(SeededRng(Mutex::new(dice.fork())))
    }
}

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next()
    }

    fn uuid(&self) -> uuid::Uuid {
        let mut dice = self.0.lock();
        uuid::Uuid::from_u64_pair(dice.next(), dice.next())
    }
}

/// Small files, so that little work fills them.
pub fn small_config() -> Config {
    let mut config = Config::new(Path::new(ROOT));
    config.journal.file_bytes = 4 * MIB;
    config.journal.files = 2;
    config.segment.target_bytes = MIB;
    config.checkpoint.journal_bytes = 256 * KIB;
    config.tier1.block_bytes = 4 * KIB;
    config.tier1.compression_level = 1;
    config.tier2.read_concurrency = 1;
    config.tier2.claim_check = Duration::from_secs(30);
    config
}

pub struct Node {
    pub store: Store,
    pub tiers: Tiers,
    pub retention: Retention,
    pub snapshots: Arc<Snapshots>,
    pub deletion: Deletion,
    pub compaction: Compaction,
    pub bucket: Arc<Bucket>,
    pub disk: MemoryDisk,
    pub power: Arc<Power>,
}

impl Node {
    pub fn start(
        image: Image,
        others_bytes: u64,
        memory: &Arc<MemoryStore>,
        clock: &Arc<WorldClock>,
        config: Config,
        dice: &mut Dice,
    ) -> Result<Node, String> {
        let power = Power::new(memory.clone());
        let disk = MemoryDisk::new(image, others_bytes, power.clone());
        let bucket = Arc::new(Bucket::new(
            memory.clone(),
            disk.clone(),
            power.clone(),
            clock.clone(),
        ));
        let objects: Arc<dyn ObjectStore> = bucket.clone();
        let rng = SeededRng::of(dice);
        let claims = claims_suite::claims_at(&objects, PREFIX, "orders-0", clock.clone(), rng);
        let claims = Arc::new(claims);
        let identity = Identity {
            cluster_id: CLUSTER.to_owned(),
            node: "orders-0".to_owned(),
        };
        let mut options = OpenOptions::new(config.clone(), identity);
        options.environment.disk = Arc::new(disk.clone());
        options.environment.clock = clock.clone();
        options.environment.rng = SeededRng::of(dice);
        options.claims = Some(claims.clone() as Arc<dyn Claims>);
        let store =
            Store::open(options).map_err(|error| format!("the volume does not open: {error:?}"))?;
        disk.is_started();
        let tiers = Tiers::start(Arc::new(store.clone()), Some(claims), &config)
            .map_err(|error| error.to_string())?;
        let retention = Retention::start(store.clone(), &tiers);
        let snapshots = Arc::new(Snapshots::start(store.clone(), &tiers));
        let deletion = Deletion::start(store.clone(), &tiers, snapshots.clone(), &retention);
        let compaction = Compaction::start(store.clone(), &tiers);
        Ok(Node {
            store,
            tiers,
            retention,
            snapshots,
            deletion,
            compaction,
            bucket,
            disk,
            power,
        })
    }

    /// As at the end of a process.
    pub fn stop(&self) -> Result<(), String> {
        self.tiers.stop();
        self.compaction.stop();
        self.snapshots.stop();
        self.deletion.stop();
        self.retention.stop();
        let closed = self.store.close();
        closed.map_err(|error| format!("it does not close: {error:?}"))
    }
}
