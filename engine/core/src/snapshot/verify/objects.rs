//! L0: everything that the catalogue names is there, and a part of it can be read.

use aof2_format::manifest_chunk::{DATA_OFFSET, ManifestChunkHeader};
use aof2_format::snapshot::{Catalogue, CatalogueChunk, CatalogueSegment, Crc64};
use aof2_format::warm::{FOOTER_BYTES, WarmFooter};

use super::{Fault, MISSING_NAMED, Read, Reader, Verdict, missing};
use crate::io::in_parallel;
use crate::io::sync::Mutex;
use crate::objects::ObjectError;

/// Objects asked for at a time.
const READERS: usize = 8;

/// What an object has to have.
struct Expected<'a> {
    key: &'a str,
    bytes: u64,
    crc64: Option<Crc64>,
    /// Of the upload; `None` where nobody noted it.
    etag: Option<&'a str>,
    content: Content<'a>,
}

enum Content<'a> {
    Segment(&'a CatalogueSegment),
    Chunk(&'a CatalogueChunk),
}

pub(super) fn check(
    reader: &Reader<'_>,
    catalogue: &Catalogue,
    mut verdict: Verdict,
) -> Result<Verdict, ObjectError> {
    let segments = catalogue.segments.iter().map(|it| Expected {
        key: &it.key,
        bytes: it.object_bytes,
        crc64: it.object_crc64,
        etag: Some(&it.etag),
        content: Content::Segment(it),
    });
    let chunks = catalogue.chunks.iter().map(|it| Expected {
        key: &it.key,
        bytes: it.bytes,
        crc64: Some(it.crc64),
        etag: None,
        content: Content::Chunk(it),
    });
    let expected: Vec<Expected<'_>> = segments.chain(chunks).collect();
    let found = ask_for_all(reader, &expected)?;
    verdict.objects_checked += expected.len() as u64;
    // In the catalogue's order, whatever the order of the answers was.
    for (object, fault) in expected.iter().zip(found) {
        let Some((fault, message)) = fault else {
            continue;
        };
        if fault == Fault::ObjectMissing && verdict.missing.len() < MISSING_NAMED {
            verdict.missing.push(object.key.to_owned());
        }
        verdict = verdict.faulty(fault, message);
    }
    Ok(verdict)
}

type Found = Option<(Fault, String)>;

fn ask_for_all(reader: &Reader<'_>, expected: &[Expected<'_>]) -> Result<Vec<Found>, ObjectError> {
    let found: Mutex<Vec<Found>> = Mutex::new(vec![None; expected.len()]);
    in_parallel(READERS, expected.len(), |index| {
        let fault = inspect(reader, &expected[index])?;
        found.lock()[index] = fault;
        Ok(())
    })?;
    Ok(found.into_inner())
}

fn inspect(reader: &Reader<'_>, expected: &Expected<'_>) -> Result<Found, ObjectError> {
    let Expected {
        key,
        bytes,
        crc64,
        etag,
        ref content,
    } = *expected;
    let Some(meta) = reader.retried(|store| store.head(key))? else {
        return Ok(Some((Fault::ObjectMissing, missing(key))));
    };
    if meta.size_bytes != bytes {
        let message = format!(
            "object {key} has {} bytes, written were {bytes}",
            meta.size_bytes
        );
        return Ok(Some((Fault::SizeMismatch, message)));
    }
    let difference = match (meta.crc64nvme, crc64, etag) {
        (Some(kept), Some(Crc64(written)), _) => (kept != written)
            .then(|| format!("object {key} has checksum {kept:016x}, written was {written:016x}")),
        // The etag of a copy with the same bytes may differ, so it is asked only where there is no checksum.
        (_, _, Some(etag)) => {
            let kept = &meta.etag;
            (kept != etag)
                .then(|| format!("object {key} was overwritten (ETag {kept}, written {etag})"))
        }
        // A chunk in such a store: L1 reads it.
        (_, _, None) => None,
    };
    match difference {
        Some(message) => Ok(Some((Fault::DigestMismatch, message))),
        None => read_a_part(reader, key, bytes, content),
    }
}

/// Of a segment its end, which says all that the catalogue says of it; of a chunk its beginning.
fn read_a_part(
    reader: &Reader<'_>,
    key: &str,
    bytes: u64,
    content: &Content<'_>,
) -> Result<Found, ObjectError> {
    let (offset, length) = match content {
        Content::Segment(_) => {
            let footer_bytes = bytes.min(FOOTER_BYTES as u64);
            (bytes - footer_bytes, footer_bytes)
        }
        Content::Chunk(_) => (0, bytes.min(DATA_OFFSET)),
    };
    let part = match reader.get_range(key, offset, length)? {
        Read::Bytes(part) => part,
        Read::Missing => return Ok(Some((Fault::ObjectMissing, missing(key)))),
        Read::Faulty(fault, message) => return Ok(Some((fault, message))),
    };
    let differs = match content {
        Content::Segment(segment) => match WarmFooter::decode(&part, bytes) {
            Ok(footer) => footer_differs(&footer, segment),
            Err(damage) => Some(damage.to_string()),
        },
        Content::Chunk(chunk) => match ManifestChunkHeader::decode(&part) {
            Ok(header) if header.chunk == chunk.index => None,
            Ok(header) => Some(format!("chunk {} found", header.chunk)),
            Err(damage) => Some(damage.to_string()),
        },
    };
    Ok(differs.map(|problem| {
        let message = format!("object {key} has other content ({problem})");
        (Fault::DigestMismatch, message)
    }))
}

pub(super) fn footer_differs(footer: &WarmFooter, segment: &CatalogueSegment) -> Option<String> {
    let is_same = footer.segment_id == segment.segment_id
        && footer.epoch == segment.epoch
        && footer.base_sequence == segment.base_sequence
        && Some(footer.end_sequence) == segment.end_sequence()
        && footer.uncompressed_bytes == segment.bytes
        && footer.crc64 == segment.crc64.0;
    (!is_same).then(|| {
        format!(
            "segment {} from sequence {} found",
            footer.segment_id, footer.base_sequence
        )
    })
}
