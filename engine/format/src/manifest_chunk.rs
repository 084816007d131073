//! A chunk of a stream's manifest: a header block and append-only commits of records. Layout: `manifest_chunk.md`.
//!
//! A commit is the unit of atomicity: all its records or none. Its checksum is seeded with the stream's salt, and it names the
//! checksum of the commit before, so commits are copied unchanged from the journal into the chunk and into Tier 2.

use crate::checksum::{self, Salt, Seed};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, StreamUuid};
use crate::manifest_record::{self, ManifestRecord};
use crate::names::{self, StreamName};
use crate::{BLOCK_BYTES, FORMAT_VERSION};

const WHAT: &str = "manifest chunk header";
const WHAT_COMMIT: &str = "manifest commit";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2MANI");
/// `MC2A` on disk.
pub const COMMIT_MAGIC: u32 = u32::from_le_bytes(*b"MC2A");

layout! {
    /// First block of a chunk.
    header: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 2;
        EPOCH: 12, 4;
        CLUSTER_ID: 16, 16;
        STREAM_UUID: 32, 16;
        STREAM_SALT: 48, 8;
        CHUNK: 56, 8;
        BASE_MANIFEST_SEQUENCE: 64, 8;
        CREATED_UNIX_NANOS: 72, 8;
        PREV_CHAIN: 80, 4;
        STREAM_NAME_BYTES: 84, 1;
        STREAM_NAME: 85, 63;
        ZERO: 148, 3944;
        CRC: 4092, 4;
    }
}

layout! {
    /// Header of a commit; its records follow.
    commit: 32, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        COUNT: 6, 2;
        BODY_BYTES: 8, 4;
        PREV_CHAIN: 12, 4;
        BASE_MANIFEST_SEQUENCE: 16, 8;
        RESERVED: 24, 4;
        CRC: 28, 4;
    }
}

/// Offset of the first commit.
pub const DATA_OFFSET: u64 = header::BYTES as u64;
pub const COMMIT_HEADER_BYTES: usize = commit::BYTES;
/// Largest body of a commit.
pub const MAX_COMMIT_BODY_BYTES: usize = 8 << 20;

const _: () = assert!(header::BYTES == BLOCK_BYTES);

/// Whether these bytes, of this place in a chunk, are whole commits of the stream with this seed, by their own checksums.
pub fn is_whole(position: u64, bytes: &[u8], seed: Seed) -> bool {
    let mut from = 0;
    if position == 0 {
        if ManifestChunkHeader::decode(bytes).is_err() {
            return false;
        }
        from = DATA_OFFSET as usize;
    }
    commits(bytes, from, seed).all(|commit| commit.is_ok())
}

/// The commits of a chunk from offset `from` on, up to the first that does not verify, which is the last item.
pub fn commits(bytes: &[u8], from: usize, seed: Seed) -> Commits<'_> {
    Commits {
        rest: bytes.get(from..).unwrap_or_default(),
        seed,
    }
}

/// See [`commits`].
#[derive(Clone, Debug)]
pub struct Commits<'a> {
    rest: &'a [u8],
    seed: Seed,
}

impl Iterator for Commits<'_> {
    type Item = Result<ManifestCommit, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let commit = decode_commit(self.rest, self.seed);
        let taken = commit
            .as_ref()
            .map_or(self.rest.len(), |commit| commit.bytes);
        self.rest = &self.rest[taken..];
        Some(commit)
    }
}

/// First block of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestChunkHeader {
    pub cluster_id: ClusterId,
    pub stream: StreamName,
    pub stream_uuid: StreamUuid,
    /// Seeds the checksums of the commits.
    pub stream_salt: Salt,
    pub epoch: u32,
    /// Number of the chunk in its stream, from 0.
    pub chunk: u64,
    /// Manifest sequence of the first record.
    pub base_manifest_sequence: u64,
    /// Chain of the last commit of the chunk before; 0 for the first.
    pub prev_chain: u32,
    pub created_unix_nanos: i64,
}

impl ManifestChunkHeader {
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let Self {
            cluster_id,
            stream,
            stream_uuid,
            stream_salt,
            epoch,
            chunk,
            base_manifest_sequence,
            prev_chain,
            created_unix_nanos,
        } = self;
        let mut out = [0; BLOCK_BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::EPOCH.write(&mut out, *epoch);
        header::CLUSTER_ID.put(&mut out, cluster_id.0);
        header::STREAM_UUID.put(&mut out, stream_uuid.0);
        header::STREAM_SALT.write(&mut out, stream_salt.0);
        header::CHUNK.write(&mut out, *chunk);
        header::BASE_MANIFEST_SEQUENCE.write(&mut out, *base_manifest_sequence);
        header::CREATED_UNIX_NANOS.write(&mut out, *created_unix_nanos as u64);
        header::PREV_CHAIN.write(&mut out, *prev_chain);
        names::put_stream_name(
            &mut out,
            header::STREAM_NAME_BYTES,
            header::STREAM_NAME,
            stream,
        );
        let crc = checksum::crc32c(&out[..header::CRC.0]);
        header::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::block(
            WHAT,
            bytes,
            MAGIC,
            header::MAGIC,
            header::VERSION,
            header::CRC,
        )?;
        damage::zero(WHAT, "reserved bytes", &header::RESERVED.get(bytes))?;
        damage::zero(WHAT, "reserved bytes", &header::ZERO.get(bytes))?;
        Ok(Self {
            cluster_id: ClusterId(header::CLUSTER_ID.get(bytes)),
            stream: names::get_stream_name(
                WHAT,
                bytes,
                header::STREAM_NAME_BYTES,
                header::STREAM_NAME,
            )?,
            stream_uuid: StreamUuid(header::STREAM_UUID.get(bytes)),
            stream_salt: Salt(header::STREAM_SALT.read(bytes)),
            epoch: header::EPOCH.read(bytes),
            chunk: header::CHUNK.read(bytes),
            base_manifest_sequence: header::BASE_MANIFEST_SEQUENCE.read(bytes),
            prev_chain: header::PREV_CHAIN.read(bytes),
            created_unix_nanos: header::CREATED_UNIX_NANOS.read(bytes) as i64,
        })
    }
}

