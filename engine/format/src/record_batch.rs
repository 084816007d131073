//! The unit of appending: a header and records, copied byte for byte from the caller's staging into the journal frame and into the
//! segment. Layout: `record_batch.md`.
//!
//! - The header checksum is seeded with the stream's salt and covers the body's checksum, so it vouches for the whole batch. The
//!   body's checksum needs no sequence and can be computed before the stream is locked.
//! - `prev_chain` is the header checksum of the batch before: a batch verifies only behind its own predecessor.
//! - `durable_upto` is the stream's durable watermark when the batch was built. Recovery tells by it a torn tail (never
//!   acknowledged) from corruption (bytes below a watermark seen later).

use crate::checksum::{self, Crc32c, Seed};
use crate::damage::{self, Damage};
use crate::field::layout;

const WHAT: &str = "record batch";

/// `RB2A` on disk.
pub const MAGIC: u32 = u32::from_le_bytes(*b"RB2A");

layout! {
    /// Header of a batch.
    header: 72, {
        MAGIC: 0, 4;
        VERSION: 4, 2;
        KIND: 6, 1;
        FLAGS: 7, 1;
        BODY_BYTES: 8, 4;
        COUNT: 12, 4;
        BASE_SEQUENCE: 16, 8;
        EPOCH: 24, 4;
        PREV_CHAIN: 28, 4;
        PRODUCER_ID: 32, 8;
        PRODUCER_SEQ: 40, 8;
        APPENDED_UNIX_NANOS: 48, 8;
        DURABLE_UPTO: 56, 8;
        BODY_CRC: 64, 4;
        HEADER_CRC: 68, 4;
    }
}

layout! {
    /// Body of a batch of kind Gap.
    gap: 16, {
        END_SEQUENCE: 0, 8;
        REASON: 8, 2;
        RESERVED: 10, 6;
    }
}

/// Bytes of a batch's header.
pub const HEADER_BYTES: usize = header::BYTES;
/// Bytes in front of each record's payload: its length.
pub const RECORD_OVERHEAD_BYTES: usize = 4;
/// A gRPC message is at most 8 MiB; twice that leaves room for the records' overhead.
pub const MAX_BODY_BYTES: usize = 16 << 20;
/// Largest whole batch.
pub const MAX_BATCH_BYTES: usize = HEADER_BYTES + MAX_BODY_BYTES;

const KIND_RECORDS: u8 = 0;
const KIND_GAP: u8 = 1;

/// Who numbered the records of a batch. `id == 0`: nobody, `seq` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    pub id: u64,
    /// Of the first record; record `i` has `seq + i`.
    pub seq: u64,
}

/// What a batch says about itself apart from its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub base_sequence: u64,
    pub epoch: u32,
    /// Header checksum of the batch before in the stream; 0 for the first batch of a stream.
    pub prev_chain: u32,
    pub producer: Producer,
    pub appended_unix_nanos: i64,
    /// Count of records durable when the batch was built.
    pub durable_upto: u64,
}

/// What the header says about a body of records. Needs no sequence, so it is computed before the stream is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodySummary {
    pub bytes: u32,
    pub count: u32,
    pub crc: u32,
}

/// A body that would not fit a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "batch of {bytes} bytes in {count} records is invalid; a batch holds at least one record and at most {MAX_BODY_BYTES} bytes"
)]
pub struct BodyOutOfRange {
    pub bytes: u64,
    pub count: u64,
}

impl BodySummary {
    /// One pass over the payloads.
    pub fn of<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, BodyOutOfRange> {
        let mut crc = Crc32c::default();
        let (mut bytes, mut count) = (0u64, 0u64);
        for payload in payloads {
            bytes += (RECORD_OVERHEAD_BYTES + payload.len()) as u64;
            count += 1;
            if bytes > MAX_BODY_BYTES as u64 {
                return Err(BodyOutOfRange { bytes, count });
            }
            crc.update(&(payload.len() as u32).to_le_bytes());
            crc.update(payload);
        }
        if count == 0 {
            return Err(BodyOutOfRange { bytes, count });
        }
        Ok(Self {
            bytes: bytes as u32,
            count: count as u32,
            crc: crc.finish(),
        })
    }

