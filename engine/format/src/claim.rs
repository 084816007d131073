//! Two small JSON objects of Tier 2: `claims/<stream>/<epoch>`, who owns a stream, and `cluster.json`, whose prefix it is. Layout:
//! `claim.md`. Both are created once and never rewritten.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::checksum;
use crate::damage::Damage;
use crate::identity::{ClusterId, NodeId, VolumeId};
use crate::names::StreamName;

/// Largest claim or `cluster.json` that is read.
pub const MAX_BYTES: usize = 16 << 10;

const CLAIM: &str = "aof2-claim";
const CLUSTER: &str = "aof2-cluster";

/// Who owns a stream since `epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub epoch: u32,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    /// Pod name.
    pub node: String,
    /// Where the owner serves, as reported to those that ask elsewhere; may be empty.
    pub address: String,
}

impl Claim {
    pub fn encode(&self) -> Vec<u8> {
        encode(CLAIM, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        decode(CLAIM, MAX_BYTES, bytes)
    }
}

/// Whose prefix it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMarker {
    pub format_version: u16,
    pub cluster_id: ClusterId,
    pub namespace: String,
    pub name: String,
}

impl ClusterMarker {
    pub fn encode(&self) -> Vec<u8> {
        encode(CLUSTER, self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        decode(CLUSTER, MAX_BYTES, bytes)
    }
}

/// The object's text with a first member, what it is, and a last one, the CRC-32C of all before it.
pub(crate) fn encode(format: &'static str, value: &impl Serialize) -> Vec<u8> {
    let members = serde_json::to_string(value).expect("strings and integers have a JSON form");
    // One brace of each: the last member may end with one of its own.
    let members = members.strip_prefix('{').unwrap_or(&members);
    let members = members.strip_suffix('}').unwrap_or(members);
    let mut text = format!("{{\"format\":\"{format}\",{members}");
    text += &last_member(checksum::crc32c(text.as_bytes()));
    text.into_bytes()
}

fn last_member(crc: u32) -> String {
    format!(",\"crc32c\":\"{crc:08x}\"}}\n")
}

/// Length, what it is and its version (alone, so that a newer form is distinguished from a damaged one), checksum, values.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    format: &'static str,
    max_bytes: usize,
    bytes: &'a [u8],
) -> Result<T, Damage> {
    decode_upto(format, crate::FORMAT_VERSION, max_bytes, bytes)
}

/// The same, of a thing that has a newest version of its own.
pub(crate) fn decode_upto<'a, T: Deserialize<'a>>(
    format: &'static str,
    newest: u16,
    max_bytes: usize,
    bytes: &'a [u8],
) -> Result<T, Damage> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        format: Cow<'a, str>,
        format_version: u32,
    }

    let what = format;
    if bytes.len() > max_bytes {
        return Err(Damage::Value {
            what,
            field: "length",
            found: bytes.len() as u64,
        });
    }
    let text = |error: serde_json::Error| Damage::Text {
        what,
        problem: error.to_string(),
    };
    let head: Head<'_> = serde_json::from_slice(bytes).map_err(text)?;
    if head.format != format {
        return Err(Damage::Text {
            what,
            problem: format!("format is {:?}", head.format),
        });
    }
    if head.format_version > newest.into() {
        return Err(Damage::Version {
            what,
            found: head.format_version,
            supported: newest.into(),
        });
    }
    let (covered, stored) = bytes.split_at(bytes.len().saturating_sub(last_member(0).len()));
    let computed = checksum::crc32c(covered);
    if stored != last_member(computed).as_bytes() && !cfg!(fuzzing) {
        let digits = stored
            .get(11..19)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let stored = digits
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .unwrap_or(0);
        return Err(Damage::Checksum {
            what,
            stored: stored.into(),
            computed: computed.into(),
        });
    }
    serde_json::from_slice(bytes).map_err(text)
}
