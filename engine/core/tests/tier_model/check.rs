//! What must hold behind every step, by the files of the volume and the objects of the bucket.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aof2_format::Seed;
use aof2_format::checksum::crc64nvme;
use aof2_format::manifest_chunk::{self, DATA_OFFSET as CHUNK_DATA};
use aof2_format::manifest_record::ManifestEvent;
use aof2_format::record_batch;
use aof2_format::segment::DATA_OFFSET;
use aof2_format::snapshot::Catalogue;
use bytes::Bytes;

use crate::disk::Files;
use crate::ledger::{Ledger, Seal, Segment, whole};
use crate::node::{Node, PREFIX};
use crate::world::{NAMES, World};

/// A block for the seal, and what rounds the records up to one.
const SEAL_BYTES: u64 = 8 << 10;

#[derive(Default)]
pub struct Checks {
    pub has_faults: bool,
    /// Asked for in this process.
    pub hydrations: Vec<u64>,
    /// Snapshots of this process, with the records that were durable when they began.
    pub snapshots: BTreeMap<(usize, u64), u64>,
    /// Copies and catalogues that were read and are what they should be: their names and checksums.
    pub verified: HashSet<(String, u64)>,
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
    let disk = world.node.disk.clone();
    let view = disk.view();
    let files = view.files();
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
    files: &Files<'_>,
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
    files: &Files<'_>,
    ledger: &Ledger,
    (id, segment, seal): (u64, &Segment, Seal),
) -> Result<(), String> {
    let name = segment.name(id);
    let of = |what: &str| format!("{}: the {what} copy of segment {id}", NAMES[stream]);
    let mut found = Vec::new();
    if segment.hot {
        let path = format!("streams/{}/segments/{name}.seg", NAMES[stream]);
        let bytes = files.get(&path).copied().map(whole);
        found.push((of("hot"), path, bytes));
    }
    if segment.warm {
        let path = format!("warm/warm/{}/{name}.aofz", NAMES[stream]);
        let bytes = files.get(&path).copied().map(whole);
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

pub fn records_of(segment: &[u8], seed: Seed) -> Result<Vec<(u64, Bytes)>, String> {
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

pub fn catalogues(world: &World) -> Result<Vec<(String, Catalogue)>, String> {
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
