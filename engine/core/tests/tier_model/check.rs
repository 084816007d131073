//! What must hold behind every step, by the files of the volume and the objects of the bucket, and what must hold once nothing is left to
//! do.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use aof2_core::io::Clock as _;
use aof2_core::snapshot::SnapshotPhase;
use aof2_format::Seed;
use aof2_format::checksum::crc64nvme;
use aof2_format::manifest_chunk::{self, DATA_OFFSET as CHUNK_DATA};
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::record_batch;
use aof2_format::segment::DATA_OFFSET;
use aof2_format::snapshot::{Catalogue, SnapshotId};
use bytes::Bytes;

use crate::ledger::{Files, Ledger, Seal, Segment, whole};
use crate::node::{Node, PREFIX};
use crate::world::{NAMES, World};

/// Longer than anything waits that has a reason to.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// A block for the seal, and what rounds the records up to one.
const SEAL_BYTES: u64 = 8 << 10;

#[derive(Default)]
pub struct Checks {
    pub has_faults: bool,
    /// Asked for in this process.
    pub hydrations: Vec<u64>,
    /// Snapshots of this process, with the records that were durable when they began.
    snapshots: BTreeMap<(usize, u64), u64>,
    /// Copies and catalogues that were read and are what they should be: their names and checksums.
    verified: HashSet<(String, u64)>,
    /// Objects that were deleted, over all processes.
    gone: BTreeSet<String>,
    /// Keys of puts that arrived behind the end of their process.
    pub came_late: BTreeSet<String>,
}

impl Checks {
    pub fn begun(&mut self, stream: usize, snapshot_id: u64, durable: u64) {
        self.snapshots
            .entry((stream, snapshot_id))
            .or_insert(durable);
    }

    pub fn process_ended(&mut self) {
        self.has_faults = false;
        self.hydrations.clear();
        self.snapshots.clear();
    }

    /// What went from the bucket: only objects of segments, old marks, and what a probe left.
    pub fn deletions(&mut self, node: &Node) -> Result<(), String> {
        for (key, _) in node.bucket.take_deleted() {
            match key.starts_with("p/segments/") {
                true => _ = self.gone.insert(key),
                false
                    if ["p/marks/", "p/probe/"]
                        .iter()
                        .any(|it| key.starts_with(it)) => {}
                false => return Err(format!("{key} was deleted")),
            }
        }
        Ok(())
    }
}

/// Behind each operation.
pub fn step(world: &mut World) -> Result<(), String> {
    let quota = world.config.tier0.instance_quota_bytes;
    let (_, most) = world.node.disk.segment_bytes();
    // A segment that a start found is sealed whatever the quota is.
    let seals = world.streams.len() as u64 * SEAL_BYTES;
    if quota > 0 && most > quota + seals {
        return Err(format!(
            "{most} bytes were in Tier 0, which may have {quota}"
        ));
    }
    let deleted = world.node.bucket.peek_deleted();
    world.checks.deletions(&world.node)?;
    let files = world.node.disk.files();
    for (stream, name) in NAMES.iter().enumerate().take(world.streams.len()) {
        if let Some(ledger) = Ledger::read(&files, name)? {
            of_stream(world, stream, &files, &ledger)?;
            for (key, at) in &deleted {
                may_be_deleted(world, stream, &ledger, key, *at)?;
            }
        }
    }
    Ok(())
}

fn of_stream(
    world: &mut World,
    stream: usize,
    files: &Files,
    ledger: &Ledger,
) -> Result<(), String> {
    let name = NAMES[stream];
    if let Some(wrong) = &ledger.wrong {
        return Err(format!("{name}: {wrong}"));
    }
    for (id, segment) in &ledger.segments {
        // A failed try is recorded once.
        if let Some((what, _)) = segment.failures.iter().find(|(_, times)| **times > 1) {
            return Err(format!("{name}: segment {id}: {what:?} is recorded twice"));
        }
    }
    let mut upto = None;
    for (id, segment, seal) in ledger.sealed() {
        if upto.is_some_and(|upto| upto != segment.base) {
            return Err(format!(
                "{name}: segment {id} begins at {} behind {upto:?}",
                segment.base
            ));
        }
        upto = Some(seal.end);
        let is_readable = seal.end > ledger.start;
        if is_readable && !segment.has_copy() {
            return Err(format!("{name}: segment {id} has no copy any more"));
        }
        if is_readable {
            copies(world, stream, files, ledger, (id, segment, seal))?;
        }
    }
    let first = ledger
        .readable()
        .first()
        .map(|(_, segment, _)| segment.base);
    if first.is_some_and(|first| first > ledger.start) {
        return Err(format!(
            "{name}: begins at {}, and the first segment at {first:?}",
            ledger.start
        ));
    }
    let uploaded = ledger.uploaded_upto();
    match uploaded < world.streams[stream].uploaded {
        true => Err(format!(
            "{name}: the manifest says uploaded up to {uploaded}, {} was told",
            world.streams[stream].uploaded
        )),
        false => Ok(()),
    }
}

