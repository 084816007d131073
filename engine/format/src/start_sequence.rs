//! The first sequence of a stream that may be read: blob of a `CustomEvent`. Layout: `start_sequence.md`.

use crate::FORMAT_VERSION;
use crate::checksum;
use crate::damage::{self, Damage};
use crate::field::layout;

const WHAT: &str = "start sequence";

/// `CustomEvent.schema_id` of such a blob.
pub const SCHEMA_ID: u32 = 3;
/// `SS2A` on disk.
pub const MAGIC: u32 = u32::from_le_bytes(*b"SS2A");

layout! {
    /// The whole blob.
    blob: 20, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        REASON: 6, 2;
        START_SEQUENCE: 8, 8;
        CRC: 16, 4;
    }
}

/// Why the start of a stream moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartReason {
    /// A caller asked for it.
    Trim,
    /// A retention policy.
    Retention,
}

impl StartReason {
    fn code(self) -> u16 {
        match self {
            StartReason::Trim => 0,
            StartReason::Retention => 1,
        }
    }

    fn from_code(code: u16) -> Result<Self, Damage> {
        match code {
            0 => Ok(StartReason::Trim),
            1 => Ok(StartReason::Retention),
            _ => Err(damage::value(WHAT, "reason", code)),
        }
    }
}

/// Records of a lower sequence are gone for readers, whatever copies are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartSequence {
    /// Of the first record that may be read. It never moves back.
    pub start_sequence: u64,
    pub reason: StartReason,
}

impl StartSequence {
    pub fn encode(&self) -> [u8; blob::BYTES] {
        let Self {
            start_sequence,
            reason,
        } = *self;
        let mut out = [0; blob::BYTES];
        blob::MAGIC.write(&mut out, MAGIC);
        blob::VERSION.write(&mut out, FORMAT_VERSION);
        blob::REASON.write(&mut out, reason.code());
        blob::START_SEQUENCE.write(&mut out, start_sequence);
        let crc = checksum::crc32c(&out[..blob::CRC.0]);
        blob::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::need(WHAT, bytes, blob::BYTES)?;
        let found = blob::MAGIC.read(bytes);
        if found != MAGIC {
            return Err(Damage::Magic {
                what: WHAT,
                found: found.into(),
            });
        }
        damage::version(WHAT, blob::VERSION.read(bytes))?;
        checksum::compare(
            WHAT,
            blob::CRC.read(bytes).into(),
            checksum::crc32c(&bytes[..blob::CRC.0]).into(),
        )?;
        if bytes.len() != blob::BYTES {
            return Err(damage::value(WHAT, "bytes", bytes.len() as u64));
        }
        Ok(Self {
            start_sequence: blob::START_SEQUENCE.read(bytes),
            reason: StartReason::from_code(blob::REASON.read(bytes))?,
        })
    }
}
