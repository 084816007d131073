use std::fs::File;
use std::io;
use std::ops::Deref;

/// Immutable bytes of a sealed file. A file is never shrunk or overwritten while it is mapped; unlinking it is fine.
#[derive(Debug)]
pub struct Map {
    bytes: Held,
}

#[derive(Debug)]
enum Held {
    Mapped(memmap2::Mmap),
    /// Nothing, or what a disk in memory copied out.
    Owned(Vec<u8>),
}

/// For disks of tests that keep their files in memory.
impl From<Vec<u8>> for Map {
    fn from(bytes: Vec<u8>) -> Map {
        Map {
            bytes: Held::Owned(bytes),
        }
    }
}

impl Map {
    pub(super) fn of(file: &File, length: u64) -> io::Result<Map> {
        let there = file.metadata()?.len();
        if there < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("file holds {there} of {length} bytes"),
            ));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(Map::from(Vec::new()));
        }
        // SAFETY: the store maps sealed files only; nothing in it writes to or truncates a sealed file, and the directory
        // lock keeps other processes of ours out.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file)? };
        Ok(Map {
            bytes: Held::Mapped(map),
        })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Held::Mapped(map) => map,
            Held::Owned(bytes) => bytes,
        }
    }
}
