//! One entry of a stream's manifest, the ledger of tier transitions. Layout: `manifest_record.md`. The ids 0-15 and the reason
//! codes 0-4 are fixed; a type that this release does not know is kept as it is and reported.

use crate::checksum::{self, Seed};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::StreamUuid;

const WHAT: &str = "manifest record";

/// Version of the vocabulary with which a node replays; the gauge `manifest.replay_version`.
pub const REPLAY_VERSION: u32 = 1;

layout! {
    /// Header of a record; its payload follows.
    header: 56, {
        TYPE: 0, 2;
        FLAGS: 2, 2;
        PAYLOAD_BYTES: 4, 4;
        STREAM_UUID: 8, 16;
        SEGMENT_ID: 24, 8;
        MANIFEST_SEQUENCE: 32, 8;
        WALL_UNIX_NANOS: 40, 8;
        EPOCH: 48, 4;
        CRC: 52, 4;
    }
}

pub const HEADER_BYTES: usize = header::BYTES;
/// Largest payload (`CustomEvent` and unknown types).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Longest object key (S3's own limit) and ETag.
pub const MAX_KEY_BYTES: usize = 1024;

/// Names of the events by their type ids.
pub const EVENT_NAMES: [&str; 16] = [
    "SegmentOpened",
    "SealSegment",
    "CompressionStarted",
    "CompressionDone",
    "CompressionFailed",
    "UploadStarted",
    "UploadDone",
    "UploadFailed",
    "Tier2DeleteQueued",
    "Tier2Deleted",
    "HydrationStarted",
    "HydrationDone",
    "HydrationFailed",
    "LocalEvicted",
    "SnapshotMarker",
    "CustomEvent",
];

/// Why a transition failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReasonCode {
    Transient,
    Codec,
    Authorisation,
    BucketOrNetwork,
    ObjectMissing,
}

impl ReasonCode {
    pub fn code(self) -> u16 {
        match self {
            ReasonCode::Transient => 0,
            ReasonCode::Codec => 1,
            ReasonCode::Authorisation => 2,
            ReasonCode::BucketOrNetwork => 3,
            ReasonCode::ObjectMissing => 4,
        }
    }

    pub(crate) fn from_code(code: u16) -> Result<Self, Damage> {
        Ok(match code {
            0 => ReasonCode::Transient,
            1 => ReasonCode::Codec,
            2 => ReasonCode::Authorisation,
            3 => ReasonCode::BucketOrNetwork,
            4 => ReasonCode::ObjectMissing,
            _ => return Err(damage::value(WHAT, "reason code", code)),
        })
    }
}

/// Where a hydration reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HydrationSource {
    Tier1,
    Tier2,
}

impl HydrationSource {
    fn code(self) -> u8 {
        match self {
            HydrationSource::Tier1 => 1,
            HydrationSource::Tier2 => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, Damage> {
        match code {
            1 => Ok(HydrationSource::Tier1),
            2 => Ok(HydrationSource::Tier2),
            _ => Err(damage::value(WHAT, "hydration source", code)),
        }
    }
}

/// A copy of a sealed segment on this volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalCopy {
    /// The segment file, in Tier 0.
    Hot,
    /// The compressed file, in Tier 1.
    Warm,
}

impl LocalCopy {
    fn code(self) -> u8 {
        match self {
            LocalCopy::Hot => 0,
            LocalCopy::Warm => 1,
        }
    }