    /// Bytes of the whole batch.
    pub fn batch_bytes(&self) -> usize {
        HEADER_BYTES + self.bytes as usize
    }
}

/// Why sequences are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// A recovery from Tier 2: what the lost volume had acknowledged beyond its last upload.
    LossWindow,
}

impl GapReason {
    fn code(self) -> u16 {
        match self {
            GapReason::LossWindow => 1,
        }
    }

    fn from_code(code: u16) -> Result<Self, Damage> {
        match code {
            1 => Ok(GapReason::LossWindow),
            _ => Err(damage::value(WHAT, "gap reason", code)),
        }
    }
}

/// Sequences `from..end` that will never hold a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    pub end: u64,
    pub reason: GapReason,
}

/// Writes the header of a batch of records and returns its chain, the next batch's `prev_chain`.
#[inline]
pub fn encode_header(
    out: &mut [u8; HEADER_BYTES],
    fields: &Fields,
    body: &BodySummary,
    seed: Seed,
) -> u32 {
    put_header(out, KIND_RECORDS, fields, body, seed)
}

/// Writes the body: each record's length and payload. `out` has exactly `BodySummary::bytes`.
#[inline]
pub fn encode_body<'a>(mut out: &mut [u8], payloads: impl IntoIterator<Item = &'a [u8]>) {
    for payload in payloads {
        let (length, rest) = out.split_at_mut(RECORD_OVERHEAD_BYTES);
        length.copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let (to, rest) = rest.split_at_mut(payload.len());
        to.copy_from_slice(payload);
        out = rest;
    }
    debug_assert!(
        out.is_empty(),
        "the body was summarised over other payloads"
    );
}

/// Appends a whole batch of records to `out`; returns its chain.
pub fn encode<'a, I>(
    out: &mut Vec<u8>,
    fields: &Fields,
    payloads: I,
    seed: Seed,
) -> Result<u32, BodyOutOfRange>
where
    I: IntoIterator<Item = &'a [u8]> + Clone,
{
    let summary = BodySummary::of(payloads.clone())?;
    let at = out.len();
    out.resize(at + summary.batch_bytes(), 0);
    let (head, body) = out[at..].split_at_mut(HEADER_BYTES);
    encode_body(body, payloads);
    let mut fixed = [0; HEADER_BYTES];
    let chain = encode_header(&mut fixed, fields, &summary, seed);
    head.copy_from_slice(&fixed);
    Ok(chain)
}

/// Appends a batch that says that `fields.base_sequence..end` will never hold a record; returns its chain.
pub fn encode_gap(
    out: &mut Vec<u8>,
    fields: &Fields,
    end: u64,
    reason: GapReason,
    seed: Seed,
) -> u32 {
    assert!(
        end > fields.base_sequence,
        "a gap holds at least one sequence"
    );
    let mut body = [0; gap::BYTES];
    gap::END_SEQUENCE.write(&mut body, end);
    gap::REASON.write(&mut body, reason.code());
    let summary = BodySummary {
        bytes: gap::BYTES as u32,
        count: 0,
        crc: checksum::crc32c(&body),
    };
    let mut head = [0; HEADER_BYTES];
    let chain = put_header(&mut head, KIND_GAP, fields, &summary, seed);
    out.extend_from_slice(&head);
    out.extend_from_slice(&body);
    chain
}

