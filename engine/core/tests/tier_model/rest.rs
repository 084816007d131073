//! What must hold once nothing is left to do.

use std::collections::BTreeSet;
use std::time::Duration;

use aof2_core::io::Clock as _;
use aof2_core::metrics::Metrics;
use aof2_core::snapshot::SnapshotPhase;
use aof2_format::Seed;
use aof2_format::checksum::crc64nvme;
use aof2_format::snapshot::SnapshotId;
use bytes::Bytes;

use crate::check::{catalogues, records_of};
use crate::disk::Files;
use crate::ledger::Ledger;
use crate::world::{NAMES, World};

/// Longer than anything waits that has a reason to.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Every snapshot in the bucket gives the records that it says it has, by itself.
fn restores(world: &mut World) -> Result<(), String> {
    for (key, catalogue) in catalogues(world)? {
        let Some(stream) = NAMES
            .iter()
            .position(|name| *name == catalogue.stream.as_str())
        else {
            continue;
        };
        let seed = seed_of(world, stream)?;
        let (start, end) = (catalogue.start_sequence, catalogue.uploaded_sequence);
        let mut records: Vec<(u64, Bytes)> = Vec::new();
        for segment in &catalogue.segments {
            let known = (format!("{} {key}", segment.key), segment.crc64.0);
            let Some(bytes) = world.memory.bytes_of(&segment.key) else {
                return Err(format!("{key} names {}, which is not there", segment.key));
            };
            // An object is never written again.
            if world.checks.verified.contains(&known) {
                continue;
            }
            let bytes = zstd::stream::decode_all(&bytes[..])
                .map_err(|error| format!("{key}: {}: {error}", segment.key))?;
            if crc64nvme(&bytes) != segment.crc64.0 {
                return Err(format!("{key}: {} is not what it names", segment.key));
            }
            records.extend(records_of(&bytes, seed)?);
            world.checks.verified.insert(known);
        }
        let known = (key.clone(), end);
        if world.checks.verified.contains(&known) {
            continue;
        }
        let first = records.first().map_or(start, |(sequence, _)| *sequence);
        world.streams[stream]
            .check(first, &records)
            .map_err(|error| format!("{key}: {error}"))?;
        if first > start || first + records.len() as u64 != end {
            return Err(format!(
                "{key} says {start} to {end}, and has {} records from {first} on",
                records.len()
            ));
        }
        world.checks.verified.insert(known);
    }
    Ok(())
}

fn seed_of(world: &World, stream: usize) -> Result<Seed, String> {
    let ledger = Ledger::read(&world.node.disk.view().files(), NAMES[stream])?;
    let seed = ledger.and_then(|ledger| ledger.seed);
    seed.ok_or_else(|| format!("{} has a snapshot and no header", NAMES[stream]))
}

impl World {
    /// With everything healed and time enough, nothing is left to do, and everything is where it should be.
    pub fn settle(&mut self) -> Result<(), String> {
        self.heal();
        self.checks.has_faults = false;
        let begun = self.now();
        let mut pause = Duration::ZERO;
        loop {
            if self.node.power.is_out() {
                return Ok(());
            }
            let Some(why) = self.unsettled()? else { break };
            if self.now() - begun > LIMIT {
                return Err(format!("it does not come to rest: {why}"));
            }
            // What comes at its time comes late, and once.
            self.clock.skip(pause);
            self.clock.sleep(Duration::from_secs(1));
            pause = (pause * 2 + Duration::from_secs(1)).min(Duration::from_secs(300));
        }
        if self.node.power.is_out() {
            return Ok(());
        }
        for id in std::mem::take(&mut self.checks.hydrations) {
            let ended = self.node.tiers.hydration(id);
            if let Some(hydration) = ended.filter(|it| !it.has_ended()) {
                return Err(format!("a hydration does not end: {hydration:?}"));
            }
        }
        let snapshots = std::mem::take(&mut self.checks.snapshots);
        for ((stream, id), durable) in snapshots {
            let status = self.node.snapshots.status(NAMES[stream], SnapshotId(id));
            let status = status.map_err(|error| format!("snapshot {id}: {error}"))?;
            let is_done = status.phase == SnapshotPhase::Done;
            if is_done && status.uploaded_sequence < durable {
                return Err(format!("{durable} records were durable, and {status:?}"));
            }
        }
        restores(self)
    }