    fn from_code(code: u8) -> Result<Self, Damage> {
        match code {
            0 => Ok(LocalCopy::Hot),
            1 => Ok(LocalCopy::Warm),
            _ => Err(damage::value(WHAT, "local copy", code)),
        }
    }
}

/// What happened. The discriminants in [`ManifestEvent::type_id`] are fixed for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestEvent {
    SegmentOpened {
        base_sequence: u64,
        epoch: u32,
    },
    SealSegment {
        /// Offset behind the last batch (`SegmentSeal::data_end`).
        durable_bytes: u64,
        /// CRC-64/NVME of `0..durable_bytes`.
        segment_crc64: u64,
        /// The application's own position (0 = none).
        ext_id: u64,
        /// Sequence behind the last one of the segment.
        watermark: u64,
        /// A sync had failed before the seal.
        flush_failure: bool,
        /// Header checksum of the last batch: the `prev_chain` of the segment that follows.
        chain: u32,
        /// Earliest and latest `appended_unix_nanos` of the segment's batches.
        first_unix_nanos: i64,
        last_unix_nanos: i64,
        sealed_unix_nanos: i64,
    },
    CompressionStarted,
    CompressionDone {
        compressed_bytes: u64,
        /// 0 = none.
        dictionary_id: u32,
    },
    CompressionFailed {
        reason: ReasonCode,
    },
    UploadStarted {
        key: String,
    },
    UploadDone {
        key: String,
        etag: String,
    },
    UploadFailed {
        key: String,
        reason: ReasonCode,
    },
    Tier2DeleteQueued {
        key: String,
    },
    Tier2Deleted {
        key: String,
    },
    HydrationStarted {
        source: HydrationSource,
    },
    /// A verified local copy was added.
    HydrationDone {
        copy: LocalCopy,
        bytes: u64,
    },
    HydrationFailed {
        reason: ReasonCode,
    },
    /// A local copy is dropped: its file goes after this record.
    LocalEvicted {
        copy: LocalCopy,
        bytes: u64,
    },
    SnapshotMarker {
        chunk_index: u64,
        chunk_offset: u64,
        snapshot_id: u64,
    },
    CustomEvent {
        schema_id: u32,
        blob: Vec<u8>,
    },
    /// Written by a newer release.
    Unknown {
        type_id: u16,
        payload: Vec<u8>,
    },
}

impl ManifestEvent {
    pub fn type_id(&self) -> u16 {
        match self {
            ManifestEvent::SegmentOpened { .. } => 0,
            ManifestEvent::SealSegment { .. } => 1,
            ManifestEvent::CompressionStarted => 2,
            ManifestEvent::CompressionDone { .. } => 3,
            ManifestEvent::CompressionFailed { .. } => 4,
            ManifestEvent::UploadStarted { .. } => 5,
            ManifestEvent::UploadDone { .. } => 6,
            ManifestEvent::UploadFailed { .. } => 7,
            ManifestEvent::Tier2DeleteQueued { .. } => 8,
            ManifestEvent::Tier2Deleted { .. } => 9,
            ManifestEvent::HydrationStarted { .. } => 10,
            ManifestEvent::HydrationDone { .. } => 11,
            ManifestEvent::HydrationFailed { .. } => 12,
            ManifestEvent::LocalEvicted { .. } => 13,
            ManifestEvent::SnapshotMarker { .. } => 14,
            ManifestEvent::CustomEvent { .. } => 15,
            ManifestEvent::Unknown { type_id, .. } => *type_id,
        }
    }

