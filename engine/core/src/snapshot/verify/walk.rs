//! The batches of a segment, as its bytes come: each is whole and the successor of the one before. Holds a header at most, never a body.

use aof2_format::record_batch::{self, HEADER_BYTES, Header};
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use aof2_format::snapshot::{Catalogue, CatalogueSegment};
use aof2_format::{Damage, Seed};

use aof2_format::checksum::Crc32c;

use super::{Fault, fault_of};

type Walked = Result<(), (Fault, String)>;

/// What the batches of a segment add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub chain: u32,
    pub next_sequence: u64,
    pub records: u64,
}

pub(super) struct Walk<'a> {
    catalogue: &'a Catalogue,
    segment: &'a CatalogueSegment,
    /// Of the segment before; `None`: it is the first of the snapshot.
    before: Option<u32>,
    seed: Option<Seed>,
    /// Bytes of the header that is not whole yet; of a gap with its body.
    pending: Vec<u8>,
    body: Option<Body>,
    first_prev_chain: Option<u32>,
    end: End,
}

/// Of a batch of records, as far as it was seen.
struct Body {
    header: Header,
    left_bytes: usize,
    crc: Crc32c,
    lengths_seen: u32,
    length: Vec<u8>,
    record_left: usize,
}

impl<'a> Walk<'a> {
    pub fn new(
        catalogue: &'a Catalogue,
        segment: &'a CatalogueSegment,
        before: Option<u32>,
    ) -> Self {
        Walk {
            catalogue,
            segment,
            before,
            seed: None,
            pending: Vec::with_capacity(DATA_OFFSET as usize),
            body: None,
            first_prev_chain: None,
            end: End::default(),
        }
    }

    /// A block begins here; `first_sequence` is what the index says of it.
    pub fn begin_block(&self, first_sequence: u64) -> Walked {
        let next = match self.seed {
            None => self.segment.base_sequence,
            Some(_) => self.end.next_sequence,
        };
        let is_between = self.pending.is_empty() && self.body.is_none();
        if !is_between || first_sequence != next {
            let problem = format!(
                "block of sequence {first_sequence} does not begin with a batch of sequence {next}"
            );
            return Err((Fault::DigestMismatch, problem));
        }
        Ok(())
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Walked {
        while !bytes.is_empty() {
            bytes = match &mut self.body {
                Some(body) => {
                    let (part, rest) = bytes.split_at(body.left_bytes.min(bytes.len()));
                    body.push(part);
                    if body.left_bytes == 0 {
                        self.end_of_body()?;
                    }
                    rest
                }
                None => self.push_header(bytes)?,
            };
        }
        Ok(())
    }

    /// Answers what it has not taken.
    fn push_header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], (Fault, String)> {
        let wanted = match self.seed {
            None => DATA_OFFSET as usize,
            Some(seed) => match self.pending.len() {
                HEADER_BYTES.. => record_batch::decode_header(&self.pending, seed)
                    .map_err(damaged)?
                    .batch_bytes(),
                _ => HEADER_BYTES,
            },
        };
        let (part, rest) = bytes.split_at((wanted - self.pending.len()).min(bytes.len()));
        self.pending.extend_from_slice(part);
        if self.pending.len() == wanted {
            match self.seed {
                None => self.segment_header()?,
                Some(seed) => self.batch_header(seed)?,
            }
        }
        Ok(rest)
    }

    fn segment_header(&mut self) -> Walked {
        let header = SegmentHeader::decode(&self.pending).map_err(damaged)?;
        let (catalogue, segment) = (self.catalogue, self.segment);
        let is_same = header.cluster_id == catalogue.cluster_id
            && header.stream == catalogue.stream
            && header.stream_uuid == catalogue.stream_uuid
            && header.segment_id == segment.segment_id
            && header.epoch == segment.epoch
            && header.base_sequence == segment.base_sequence;
        if !is_same {
            let problem = format!(
                "segment {} of stream {} from sequence {} found",
                header.segment_id, header.stream, header.base_sequence
            );
            return Err((Fault::DigestMismatch, problem));
        }
        self.seed = Some(Seed::new(header.stream_salt));
        self.first_prev_chain = Some(header.prev_chain);
        self.end = End {
            chain: header.prev_chain,
            next_sequence: header.base_sequence,
            records: 0,
        };
        self.pending.clear();
        Ok(())
    }

