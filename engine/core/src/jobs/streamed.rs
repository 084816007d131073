//! A warm file that is never on a disk: its frames are made again whenever they are read. So a segment goes to Tier 2 where its own
//! volume has no room for the file, which is what lets a full volume be drained.

use std::io;
use std::ops::Range;

use aof2_format::checksum::Crc64Nvme;

use super::compress::{CompressError, CompressOptions, Part, encode};
use super::warm::WarmFacts;
use crate::io::sync::Mutex;
use crate::objects::Source;
use crate::port::{SealedBytes, SealedSegment};

/// One frame at a time is in memory.
pub struct Streamed {
    bytes: SealedBytes,
    level: i32,
    head: Vec<u8>,
    frames: Vec<Frame>,
    tail: Vec<u8>,
    size_bytes: u64,
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

struct Frame {
    /// In the segment.
    block: Range<usize>,
    /// In the warm file.
    offset: u64,
    length: usize,
}

impl Streamed {
    /// Compresses the segment once, to learn where its frames lie and what the file as a whole is.
    pub fn new(
        segment: &SealedSegment,
        bytes: SealedBytes,
        options: CompressOptions,
    ) -> Result<(Streamed, WarmFacts), CompressError> {
        let mut whole = Crc64Nvme::default();
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let mut frames = Vec::new();
        let mut size_bytes = 0;
        encode(segment, &bytes, options, &mut |part| {
            whole.update(part.bytes());
            match &part {
                Part::Head(bytes) => head = bytes.to_vec(),
                Part::Frame(block, bytes) => frames.push(Frame {
                    block: block.clone(),
                    offset: size_bytes,
                    length: bytes.len(),
                }),
                Part::Tail(bytes) => tail = bytes.to_vec(),
            }
            size_bytes += part.bytes().len() as u64;
            Ok(())
        })?;
        let facts = WarmFacts {
            size_bytes,
            crc64nvme: whole.finish(),
        };
        let streamed = Streamed {
            bytes,
            level: options.level,
            head,
            frames,
            tail,
            size_bytes,
            last: Mutex::new(None),
        };
        Ok((streamed, facts))
    }

    /// Copies what lies at `offset`, up to the end of the part that it is in. Answers how much that is.
    fn copy(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let tail_at = self.size_bytes - self.tail.len() as u64;
        if offset < self.head.len() as u64 {
            return Ok(copy_from(&self.head, offset, buffer));
        }
        if offset >= tail_at {
            return Ok(copy_from(&self.tail, offset - tail_at, buffer));
        }
        let behind = self.frames.partition_point(|frame| frame.offset <= offset);
        let Some(index) = behind.checked_sub(1) else {
            return Ok(0);
        };
        let frame = &self.frames[index];
        let mut last = self.last.lock();
        let is_at_hand = last.as_ref().is_some_and(|(known, _)| *known == index);
        if !is_at_hand {
            let mut compressor = zstd::bulk::Compressor::new(self.level)?;
            let made = compressor.compress(&self.bytes[frame.block.clone()])?;
            if made.len() != frame.length {
                return Err(io::Error::other("a frame has another length than before"));
            }
            *last = Some((index, made));
        }
        let bytes = last.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        Ok(copy_from(bytes, offset - frame.offset, buffer))
    }
}

fn copy_from(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    let taken = rest.len().min(buffer.len());
    buffer[..taken].copy_from_slice(&rest[..taken]);
    taken
}

impl Source for Streamed {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.copy(offset + done as u64, &mut buffer[done..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                copied => done += copied,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SystemDisk;
    use crate::jobs::compress::{compress, warm_path};
    use crate::jobs::warm::verify;
    use crate::port::Port;
    use crate::tier::testing::ModelPort;

    #[test]
    fn what_is_streamed_is_the_file_that_would_have_been_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let port = ModelPort::new(folder.path());
        for record in 0..900 {
            port.append(
                "s",
                format!("record {record} {}", "abc".repeat(record % 90)).as_bytes(),
            );
        }
        port.seal(None).expect("sealed");
        let (segment, _) = port.segment("s", 1);
        let bytes = port.segment_bytes("s", 1).expect("its bytes");
        let options = CompressOptions {
            level: 3,
            block_bytes: 4096,
        };
        let path = warm_path(folder.path(), &segment).expect("a path");
        let expected = compress(&SystemDisk, &path, &segment, &bytes, options);
        let expected = expected.expect("compressed");
        let file = std::fs::read(&path).expect("there");

        let (streamed, facts) = Streamed::new(&segment, bytes, options).expect("compressed");
        assert!(streamed.frames.len() > 5);
        assert_eq!(facts, expected);
        for piece in [1, 100, 5_000, file.len()] {
            let mut at = 0;
            while at < file.len() {
                let end = (at + piece).min(file.len());
                let mut buffer = vec![0; end - at];
                streamed.read_at(at as u64, &mut buffer).expect("read");
                assert_eq!(buffer, file[at..end], "{at}..{end}");
                at = end;
            }
        }
        let beyond = streamed.read_at(file.len() as u64 - 1, &mut [0; 2]);
        assert!(beyond.is_err());
        assert_eq!(verify(&streamed, "it", &segment).expect("whole"), facts);
    }
}
