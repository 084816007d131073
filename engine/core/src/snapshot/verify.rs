//! The second reader: what is in the bucket, and whether it is the snapshot. Reads Tier 2 and nothing else, so that any engine of
//! the cluster can do it, and shares no code with what takes snapshots.
//!
//! An object that is not there, or not as it was, is a verdict. A Tier 2 that does not answer is an error: nothing was learned.

use std::collections::BTreeMap;

use crate::io::sync::Mutex;
use aof2_format::manifest_chunk::{self, DATA_OFFSET, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::names::ObjectKey;
use aof2_format::snapshot::{
    Catalogue, CatalogueChunk, CatalogueSegment, Crc64, MAX_CATALOGUE_BYTES, SnapshotId,
};
use aof2_format::start_sequence::{self, StartSequence};
use aof2_format::warm::{FOOTER_BYTES, WarmFooter};
use aof2_format::{Damage, Seed, StreamName};
use bytes::Bytes;

use super::digest_of;
use crate::io::in_parallel;
use crate::objects::tier2::ATTEMPTS_OF_A_CALLER;
use crate::objects::{ObjectError, ObjectStore, Refusal, Tier2, crc64nvme};

/// Missing keys that a verdict names.
pub const MISSING_NAMED: usize = 32;
/// Objects asked for at a time.
const READERS: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything that the catalogue names is there, with its size and checksum; with its etag where the store keeps no checksum. A
    /// part of each object is read and says what the catalogue says: an object that is listed may still be one that nobody can read.
    #[default]
    L0,
    /// And the manifest's chunks, replayed, give the catalogue.
    L1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ObjectMissing,
    DigestMismatch,
    SizeMismatch,
    Undecodable,
    ReplayDiffers,
    /// It cannot be read before somebody restores it.
    ObjectArchived,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong first, naming the object; `None` = verified.
    pub fault: Option<(Fault, String)>,
    /// Of the catalogue as it is now; empty where it could not be read.
    pub digest: String,
    /// Keys, at most `MISSING_NAMED`.
    pub missing: Vec<String>,
    pub objects_checked: u64,
    pub records_replayed: u64,
}

impl Verdict {
    fn faulty(mut self, fault: Fault, message: String) -> Verdict {
        self.fault.get_or_insert((fault, message));
        self
    }
}

/// Reads the snapshot back. `digest` is what the catalogue's bytes should give, where the caller knows it.
pub fn verify(
    tier2: &Tier2,
    stream: &StreamName,
    id: SnapshotId,
    level: Level,
    digest: Option<&str>,
) -> Result<Verdict, ObjectError> {
    let verdict = read_back(tier2, stream, id, level, digest)?;
    if let Some((fault, what)) = &verdict.fault {
        let missing = verdict.missing.len();
        tracing::error!(%stream, snapshot = %id, ?level, ?fault, missing, "snapshot failed verification: {what}");
    }
    Ok(verdict)
}

fn read_back(
    tier2: &Tier2,
    stream: &StreamName,
    id: SnapshotId,
    level: Level,
    digest: Option<&str>,
) -> Result<Verdict, ObjectError> {
    let reader = Reader { tier2 };
    let key = ObjectKey::Snapshot {
        stream: stream.clone(),
        snapshot_id: id.0,
    }
    .to_key(tier2.prefix());
    let mut verdict = Verdict {
        objects_checked: 1,
        ..Verdict::default()
    };
    let bytes = match reader.get(&key, MAX_CATALOGUE_BYTES as u64)? {
        Read::Bytes(bytes) => bytes,
        Read::Missing => {
            verdict.missing.push(key.clone());
            return Ok(verdict.faulty(Fault::ObjectMissing, missing(&key)));
        }
        Read::Faulty(fault, message) => return Ok(verdict.faulty(fault, message)),
    };
    verdict.digest = digest_of(&bytes);
    if let Some(expected) = digest
        && expected != verdict.digest
    {
        let message = format!(
            "object {key} has digest {}, expected {expected}",
            verdict.digest
        );
        return Ok(verdict.faulty(Fault::DigestMismatch, message));
    }
    let catalogue = match Catalogue::decode(&bytes) {
        Ok(catalogue) => catalogue,
        Err(error) => {
            let fault = match &error {
                Damage::Checksum { .. } => Fault::DigestMismatch,
                Damage::Short { .. }
                | Damage::Magic { .. }
                | Damage::Version { .. }
                | Damage::Value { .. }
                | Damage::Text { .. } => Fault::Undecodable,
            };
            return Ok(verdict.faulty(fault, format!("{key}: {error}")));
        }
    };
    if catalogue.stream != *stream || catalogue.snapshot_id != id {
        let message = format!(
            "object {key} describes snapshot {} of stream {}",
            catalogue.snapshot_id, catalogue.stream
        );
        return Ok(verdict.faulty(Fault::Undecodable, message));
    }
    let verdict = check_objects(&reader, &catalogue, verdict)?;
    match level {
        Level::L1 if verdict.fault.is_none() => replay(&reader, &catalogue, verdict),
        Level::L0 | Level::L1 => Ok(verdict),
    }
}

