//! Names of streams, files and objects: the only place where they are made and parsed. Layout: `names.md`.
//!
//! Numbers in names are zero-padded decimals, so that names sort as the numbers do. No object key is a path prefix of another;
//! each part of a key is at most 255 bytes. Keys are asserted against the grammar where they are made.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::damage::{self, Damage};
use crate::field::Field;
use crate::identity::VolumeId;

/// Longest stream name.
pub const MAX_STREAM_NAME_BYTES: usize = 63;

/// A checked stream name: `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

/// A stream name that the rule refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stream name {name:?} is invalid; use 1 to 63 lower-case letters, digits and inner hyphens (^[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?$)"
)]
pub struct InvalidStreamName {
    /// Cut after 80 characters.
    pub name: String,
}

impl StreamName {
    pub fn new(name: &str) -> Result<Self, InvalidStreamName> {
        let bytes = name.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        let is_valid = matches!(bytes.len(), 1..=MAX_STREAM_NAME_BYTES)
            && bytes.iter().all(inner)
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-';
        if !is_valid {
            return Err(InvalidStreamName {
                name: name.chars().take(80).collect(),
            });
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for StreamName {
    type Err = InvalidStreamName;

    fn from_str(name: &str) -> Result<Self, InvalidStreamName> {
        Self::new(name)
    }
}

impl AsRef<str> for StreamName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for StreamName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for StreamName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

pub(crate) fn put_stream_name(
    out: &mut [u8],
    length_at: Field<1>,
    name_at: Field<63>,
    name: &StreamName,
) {
    length_at.write(out, name.0.len() as u8);
    out[name_at.0..name_at.0 + name.0.len()].copy_from_slice(name.0.as_bytes());
}

pub(crate) fn get_stream_name(
    what: &'static str,
    bytes: &[u8],
    length_at: Field<1>,
    name_at: Field<63>,
) -> Result<StreamName, Damage> {
    let length = length_at.read(bytes);
    let field = name_at.get(bytes);
    let Some((name, rest)) = field.split_at_checked(length.into()) else {
        return Err(damage::value(what, "stream name bytes", length));
    };
    damage::zero(what, "bytes behind the stream name", rest)?;
    let name = std::str::from_utf8(name).map_err(|_| Damage::Text {
        what,
        problem: "the stream name is not UTF-8".into(),
    })?;
    StreamName::new(name).map_err(|refusal| Damage::Text {
        what,
        problem: refusal.to_string(),
    })
}

// ---------------------------------------------------------------------------------------------------------------- files

/// Names inside a data directory.
pub mod file {
    use super::{Numbers, StreamName};

    /// Identity of the volume.
    pub const VOLUME: &str = "volume.json";
    /// Held with flock while a process uses the directory.
    pub const LOCK: &str = "lock";
    /// Left by a process that was poisoned: recovery must bypass the page cache.
    pub const POISONED: &str = "poisoned";
    /// Space kept for sealing and the manifest when the disk is full.
    pub const RESERVE: &str = "reserve";
    pub const JOURNAL_DIR: &str = "journal";
    /// What the clock said when retention last trusted it.
    pub const CLOCK: &str = "clock.json";
    /// How far the journal was synced.
    pub const JOURNAL_MARK: &str = "journal.mark";
    /// Every stream of the volume.
    pub const STREAM_CATALOG: &str = "streams.catalog";
    pub const STREAMS_DIR: &str = "streams";
    /// Under a stream's directory.
    pub const STREAM_HEADER: &str = "stream.header";
    pub const SEGMENTS_DIR: &str = "segments";
    pub const MANIFEST_DIR: &str = "manifest";
    /// In it: what the closed chunks say up to one of them.
    pub const MANIFEST_BASE: &str = "base";
    pub const QUARANTINE_DIR: &str = "quarantine";
    /// In a stream's directory: what a person gave up of it.
    pub const CUT: &str = "cut";
    /// Under the Tier 1 directory (the data directory by default); below it one directory per stream.
    pub const WARM_DIR: &str = "warm";
    /// Suffix of a file that is not finished; removed at recovery.
    pub const TMP_SUFFIX: &str = ".tmp";

    /// `<20-digit base sequence>-<10-digit epoch>-<20-digit segment id>`: names of segments, warm files and their objects.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct SegmentRef {
        pub base_sequence: u64,
        pub epoch: u32,
        pub segment_id: u64,
    }

    impl SegmentRef {
        pub(super) fn stem(&self) -> String {
            let Self {
                base_sequence,
                epoch,
                segment_id,
            } = self;
            format!("{base_sequence:020}-{epoch:010}-{segment_id:020}")
        }

        pub(super) fn from_stem(stem: &str) -> Option<Self> {
            let mut numbers = Numbers::new(stem);
            let found = Self {
                base_sequence: numbers.next_u64()?,
                epoch: numbers.next_u32()?,
                segment_id: numbers.next_u64()?,
            };
            numbers.is_done().then_some(found)
        }
    }

    /// A journal file's slot; its number is in its header.
    pub fn journal(slot: u32) -> String {
        format!("{slot:010}.journal")
    }

    pub fn parse_journal(name: &str) -> Option<u32> {
        let mut numbers = Numbers::new(name.strip_suffix(".journal")?);
        let slot = numbers.next_u32()?;
        numbers.is_done().then_some(slot)
    }

    pub fn segment(segment: &SegmentRef) -> String {
        segment.stem() + ".seg"
    }

    pub fn parse_segment(name: &str) -> Option<SegmentRef> {
        SegmentRef::from_stem(name.strip_suffix(".seg")?)
    }

    pub fn warm(segment: &SegmentRef) -> String {
        segment.stem() + ".aofz"
    }

    pub fn parse_warm(name: &str) -> Option<SegmentRef> {
        SegmentRef::from_stem(name.strip_suffix(".aofz")?)
    }

    /// A manifest chunk: `<10-digit epoch>-<20-digit chunk>.mlog`.
    pub fn manifest_chunk(epoch: u32, chunk: u64) -> String {
        format!("{epoch:010}-{chunk:020}.mlog")
    }

    pub fn parse_manifest_chunk(name: &str) -> Option<(u32, u64)> {
        let mut numbers = Numbers::new(name.strip_suffix(".mlog")?);
        let found = (numbers.next_u32()?, numbers.next_u64()?);
        numbers.is_done().then_some(found)
    }

    /// A stream's directory under [`STREAMS_DIR`] or [`WARM_DIR`].
    pub fn stream_dir(stream: &StreamName) -> &str {
        stream.as_str()
    }

    pub fn parse_stream_dir(name: &str) -> Option<StreamName> {
        StreamName::new(name).ok()
    }
}

pub use file::SegmentRef;

/// Zero-padded decimals between hyphens.
struct Numbers<'a> {
    rest: Option<&'a str>,
}

impl<'a> Numbers<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    fn next_part(&mut self, digits: usize) -> Option<&'a str> {
        let text = self.rest?;
        let (part, rest) = match text.split_once('-') {
            Some((part, rest)) => (part, Some(rest)),
            None => (text, None),
        };
        self.rest = rest;
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())).then_some(part)
    }

    fn next_u64(&mut self) -> Option<u64> {
        self.next_part(20)?.parse().ok()
    }

    fn next_u32(&mut self) -> Option<u32> {
        self.next_part(10)?.parse().ok()
    }

    fn is_done(&self) -> bool {
        self.rest.is_none()
    }
}

