//! Adjacent sealed segments that are merged into one: blobs of `CustomEvent`s. Layout: `compaction.md`.

use crate::FORMAT_VERSION;
use crate::checksum::{self, Crc32c};
use crate::damage::{self, Damage};
use crate::field::layout;
use crate::manifest_record::{MAX_PAYLOAD_BYTES, ReasonCode};
use crate::segment::DATA_OFFSET;

const WHAT: &str = "compaction";

/// `CustomEvent.schema_id` of such a blob.
pub const SCHEMA_ID: u32 = 5;
/// `CP2A` on disk.
pub const MAGIC: u32 = u32::from_le_bytes(*b"CP2A");
/// Segments that are merged at once.
pub const MAX_INPUTS: usize = 4096;

layout! {
    /// Begins the blob.
    header: 40, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        KIND: 6, 2;
        BASE_SEQUENCE: 8, 8;
        END_SEQUENCE: 16, 8;
        EPOCH: 24, 4;
        INPUTS: 28, 4;
        REASON: 32, 2;
        RESERVED: 34, 2;
        CRC: 36, 4;
    }
}

layout! {
    /// What was made.
    output: 56, {
        DURABLE_BYTES: 0, 8;
        SEGMENT_CRC64: 8, 8;
        OBJECT_BYTES: 16, 8;
        FIRST_UNIX_NANOS: 24, 8;
        LAST_UNIX_NANOS: 32, 8;
        SEALED_UNIX_NANOS: 40, 8;
        CHAIN: 48, 4;
        RESERVED: 52, 4;
    }
}

layout! {
    /// One of what it was made of.
    input: 8, {
        SEGMENT_ID: 0, 8;
    }
}

const _: () = assert!(
    header::BYTES + output::BYTES + MAX_INPUTS * input::BYTES + 8 <= MAX_PAYLOAD_BYTES,
    "the longest one is a manifest record"
);

/// The segment id of the record is the output's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// The output has its id; it does not count.
    Begun(Inputs),
    /// It counts, and the inputs do not any more.
    Merged(Inputs, Output),
    /// A try failed.
    Failed { reason: ReasonCode },
    /// It will never count.
    GivenUp,
}

/// What is merged: sealed segments that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Of the first one.
    pub base_sequence: u64,
    /// Behind the last record of the last one.
    pub end_sequence: u64,
    /// Of each of them, and of the output.
    pub epoch: u32,
    /// In the order of their sequences; 2..=[`MAX_INPUTS`], none twice.
    pub segment_ids: Vec<u64>,
}

/// A sealed segment with the batches of the inputs, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Offset behind the last batch.
    pub durable_bytes: u64,
    /// CRC-64/NVME of the bytes before that.
    pub segment_crc64: u64,
    /// Of its object in Tier 2; 0 = it has none.
    pub object_bytes: u64,
    pub first_unix_nanos: i64,
    pub last_unix_nanos: i64,
    pub sealed_unix_nanos: i64,
    /// Of the last batch.
    pub chain: u32,
}

const NO_INPUTS: Inputs = Inputs {
    base_sequence: 0,
    end_sequence: 0,
    epoch: 0,
    segment_ids: Vec::new(),
};

impl Compaction {
    pub fn encode(&self) -> Vec<u8> {
        let none = NO_INPUTS;
        let (kind, inputs, made, reason) = match self {
            Compaction::Begun(inputs) => (0, inputs, None, 0),
            Compaction::Merged(inputs, output) => (1, inputs, Some(output), 0),
            Compaction::Failed { reason } => (2, &none, None, reason.code()),
            Compaction::GivenUp => (3, &none, None, 0),
        };
        let Inputs {
            base_sequence,
            end_sequence,
            epoch,
            segment_ids,
        } = inputs;
        let mut out = vec![0; header::BYTES];
        header::MAGIC.write(&mut out, MAGIC);
        header::VERSION.write(&mut out, FORMAT_VERSION);
        header::KIND.write(&mut out, kind);
        header::BASE_SEQUENCE.write(&mut out, *base_sequence);
        header::END_SEQUENCE.write(&mut out, *end_sequence);
        header::EPOCH.write(&mut out, *epoch);
        header::INPUTS.write(&mut out, segment_ids.len() as u32);
        header::REASON.write(&mut out, reason);
        if let Some(made) = made {
            out.extend_from_slice(&made.encode());
        }
        for id in segment_ids {
            out.extend_from_slice(&id.to_le_bytes());
        }
        let crc = crc_of(&out);
        header::CRC.write(&mut out, crc);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        damage::need(WHAT, bytes, header::BYTES)?;
        let magic = header::MAGIC.read(bytes);
        if magic != MAGIC {
            return Err(Damage::Magic {
                what: WHAT,
                found: magic.into(),
            });
        }
        damage::version(WHAT, header::VERSION.read(bytes))?;
        checksum::compare(WHAT, header::CRC.read(bytes).into(), crc_of(bytes).into())?;
        damage::zero(WHAT, "reserved bytes", &header::RESERVED.get(bytes))?;
        let kind = header::KIND.read(bytes);
        let mut rest = &bytes[header::BYTES..];
        let made = match kind {
            1 => Some(Output::take(&mut rest)?),
            _ => None,
        };
        let inputs = Inputs::decode(bytes, rest)?;
        let reason = header::REASON.read(bytes);
        if kind != 2 && reason != 0 {
            return Err(damage::value(WHAT, "reason", reason));
        }
        match (kind, made) {
            (0, _) => Ok(Compaction::Begun(inputs.checked()?)),
            (1, Some(output)) => Ok(Compaction::Merged(inputs.checked()?, output)),
            (2, _) => {
                inputs.absent()?;
                let reason = ReasonCode::from_code(reason)?;
                Ok(Compaction::Failed { reason })
            }
            (3, _) => {
                inputs.absent()?;
                Ok(Compaction::GivenUp)
            }
            _ => Err(damage::value(WHAT, "kind", kind)),
        }
    }
}