fn missing(key: &str) -> String {
    format!("object {key} is missing; restore it or take a new snapshot")
}

struct Reader<'a> {
    tier2: &'a Tier2,
}

enum Read {
    Bytes(Bytes),
    Missing,
    Faulty(Fault, String),
}

impl Reader<'_> {
    /// Twice at most: somebody waits for the answer.
    fn retried<T>(
        &self,
        ask: impl Fn(&dyn ObjectStore) -> Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        let mut attempt = 1;
        loop {
            match ask(self.tier2.store()) {
                Err(error) if error.is_outage() && attempt < ATTEMPTS_OF_A_CALLER => {
                    if !self.tier2.retries().pause_after(attempt) {
                        return Err(error);
                    }
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    fn get(&self, key: &str, max_bytes: u64) -> Result<Read, ObjectError> {
        let get = |store: &dyn ObjectStore| store.get_within(key, max_bytes);
        Self::judged(self.retried(|store| Ok(get(store)?.map(|object| object.bytes))))
    }

    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Read, ObjectError> {
        Self::judged(self.retried(|store| store.get_range(key, offset, length)))
    }

    /// What is wrong with the object itself is a verdict.
    fn judged(answer: Result<Option<Bytes>, ObjectError>) -> Result<Read, ObjectError> {
        match answer {
            Ok(Some(bytes)) => Ok(Read::Bytes(bytes)),
            Ok(None) => Ok(Read::Missing),
            Err(error @ ObjectError::Corrupt { .. }) => {
                Ok(Read::Faulty(Fault::DigestMismatch, error.to_string()))
            }
            Err(
                error @ ObjectError::Refused {
                    refusal: Refusal::Archived,
                    ..
                },
            ) => Ok(Read::Faulty(Fault::ObjectArchived, error.to_string())),
            Err(error) => Err(error),
        }
    }
}

/// What an object has to have.
struct Expected<'a> {
    key: &'a str,
    bytes: u64,
    crc64: Option<Crc64>,
    /// Of the upload; `None` where nobody noted it.
    etag: Option<&'a str>,
    content: Content<'a>,
}

enum Content<'a> {
    Segment(&'a CatalogueSegment),
    Chunk(&'a CatalogueChunk),
}

fn check_objects(
    reader: &Reader<'_>,
    catalogue: &Catalogue,
    mut verdict: Verdict,
) -> Result<Verdict, ObjectError> {
    let segments = catalogue.segments.iter().map(|it| Expected {
        key: &it.key,
        bytes: it.object_bytes,
        crc64: it.object_crc64,
        etag: Some(&it.etag),
        content: Content::Segment(it),
    });
    let chunks = catalogue.chunks.iter().map(|it| Expected {
        key: &it.key,
        bytes: it.bytes,
        crc64: Some(it.crc64),
        etag: None,
        content: Content::Chunk(it),
    });
    let expected: Vec<Expected<'_>> = segments.chain(chunks).collect();
    let found = ask_for_all(reader, &expected)?;
    verdict.objects_checked += expected.len() as u64;
    // In the catalogue's order, whatever the order of the answers was.
    for (object, fault) in expected.iter().zip(found) {
        let Some((fault, message)) = fault else {
            continue;
        };
        if fault == Fault::ObjectMissing && verdict.missing.len() < MISSING_NAMED {
            verdict.missing.push(object.key.to_owned());
        }
        verdict = verdict.faulty(fault, message);
    }
    Ok(verdict)
}

type Found = Option<(Fault, String)>;

fn ask_for_all(reader: &Reader<'_>, expected: &[Expected<'_>]) -> Result<Vec<Found>, ObjectError> {
    let found: Mutex<Vec<Found>> = Mutex::new(vec![None; expected.len()]);
    in_parallel(READERS, expected.len(), |index| {
        let fault = inspect(reader, &expected[index])?;
        found.lock()[index] = fault;
        Ok(())
    })?;
    Ok(found.into_inner())
}

fn inspect(reader: &Reader<'_>, expected: &Expected<'_>) -> Result<Found, ObjectError> {
    let Expected {
        key,
        bytes,
        crc64,
        etag,
        ref content,
    } = *expected;
    let Some(meta) = reader.retried(|store| store.head(key))? else {
        return Ok(Some((Fault::ObjectMissing, missing(key))));
    };
    if meta.size_bytes != bytes {
        let message = format!(
            "object {key} has {} bytes, written were {bytes}",
            meta.size_bytes
        );
        return Ok(Some((Fault::SizeMismatch, message)));
    }
    let difference = match (meta.crc64nvme, crc64, etag) {
        (Some(kept), Some(Crc64(written)), _) => (kept != written)
            .then(|| format!("object {key} has checksum {kept:016x}, written was {written:016x}")),
        // The etag of a copy with the same bytes may differ, so it is asked only where there is no checksum.
        (_, _, Some(etag)) => {
            let kept = &meta.etag;
            (kept != etag)
                .then(|| format!("object {key} was overwritten (ETag {kept}, written {etag})"))
        }
        // A chunk in such a store: L1 reads it.
        (_, _, None) => None,
    };
    match difference {
        Some(message) => Ok(Some((Fault::DigestMismatch, message))),
        None => read_a_part(reader, key, bytes, content),
    }
}

/// Of a segment its end, which says all that the catalogue says of it; of a chunk its beginning.
fn read_a_part(
    reader: &Reader<'_>,
    key: &str,
    bytes: u64,
    content: &Content<'_>,
) -> Result<Found, ObjectError> {
    let (offset, length) = match content {
        Content::Segment(_) => {
            let footer_bytes = bytes.min(FOOTER_BYTES as u64);
            (bytes - footer_bytes, footer_bytes)
        }
        Content::Chunk(_) => (0, bytes.min(DATA_OFFSET)),
    };
    let part = match reader.get_range(key, offset, length)? {
        Read::Bytes(part) => part,
        Read::Missing => return Ok(Some((Fault::ObjectMissing, missing(key)))),
        Read::Faulty(fault, message) => return Ok(Some((fault, message))),
    };
    let differs = match content {
        Content::Segment(segment) => match WarmFooter::decode(&part, bytes) {
            Ok(footer) => footer_differs(&footer, segment),
            Err(damage) => Some(damage.to_string()),
        },
        Content::Chunk(chunk) => match ManifestChunkHeader::decode(&part) {
            Ok(header) if header.chunk == chunk.index => None,
            Ok(header) => Some(format!("chunk {} found", header.chunk)),
            Err(damage) => Some(damage.to_string()),
        },
    };
    Ok(differs.map(|problem| {
        let message = format!("object {key} has other content ({problem})");
        (Fault::DigestMismatch, message)
    }))
}

fn footer_differs(footer: &WarmFooter, segment: &CatalogueSegment) -> Option<String> {
    let is_same = footer.segment_id == segment.segment_id
        && footer.epoch == segment.epoch
        && footer.base_sequence == segment.base_sequence
        && Some(footer.end_sequence) == segment.end_sequence()
        && footer.uncompressed_bytes == segment.bytes
        && footer.crc64 == segment.crc64.0;
    (!is_same).then(|| {
        format!(
            "segment {} from sequence {} found",
            footer.segment_id, footer.base_sequence
        )
    })
}

// ------------------------------------------------------------------------------------------------------------- L1: replay

/// A segment as the records tell it.
#[derive(Clone, Debug, Default)]
struct Life {
    epoch: u32,
    base_sequence: u64,
    /// Bytes, checksum, sequence behind the last record.
    sealed: Option<(u64, u64, u64)>,
    /// Key and etag.
    uploaded: Option<(String, String)>,
}

#[derive(Default)]
struct Replay {
    lives: BTreeMap<u64, Life>,
    /// First sequence that may be read.
    start: u64,
    chain: u32,
    next_sequence: u64,
}

fn replay(
    reader: &Reader<'_>,
    catalogue: &Catalogue,
    mut verdict: Verdict,
) -> Result<Verdict, ObjectError> {
    let mut replay = Replay::default();
    for chunk in &catalogue.chunks {
        let bytes = match reader.get(&chunk.key, chunk.bytes)? {
            Read::Bytes(bytes) => bytes,
            Read::Missing => {
                verdict.missing.push(chunk.key.clone());
                return Ok(verdict.faulty(Fault::ObjectMissing, missing(&chunk.key)));
            }
            Read::Faulty(fault, message) => return Ok(verdict.faulty(fault, message)),
        };
        if bytes.len() as u64 != chunk.bytes || crc64nvme(&bytes) != chunk.crc64.0 {
            let message = format!("object {} differs from what was written", chunk.key);
            return Ok(verdict.faulty(Fault::DigestMismatch, message));
        }
        if let Err((fault, problem)) = replay.chunk(catalogue, chunk, &bytes) {
            verdict.records_replayed = replay.next_sequence;
            return Ok(verdict.faulty(fault, format!("{}: {problem}", chunk.key)));
        }
    }
    verdict.records_replayed = replay.next_sequence;
    Ok(match replay.difference(catalogue) {
        None => verdict,
        Some(difference) => verdict.faulty(Fault::ReplayDiffers, difference),
    })
}

impl Replay {
    fn chunk(
        &mut self,
        catalogue: &Catalogue,
        chunk: &CatalogueChunk,
        bytes: &[u8],
    ) -> Result<(), (Fault, String)> {
        let undecodable = |error: Damage| (Fault::Undecodable, error.to_string());
        let header = ManifestChunkHeader::decode(bytes).map_err(undecodable)?;
        let is_next = header.cluster_id == catalogue.cluster_id
            && header.stream == catalogue.stream
            && header.stream_uuid == catalogue.stream_uuid
            && header.chunk == chunk.index
            && header.prev_chain == self.chain
            && header.base_manifest_sequence == self.next_sequence;
        if !is_next {
            let problem = "chunk does not continue the previous chunk".to_owned();
            return Err((Fault::ReplayDiffers, problem));
        }
        let seed = Seed::new(header.stream_salt);
        let mut offset = DATA_OFFSET as usize;
        while offset < bytes.len() {
            let commit =
                manifest_chunk::decode_commit(&bytes[offset..], seed).map_err(undecodable)?;
            if commit.prev_chain != self.chain {
                let problem = format!("commit chain is broken at byte {offset}");
                return Err((Fault::ReplayDiffers, problem));
            }
            for record in &commit.records {
                if record.manifest_sequence != self.next_sequence {
                    let problem = format!(
                        "record {} found, expected {}",
                        record.manifest_sequence, self.next_sequence
                    );
                    return Err((Fault::ReplayDiffers, problem));
                }
                self.record(record);
                self.next_sequence += 1;
            }
            self.chain = commit.chain;
            offset += commit.bytes;
        }
        Ok(())
    }

    fn record(&mut self, record: &ManifestRecord) {
        let mut change = |change: &dyn Fn(&mut Life)| {
            change(self.lives.entry(record.segment_id).or_default());
        };
        match &record.event {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => change(&|life| {
                life.base_sequence = *base_sequence;
                life.epoch = *epoch;
            }),
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                ext_id: _,
                watermark,
                flush_failure: _,
                chain: _,
                first_unix_nanos: _,
                last_unix_nanos: _,
                sealed_unix_nanos: _,
            } => change(&|life| {
                life.sealed = Some((*durable_bytes, *segment_crc64, *watermark));
            }),
            ManifestEvent::UploadDone { key, etag } => change(&|life| {
                life.uploaded = Some((key.clone(), etag.clone()));
            }),
            ManifestEvent::Tier2Deleted { key } => change(&|life| {
                life.uploaded.take_if(|(uploaded, _)| uploaded == key);
            }),
            ManifestEvent::CustomEvent { schema_id, blob }
                if *schema_id == start_sequence::SCHEMA_ID =>
            {
                if let Ok(start) = StartSequence::decode(blob) {
                    self.start = self.start.max(start.start_sequence);
                }
            }
            ManifestEvent::CompressionStarted
            | ManifestEvent::CompressionDone { .. }
            | ManifestEvent::CompressionFailed { .. }
            | ManifestEvent::UploadStarted { .. }
            | ManifestEvent::UploadFailed { .. }
            | ManifestEvent::Tier2DeleteQueued { .. }
            | ManifestEvent::HydrationStarted { .. }
            | ManifestEvent::HydrationDone { .. }
            | ManifestEvent::HydrationFailed { .. }
            | ManifestEvent::LocalEvicted { .. }
            | ManifestEvent::SnapshotMarker { .. }
            | ManifestEvent::CustomEvent { .. }
            | ManifestEvent::Unknown { .. } => {}
        }
    }

    /// The first thing that the catalogue says otherwise.
    fn difference(&self, catalogue: &Catalogue) -> Option<String> {
        if self.start != catalogue.start_sequence {
            return Some(format!(
                "stream begins at sequence {} in the manifest and at {} in the catalogue",
                self.start, catalogue.start_sequence
            ));
        }
        let mut lives: Vec<(u64, &Life, (u64, u64, u64))> = self
            .lives
            .iter()
            .filter_map(|(id, life)| life.sealed.map(|sealed| (*id, life, sealed)))
            .filter(|(_, _, (_, _, end))| *end > self.start)
            .collect();
        lives.sort_by_key(|(_, life, _)| life.base_sequence);
        let mut lives = lives.into_iter();
        let mut upto = self.start;
        for segment in &catalogue.segments {
            let CatalogueSegment {
                segment_id,
                epoch,
                base_sequence,
                records,
                bytes,
                crc64,
                key,
                etag,
                object_bytes: _,
                object_crc64: _,
            } = segment;
            let Some((id, life, (sealed_bytes, sealed_crc64, end))) = lives.next() else {
                return Some(format!(
                    "segment {segment_id} is not sealed in the manifest"
                ));
            };
            let is_same = id == *segment_id
                && life.epoch == *epoch
                && life.base_sequence == *base_sequence
                && life.base_sequence.checked_add(*records) == Some(end)
                && sealed_bytes == *bytes
                && sealed_crc64 == crc64.0
                && life.uploaded.as_ref() == Some(&(key.clone(), etag.clone()));
            if !is_same {
                return Some(format!(
                    "segment {segment_id} differs from segment {id} in the manifest, which holds {}..{end} and is uploaded as {:?}",
                    life.base_sequence, life.uploaded
                ));
            }
            upto = end;
        }
        if upto != catalogue.uploaded_sequence {
            return Some(format!(
                "{upto} records are uploaded, {} in the catalogue",
                catalogue.uploaded_sequence
            ));
        }
        match lives.next() {
            Some((id, life, _)) if life.uploaded.is_some() && life.base_sequence <= upto => Some(
                format!("segment {id} is uploaded but missing in the catalogue"),
            ),
            Some(_) | None => None,
        }
    }
}