// -------------------------------------------------------------------------------------------------------------- objects

/// The prefix of a cluster in its bucket: empty, or parts of `[A-Za-z0-9._-]` each followed by `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyPrefix(String);

/// A prefix that the grammar refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Tier 2 prefix {prefix:?} is invalid; use parts of 1 to 255 letters, digits, '.', '_' and '-' (not '.' or '..'), each followed by '/', at most 512 bytes"
)]
pub struct InvalidKeyPrefix {
    pub prefix: String,
}

impl KeyPrefix {
    pub fn new(prefix: &str) -> Result<Self, InvalidKeyPrefix> {
        let refusal = || InvalidKeyPrefix {
            prefix: prefix.chars().take(600).collect(),
        };
        if prefix.len() > 512 {
            return Err(refusal());
        }
        if !prefix.is_empty() {
            let parts = prefix.strip_suffix('/').ok_or_else(refusal)?;
            if !parts.split('/').all(is_key_part) {
                return Err(refusal());
            }
        }
        Ok(Self(prefix.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_key_part(part: &str) -> bool {
    matches!(part.len(), 1..=255)
        && part != "."
        && part != ".."
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Longest name of an index.
pub const MAX_INDEX_NAME_BYTES: usize = 250;

/// Name of an `Aof2Snapshot`: a Kubernetes object name that leaves room for `.json`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IndexName(String);

/// A name of an index that the rule refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "snapshot index name {name:?} is invalid; use 1 to 250 lower-case letters, digits and inner '.' and '-'"
)]
pub struct InvalidIndexName {
    /// Cut after 80 characters.
    pub name: String,
}

impl IndexName {
    pub fn new(name: &str) -> Result<Self, InvalidIndexName> {
        let is_outer = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let is_valid = matches!(bytes.len(), 1..=MAX_INDEX_NAME_BYTES)
            && bytes
                .iter()
                .all(|byte| is_outer(byte) || matches!(byte, b'.' | b'-'))
            && bytes.first().is_some_and(is_outer)
            && bytes.last().is_some_and(is_outer);
        if !is_valid {
            return Err(InvalidIndexName {
                name: name.chars().take(80).collect(),
            });
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every object that a cluster keeps under its prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKey {
    /// `cluster.json`: whose prefix this is.
    Cluster,
    /// `claims/<stream>/<20-digit epoch>`
    Claim { stream: StreamName, epoch: u32 },
    /// `segments/<stream>/<20-digit base sequence>-<10-digit epoch>-<20-digit segment id>.aofz`
    Segment {
        stream: StreamName,
        segment: SegmentRef,
    },
    /// `manifest/<stream>/<10-digit epoch>/<20-digit chunk>.mlog`
    ManifestChunk {
        stream: StreamName,
        epoch: u32,
        chunk: u64,
    },
    /// `snapshots/<stream>/<snapshot id>.json`
    Snapshot {
        stream: StreamName,
        snapshot_id: u64,
    },
    /// `snapshots/_index/<name>.json`: no stream has that name.
    SnapshotIndex { name: IndexName },
    /// `recovery/<stream>.json`
    Recovery { stream: StreamName },
    /// `marks/<volume id>/<20-digit mark>`
    Mark { volume_id: VolumeId, mark: u64 },
    /// `probe/<uuid>`
    Probe { uuid: [u8; 16] },
}

impl ObjectKey {
    /// The whole key.
    pub fn to_key(&self, prefix: &KeyPrefix) -> String {
        let relative = match self {
            ObjectKey::Cluster => "cluster.json".to_owned(),
            ObjectKey::Claim { stream, epoch } => format!("claims/{stream}/{epoch:020}"),
            ObjectKey::Segment { stream, segment } => {
                format!("segments/{stream}/{}", file::warm(segment))
            }
            ObjectKey::ManifestChunk {
                stream,
                epoch,
                chunk,
            } => format!("manifest/{stream}/{epoch:010}/{chunk:020}.mlog"),
            ObjectKey::Snapshot {
                stream,
                snapshot_id,
            } => format!("snapshots/{stream}/{snapshot_id}.json"),
            ObjectKey::SnapshotIndex { name } => format!("snapshots/_index/{name}.json"),
            ObjectKey::Recovery { stream } => format!("recovery/{stream}.json"),
            ObjectKey::Mark { volume_id, mark } => format!("marks/{volume_id}/{mark:020}"),
            ObjectKey::Probe { uuid } => format!("probe/{}", crate::identity::NodeId(*uuid)),
        };
        assert!(
            relative.split('/').all(is_key_part),
            "object key {relative:?} is invalid"
        );
        format!("{prefix}{relative}")
    }

    /// Inverse of [`ObjectKey::to_key`]; `None` for anything else, e.g. a foreign object.
    pub fn parse(prefix: &KeyPrefix, key: &str) -> Option<Self> {
        let relative = key.strip_prefix(prefix.as_str())?;
        let parts: Vec<&str> = relative.splitn(5, '/').collect();
        let stream = |name: &str| StreamName::new(name).ok();
        let found = match parts[..] {
            ["cluster.json"] => ObjectKey::Cluster,
            ["claims", name, epoch] => {
                let mut numbers = Numbers::new(epoch);
                let epoch = u32::try_from(numbers.next_u64()?).ok()?;
                ObjectKey::Claim {
                    stream: stream(name)?,
                    epoch,
                }
            }
            ["segments", name, file] => ObjectKey::Segment {
                stream: stream(name)?,
                segment: file::parse_warm(file)?,
            },
            ["manifest", name, epoch, chunk] => ObjectKey::ManifestChunk {
                stream: stream(name)?,
                epoch: Numbers::new(epoch).next_u32()?,
                chunk: Numbers::new(chunk.strip_suffix(".mlog")?).next_u64()?,
            },
            ["snapshots", "_index", file] => ObjectKey::SnapshotIndex {
                name: IndexName::new(file.strip_suffix(".json")?).ok()?,
            },
            ["snapshots", name, file] => ObjectKey::Snapshot {
                stream: stream(name)?,
                snapshot_id: file.strip_suffix(".json")?.parse().ok()?,
            },
            ["recovery", file] => ObjectKey::Recovery {
                stream: stream(file.strip_suffix(".json")?)?,
            },
            ["marks", volume_id, mark] => ObjectKey::Mark {
                volume_id: volume_id.parse().ok()?,
                mark: Numbers::new(mark).next_u64()?,
            },
            ["probe", uuid] => ObjectKey::Probe {
                uuid: uuid.parse::<crate::identity::NodeId>().ok()?.0,
            },
            _ => return None,
        };
        // Numbers may be followed by more, ids may be upper case: only what would be made is accepted.
        (found.to_key(prefix) == key).then_some(found)
    }

    /// Prefix of all claims of a stream, for listing.
    pub fn claims_prefix(prefix: &KeyPrefix, stream: &StreamName) -> String {
        format!("{prefix}claims/{stream}/")
    }

    /// Prefix of all claims of the cluster, for listing.
    pub fn all_claims_prefix(prefix: &KeyPrefix) -> String {
        format!("{prefix}claims/")
    }

    /// Prefix of all snapshots of a stream, for listing.
    pub fn snapshots_prefix(prefix: &KeyPrefix, stream: &StreamName) -> String {
        format!("{prefix}snapshots/{stream}/")
    }

    /// Prefix of all manifest chunks of a stream, for listing.
    pub fn manifest_prefix(prefix: &KeyPrefix, stream: &StreamName) -> String {
        format!("{prefix}manifest/{stream}/")
    }

    /// Prefix of all segments of a stream, for listing.
    pub fn segments_prefix(prefix: &KeyPrefix, stream: &StreamName) -> String {
        format!("{prefix}segments/{stream}/")
    }

    /// Prefix of all marks of a volume, for listing.
    pub fn marks_prefix(prefix: &KeyPrefix, volume_id: VolumeId) -> String {
        format!("{prefix}marks/{volume_id}/")
    }
}