fn put_header(
    out: &mut [u8; HEADER_BYTES],
    kind: u8,
    fields: &Fields,
    body: &BodySummary,
    seed: Seed,
) -> u32 {
    let Fields {
        base_sequence,
        epoch,
        prev_chain,
        producer,
        appended_unix_nanos,
        durable_upto,
    } = *fields;
    let BodySummary { bytes, count, crc } = *body;
    header::MAGIC.write(out, MAGIC);
    header::VERSION.write(out, crate::FORMAT_VERSION);
    header::KIND.write(out, kind);
    header::FLAGS.write(out, 0);
    header::BODY_BYTES.write(out, bytes);
    header::COUNT.write(out, count);
    header::BASE_SEQUENCE.write(out, base_sequence);
    header::EPOCH.write(out, epoch);
    header::PREV_CHAIN.write(out, prev_chain);
    header::PRODUCER_ID.write(out, producer.id);
    header::PRODUCER_SEQ.write(out, producer.seq);
    header::APPENDED_UNIX_NANOS.write(out, appended_unix_nanos as u64);
    header::DURABLE_UPTO.write(out, durable_upto);
    header::BODY_CRC.write(out, crc);
    let chain = seed.crc32c(&out[..header::HEADER_CRC.0]);
    header::HEADER_CRC.write(out, chain);
    chain
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Records,
    Gap,
}

/// A verified header. The body is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub fields: Fields,
    pub body: BodySummary,
    /// Checksum of this header: the next batch's `prev_chain`.
    pub chain: u32,
    kind: Kind,
}

impl Header {
    pub fn batch_bytes(&self) -> usize {
        self.body.batch_bytes()
    }

    pub fn is_gap(&self) -> bool {
        self.kind == Kind::Gap
    }
}

/// A verified batch over borrowed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    header: Header,
    gap: Option<Gap>,
    body: &'a [u8],
}

/// Verifies the header alone; enough to walk over batches whose bodies are vouched for elsewhere.
pub fn decode_header(bytes: &[u8], seed: Seed) -> Result<Header, Damage> {
    damage::need(WHAT, bytes, HEADER_BYTES)?;
    let bytes = &bytes[..HEADER_BYTES];
    let magic = header::MAGIC.read(bytes);
    if magic != MAGIC {
        return Err(Damage::Magic {
            what: WHAT,
            found: magic.into(),
        });
    }
    damage::version(WHAT, header::VERSION.read(bytes))?;
    let stored = header::HEADER_CRC.read(bytes);
    checksum::compare(
        WHAT,
        stored.into(),
        seed.crc32c(&bytes[..header::HEADER_CRC.0]).into(),
    )?;

    let kind = match header::KIND.read(bytes) {
        KIND_RECORDS => Kind::Records,
        KIND_GAP => Kind::Gap,
        other => return Err(damage::value(WHAT, "kind", other)),
    };
    let flags = header::FLAGS.read(bytes);
    if flags != 0 {
        return Err(damage::value(WHAT, "flags", flags));
    }
    let body = BodySummary {
        bytes: header::BODY_BYTES.read(bytes),
        count: header::COUNT.read(bytes),
        crc: header::BODY_CRC.read(bytes),
    };
    let fields = Fields {
        base_sequence: header::BASE_SEQUENCE.read(bytes),
        epoch: header::EPOCH.read(bytes),
        prev_chain: header::PREV_CHAIN.read(bytes),
        producer: Producer {
            id: header::PRODUCER_ID.read(bytes),
            seq: header::PRODUCER_SEQ.read(bytes),
        },
        appended_unix_nanos: header::APPENDED_UNIX_NANOS.read(bytes) as i64,
        durable_upto: header::DURABLE_UPTO.read(bytes),
    };
    match kind {
        Kind::Records => {
            let least = u64::from(body.count) * RECORD_OVERHEAD_BYTES as u64;
            if body.count == 0 || least > body.bytes.into() {
                return Err(damage::value(WHAT, "count", body.count));
            }
            if body.bytes as usize > MAX_BODY_BYTES {
                return Err(damage::value(WHAT, "body bytes", body.bytes));
            }
            fields
                .base_sequence
                .checked_add(body.count.into())
                .ok_or_else(|| damage::value(WHAT, "base sequence", fields.base_sequence))?;
            fields
                .producer
                .seq
                .checked_add(body.count.into())
                .ok_or_else(|| damage::value(WHAT, "producer sequence", fields.producer.seq))?;
        }
        Kind::Gap => {
            if body.bytes as usize != gap::BYTES {
                return Err(damage::value(WHAT, "body bytes", body.bytes));
            }
            if body.count != 0 {
                return Err(damage::value(WHAT, "count", body.count));
            }
        }
    }
    if fields.durable_upto > fields.base_sequence {
        return Err(damage::value(
            WHAT,
            "durable watermark",
            fields.durable_upto,
        ));
    }
    Ok(Header {
        fields,
        body,
        chain: stored,
        kind,
    })
}

