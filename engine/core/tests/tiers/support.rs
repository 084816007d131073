//! A node over a Tier 2 in memory.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use aof2_core::claims::suite as claims_suite;
use aof2_core::drain::{DrainPhase, DrainRequest};
use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::io::{Clock, SystemClock, SystemDisk};
use aof2_core::objects::ObjectStore;
use aof2_core::objects::memory::MemoryStore;
use aof2_core::tier::Tiers;
use aof2_core::{Claims, Identity, OpenError, OpenOptions, Store};
use aof2_format::Seed;
use aof2_format::names::{KeyPrefix, ObjectKey};
use aof2_format::record_batch;
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};

use crate::common::{CLUSTER, eventually, small_config};

pub const PATIENT: DrainRequest = DrainRequest {
    ttl: Duration::from_secs(60),
    upload_timeout: Duration::from_secs(60),
    drain_timeout: Duration::from_secs(60),
};

pub struct Node {
    pub store: Store,
    pub tiers: Tiers,
    pub faults: Arc<Faults>,
    /// Told when Tier 2 speaks against the volume after it was opened.
    pub refused: mpsc::Receiver<OpenError>,
}

pub fn prefix() -> KeyPrefix {
    KeyPrefix::new("p/").expect("a prefix")
}

pub fn try_node(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    name: &str,
) -> Result<Node, OpenError> {
    try_node_at(memory, directory, name, Arc::new(SystemClock))
}

pub fn try_node_at(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    name: &str,
    clock: Arc<dyn Clock>,
) -> Result<Node, OpenError> {
    let objects: Arc<dyn ObjectStore> = memory.clone();
    let claims = Arc::new(claims_suite::claims_of(&objects, "p/", name));
    let mut config = small_config(directory);
    config.tier2.claim_check = Duration::from_millis(50);
    let identity = Identity {
        cluster_id: CLUSTER.to_owned(),
        node: name.to_owned(),
    };
    let mut options = OpenOptions::new(config.clone(), identity);
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    options.environment.disk = disk;
    options.environment.clock = clock;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options)?;
    let (told, refused) = mpsc::channel();
    store.on_refused(Box::new(move |error| {
        // A test that does not look has dropped its end.
        let _ = told.send(error);
    }));
    let tiers =
        Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads start");
    Ok(Node {
        store,
        tiers,
        faults,
        refused,
    })
}

pub fn node(memory: &Arc<MemoryStore>, directory: &Path, name: &str) -> Node {
    try_node(memory, directory, name).expect("the directory opens")
}

impl Node {
    pub fn refusal(&self) -> OpenError {
        self.refused
            .recv_timeout(Duration::from_secs(20))
            .expect("the volume is refused in time")
    }

    /// Everything of `stream` sealed and in the bucket.
    pub fn upload(&self, stream: &str) {
        self.store.seal(Some(stream)).expect("sealed");
        eventually("the upload", || {
            let marks = self.store.watermarks();
            let mark = marks.iter().find(|mark| &*mark.stream == stream);
            mark.is_some_and(|mark| mark.sealed_uploaded == mark.acked)
        });
    }

    pub fn stop(self) {
        self.tiers.stop();
        self.store.close().expect("closes");
    }

    pub fn drain(&self) {
        self.tiers.drain().begin(PATIENT);
        eventually("the drain", || {
            self.tiers.drain().status().phase == DrainPhase::Drained
        });
    }
}

/// Every payload of a stream, read from nothing but the bucket, in order of sequence, up to the first segment that is not there yet.
pub fn payloads_in_bucket(memory: &MemoryStore, stream: &str) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for key in memory.keys() {
        let Some(ObjectKey::Segment {
            stream: of,
            segment,
        }) = ObjectKey::parse(&prefix(), &key)
        else {
            continue;
        };
        if of.as_str() != stream {
            continue;
        }
        if segment.base_sequence > payloads.len() as u64 {
            break;
        }
        assert_eq!(
            segment.base_sequence,
            payloads.len() as u64,
            "{key} goes on where the one before ends"
        );
        let warm = memory.bytes_of(&key).expect("listed");
        let bytes = zstd::stream::decode_all(&warm[..]).expect("zstd");
        let seed = Seed::new(
            SegmentHeader::decode(&bytes)
                .expect("a segment")
                .stream_salt,
        );
        let mut offset = DATA_OFFSET as usize;
        while offset < bytes.len() {
            let batch = record_batch::decode(&bytes[offset..], seed).expect("a batch");
            assert_eq!(batch.base_sequence(), payloads.len() as u64);
            payloads.extend(batch.payloads().map(<[u8]>::to_vec));
            offset += batch.batch_bytes();
        }
    }
    payloads
}