/// Every copy that the manifest names is there, and is the records.
fn copies(
    world: &mut World,
    stream: usize,
    files: &Files,
    ledger: &Ledger,
    (id, segment, seal): (u64, &Segment, Seal),
) -> Result<(), String> {
    let name = segment.name(id);
    let of = |what: &str| format!("{}: the {what} copy of segment {id}", NAMES[stream]);
    let mut found = Vec::new();
    if segment.hot {
        let path = format!("streams/{}/segments/{name}.seg", NAMES[stream]);
        let bytes = files.get(&path).map(whole);
        found.push((of("hot"), path, bytes));
    }
    if segment.warm {
        let path = format!("warm/warm/{}/{name}.aofz", NAMES[stream]);
        let bytes = files.get(&path).map(whole);
        found.push((of("warm"), path, bytes));
    }
    if let Some(key) = &segment.cold {
        let bytes = world.memory.bytes_of(key).map(|bytes| bytes.to_vec());
        found.push((of("cold"), key.clone(), bytes));
    }
    for (what, place, bytes) in found {
        let Some(bytes) = bytes else {
            return Err(format!("{what} is not there: {place}"));
        };
        let known = (format!("{place} {:x}", seal.crc64), crc64nvme(&bytes));
        if world.checks.verified.contains(&known) {
            continue;
        }
        let segment_bytes = match place.ends_with(".seg") {
            true => bytes.get(..seal.data_end as usize).map(<[u8]>::to_vec),
            false => zstd::stream::decode_all(&bytes[..]).ok(),
        };
        let Some(segment_bytes) = segment_bytes else {
            return Err(format!("{what} is cut or broken: {place}"));
        };
        if crc64nvme(&segment_bytes) != seal.crc64 {
            return Err(format!("{what} is not what was sealed: {place}"));
        }
        let Some(seed) = ledger.seed else { continue };
        let records = records_of(&segment_bytes, seed)?;
        let known_records = &world.streams[stream];
        known_records
            .check(segment.base, &records)
            .map_err(|error| format!("{what}: {error}"))?;
        if segment.base + records.len() as u64 != seal.end {
            return Err(format!("{what} has {} records", records.len()));
        }
        world.checks.verified.insert(known);
    }
    Ok(())
}

fn records_of(segment: &[u8], seed: Seed) -> Result<Vec<(u64, Bytes)>, String> {
    let mut rest = segment.get(DATA_OFFSET as usize..).unwrap_or_default();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let batch = record_batch::decode(rest, seed).map_err(|error| error.to_string())?;
        let payloads = (batch.base_sequence()..).zip(batch.payloads());
        records.extend(payloads.map(|(sequence, bytes)| (sequence, Bytes::copy_from_slice(bytes))));
        rest = &rest[batch.batch_bytes()..];
    }
    Ok(records)
}

/// An object of a segment went: nobody may need it, and the bucket has the manifest that gives it up.
fn may_be_deleted(
    world: &World,
    stream: usize,
    ledger: &Ledger,
    key: &str,
    at: i64,
) -> Result<(), String> {
    let name = NAMES[stream];
    if !key.starts_with(&format!("{PREFIX}segments/{name}/")) {
        return Ok(());
    }
    let told = |what: &str| Err(format!("{key} was deleted, and {what}"));
    let mut segments = ledger.segments.iter();
    let Some((_, segment)) = segments.find(|(id, segment)| key.contains(&segment.name(**id)))
    else {
        return told("no segment has that name");
    };
    if !segment.is_unneeded(ledger.start) {
        return told("it holds records that can be read");
    }
    let (queued, since) = segment.queued;
    let grace = world.config.tier2.delete_grace.as_nanos() as i64;
    let is_early = grace > 0 && at < since + grace && world.is_clock_right();
    if queued < 2 || is_early {
        return told(&format!(
            "it was queued {queued} times, at last at {since}, now is {at}"
        ));
    }
    if !is_published(world, name, key, ledger.seed) {
        return told("no manifest in the bucket says so");
    }
    for (_, catalogue) in catalogues(world)? {
        if catalogue.segments.iter().any(|segment| segment.key == key) {
            return told(&format!("snapshot {:?} names it", catalogue.snapshot_id));
        }
    }
    Ok(())
}