/// Verifies the batch at the start of `bytes`; what follows it is not looked at.
pub fn decode(bytes: &[u8], seed: Seed) -> Result<RecordBatch<'_>, Damage> {
    let header = decode_header(bytes, seed)?;
    damage::need(WHAT, bytes, header.batch_bytes())?;
    let body = &bytes[HEADER_BYTES..header.batch_bytes()];
    checksum::compare(WHAT, header.body.crc.into(), checksum::crc32c(body).into())?;
    let gap = match header.kind {
        Kind::Records => {
            check_records(&header, body)?;
            None
        }
        Kind::Gap => {
            let (from, end) = (header.fields.base_sequence, gap::END_SEQUENCE.read(body));
            if end <= from {
                return Err(damage::value(WHAT, "end of the gap", end));
            }
            if gap::RESERVED.get(body) != [0; 6] {
                return Err(damage::value(WHAT, "reserved bytes of the gap", 1u8));
            }
            Some(Gap {
                from,
                end,
                reason: GapReason::from_code(gap::REASON.read(body))?,
            })
        }
    };
    Ok(RecordBatch { header, gap, body })
}

/// The lengths fill the body exactly, so that iteration needs no checks.
fn check_records(header: &Header, mut body: &[u8]) -> Result<(), Damage> {
    for _ in 0..header.body.count {
        let Some((length, rest)) = body.split_first_chunk::<RECORD_OVERHEAD_BYTES>() else {
            return Err(damage::value(WHAT, "count", header.body.count));
        };
        let length = u32::from_le_bytes(*length);
        body = rest
            .get(length as usize..)
            .ok_or_else(|| damage::value(WHAT, "record length", length))?;
    }
    if !body.is_empty() {
        return Err(damage::value(
            WHAT,
            "bytes behind the last record",
            body.len() as u64,
        ));
    }
    Ok(())
}

impl<'a> RecordBatch<'a> {
    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn fields(&self) -> &Fields {
        &self.header.fields
    }

    pub fn chain(&self) -> u32 {
        self.header.chain
    }

    /// Records held; 0 for a gap.
    pub fn count(&self) -> u32 {
        self.header.body.count
    }

    pub fn base_sequence(&self) -> u64 {
        self.header.fields.base_sequence
    }

    /// Sequence behind the last one of this batch.
    pub fn end_sequence(&self) -> u64 {
        match self.gap {
            Some(gap) => gap.end,
            None => self.base_sequence() + u64::from(self.count()),
        }
    }

    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    pub fn batch_bytes(&self) -> usize {
        self.header.batch_bytes()
    }

    /// The payloads in order; none for a gap.
    pub fn payloads(&self) -> Payloads<'a> {
        Payloads {
            body: if self.gap.is_some() { &[] } else { self.body },
        }
    }
}

/// Payloads of a verified batch.
#[derive(Clone, Debug)]
pub struct Payloads<'a> {
    body: &'a [u8],
}

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.body.split_first_chunk::<RECORD_OVERHEAD_BYTES>()?;
        let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.body = rest;
        Some(payload)
    }
}