/// Appends one commit of records, whose manifest sequences are consecutive, to `out`; returns its chain.
pub fn encode_commit(
    out: &mut Vec<u8>,
    records: &[ManifestRecord],
    prev_chain: u32,
    seed: Seed,
) -> u32 {
    let first = records.first().expect("a commit holds a record");
    let count = u16::try_from(records.len()).expect("a commit holds at most 65535 records");
    let at = out.len();
    out.resize(at + COMMIT_HEADER_BYTES, 0);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(
            record.manifest_sequence,
            first.manifest_sequence + index as u64,
            "records of a commit are consecutive"
        );
        record.encode(out, seed);
    }
    let (head, body) = out[at..].split_at_mut(COMMIT_HEADER_BYTES);
    assert!(body.len() <= MAX_COMMIT_BODY_BYTES, "a commit is bounded");
    commit::MAGIC.write(head, COMMIT_MAGIC);
    commit::VERSION.write(head, FORMAT_VERSION);
    commit::COUNT.write(head, count);
    commit::BODY_BYTES.write(head, body.len() as u32);
    commit::PREV_CHAIN.write(head, prev_chain);
    commit::BASE_MANIFEST_SEQUENCE.write(head, first.manifest_sequence);
    let crc = seed.crc32c_of_two(&head[..commit::CRC.0], body);
    commit::CRC.write(head, crc);
    crc
}

/// A verified commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestCommit {
    pub prev_chain: u32,
    /// The next commit's `prev_chain`.
    pub chain: u32,
    pub records: Vec<ManifestRecord>,
    /// Bytes of the whole commit.
    pub bytes: usize,
}

/// Verifies the commit at the start of `bytes`; what follows it is not looked at.
pub fn decode_commit(bytes: &[u8], seed: Seed) -> Result<ManifestCommit, Damage> {
    damage::need(WHAT_COMMIT, bytes, COMMIT_HEADER_BYTES)?;
    let magic = commit::MAGIC.read(bytes);
    if magic != COMMIT_MAGIC {
        return Err(Damage::Magic {
            what: WHAT_COMMIT,
            found: magic.into(),
        });
    }
    damage::version(WHAT_COMMIT, commit::VERSION.read(bytes))?;
    let body_bytes = commit::BODY_BYTES.read(bytes) as usize;
    if body_bytes > MAX_COMMIT_BODY_BYTES {
        return Err(damage::value(WHAT_COMMIT, "body bytes", body_bytes as u64));
    }
    let total = COMMIT_HEADER_BYTES + body_bytes;
    damage::need(WHAT_COMMIT, bytes, total)?;
    let (head, mut body) = bytes[..total].split_at(COMMIT_HEADER_BYTES);
    let chain = commit::CRC.read(head);
    checksum::compare(
        WHAT_COMMIT,
        chain.into(),
        seed.crc32c_of_two(&head[..commit::CRC.0], body).into(),
    )?;
    damage::zero(WHAT_COMMIT, "reserved bytes", &commit::RESERVED.get(head))?;
    let count = commit::COUNT.read(head);
    if count == 0 || usize::from(count) * manifest_record::HEADER_BYTES > body.len() {
        return Err(damage::value(WHAT_COMMIT, "count", count));
    }
    let base = commit::BASE_MANIFEST_SEQUENCE.read(head);
    let mut records = Vec::with_capacity(count.into());
    for index in 0..u64::from(count) {
        let (record, rest) = ManifestRecord::decode(body, seed)?;
        if base.checked_add(index) != Some(record.manifest_sequence) {
            return Err(damage::value(
                WHAT_COMMIT,
                "manifest sequence",
                record.manifest_sequence,
            ));
        }
        records.push(record);
        body = rest;
    }
    if !body.is_empty() {
        return Err(damage::value(
            WHAT_COMMIT,
            "bytes behind the last record",
            body.len() as u64,
        ));
    }
    Ok(ManifestCommit {
        prev_chain: commit::PREV_CHAIN.read(head),
        chain,
        records,
        bytes: total,
    })
}
