//! Why bytes could not be decoded. A variant names the stored thing, what was wrong and the value found.

use crate::checksum;
use crate::field::Field;

/// A decoder's refusal. `what` names the stored thing, e.g. `segment header`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Fewer bytes than the thing takes. At the end of a file this is what a torn write looks like.
    #[error("{what}: {have} bytes found, {need} needed")]
    Short {
        what: &'static str,
        need: u64,
        have: u64,
    },
    /// Not this kind of thing at all. Zeroes (`found == 0`) are what an unwritten, preallocated tail looks like.
    #[error("{what}: wrong magic {found:#018x}")]
    Magic { what: &'static str, found: u64 },
    /// Written by a newer release.
    #[error(
        "{what}: format version {found} is newer than {supported}, the newest this release reads"
    )]
    Version {
        what: &'static str,
        found: u32,
        supported: u32,
    },
    /// The bytes are not those that were written, or belong to another file or stream.
    #[error("{what}: checksum {computed:#x} differs from the stored {stored:#x}")]
    Checksum {
        what: &'static str,
        stored: u64,
        computed: u64,
    },
    /// The checksum holds but a value is outside its range: a defect of the writer, or a hostile file.
    #[error("{what}: {field} = {found} is out of range")]
    Value {
        what: &'static str,
        field: &'static str,
        found: u64,
    },
    /// A text (JSON, name) is malformed.
    #[error("{what}: {problem}")]
    Text { what: &'static str, problem: String },
}

impl Damage {
    /// Written by a newer release rather than damaged.
    pub fn is_newer_version(&self) -> bool {
        matches!(self, Damage::Version { .. })
    }

    /// Nothing was ever written here: the magic is zero.
    pub fn is_unwritten(&self) -> bool {
        matches!(self, Damage::Magic { found: 0, .. })
    }

    /// The buffer ends before the thing does.
    pub fn is_short(&self) -> bool {
        matches!(self, Damage::Short { .. })
    }
}

pub(crate) fn need(what: &'static str, bytes: &[u8], need: usize) -> Result<(), Damage> {
    if bytes.len() < need {
        return Err(Damage::Short {
            what,
            need: need as u64,
            have: bytes.len() as u64,
        });
    }
    Ok(())
}

pub(crate) fn version(what: &'static str, found: u16) -> Result<(), Damage> {
    if found > crate::FORMAT_VERSION {
        return Err(Damage::Version {
            what,
            found: found.into(),
            supported: crate::FORMAT_VERSION.into(),
        });
    }
    Ok(())
}

pub(crate) fn value(what: &'static str, field: &'static str, found: impl Into<u64>) -> Damage {
    Damage::Value {
        what,
        field,
        found: found.into(),
    }
}

/// Length, magic, version and checksum of a whole block whose last field is its CRC-32C.
pub(crate) fn block(
    what: &'static str,
    bytes: &[u8],
    magic: u64,
    magic_at: Field<8>,
    version_at: Field<2>,
    crc_at: Field<4>,
) -> Result<(), Damage> {
    need(what, bytes, crc_at.end())?;
    let found = magic_at.read(bytes);
    if found != magic {
        return Err(Damage::Magic { what, found });
    }
    version(what, version_at.read(bytes))?;
    checksum::compare(
        what,
        crc_at.read(bytes).into(),
        checksum::crc32c(&bytes[..crc_at.0]).into(),
    )
}

pub(crate) fn zero(what: &'static str, field: &'static str, bytes: &[u8]) -> Result<(), Damage> {
    match bytes.iter().find(|byte| **byte != 0) {
        Some(byte) => Err(value(what, field, *byte)),
        None => Ok(()),
    }
}