fn is_published(world: &World, name: &str, key: &str, seed: Option<Seed>) -> bool {
    let mut chunks = world.memory.keys();
    chunks.retain(|chunk| chunk.starts_with(&format!("{PREFIX}manifest/{name}/")));
    let says_so = |chunk: &String| {
        let (Some(bytes), Some(seed)) = (world.memory.bytes_of(chunk), seed) else {
            return false;
        };
        let mut commits = manifest_chunk::commits(&bytes, CHUNK_DATA as usize, seed).flatten();
        commits.any(|commit| {
            let mut events = commit.records.iter().map(|record| &record.event);
            events.any(|it| matches!(it, ManifestEvent::Tier2DeleteQueued { key: it } if it == key))
        })
    };
    chunks.iter().any(says_so)
}

fn catalogues(world: &World) -> Result<Vec<(String, Catalogue)>, String> {
    let mut found = Vec::new();
    for key in world.memory.keys() {
        let is_one = NAMES
            .iter()
            .any(|name| key.starts_with(&format!("{PREFIX}snapshots/{name}/")));
        if let (true, Some(bytes)) = (is_one, world.memory.bytes_of(&key)) {
            let catalogue = Catalogue::decode(&bytes).map_err(|error| format!("{key}: {error}"))?;
            found.push((key, catalogue));
        }
    }
    Ok(found)
}

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
    let ledger = Ledger::read(&world.node.disk.files(), NAMES[stream])?;
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
        let files = self.node.disk.files();
        for (stream, name) in NAMES.iter().enumerate().take(self.streams.len()) {
            let Some(ledger) = Ledger::read(&files, name)? else {
                continue;
            };
            let of = |what: &str| Ok(Some(format!("{name}: {what}")));
            if let Some(what) = self.stays(stream, &ledger) {
                return of(&what);
            }
        }
        Ok(self.over_budget(&files)?.or_else(|| self.objects_wait()))
    }

    /// What should have gone from a stream.
    fn stays(&self, stream: usize, ledger: &Ledger) -> Option<String> {
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
        (is_old && self.node.retention.status().suspended.is_none())
            .then(|| format!("segment {id} is {age:?} old, by {:?}", known.rule))
    }

    fn over_budget(&self, files: &Files) -> Result<Option<String>, String> {
        let high = |budget: u64| budget / 10 * 9;
        let quota = self.config.tier0.instance_quota_bytes;
        let (used, _) = self.node.disk.segment_bytes();
        let metrics = self.node.store.metrics();
        if quota > 0 && used > high(quota) && metrics.tier0_evictable_bytes > 0 {
            return Ok(Some(format!("{used} bytes in Tier 0 of {quota}")));
        }
        if metrics.tier0_total_bytes != used {
            return Ok(Some(format!(
                "{} bytes are counted in Tier 0, and {used} are there",
                metrics.tier0_total_bytes
            )));
        }
        let max = self.config.tier1.max_bytes;
        let warm = files.iter().filter(|(path, _)| path.starts_with("warm/"));
        let used: u64 = warm.map(|(_, content)| content.length()).sum();
        if max > 0 && used > high(max) {
            return Ok(Some(format!("{used} bytes in Tier 1 of {max}")));
        }
        Ok(None)
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
        let files = self.node.disk.files();
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
        let files = self.node.disk.files();
        let names = NAMES.iter().take(self.streams.len());
        let ledgers = names.map(|name| Ledger::read(&files, name));
        let merges = ledgers.map(|ledger| Ok(ledger?.map_or(0, |ledger| ledger.merges)));
        merges.sum()
    }

    /// Behind a restart at rest: no file and no object is there that no record names.
    pub fn check_leaks(&mut self) -> Result<(), String> {
        // What is being written now is done then.
        self.clock.sleep(Duration::from_secs(10));
        let files = self.node.disk.files();
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
