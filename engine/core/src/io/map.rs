use std::fs::File;
use std::io;
use std::ops::Deref;

/// Immutable bytes of a sealed file. A file is never shrunk or overwritten while it is mapped; unlinking it is fine.
#[derive(Debug)]
pub struct Map {
    map: Option<memmap2::Mmap>,
    length: usize,
}

impl Map {
    pub(super) fn of(file: &File, length: u64) -> io::Result<Map> {
        let there = file.metadata()?.len();
        if there < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("file holds {there} bytes, {length} are needed"),
            ));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if length == 0 {
            return Ok(Map { map: None, length });
        }
        // SAFETY: the store maps sealed files only; nothing in it writes to or truncates a sealed file, and the directory
        // lock keeps other processes of ours out.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file)? };
        Ok(Map {
            map: Some(map),
            length,
        })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.map {
            Some(map) => &map[..self.length],
            None => &[],
        }
    }
}