    /// What is left to do.
    fn unsettled(&mut self) -> Result<Option<String>, String> {
        let moves = self.node.tiers.tier2_status().ok_or("no Tier 2")?.moves;
        if moves.pending_uploads > 0 || moves.waiting_hydrations > 0 {
            return Ok(Some(format!("{moves:?}")));
        }
        for info in self.node.store.streams() {
            let (sealed, uploaded) = (info.sealed_sequence, info.uploaded_sequence);
            if uploaded != sealed {
                let name = info.name;
                return Ok(Some(format!("{name}: uploaded {uploaded} of {sealed}")));
            }
        }
        let counts = self.node.snapshots.counts();
        if counts.running > 0 {
            return Ok(Some(format!("{counts:?}")));
        }
        let metrics = self.node.store.metrics();
        let is_suspended = self.node.retention.status().suspended.is_some();
        let waits = self.objects_wait();
        let disk = self.node.disk.clone();
        let (segment_bytes, _) = disk.segment_bytes();
        // Whoever gives way while it looks at the disk waits for whoever waits for the disk.
        let view = disk.view();
        let files = view.files();
        for (stream, name) in NAMES.iter().enumerate().take(self.streams.len()) {
            let Some(ledger) = Ledger::read(&files, name)? else {
                continue;
            };
            let of = |what: &str| Ok(Some(format!("{name}: {what}")));
            if let Some(what) = self.stays(stream, &ledger, is_suspended) {
                return of(&what);
            }
        }
        Ok(self.over_budget(segment_bytes, &metrics, &files).or(waits))
    }

    /// What should have gone from a stream.
    fn stays(&self, stream: usize, ledger: &Ledger, is_suspended: bool) -> Option<String> {
        for (id, segment) in &ledger.segments {
            if segment.is_unneeded(ledger.start) && (segment.hot || segment.warm) {
                return Some(format!("nobody needs segment {id}, and it has a copy here"));
            }
        }
        if let Some(id) = ledger.unfinished {
            return Some(format!(
                "segment {id} was begun, and is neither made nor given up"
            ));
        }
        let known = &self.streams[stream];
        let (Some(max_age), true) = (known.rule.max_age, self.is_clock_right()) else {
            return None;
        };
        let (id, _, seal) = ledger.readable().first().copied()?;
        let newest = known.records[..seal.end as usize].last()?;
        // A pass comes at a twentieth of the age at the latest.
        let age = self.now().saturating_sub(newest.at);
        let is_old = newest.is_dated && age > max_age + max_age / 10 + Duration::from_secs(5);
        (is_old && !is_suspended)
            .then(|| format!("segment {id} is {age:?} old, by {:?}", known.rule))
    }

    fn over_budget(&self, used: u64, metrics: &Metrics, files: &Files<'_>) -> Option<String> {
        let high = |budget: u64| budget / 10 * 9;
        let quota = self.config.tier0.instance_quota_bytes;
        if quota > 0 && used > high(quota) && metrics.tier0_evictable_bytes > 0 {
            return Some(format!("{used} bytes in Tier 0 of {quota}"));
        }
        if metrics.tier0_total_bytes != used {
            return Some(format!(
                "{} bytes are counted in Tier 0, and {used} are there",
                metrics.tier0_total_bytes
            ));
        }
        let max = self.config.tier1.max_bytes;
        let warm = files.iter().filter(|(path, _)| path.starts_with("warm/"));
        let used: u64 = warm.map(|(_, content)| content.length()).sum();
        if max > 0 && used > high(max) {
            return Some(format!("{used} bytes in Tier 1 of {max}"));
        }
        None
    }

