//! The node's journal: prezeroed, recycled files of commits. Layout: `journal.md`.
//!
//! `[header block][header block again][commit, padded to a block][commit ...]`. A commit is one write and one sync: a header and
//! frames. Its checksum is seeded with the file's salt and covers all of it, because in a recycled file a torn commit can hold old,
//! valid records. The first commit of each file is a full checkpoint table.
//!
//! The header of a commit and that of a frame have checksums of their own: where a commit that was synced does not verify, they
//! tell which of its frames can be trusted, and whose bytes the others were.

use crate::checksum::{self, Salt, Seed};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::identity::{ClusterId, NodeId, VolumeId};
use crate::journal_frame;
use crate::{BLOCK_BYTES, FORMAT_VERSION};

pub use crate::journal_frame::{
    FRAME_HEADER_BYTES, FileKind, Frame, FrameHeader, Frames, POSITION_BYTES, Position, Positions,
    decode_frame, encode_frame, encode_position,
};

const WHAT: &str = "journal header";
const WHAT_COMMIT: &str = "journal commit";

pub const MAGIC: u64 = u64::from_le_bytes(*b"AOF2JRNL");
/// `JC2A` on disk.
pub const COMMIT_MAGIC: u32 = u32::from_le_bytes(*b"JC2A");

layout! {
    /// First block of a journal file; rewritten, with a fresh salt and number, each time the file is taken into use.
    header: 4096, {
        MAGIC: 0, 8;
        VERSION: 8, 2;
        RESERVED: 10, 6;
        CLUSTER_ID: 16, 16;
        NODE_ID: 32, 16;
        VOLUME_ID: 48, 16;
        FILE_NUMBER: 64, 8;
        SALT: 72, 8;
        FIRST_COMMIT: 80, 8;
        TABLE_OFFSET: 88, 8;
        CREATED_UNIX_NANOS: 96, 8;
        FILE_BYTES: 104, 8;
        ZERO: 112, 3980;
        CRC: 4092, 4;
    }
}

layout! {
    /// Header of a commit, at the start of a block.
    commit: 64, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        FLAGS: 6, 2;
        FILE_SALT: 8, 8;
        FILE_NUMBER: 16, 8;
        NUMBER: 24, 8;
        COMMIT_BYTES: 32, 4;
        FRAMES: 36, 4;
        WRITTEN_UNIX_NANOS: 40, 8;
        PREV_CRC: 48, 4;
        HEAD_CRC: 52, 4;
        RESERVED: 56, 4;
        CRC: 60, 4;
    }
}

pub const COMMIT_HEADER_BYTES: usize = commit::BYTES;
/// The header block stands twice, so that one damaged block loses nothing.
pub const HEADER_COPIES: usize = 2;
/// Offset of the first commit.
pub const FIRST_COMMIT_OFFSET: u64 = (HEADER_COPIES * header::BYTES) as u64;
/// Largest commit; a journal file is never larger.
pub const MAX_COMMIT_BYTES: usize = 1 << 30;

const _: () = assert!(header::BYTES == BLOCK_BYTES);

/// First block of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub volume_id: VolumeId,
    /// Grows by one with each file taken into use; orders the files.
    pub file_number: u64,
    /// Fresh per use.
    pub salt: Salt,
    /// Number of the first commit that this file will hold.
    pub first_commit: u64,
    /// Offset of the commit with the checkpoint table; 0 = none.
    pub table_offset: u64,
    pub created_unix_nanos: i64,
    /// Length of the file: one that is shorter was cut.
    pub file_bytes: u64,
}

