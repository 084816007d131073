//! Three JSON things of a snapshot: the catalogue `snapshots/<stream>/<snapshot id>.json`, the recovery notes
//! `recovery/<stream>.json`, and the note that goes with a `SnapshotMarker` in the manifest. Layout: `snapshot.md`.
//!
//! A catalogue is self-contained: with it and the objects that it names, a stream is rebuilt without any volume. It is created
//! once and never rewritten. The recovery notes say which catalogue is the newest, and are overwritten.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::claim;
use crate::damage::{self, Damage};
use crate::identity::{ClusterId, StreamUuid};
use crate::names::StreamName;

/// Largest catalogue that is read: about 150,000 segments.
pub const MAX_CATALOGUE_BYTES: usize = 64 << 20;
/// Largest note of a marker.
pub const MAX_NOTE_BYTES: usize = 16 << 10;
/// Longest name of a requester (a UID, or what a person typed).
pub const MAX_REQUEST_BYTES: usize = 128;
/// `CustomEvent.schema_id` of a [`SnapshotNote`].
pub const NOTE_SCHEMA_ID: u32 = 2;

const CATALOGUE: &str = "aof2-snapshot";
const RECOVERY: &str = "aof2-recovery";
const NOTE: &str = "aof2-snapshot-note";

/// `epoch << 32 | n`. A string in JSON, since it is beyond what a double holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

impl SnapshotId {
    /// `n` counts the snapshots of one epoch, from 1.
    pub fn new(epoch: u32, n: u32) -> SnapshotId {
        SnapshotId(u64::from(epoch) << 32 | u64::from(n))
    }

    pub fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn n(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SnapshotId {
    type Err = Damage;

    /// Decimal digits as `Display` writes them, nothing else.
    fn from_str(text: &str) -> Result<Self, Damage> {
        match text.parse() {
            Ok(id) if SnapshotId(id).to_string() == text => Ok(SnapshotId(id)),
            Ok(_) | Err(_) => Err(Damage::Text {
                what: "snapshot id",
                problem: format!("{:?} is no decimal number", cut(text)),
            }),
        }
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A CRC-64/NVME: sixteen hexadecimal digits in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc64(pub u64);

impl Serialize for Crc64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Crc64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let is_hex = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u64::from_str_radix(&text, 16) {
            Ok(crc) if is_hex => Ok(Crc64(crc)),
            Ok(_) | Err(_) => Err(serde::de::Error::custom(
                "a checksum is sixteen hexadecimal digits",
            )),
        }
    }
}

/// What a stream holds in Tier 2 at one position of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub stream_uuid: StreamUuid,
    pub snapshot_id: SnapshotId,
    /// Who asked.
    pub request: String,
    pub epoch: u32,
    /// The manifest up to here gives `segments`: chunk, and bytes into it.
    pub chunk_index: u64,
    pub chunk_offset: u64,
    /// Count of records that were durable when the snapshot began.
    pub durable_sequence: u64,
    /// Of the first record that may be read. It lies in the first of `segments`.
    pub start_sequence: u64,
    /// Behind the last record of `segments`; `start_sequence` where there are none.
    pub uploaded_sequence: u64,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Without a hole, by sequence.
    pub segments: Vec<CatalogueSegment>,
    /// Of the manifest, the first to `chunk_index`.
    pub chunks: Vec<CatalogueChunk>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueSegment {
    pub segment_id: u64,
    pub epoch: u32,
    pub base_sequence: u64,
    pub records: u64,
    /// Of the segment itself, and the checksum of those bytes.
    pub bytes: u64,
    pub crc64: Crc64,
    /// Whole key of the object that holds it compressed.
    pub key: String,
    pub etag: String,
    pub object_bytes: u64,
    /// Where the store keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_crc64: Option<Crc64>,
}

impl CatalogueSegment {
    /// Sequence after the last record; `None` where there is none.
    pub fn end_sequence(&self) -> Option<u64> {
        self.base_sequence.checked_add(self.records)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueChunk {
    pub index: u64,
    pub epoch: u32,
    /// Whole key.
    pub key: String,
    pub bytes: u64,
    pub crc64: Crc64,
}

impl Catalogue {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(CATALOGUE, self)
    }

    /// Also checks that it agrees with itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let catalogue: Self = claim::decode(CATALOGUE, MAX_CATALOGUE_BYTES, bytes)?;
        catalogue.check()?;
        Ok(catalogue)
    }

    fn check(&self) -> Result<(), Damage> {
        let wrong = |field, found: u64| Err(damage::value(CATALOGUE, field, found));
        if self.snapshot_id.epoch() != self.epoch {
            return wrong("snapshot_id", self.snapshot_id.0);
        }
        if self.request.len() > MAX_REQUEST_BYTES {
            return wrong("request bytes", self.request.len() as u64);
        }
        let mut upto = self.start_sequence;
        if let Some(first) = self.segments.first() {
            let holds_start = first.base_sequence <= self.start_sequence
                && first
                    .end_sequence()
                    .is_some_and(|end| self.start_sequence < end);
            if !holds_start {
                return wrong("start_sequence", self.start_sequence);
            }
            upto = first.base_sequence;
        }
        for segment in &self.segments {
            match segment.end_sequence() {
                Some(end) if segment.base_sequence == upto => upto = end,
                Some(_) | None => return wrong("base_sequence", segment.base_sequence),
            }
        }
        if upto != self.uploaded_sequence {
            return wrong("uploaded_sequence", self.uploaded_sequence);
        }
        let ascends = self
            .chunks
            .windows(2)
            .all(|pair| pair[0].index.checked_add(1) == Some(pair[1].index));
        match self.chunks.last() {
            Some(last) if ascends && last.index == self.chunk_index => {
                if last.bytes == self.chunk_offset {
                    Ok(())
                } else {
                    wrong("chunk_offset", self.chunk_offset)
                }
            }
            Some(_) | None => wrong("chunk_index", self.chunk_index),
        }
    }
}

/// Where a recovery of the stream from Tier 2 begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryNotes {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub epoch: u32,
    pub snapshot_id: SnapshotId,
    pub chunk_index: u64,
    pub chunk_offset: u64,
    pub uploaded_sequence: u64,
    /// Whole key of the catalogue, and `sha256:<hex>` of its bytes.
    pub key: String,
    pub digest: String,
    /// RFC 3339, UTC.
    pub at: String,
}

impl RecoveryNotes {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(RECOVERY, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(RECOVERY, claim::MAX_BYTES, bytes)
    }
}

/// Blob of the `CustomEvent` in the commit of a `SnapshotMarker`: what the engine answers about that snapshot without Tier 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotNote {
    pub format_version: u16,
    pub snapshot_id: SnapshotId,
    pub request: String,
    pub key: String,
    pub digest: String,
    pub bytes: u64,
    pub durable_sequence: u64,
    pub uploaded_sequence: u64,
    pub started_unix_nanos: i64,
}

impl SnapshotNote {
    pub fn encode(&self) -> Vec<u8> {
        claim::encode(NOTE, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        claim::decode(NOTE, MAX_NOTE_BYTES, bytes)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_epoch_and_reads_only_as_it_prints() {
        let id = SnapshotId::new(7, 3);
        assert_eq!((id.0, id.epoch(), id.n()), (7 << 32 | 3, 7, 3));
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "+1", "01", "-1", "1x", "18446744073709551616"] {
            assert!(text.parse::<SnapshotId>().is_err(), "{text}");
        }
    }
}
