//! The coordinator under the scheduler: jobs, a snapshot and a drain beside appends, with every thread's turn drawn from a seed. The
//! drain gets its token, and everything that was acknowledged is in Tier 2 then, and on the volume behind a power cut.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use aof2_core::claims::suite as claims_suite;
use aof2_core::drain::{DrainPhase, DrainRequest};
use aof2_core::io::{Clock, SystemThreads, ThreadHandle, Threads};
use aof2_core::objects::ObjectStore;
use aof2_core::objects::memory::{Fault, MemoryStore, Verb};
use aof2_core::snapshot::{SnapshotPhase, SnapshotRequest, Snapshots};
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Store};
use parking_lot::Mutex;

use crate::baton::Baton;
use crate::dice::Dice;
use crate::disk::{Faults, RecordingDisk};
use crate::fates;
use crate::model::Model;
use crate::recording::Image;
use crate::scheduled::{append, describe, same_twice, seeds};
use crate::session::{How, SeededRng, Session, config, options};
use crate::volume::Volume;

const SEEDS: std::ops::Range<u64> = 0..100;
/// Of the run's own time, which passes while everybody waits.
const LIMIT: Duration = Duration::from_secs(600);
/// A turn for others, in the same time: whoever never waits would keep it from passing.
const PACE: Duration = Duration::from_millis(5);

/// What a node is made of.
struct Node {
    store: Store,
    tiers: Tiers,
    snapshots: Snapshots,
}

fn node(
    disk: &RecordingDisk,
    memory: &Arc<MemoryStore>,
    baton: &Arc<Baton>,
    dice: &mut Dice,
) -> Result<Node, String> {
    let mut options = options(disk, config(), dice);
    options.environment.clock = baton.clone();
    let objects: Arc<dyn ObjectStore> = memory.clone();
    let rng = Arc::new(SeededRng(Mutex::new(dice.fork())));
    let claims = claims_suite::claims_at(&objects, "p/", "orders-0", baton.clone(), rng);
    let claims = Arc::new(claims);
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let config = options.config.clone();
    let store = Store::open(options).map_err(|error| format!("it does not open: {error:?}"))?;
    let tiers = Tiers::start(Arc::new(store.clone()), Some(claims), &config)
        .map_err(|error| error.to_string())?;
    let snapshots = Snapshots::start(store.clone(), &tiers);
    Ok(Node {
        store,
        tiers,
        snapshots,
    })
}

impl Node {
    fn stop(self) -> Result<(), String> {
        self.tiers.stop();
        self.snapshots.stop();
        self.store.close().map_err(|error| error.to_string())
    }
}

/// Appends until it is refused: some of it is admitted while the drain uploads, and one may be on its way when admission closes.
fn late_writer(
    disk: &RecordingDisk,
    store: &Store,
    baton: &Arc<Baton>,
) -> Result<ThreadHandle, String> {
    let mut session = Session::new(disk.clone(), store.clone(), 30_000);
    let baton = baton.clone();
    let body = move || {
        // The claim may have to wait for Tier 2.
        while session
            .append("late", &[100], How::Durable)
            .err()
            .is_none_or(|refused| refused.contains("ClaimPending"))
        {
            baton.sleep(PACE);
        }
    };
    let started = SystemThreads.start("late", Box::new(body));
    started.map_err(|error| error.to_string())
}

fn until(
    baton: &Arc<Baton>,
    what: &str,
    mut holds: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let limit = baton.monotonic() + LIMIT;
    while !holds()? {
        if baton.monotonic() > limit {
            return Err(format!("{what} does not come"));
        }
        baton.sleep(PACE);
    }
    Ok(())
}

fn run(seed: u64) -> Result<String, String> {
    let (result, turns) = Baton::conduct(seed, |baton| {
        let mut dice = Dice::new(seed);
        let mut text = String::new();
        let memory = Arc::new(MemoryStore::new());
        let disk = RecordingDisk::slow(Image::empty(), Faults::NONE, &mut dice);
        let node = node(&disk, &memory, baton, &mut dice)?;
        append(&disk, &node.store, 0, &mut dice);
        let times = dice.below(4) as usize;
        memory.inject(Verb::PutIfAbsent, Fault::Unreachable, times);
        let request = SnapshotRequest {
            stream: "a".into(),
            request: "r".into(),
            seals: true,
        };
        let begun = node
            .snapshots
            .begin(request)
            .map_err(|error| error.to_string())?;
        append(&disk, &node.store, 10_000, &mut dice);
        let limit = Duration::from_secs(300);
        node.tiers.drain().begin(DrainRequest {
            ttl: limit,
            upload_timeout: limit,
            drain_timeout: limit,
        });
        let late = late_writer(&disk, &node.store, baton)?;
        until(baton, "the drain", || {
            let status = node.tiers.drain().status();
            Ok(status.phase == DrainPhase::Drained)
        })?;
        late.join().map_err(|_| "a writer panicked".to_owned())?;
        for mark in node.store.watermarks() {
            if mark.acked != mark.sealed_uploaded {
                return Err(format!("drained, and {mark:?}"));
            }
        }
        until(baton, "the snapshot", || {
            let status = node
                .snapshots
                .status("a", begun.snapshot_id)
                .map_err(|error| error.to_string())?;
            match status.phase {
                SnapshotPhase::Failed => Err(format!("{status:?}")),
                SnapshotPhase::Done => Ok(true),
                SnapshotPhase::Pending | SnapshotPhase::Uploading | SnapshotPhase::Publishing => {
                    Ok(false)
                }
            }
        })?;
        for key in memory.keys() {
            let bytes = memory.bytes_of(&key).unwrap_or_default();
            let crc = aof2_format::checksum::crc64nvme(&bytes);
            let _ = writeln!(text, "object {key}: {} bytes, {crc:016x}", bytes.len());
        }
        node.stop()?;
        describe(&disk, &mut text);

        // The power goes behind it: what was not synced may be there or not.
        let recording = disk.recording();
        let mut volume = Volume::new(&recording.base);
        recording.ops.iter().for_each(|op| volume.step(op));
        let items = volume.items();
        let fates = fates::draw(&items, &mut dice);
        let model = Model::default().after(&recording.notes, recording.ops.len());
        let disk = RecordingDisk::slow(volume.cut(&items, &fates), Faults::NONE, &mut dice);
        let node = self::node(&disk, &memory, baton, &mut dice)?;
        let served = Session::new(disk.clone(), node.store.clone(), 0).served()?;
        model.check(&served)?;
        node.stop()?;
        Ok(text)
    });
    result.map(|text| format!("{}\n{text}", turns.join("\n")))
}

#[test]
fn a_seed_gives_the_same_drain_twice_and_the_token_means_that_everything_is_in_the_bucket() {
    let lines: usize = seeds(SEEDS).map(|seed| same_twice(seed, run)).sum();
    println!("{lines} lines of traces");
}