    /// The name in the handbook's vocabulary.
    pub fn name(&self) -> &'static str {
        let known = EVENT_NAMES.get(usize::from(self.type_id()));
        known.copied().unwrap_or("Unknown")
    }

    fn put_payload(&self, out: &mut Vec<u8>) {
        match self {
            ManifestEvent::SegmentOpened {
                base_sequence,
                epoch,
            } => {
                out.extend_from_slice(&base_sequence.to_le_bytes());
                out.extend_from_slice(&epoch.to_le_bytes());
            }
            ManifestEvent::SealSegment {
                durable_bytes,
                segment_crc64,
                ext_id,
                watermark,
                flush_failure,
                chain,
                first_unix_nanos,
                last_unix_nanos,
                sealed_unix_nanos,
            } => {
                for value in [durable_bytes, segment_crc64, ext_id, watermark] {
                    out.extend_from_slice(&value.to_le_bytes());
                }
                out.push(u8::from(*flush_failure));
                out.extend_from_slice(&chain.to_le_bytes());
                for nanos in [first_unix_nanos, last_unix_nanos, sealed_unix_nanos] {
                    out.extend_from_slice(&nanos.to_le_bytes());
                }
            }
            ManifestEvent::CompressionStarted => {}
            ManifestEvent::CompressionDone {
                compressed_bytes,
                dictionary_id,
            } => {
                out.extend_from_slice(&compressed_bytes.to_le_bytes());
                out.extend_from_slice(&dictionary_id.to_le_bytes());
            }
            ManifestEvent::CompressionFailed { reason }
            | ManifestEvent::HydrationFailed { reason } => {
                out.extend_from_slice(&reason.code().to_le_bytes());
            }
            ManifestEvent::UploadStarted { key }
            | ManifestEvent::Tier2DeleteQueued { key }
            | ManifestEvent::Tier2Deleted { key } => put_text(out, key),
            ManifestEvent::UploadDone { key, etag } => {
                put_text(out, key);
                put_text(out, etag);
            }
            ManifestEvent::UploadFailed { key, reason } => {
                put_text(out, key);
                out.extend_from_slice(&reason.code().to_le_bytes());
            }
            ManifestEvent::HydrationStarted { source } => out.push(source.code()),
            ManifestEvent::HydrationDone { copy, bytes }
            | ManifestEvent::LocalEvicted { copy, bytes } => {
                out.push(copy.code());
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            ManifestEvent::SnapshotMarker {
                chunk_index,
                chunk_offset,
                snapshot_id,
            } => {
                for value in [chunk_index, chunk_offset, snapshot_id] {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
            ManifestEvent::CustomEvent { schema_id, blob } => {
                out.extend_from_slice(&schema_id.to_le_bytes());
                out.extend_from_slice(blob);
            }
            ManifestEvent::Unknown {
                type_id: _,
                payload,
            } => out.extend_from_slice(payload),
        }
    }

    fn from_payload(type_id: u16, payload: &[u8]) -> Result<Self, Damage> {
        let mut at = Payload(payload);
        let event = match type_id {
            0 => ManifestEvent::SegmentOpened {
                base_sequence: at.u64()?,
                epoch: at.u32()?,
            },
            1 => ManifestEvent::SealSegment {
                durable_bytes: at.u64()?,
                segment_crc64: at.u64()?,
                ext_id: at.u64()?,
                watermark: at.u64()?,
                flush_failure: at.flag()?,
                chain: at.u32()?,
                first_unix_nanos: at.i64()?,
                last_unix_nanos: at.i64()?,
                sealed_unix_nanos: at.i64()?,
            },
            2 => ManifestEvent::CompressionStarted,
            3 => ManifestEvent::CompressionDone {
                compressed_bytes: at.u64()?,
                dictionary_id: at.u32()?,
            },
            4 => ManifestEvent::CompressionFailed {
                reason: at.reason()?,
            },
            5 => ManifestEvent::UploadStarted { key: at.text()? },
            6 => ManifestEvent::UploadDone {
                key: at.text()?,
                etag: at.text()?,
            },
            7 => ManifestEvent::UploadFailed {
                key: at.text()?,
                reason: at.reason()?,
            },
            8 => ManifestEvent::Tier2DeleteQueued { key: at.text()? },
            9 => ManifestEvent::Tier2Deleted { key: at.text()? },
            10 => ManifestEvent::HydrationStarted {
                source: HydrationSource::from_code(u8::from_le_bytes(at.take()?))?,
            },
            11 => ManifestEvent::HydrationDone {
                copy: at.copy()?,
                bytes: at.u64()?,
            },
            12 => ManifestEvent::HydrationFailed {
                reason: at.reason()?,
            },
            13 => ManifestEvent::LocalEvicted {
                copy: at.copy()?,
                bytes: at.u64()?,
            },
            14 => ManifestEvent::SnapshotMarker {
                chunk_index: at.u64()?,
                chunk_offset: at.u64()?,
                snapshot_id: at.u64()?,
            },
            15 => ManifestEvent::CustomEvent {
                schema_id: at.u32()?,
                blob: std::mem::take(&mut at.0).to_vec(),
            },
            _ => ManifestEvent::Unknown {
                type_id,
                payload: std::mem::take(&mut at.0).to_vec(),
            },
        };
        if !at.0.is_empty() {
            return Err(damage::value(WHAT, "payload bytes", payload.len() as u64));
        }
        Ok(event)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    assert!(
        text.len() <= MAX_KEY_BYTES,
        "key or ETag of {} bytes exceeds the limit of {MAX_KEY_BYTES}",
        text.len()
    );
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A cursor over a payload.
struct Payload<'a>(&'a [u8]);

impl Payload<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let Some((value, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(damage::value(
                WHAT,
                "payload bytes left",
                self.0.len() as u64,
            ));
        };
        self.0 = rest;
        Ok(*value)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.take().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Damage> {
        self.take().map(i64::from_le_bytes)
    }

    fn copy(&mut self) -> Result<LocalCopy, Damage> {
        LocalCopy::from_code(u8::from_le_bytes(self.take()?))
    }

    fn flag(&mut self) -> Result<bool, Damage> {
        match u8::from_le_bytes(self.take()?) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(damage::value(WHAT, "flag", other)),
        }
    }

    fn reason(&mut self) -> Result<ReasonCode, Damage> {
        ReasonCode::from_code(u16::from_le_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String, Damage> {
        let length = u16::from_le_bytes(self.take()?) as usize;
        if length > MAX_KEY_BYTES {
            return Err(damage::value(WHAT, "text bytes", length as u64));
        }
        let Some((text, rest)) = self.0.split_at_checked(length) else {
            return Err(damage::value(WHAT, "text bytes", length as u64));
        };
        self.0 = rest;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Damage::Text {
                what: WHAT,
                problem: "a key or an ETag is not UTF-8".into(),
            }),
        }
    }
}

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRecord {
    pub stream_uuid: StreamUuid,
    pub segment_id: u64,
    /// Ordinal in the stream's manifest, from 0.
    pub manifest_sequence: u64,
    pub wall_unix_nanos: i64,
    /// Of the owner that wrote it.
    pub epoch: u32,
    pub event: ManifestEvent,
}

impl ManifestRecord {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>, seed: Seed) {
        let Self {
            stream_uuid,
            segment_id,
            manifest_sequence,
            wall_unix_nanos,
            epoch,
            event,
        } = self;
        let at = out.len();
        out.resize(at + HEADER_BYTES, 0);
        event.put_payload(out);
        let (head, payload) = out[at..].split_at_mut(HEADER_BYTES);
        assert!(
            payload.len() <= MAX_PAYLOAD_BYTES,
            "manifest record of {} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}",
            payload.len()
        );
        header::TYPE.write(head, event.type_id());
        header::PAYLOAD_BYTES.write(head, payload.len() as u32);
        header::STREAM_UUID.put(head, stream_uuid.0);
        header::SEGMENT_ID.write(head, *segment_id);
        header::MANIFEST_SEQUENCE.write(head, *manifest_sequence);
        header::WALL_UNIX_NANOS.write(head, *wall_unix_nanos as u64);
        header::EPOCH.write(head, *epoch);
        let crc = seed.crc32c_of_two(&head[..header::CRC.0], payload);
        header::CRC.write(head, crc);
    }

    /// The record at the start of `bytes`, and what follows it.
    pub fn decode(bytes: &[u8], seed: Seed) -> Result<(Self, &[u8]), Damage> {
        damage::need(WHAT, bytes, HEADER_BYTES)?;
        let (head, rest) = bytes.split_at(HEADER_BYTES);
        let payload_bytes = header::PAYLOAD_BYTES.read(head) as usize;
        if payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(damage::value(WHAT, "payload bytes", payload_bytes as u64));
        }
        damage::need(WHAT, rest, payload_bytes)?;
        let (payload, rest) = rest.split_at(payload_bytes);
        let computed = seed.crc32c_of_two(&head[..header::CRC.0], payload);
        checksum::compare(WHAT, header::CRC.read(head).into(), computed.into())?;
        damage::zero(WHAT, "flags", &header::FLAGS.get(head))?;
        let record = Self {
            stream_uuid: StreamUuid(header::STREAM_UUID.get(head)),
            segment_id: header::SEGMENT_ID.read(head),
            manifest_sequence: header::MANIFEST_SEQUENCE.read(head),
            wall_unix_nanos: header::WALL_UNIX_NANOS.read(head) as i64,
            epoch: header::EPOCH.read(head),
            event: ManifestEvent::from_payload(header::TYPE.read(head), payload)?,
        };
        Ok((record, rest))
    }
}