impl Output {
    fn encode(&self) -> [u8; output::BYTES] {
        let Self {
            durable_bytes,
            segment_crc64,
            object_bytes,
            first_unix_nanos,
            last_unix_nanos,
            sealed_unix_nanos,
            chain,
        } = *self;
        let mut out = [0; output::BYTES];
        output::DURABLE_BYTES.write(&mut out, durable_bytes);
        output::SEGMENT_CRC64.write(&mut out, segment_crc64);
        output::OBJECT_BYTES.write(&mut out, object_bytes);
        output::FIRST_UNIX_NANOS.write(&mut out, first_unix_nanos as u64);
        output::LAST_UNIX_NANOS.write(&mut out, last_unix_nanos as u64);
        output::SEALED_UNIX_NANOS.write(&mut out, sealed_unix_nanos as u64);
        output::CHAIN.write(&mut out, chain);
        out
    }

    fn take(rest: &mut &[u8]) -> Result<Self, Damage> {
        damage::need(WHAT, rest, output::BYTES)?;
        let (row, left) = rest.split_at(output::BYTES);
        *rest = left;
        damage::zero(WHAT, "reserved bytes", &output::RESERVED.get(row))?;
        let durable_bytes = output::DURABLE_BYTES.read(row);
        if durable_bytes <= DATA_OFFSET {
            return Err(damage::value(WHAT, "durable_bytes", durable_bytes));
        }
        Ok(Self {
            durable_bytes,
            segment_crc64: output::SEGMENT_CRC64.read(row),
            object_bytes: output::OBJECT_BYTES.read(row),
            first_unix_nanos: output::FIRST_UNIX_NANOS.read(row) as i64,
            last_unix_nanos: output::LAST_UNIX_NANOS.read(row) as i64,
            sealed_unix_nanos: output::SEALED_UNIX_NANOS.read(row) as i64,
            chain: output::CHAIN.read(row),
        })
    }
}

impl Inputs {
    /// `rest` is all that is left of the blob.
    fn decode(bytes: &[u8], rest: &[u8]) -> Result<Self, Damage> {
        let count = header::INPUTS.read(bytes);
        if count as usize > MAX_INPUTS {
            return Err(damage::value(WHAT, "inputs", count));
        }
        let need = count as usize * input::BYTES;
        damage::need(WHAT, rest, need)?;
        if rest.len() > need {
            let more = (rest.len() - need) as u64;
            return Err(damage::value(WHAT, "bytes behind the last input", more));
        }
        let rows = rest.chunks_exact(input::BYTES);
        Ok(Self {
            base_sequence: header::BASE_SEQUENCE.read(bytes),
            end_sequence: header::END_SEQUENCE.read(bytes),
            epoch: header::EPOCH.read(bytes),
            segment_ids: rows.map(|row| input::SEGMENT_ID.read(row)).collect(),
        })
    }

    fn checked(self) -> Result<Self, Damage> {
        if self.segment_ids.len() < 2 {
            return Err(damage::value(WHAT, "inputs", self.segment_ids.len() as u64));
        }
        if self.end_sequence <= self.base_sequence {
            return Err(damage::value(WHAT, "end_sequence", self.end_sequence));
        }
        let mut ids = self.segment_ids.clone();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(damage::value(WHAT, "segment_id", twice[0]));
        }
        Ok(self)
    }

    fn absent(&self) -> Result<(), Damage> {
        match *self == NO_INPUTS {
            true => Ok(()),
            false => Err(damage::value(WHAT, "inputs", self.segment_ids.len() as u64)),
        }
    }
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::default();
    crc.update(&bytes[..header::CRC.0]);
    crc.update(&bytes[header::BYTES..]);
    crc.finish()
}