impl JournalHeader {
    /// The newest of the copies that verify, of the start of a file.
    pub fn decode_any(bytes: &[u8]) -> Result<Self, Damage> {
        let copies = (0..HEADER_COPIES)
            .map(|copy| Self::decode(&bytes[(copy * header::BYTES).min(bytes.len())..]));
        let mut best: Option<Self> = None;
        let mut refused = None;
        for copy in copies {
            match copy {
                Ok(header) if best.is_none_or(|best| best.file_number < header.file_number) => {
                    best = Some(header)
                }
                Ok(_) => {}
                Err(damage) => refused = refused.or(Some(damage)),
            }
        }
        match (best, refused) {
            (Some(header), _) => Ok(header),
            (None, Some(damage)) => Err(damage),
            (None, None) => unreachable!("each copy is accepted or refused"),
        }
    }

    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let Self {
            cluster_id,
            node_id,
            volume_id,
            file_number,
            salt,
            first_commit,
            table_offset,
            created_unix_nanos,
            file_bytes,
        } = *self;
        let mut out = [0; BLOCK_BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::CLUSTER_ID.put(&mut out, cluster_id.0);
        header::NODE_ID.put(&mut out, node_id.0);
        header::VOLUME_ID.put(&mut out, volume_id.0);
        header::FILE_NUMBER.write(&mut out, file_number);
        header::SALT.write(&mut out, salt.0);
        header::FIRST_COMMIT.write(&mut out, first_commit);
        header::TABLE_OFFSET.write(&mut out, table_offset);
        header::CREATED_UNIX_NANOS.write(&mut out, created_unix_nanos as u64);
        header::FILE_BYTES.write(&mut out, file_bytes);
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
        let table_offset = header::TABLE_OFFSET.read(bytes);
        if !table_offset.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(damage::value(WHAT, "table offset", table_offset));
        }
        Ok(Self {
            cluster_id: ClusterId(header::CLUSTER_ID.get(bytes)),
            node_id: NodeId(header::NODE_ID.get(bytes)),
            volume_id: VolumeId(header::VOLUME_ID.get(bytes)),
            file_number: header::FILE_NUMBER.read(bytes),
            salt: Salt(header::SALT.read(bytes)),
            first_commit: header::FIRST_COMMIT.read(bytes),
            table_offset,
            created_unix_nanos: header::CREATED_UNIX_NANOS.read(bytes) as i64,
            file_bytes: header::FILE_BYTES.read(bytes),
        })
    }
}

/// What the header of a commit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitFields {
    pub file_number: u64,
    /// Of the node's journal, over all files; grows by one.
    pub number: u64,
    pub frame_count: u32,
    pub written_unix_nanos: i64,
    /// Checksum of the commit before; 0 for the first commit of a file.
    pub prev_crc: u32,
}

/// Bytes that a commit of this length takes in the file.
pub const fn padded_bytes(commit_bytes: usize) -> usize {
    commit_bytes.next_multiple_of(BLOCK_BYTES)
}

/// Writes the header of a commit whose frames lie behind it in `commit` (`commit.len()` is its unpadded length) and returns the
/// commit's checksum.
pub fn seal_commit(commit: &mut [u8], fields: &CommitFields, salt: Salt, seed: Seed) -> u32 {
    assert!(
        (COMMIT_HEADER_BYTES..=MAX_COMMIT_BYTES).contains(&commit.len()),
        "a commit holds its header and is bounded"
    );
    let CommitFields {
        file_number,
        number,
        frame_count,
        written_unix_nanos,
        prev_crc,
    } = *fields;
    let (head, frames) = commit.split_at_mut(COMMIT_HEADER_BYTES);
    head.fill(0);
    commit::MAGIC.write(head, COMMIT_MAGIC);
    commit::VERSION.write(head, FORMAT_VERSION);
    commit::FILE_SALT.write(head, salt.0);
    commit::FILE_NUMBER.write(head, file_number);
    commit::NUMBER.write(head, number);
    commit::COMMIT_BYTES.write(head, (COMMIT_HEADER_BYTES + frames.len()) as u32);
    commit::FRAMES.write(head, frame_count);
    commit::WRITTEN_UNIX_NANOS.write(head, written_unix_nanos as u64);
    commit::PREV_CRC.write(head, prev_crc);
    let head_crc = seed.crc32c(&head[..commit::HEAD_CRC.0]);
    commit::HEAD_CRC.write(head, head_crc);
    let crc = seed.crc32c_of_two(&head[..commit::CRC.0], frames);
    commit::CRC.write(head, crc);
    crc
}

