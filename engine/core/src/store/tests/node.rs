//! A store with its tiers over a Tier 2 in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aof2_format::StreamName;
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::snapshot::SnapshotId;
use bytes::Bytes;

use super::options;
use crate::claims::suite as claims_suite;
use crate::config::{Config, MIB};
use crate::error::ReadError;
use crate::io::fault::{FaultDisk, Faults};
use crate::io::sync::{Condvar, Mutex};
use crate::io::{Clock, SystemClock, SystemDisk, SystemThreads, ThreadBody, ThreadHandle, Threads};
use crate::objects::memory::MemoryStore;
use crate::objects::{ObjectStore, Tier2};
use crate::port::Claims;
use crate::request::{AppendRequest, Durability, ReadRequest};
use crate::retention::Retention;
use crate::snapshot::verify::{Level, Unwatched, verify};
use crate::snapshot::{SnapshotPhase, SnapshotRequest, Snapshots};
use crate::store::Store;
use crate::tier::Tiers;
use crate::tier::testing::until;

/// A node over a Tier 2 in memory.
pub(super) struct Node {
    pub store: Store,
    pub tiers: Tiers,
    pub tier2: Arc<Tier2>,
    pub faults: Arc<Faults>,
    pub retention: Retention,
}

pub(super) fn node(memory: &Arc<MemoryStore>, directory: &Path) -> Node {
    node_with(memory, directory, |_| {})
}

pub(super) fn node_with(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    change: impl FnOnce(&mut Config),
) -> Node {
    node_at(memory, directory, Arc::new(SystemClock), change)
}

/// By a clock of the test's own.
pub(super) fn node_at(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    clock: Arc<dyn Clock>,
    change: impl FnOnce(&mut Config),
) -> Node {
    node_on(memory, directory, clock, Arc::new(SystemThreads), change)
}

/// And on threads of its own.
pub(super) fn node_on(
    memory: &Arc<MemoryStore>,
    directory: &Path,
    clock: Arc<dyn Clock>,
    threads: Arc<dyn Threads>,
    change: impl FnOnce(&mut Config),
) -> Node {
    let objects: Arc<dyn ObjectStore> = memory.clone();
    let claims = Arc::new(claims_suite::claims_of(&objects, "p/", "orders-0"));
    let tier2 = claims.tier2().clone();
    let mut options = options(directory);
    options.environment.clock = clock;
    options.environment.threads = threads;
    options.config.tier2.claim_check = Duration::from_millis(50);
    change(&mut options.config);
    let config = options.config.clone();
    let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
    options.environment.disk = disk;
    options.claims = Some(claims.clone() as Arc<dyn Claims>);
    let store = Store::open(options).expect("the directory opens");
    let tiers = Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads");
    let retention = Retention::start(store.clone(), &tiers);
    Node {
        store,
        tiers,
        tier2,
        faults,
        retention,
    }
}

/// Threads of one name begin their work when they are let go.
#[derive(Debug)]
pub(super) struct LateThreads {
    name: &'static str,
    may_go: Arc<(Mutex<bool>, Condvar)>,
}

impl LateThreads {
    pub fn of(name: &'static str) -> LateThreads {
        LateThreads {
            name,
            may_go: Arc::new((Mutex::new(true), Condvar::new())),
        }
    }

    pub fn hold(&self) {
        *self.may_go.0.lock() = false;
    }

    pub fn let_go(&self) {
        *self.may_go.0.lock() = true;
        self.may_go.1.notify_all();
    }
}

impl Threads for LateThreads {
    fn start(&self, name: &str, body: ThreadBody) -> std::io::Result<ThreadHandle> {
        if name.strip_prefix("aof2-") != Some(self.name) {
            return SystemThreads.start(name, body);
        }
        let may_go = self.may_go.clone();
        let late = move || {
            let (may_go, changed) = &*may_go;
            let mut is_let_go = may_go.lock();
            while !*is_let_go {
                changed.wait(&mut is_let_go);
            }
            drop(is_let_go);
            body();
        };
        SystemThreads.start(name, Box::new(late))
    }
}

/// Of stream `a`, done: its id, and the key of its catalogue.
pub(super) fn snapshot(snapshots: &Snapshots, request: &str) -> (SnapshotId, String) {
    let request = SnapshotRequest {
        stream: "a".into(),
        request: request.into(),
        seals: true,
    };
    let id = snapshots.begin(request).expect("begun").snapshot_id;
    let mut key = String::new();
    until("the snapshot", || {
        let status = snapshots.status("a", id).expect("known");
        assert_ne!(status.phase, SnapshotPhase::Failed, "{status:?}");
        key = status.key;
        status.phase == SnapshotPhase::Done
    });
    (id, key)
}

impl Node {
    pub fn append(&self, payload: &'static [u8]) {
        self.append_to("a", payload);
    }

    pub fn append_to(&self, stream: &str, payload: &'static [u8]) {
        let request = AppendRequest {
            stream: stream.to_owned(),
            payloads: vec![Bytes::from_static(payload)],
            durability: Durability::Durable,
            producer: None,
        };
        self.store.append(request).expect("acknowledged");
    }

    /// A sealed and uploaded segment of one record.
    pub fn segment(&self, payload: &'static [u8]) {
        self.segment_of("a", payload);
    }

    pub fn segment_of(&self, stream: &str, payload: &'static [u8]) {
        self.append_to(stream, payload);
        self.store.seal(Some(stream)).expect("sealed");
        until("the upload", || {
            let marks = self.store.watermarks();
            let mark = marks.iter().find(|mark| &*mark.stream == stream);
            mark.is_some_and(|mark| mark.sealed_uploaded == mark.acked)
        });
    }

    pub fn commit(&self, segment_id: u64, event: ManifestEvent) {
        let stream = self.store.known("a").expect("it exists");
        let owned = stream.owned(self.store.pipeline());
        let committed = stream.manifest.commit(&owned, segment_id, vec![event]);
        committed.expect("durable");
    }

    pub fn read(&self, from_sequence: u64) -> Result<Vec<Vec<u8>>, ReadError> {
        let request = ReadRequest {
            stream: "a".to_owned(),
            from_sequence,
            limit: 0,
            include_staged: false,
        };
        let mut reader = self.store.read(request)?;
        let mut found = Vec::new();
        while let Some(records) = reader.next_batch(MIB as usize)? {
            found.extend(records.into_iter().map(|record| record.payload.to_vec()));
        }
        Ok(found)
    }

    /// A snapshot of what can be read, verified by a second reader.
    pub fn verified_snapshot(&self) {
        let snapshots = Snapshots::start(self.store.clone(), &self.tiers);
        let (id, _) = snapshot(&snapshots, "r");
        let stream = StreamName::new("a").expect("a name");
        let verdict = verify(&self.tier2, &stream, id, Level::L1, None, &Unwatched).expect("read");
        assert_eq!(verdict.fault, None);
        snapshots.stop();
    }

    pub fn stop(self) {
        self.tiers.stop();
        self.retention.stop();
        self.store.close().expect("closes");
    }
}
