//! The checksum of what lies in a segment's file.

use std::io;

use aof2_format::checksum::Crc64Nvme;

use crate::io::DiskFile;

const READ_BYTES: usize = 1 << 20;

/// CRC-64/NVME of the first `end` bytes, read again. An error where the file ends before.
pub(crate) fn crc64_of(file: &dyn DiskFile, end: u64) -> io::Result<u64> {
    let mut crc = Crc64Nvme::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < end {
        let part = READ_BYTES.min((end - offset) as usize);
        if file.read_at(&mut buffer[..part], offset)? < part {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        crc.update(&buffer[..part]);
        offset += part as u64;
    }
    Ok(crc.finish())
}