    fn batch_header(&mut self, seed: Seed) -> Walked {
        let header = record_batch::decode_header(&self.pending, seed).map_err(damaged)?;
        // What was cut off a damaged stream is a gap, and so is its chain.
        let is_cut = header.is_gap() && self.end.next_sequence == self.segment.base_sequence;
        if let (Some(found), Some(before)) = (self.first_prev_chain.take(), self.before)
            && found != before
            && !is_cut
        {
            let problem = "first batch does not continue the segment before".to_owned();
            return Err((Fault::DigestMismatch, problem));
        }
        let (fields, end) = (&header.fields, &self.end);
        if fields.prev_chain != end.chain || fields.base_sequence != end.next_sequence {
            let problem = format!(
                "batch of sequence {} does not continue sequence {}",
                fields.base_sequence, end.next_sequence
            );
            return Err((Fault::DigestMismatch, problem));
        }
        if !header.is_gap() {
            self.pending.clear();
            self.body = Some(Body {
                header,
                left_bytes: header.body.bytes as usize,
                crc: Crc32c::default(),
                lengths_seen: 0,
                length: Vec::new(),
                record_left: 0,
            });
        } else if self.pending.len() == header.batch_bytes() {
            let batch = record_batch::decode(&self.pending, seed).map_err(damaged)?;
            self.end.chain = batch.chain();
            self.end.next_sequence = batch.end_sequence();
            self.pending.clear();
        }
        Ok(())
    }

    fn end_of_body(&mut self) -> Walked {
        let Some(body) = self.body.take() else {
            return Ok(());
        };
        let Header {
            fields,
            body: summary,
            chain,
            ..
        } = body.header;
        let sequence = fields.base_sequence;
        if body.crc.finish() != summary.crc {
            let problem = format!("batch of sequence {sequence} has another checksum");
            return Err((Fault::DigestMismatch, problem));
        }
        let is_filled = body.length.is_empty() && body.record_left == 0;
        if !is_filled || body.lengths_seen != summary.count {
            let problem = format!(
                "batch of sequence {sequence} does not hold {} whole records",
                summary.count
            );
            return Err((Fault::Undecodable, problem));
        }
        self.end.chain = chain;
        self.end.next_sequence = sequence + u64::from(summary.count);
        self.end.records += u64::from(summary.count);
        Ok(())
    }

    /// Behind the last byte.
    pub fn end(&self) -> Result<End, (Fault, String)> {
        match self.pending.is_empty() && self.body.is_none() && self.seed.is_some() {
            true => Ok(self.end),
            false => Err((Fault::Undecodable, "object ends inside a batch".to_owned())),
        }
    }
}

impl Body {
    /// At most what is left of it.
    fn push(&mut self, mut bytes: &[u8]) {
        self.crc.update(bytes);
        self.left_bytes -= bytes.len();
        while !bytes.is_empty() {
            if self.record_left > 0 {
                let skipped = self.record_left.min(bytes.len());
                self.record_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let (part, rest) = bytes.split_at((4 - self.length.len()).min(bytes.len()));
            self.length.extend_from_slice(part);
            bytes = rest;
            if let Ok(length) = <[u8; 4]>::try_from(&self.length[..]) {
                self.record_left = u32::from_le_bytes(length) as usize;
                self.lengths_seen += 1;
                self.length.clear();
            }
        }
    }
}

fn damaged(damage: Damage) -> (Fault, String) {
    (fault_of(&damage), damage.to_string())
}

#[cfg(test)]
mod tests {
    use aof2_format::checksum::{Salt, crc64nvme};
    use aof2_format::record_batch::{Fields, GapReason};
    use aof2_format::snapshot::{Crc64, SnapshotId};
    use aof2_format::{ClusterId, FORMAT_VERSION, StreamName, StreamUuid};

    use super::*;

    const SALT: Salt = Salt(0x5eed);

    /// Batches of segment 3, from sequence 10, behind a segment whose chain is 77.
    struct Made {
        bytes: Vec<u8>,
        chain: u32,
        next: u64,
    }

    impl Made {
        fn new(prev_chain: u32) -> Made {
            let header = SegmentHeader {
                cluster_id: ClusterId([1; 16]),
                stream: StreamName::new("orders").expect("a name"),
                stream_uuid: StreamUuid([2; 16]),
                stream_salt: SALT,
                segment_id: 3,
                epoch: 1,
                base_sequence: 10,
                created_unix_nanos: 1,
                prev_chain,
            };
            Made {
                bytes: header.encode().to_vec(),
                chain: prev_chain,
                next: 10,
            }
        }

        fn fields(&self) -> Fields {
            Fields {
                base_sequence: self.next,
                epoch: 1,
                prev_chain: self.chain,
                ..Fields::default()
            }
        }

        fn with(mut self, records: &[&[u8]]) -> Made {
            let (fields, seed) = (self.fields(), Seed::new(SALT));
            let records = records.iter().copied();
            let chain = record_batch::encode(&mut self.bytes, &fields, records.clone(), seed);
            self.chain = chain.expect("fits");
            self.next += records.count() as u64;
            self
        }

