//! What an object says about itself: its name of a write, and proofs of its bytes.
//!
//! Where the store keeps no CRC-64/NVME, the metadata hold what the writer sent, and the ETag is what the store made of what it got. Only
//! where that is the MD5 of the metadata does the CRC-64 beside it count.

use std::collections::HashMap;
use std::io;

use aof2_core::objects::{Crc64Nvme, ObjectMeta, Source};
use md5::{Digest, Md5};

/// Names in the object's user metadata.
pub(crate) const PUT_ID: &str = "aof2-put-id";
pub(crate) const MD5: &str = "aof2-md5";
pub(crate) const CRC64: &str = "aof2-crc64nvme";

/// As an answer to GET or HEAD tells it.
pub(crate) fn meta(
    content_length: Option<i64>,
    etag: Option<&str>,
    crc64nvme: Option<&str>,
    metadata: Option<&HashMap<String, String>>,
) -> ObjectMeta {
    let etag = etag.unwrap_or_default().to_owned();
    let crc64nvme = crc64nvme
        .and_then(decode_crc64)
        .or_else(|| proven(&etag, metadata));
    ObjectMeta {
        size_bytes: content_length.unwrap_or_default().try_into().unwrap_or(0),
        crc64nvme,
        put_id: metadata.and_then(|it| it.get(PUT_ID)).cloned(),
        etag,
    }
}

fn proven(etag: &str, metadata: Option<&HashMap<String, String>>) -> Option<u64> {
    let metadata = metadata?;
    let sent = metadata.get(MD5)?;
    let is_kept = etag.trim_matches('"').eq_ignore_ascii_case(sent);
    is_kept
        .then(|| u64::from_str_radix(metadata.get(CRC64)?, 16).ok())
        .flatten()
}

/// MD5 and CRC-64/NVME. Reads the whole source.
pub(crate) fn digests_of(source: &dyn Source) -> io::Result<([u8; 16], u64)> {
    const PIECE_BYTES: u64 = 1 << 20;
    let size_bytes = source.size_bytes();
    let mut piece = vec![0; PIECE_BYTES.min(size_bytes) as usize];
    let (mut md5, mut crc) = (Md5::new(), Crc64Nvme::default());
    let mut offset = 0;
    while offset < size_bytes {
        let part = &mut piece[..PIECE_BYTES.min(size_bytes - offset) as usize];
        source.read_at(offset, part)?;
        md5.update(&*part);
        crc.update(part);
        offset += part.len() as u64;
    }
    Ok((md5.finalize().into(), crc.finish()))
}

pub(crate) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// As S3 writes it: base64 of the big-endian bytes.
pub(crate) fn encode_crc64(crc: u64) -> String {
    aws_smithy_types::base64::encode(crc.to_be_bytes())
}

fn decode_crc64(text: &str) -> Option<u64> {
    let bytes: [u8; 8] = aws_smithy_types::base64::decode(text)
        .ok()?
        .try_into()
        .ok()?;
    Some(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_crc_in_the_metadata_counts_only_where_the_store_itself_found_the_same_bytes() {
        let (md5, crc) = digests_of(&Bytes::from_static(b"abc")).expect("read");
        assert_eq!(crc, aof2_core::objects::crc64nvme(b"abc"));
        assert_eq!(hex(md5), "900150983cd24fb0d6963f7d28e17f72");
        let metadata: HashMap<String, String> = [
            (MD5.to_owned(), hex(md5)),
            (CRC64.to_owned(), format!("{:016x}", 7)),
        ]
        .into();
        let crc_of = |etag: &str| meta(Some(3), Some(etag), None, Some(&metadata)).crc64nvme;
        assert_eq!(crc_of("\"900150983cd24fb0d6963f7d28e17f72\""), Some(7));
        assert_eq!(crc_of("\"900150983cd24fb0d6963f7d28e17f73\""), None);
        assert_eq!(crc_of("\"900150983cd24fb0d6963f7d28e17f72-2\""), None);
        let kept = meta(Some(3), None, Some(&encode_crc64(9)), Some(&metadata));
        assert_eq!(kept.crc64nvme, Some(9));
    }
}