    fn objects_wait(&self) -> Option<String> {
        let status = self.node.deletion.status()?;
        if let Some(failure) = status.failure {
            return Some(failure);
        }
        // A snapshot keeps what it names, and nobody knows when a wrong clock is right again, nor when it is where it was.
        let mut waiting = status.waiting.keys();
        let waits = waiting.find(|why| match **why {
            "Snapshot" | "Clock" => false,
            "Grace" => !self.was_stepped,
            _ => true,
        });
        waits.map(|why| format!("objects are kept by {why}"))
    }

    /// What is where, for whoever reads a failure.
    pub fn tell_all(&self) {
        let disk = self.node.disk.clone();
        let view = disk.view();
        let files = view.files();
        for name in NAMES.iter().take(self.streams.len()) {
            if let Ok(Some(ledger)) = Ledger::read(&files, name) {
                eprintln!("{name} begins at {}", ledger.start);
                for (id, segment) in &ledger.segments {
                    eprintln!("{name} {id}: {segment:?}");
                }
            }
        }
        for (path, content) in &files {
            eprintln!("{} bytes: {path}", content.length());
        }
        for key in self.memory.keys() {
            eprintln!("object: {key}");
        }
    }

    /// That were done, by the manifests.
    pub fn merges(&self) -> Result<u64, String> {
        let disk = self.node.disk.clone();
        let view = disk.view();
        let files = view.files();
        let names = NAMES.iter().take(self.streams.len());
        let ledgers = names.map(|name| Ledger::read(&files, name));
        let merges = ledgers.map(|ledger| Ok(ledger?.map_or(0, |ledger| ledger.merges)));
        merges.sum()
    }

    /// Behind a restart at rest: no file and no object is there that no record names.
    pub fn check_leaks(&mut self) -> Result<(), String> {
        // What is being written now is done then.
        self.clock.sleep(Duration::from_secs(10));
        let disk = self.node.disk.clone();
        let view = disk.view();
        let files = view.files();
        let mut named = BTreeSet::new();
        let mut objects = BTreeSet::new();
        let mut open = 0;
        for name in NAMES.iter().take(self.streams.len()) {
            let Some(ledger) = Ledger::read(&files, name)? else {
                continue;
            };
            open += 2;
            for (id, segment) in &ledger.segments {
                let file = segment.name(*id);
                if segment.hot || (segment.seal.is_none() && segment.merged_upto.is_none()) {
                    named.insert(format!("streams/{name}/segments/{file}.seg"));
                }
                if segment.warm {
                    named.insert(format!("warm/warm/{name}/{file}.aofz"));
                }
                objects.extend(segment.cold.clone());
                // Of an upload whose end was never recorded.
                objects.extend(segment.begun.clone());
            }
        }
        for path in files.keys() {
            let is_copy = path.ends_with(".seg") || path.ends_with(".aofz");
            let is_left = is_copy && !named.contains(path);
            // What a torn write left is kept for whoever looks into it.
            let is_aside = path.contains("quarantine") && !path.ends_with(".torn");
            if is_left || is_aside || path.ends_with(".tmp") {
                return Err(format!("{path} is left, and no record names it"));
            }
        }
        let spares = files.keys().filter(|path| path.ends_with(".spare")).count();
        if spares > open {
            return Err(format!("{spares} segments are made ahead"));
        }
        let mut left = self.memory.keys();
        left.retain(|key| key.starts_with("p/segments/") && !objects.contains(key));
        // One that lands behind the deletion of its object stays.
        left.retain(|key| !self.checks.came_late.contains(key));
        match left.first() {
            Some(key) => Err(format!("{key} is left, and no record names it")),
            None => Ok(()),
        }
    }
}