        fn with_gap(mut self, end: u64) -> Made {
            let (fields, seed) = (self.fields(), Seed::new(SALT));
            let reason = GapReason::LossWindow;
            self.chain = record_batch::encode_gap(&mut self.bytes, &fields, end, reason, seed);
            self.next = end;
            self
        }
    }

    /// Walks in pieces of this size.
    fn walk(bytes: &[u8], piece: usize) -> Result<End, (Fault, String)> {
        let segment = CatalogueSegment {
            segment_id: 3,
            epoch: 1,
            base_sequence: 10,
            records: 0,
            bytes: bytes.len() as u64,
            crc64: Crc64(crc64nvme(bytes)),
            key: "k".into(),
            etag: "e".into(),
            object_bytes: 0,
            object_crc64: None,
        };
        let catalogue = Catalogue {
            format_version: FORMAT_VERSION,
            cluster_id: ClusterId([1; 16]),
            stream: StreamName::new("orders").expect("a name"),
            stream_uuid: StreamUuid([2; 16]),
            snapshot_id: SnapshotId::new(1, 1),
            request: String::new(),
            epoch: 1,
            chunk_index: 0,
            chunk_offset: 0,
            durable_sequence: 0,
            start_sequence: 0,
            uploaded_sequence: 0,
            created_at: String::new(),
            segments: Vec::new(),
            chunks: Vec::new(),
        };
        let mut walk = Walk::new(&catalogue, &segment, Some(77));
        for piece in bytes.chunks(piece) {
            walk.push(piece)?;
        }
        walk.end()
    }

    #[test]
    fn batches_and_gaps_are_walked_whatever_the_pieces_are() {
        let made = Made::new(77).with(&[b"a", b"", b"ccc"]).with_gap(40);
        let made = made.with(&[&[7; 9000]]).with(&[b""]);
        let expected = End {
            chain: made.chain,
            next_sequence: 42,
            records: 5,
        };
        for piece in [1, 3, 71, 72, 4096, made.bytes.len()] {
            assert_eq!(walk(&made.bytes, piece), Ok(expected), "{piece}");
        }
        let empty = walk(&Made::new(77).bytes, 100).expect("no batch is no fault");
        assert_eq!((empty.chain, empty.records), (77, 0));
    }

    #[test]
    fn what_is_whole_by_itself_and_does_not_follow_is_found() {
        let first = || Made::new(77).with(&[b"a", b"b"]);
        let mut skips = first();
        skips.next += 1;
        let mut forks = first();
        forks.chain ^= 1;
        for (made, problem) in [
            (
                skips.with(&[b"c"]),
                "batch of sequence 13 does not continue sequence 12",
            ),
            (
                forks.with(&[b"c"]),
                "batch of sequence 12 does not continue",
            ),
            (
                Made::new(78).with(&[b"a"]),
                "does not continue the segment before",
            ),
        ] {
            let (fault, found) = walk(&made.bytes, 50).expect_err(problem);
            assert_eq!(fault, Fault::DigestMismatch);
            assert!(found.contains(problem), "{found}");
        }
        // What was cut off a damaged stream.
        let cut = Made::new(0).with_gap(20).with(&[b"a"]);
        assert_eq!(walk(&cut.bytes, 50).expect("a cut").next_sequence, 21);
        let whole = first().bytes;
        let (fault, found) = walk(&whole[..whole.len() - 1], 50).expect_err("cut off");
        assert_eq!(
            (fault, found.as_str()),
            (Fault::Undecodable, "object ends inside a batch")
        );
    }

    #[test]
    fn a_body_whose_checksum_is_right_holds_whole_records() {
        let body = |bytes: &[u8], count| {
            let mut made = Made::new(77);
            let mut crc = Crc32c::default();
            crc.update(bytes);
            let summary = record_batch::BodySummary {
                bytes: bytes.len() as u32,
                count,
                crc: crc.finish(),
            };
            let mut head = [0; HEADER_BYTES];
            record_batch::encode_header(&mut head, &made.fields(), &summary, Seed::new(SALT));
            made.bytes.extend_from_slice(&head);
            made.bytes.extend_from_slice(bytes);
            walk(&made.bytes, 5)
        };
        assert_eq!(body(&[1, 0, 0, 0, 9], 1).expect("one record").records, 1);
        for (bytes, count) in [
            (&[2, 0, 0, 0, 9][..], 1),
            (&[1, 0, 0, 0, 9, 0, 0, 0], 1),
            (&[0, 0, 0, 0, 0, 0, 0, 0], 1),
        ] {
            let (fault, found) = body(bytes, count).expect_err("no whole records");
            assert_eq!(fault, Fault::Undecodable, "{found}");
        }
    }
}