/// A verified commit over borrowed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit<'a> {
    pub fields: CommitFields,
    pub crc: u32,
    frames: &'a [u8],
}

/// What the header of a commit says where the commit as a whole need not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHead {
    pub fields: CommitFields,
    /// Header and frames, without the padding.
    pub bytes: usize,
}

/// Verifies the header of the commit at the start of `bytes` alone. Whether all of its frames are there, and are its own, is not known.
pub fn decode_commit_head(bytes: &[u8], salt: Salt, seed: Seed) -> Result<CommitHead, Damage> {
    damage::need(WHAT_COMMIT, bytes, COMMIT_HEADER_BYTES)?;
    let head = &bytes[..COMMIT_HEADER_BYTES];
    let magic = commit::MAGIC.read(head);
    if magic != COMMIT_MAGIC {
        return Err(Damage::Magic {
            what: WHAT_COMMIT,
            found: magic.into(),
        });
    }
    damage::version(WHAT_COMMIT, commit::VERSION.read(head))?;
    // Before any checksum: payloads that look like commits cost no pass over what they claim to hold.
    let file_salt = commit::FILE_SALT.read(head);
    if file_salt != salt.0 {
        return Err(damage::value(WHAT_COMMIT, "salt", file_salt));
    }
    checksum::compare(
        WHAT_COMMIT,
        commit::HEAD_CRC.read(head).into(),
        seed.crc32c(&head[..commit::HEAD_CRC.0]).into(),
    )?;
    damage::zero(WHAT_COMMIT, "flags", &commit::FLAGS.get(head))?;
    damage::zero(WHAT_COMMIT, "reserved bytes", &commit::RESERVED.get(head))?;
    let bytes = commit::COMMIT_BYTES.read(head) as usize;
    if !(COMMIT_HEADER_BYTES..=MAX_COMMIT_BYTES).contains(&bytes) {
        return Err(damage::value(WHAT_COMMIT, "length", bytes as u64));
    }
    let fields = CommitFields {
        file_number: commit::FILE_NUMBER.read(head),
        number: commit::NUMBER.read(head),
        frame_count: commit::FRAMES.read(head),
        written_unix_nanos: commit::WRITTEN_UNIX_NANOS.read(head) as i64,
        prev_crc: commit::PREV_CRC.read(head),
    };
    Ok(CommitHead { fields, bytes })
}

/// Verifies the commit at the start of `bytes` (a block boundary of a file with this salt).
pub fn decode_commit(bytes: &[u8], salt: Salt, seed: Seed) -> Result<Commit<'_>, Damage> {
    let CommitHead {
        fields,
        bytes: length,
    } = decode_commit_head(bytes, salt, seed)?;
    damage::need(WHAT_COMMIT, bytes, length)?;
    let (head, frames) = bytes[..length].split_at(COMMIT_HEADER_BYTES);
    let stored = commit::CRC.read(head);
    checksum::compare(
        WHAT_COMMIT,
        stored.into(),
        seed.crc32c_of_two(&head[..commit::CRC.0], frames).into(),
    )?;
    let commit = Commit {
        fields,
        crc: stored,
        frames,
    };
    let mut rest = frames;
    for _ in 0..fields.frame_count {
        rest = journal_frame::decode_frame(rest)?.1;
    }
    if !rest.is_empty() {
        return Err(damage::value(
            WHAT_COMMIT,
            "bytes behind the last frame",
            rest.len() as u64,
        ));
    }
    Ok(commit)
}

impl<'a> Commit<'a> {
    /// Unpadded length.
    pub fn bytes(&self) -> usize {
        COMMIT_HEADER_BYTES + self.frames.len()
    }

    /// Bytes that it takes in the file.
    pub fn padded_bytes(&self) -> usize {
        padded_bytes(self.bytes())
    }

    pub fn frames(&self) -> Frames<'a> {
        Frames::new(self.frames)
    }
}
