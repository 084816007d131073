//! Coordinator, claims and drain together, over a model of the store and a Tier 2 that fails on demand.

mod drain;
mod local;
mod moves;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::testing::{ModelPort, settings, until};
use super::{Port, Tiers};
use crate::Config;
use crate::claims::StreamClaims;
use crate::claims::suite as claims_suite;
use crate::coordinator::{Coordinator, Settings};
use crate::drain::{DrainPhase, DrainReason, DrainRequest};
use crate::jobs::warm::verify;
use crate::objects::Tier2Reason;
use crate::objects::memory::{Fault, MemoryStore, Verb};
use crate::objects::{ObjectStore, Refusal, Source};
use crate::port::{FailureReason, TierRecord};

struct World {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
    port: Arc<ModelPort>,
    claims: Arc<StreamClaims>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Arc::new(MemoryStore::new());
        let port = ModelPort::new(folder.path());
        let claims = Arc::new(claims_suite::claims_of(
            &(memory.clone() as Arc<dyn ObjectStore>),
            "p/",
            "orders-0",
        ));
        World {
            folder,
            memory,
            port,
            claims,
        }
    }

    fn sealed(&self, stream: &str, records: u32) {
        for record in 0..records {
            assert!(
                self.port
                    .append(stream, format!("{stream} {record}").as_bytes())
            );
        }
        self.port.seal(Some(stream)).expect("sealed");
    }

    fn coordinator(&self) -> Coordinator {
        let claims = Some(self.claims.clone());
        Coordinator::start(self.port.clone(), claims, settings()).expect("starts")
    }

    fn tiers(&self) -> Tiers {
        let mut config = Config::new(self.folder.path());
        config.tier2.claim_check = Duration::from_millis(20);
        Tiers::start(self.port.clone(), Some(self.claims.clone()), &config).expect("starts")
    }

    fn until_uploaded(&self) {
        until("everything is uploaded", || self.port.pending().is_empty());
    }

    /// The object of a segment decompresses to the segment.
    fn assert_object_holds(&self, stream: &str, segment_id: u64) {
        let (segment, _) = self.port.segment(stream, segment_id);
        let key = segment.copies.cold.clone().expect("uploaded").key;
        let bytes = self.memory.bytes_of(&key).expect("there");
        verify(&bytes as &dyn Source, &key, &segment).expect("verifies");
    }

    fn warm_file(&self, stream: &str) -> std::path::PathBuf {
        let folder = Path::join(self.folder.path(), "warm").join(stream);
        let mut files = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path());
        files.next().expect("a warm file")
    }
}

fn names(records: &[TierRecord]) -> Vec<&'static str> {
    let name = |record: &TierRecord| match record {
        TierRecord::CompressionStarted => "CompressionStarted",
        TierRecord::CompressionDone { .. } => "CompressionDone",
        TierRecord::CompressionFailed { .. } => "CompressionFailed",
        TierRecord::UploadStarted { .. } => "UploadStarted",
        TierRecord::UploadDone { .. } => "UploadDone",
        TierRecord::UploadFailed { .. } => "UploadFailed",
        TierRecord::WarmEvicted { .. } => "WarmEvicted",
        TierRecord::HydrationStarted { .. } => "HydrationStarted",
        TierRecord::WarmHydrated { .. } => "WarmHydrated",
        TierRecord::HydrationFailed { .. } => "HydrationFailed",
    };
    records.iter().map(name).collect()
}

const WHOLE_WAY: [&str; 4] = [
    "CompressionStarted",
    "CompressionDone",
    "UploadStarted",
    "UploadDone",
];
