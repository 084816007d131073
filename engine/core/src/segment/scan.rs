//! Walks the batches of a segment that is not sealed, as recovery finds it: each verified by itself and as the successor of
//! the one before.

use std::io;

use aof2_format::record_batch::{self, HEADER_BYTES, MAX_BATCH_BYTES, RecordBatch};
use aof2_format::{BLOCK_BYTES, Damage, Seed};

use crate::io::DiskFile;

const READ_BYTES: usize = 4 << 20;

/// Where the unbroken run of batches ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// Offset behind the last batch of the run.
    pub offset: u64,
    pub next_sequence: u64,
    pub chain: u32,
    pub records: u64,
    /// Greatest `durable_upto` seen.
    pub durable_upto: u64,
    /// Why the run ends, unless it ends with the file or with bytes that were never written.
    pub stopped_by: Option<String>,
}

/// Where to begin: behind what is known to be good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanStart {
    pub offset: u64,
    pub next_sequence: u64,
    pub chain: u32,
}

/// Calls `on_batch` for each batch of the run with its offset.
pub(crate) fn scan(
    file: &dyn DiskFile,
    seed: Seed,
    start: ScanStart,
    mut on_batch: impl FnMut(&RecordBatch<'_>, u64),
) -> io::Result<ScanEnd> {
    let mut window = Window::new(file, start.offset)?;
    let ScanStart {
        offset,
        next_sequence,
        chain,
    } = start;
    let mut end = ScanEnd {
        offset,
        next_sequence,
        chain,
        records: 0,
        durable_upto: 0,
        stopped_by: None,
    };
    loop {
        window.fill_batch(seed)?;
        let batch = match record_batch::decode(window.bytes(), seed) {
            Ok(batch) => batch,
            Err(damage) => {
                let is_end = window
                    .bytes()
                    .iter()
                    .take(HEADER_BYTES)
                    .all(|byte| *byte == 0);
                end.stopped_by = (!is_end).then(|| damage.to_string());
                return Ok(end);
            }
        };
        let fields = batch.fields();
        if fields.prev_chain != end.chain || fields.base_sequence != end.next_sequence {
            end.stopped_by = Some(format!(
                "batch at sequence {} does not follow sequence {}",
                fields.base_sequence, end.next_sequence
            ));
            return Ok(end);
        }
        on_batch(&batch, end.offset);
        let bytes = batch.batch_bytes();
        end.chain = batch.chain();
        end.next_sequence = batch.end_sequence();
        end.records += u64::from(batch.count());
        end.durable_upto = end.durable_upto.max(fields.durable_upto);
        end.offset += bytes as u64;
        window.advance(bytes);
    }
}

/// Greatest `durable_upto` of any batch header that verifies behind `offset`: what is left of bytes behind a hole tells whether
/// the hole had been acknowledged.
pub(crate) fn durable_upto_behind(
    file: &dyn DiskFile,
    seed: Seed,
    offset: u64,
) -> io::Result<Option<u64>> {
    let magic = record_batch::MAGIC.to_le_bytes();
    let mut found: Option<u64> = None;
    let mut window = Window::new(file, offset)?;
    loop {
        let bytes = window.bytes();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
            match rest.iter().position(|byte| *byte == magic[0]) {
                Some(skip) if rest.len() - skip >= HEADER_BYTES => {
                    at += skip;
                    let candidate = &rest[skip..];
                    if candidate[..4] == magic
                        && let Ok(header) = record_batch::decode_header(candidate, seed)
                    {
                        found = found.max(Some(header.fields.durable_upto));
                    }
                    at += 1;
                }
                Some(skip) => {
                    at += skip;
                    break;
                }
                None => {
                    at = bytes.len();
                    break;
                }
            }
        }
        let kept = bytes.len().saturating_sub(at).min(HEADER_BYTES);
        window.advance(bytes.len() - kept);
        if !window.extend()? {
            return Ok(found);
        }
    }
}

/// End of the last byte behind `offset` that is not zero.
pub(crate) fn end_of_written(file: &dyn DiskFile, offset: u64) -> io::Result<Option<u64>> {
    let length = file.len()?;
    let mut end = None;
    let mut at = offset;
    let mut buffer = vec![0; READ_BYTES.min(length.saturating_sub(offset) as usize)];
    while at < length && !buffer.is_empty() {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            break;
        }
        if let Some(last) = last_written(&buffer[..read]) {
            end = Some(at + last as u64 + 1);
        }
        at += read as u64;
    }
    Ok(end)
}

/// Index of the last byte that is not zero. Most of what it is asked about was never written, so whole blocks are compared first.
pub(crate) fn last_written(bytes: &[u8]) -> Option<usize> {
    const ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let mut blocks = bytes.chunks(BLOCK_BYTES);
    let block = blocks.rposition(|block| block != &ZEROES[..block.len()])?;
    let start = block * BLOCK_BYTES;
    let end = (start + BLOCK_BYTES).min(bytes.len());
    let last = bytes[start..end].iter().rposition(|byte| *byte != 0)?;
    Some(start + last)
}

/// A part of a file in memory that moves forward.
struct Window<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    at: usize,
    /// Offset in the file behind the buffer.
    read_to: u64,
    length: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn DiskFile, offset: u64) -> io::Result<Window<'a>> {
        Ok(Window {
            file,
            buffer: Vec::new(),
            at: 0,
            read_to: offset,
            length: file.len()?,
        })
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Reads on until the batch at the front is whole, or the file ends.
    fn fill_batch(&mut self, seed: Seed) -> io::Result<()> {
        loop {
            let have = self.bytes().len();
            let need = match record_batch::decode_header(self.bytes(), seed) {
                Ok(header) => header.batch_bytes(),
                Err(Damage::Short { .. }) => have + 1,
                Err(_) => return Ok(()),
            };
            if have >= need || !self.extend()? {
                return Ok(());
            }
        }
    }

    /// Reads more behind what there is. False at the end of the file, or when there is more than any batch takes.
    fn extend(&mut self) -> io::Result<bool> {
        if self.read_to >= self.length || self.bytes().len() > MAX_BATCH_BYTES {
            return Ok(false);
        }
        let more = READ_BYTES.min((self.length - self.read_to) as usize);
        let before = self.bytes().len();
        let mut buffer = vec![0; before + more];
        buffer[..before].copy_from_slice(self.bytes());
        self.buffer = buffer;
        self.at = 0;
        let read = self
            .file
            .read_at(&mut self.buffer[before..], self.read_to)?;
        self.buffer.truncate(before + read);
        self.read_to += read as u64;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::Salt;
    use aof2_format::record_batch::Fields;

    use super::*;
    use crate::io::{Disk, FileClass, SystemDisk};

    const SALT: Salt = Salt(7);

    fn batch(bytes: &mut Vec<u8>, base_sequence: u64, prev_chain: u32) -> u32 {
        let fields = Fields {
            base_sequence,
            prev_chain,
            ..Fields::default()
        };
        let payloads = [&b"payload"[..]];
        record_batch::encode(bytes, &fields, payloads, Seed::new(SALT)).expect("it is small");
        let last = record_batch::HEADER_BYTES + record_batch::RECORD_OVERHEAD_BYTES + 7;
        let start = bytes.len() - last;
        let batch = record_batch::decode(&bytes[start..], Seed::new(SALT));
        batch.expect("just written").chain()
    }

    fn scanned(bytes: &[u8]) -> (u64, ScanEnd) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("segment");
        let file = SystemDisk.create(&path, FileClass::Segment);
        let file = file.expect("a file");
        file.allocate(0, 64 << 10).expect("allocated");
        file.write_all_at(bytes, 0).expect("written");
        let start = ScanStart {
            offset: 0,
            next_sequence: 0,
            chain: 5,
        };
        let mut told = 0;
        let end = scan(&*file, Seed::new(SALT), start, |_, _| told += 1).expect("read");
        (told, end)
    }

    /// Each batch below is whole, of this stream, and stands at its offset.
    #[test]
    fn a_batch_counts_only_behind_its_own_predecessor() {
        let mut bytes = Vec::new();
        let first = batch(&mut bytes, 0, 5);
        let end = bytes.len() as u64;
        let mut whole = bytes.clone();
        batch(&mut whole, 1, first);
        let (told, found) = scanned(&whole);
        assert_eq!((told, found.next_sequence), (2, 2));
        assert_eq!(found.stopped_by, None);

        // From another history of the stream; of another place in this one; the first one of another segment.
        for (history, sequence, chain) in [("other", 1, first ^ 1), ("later", 2, first)] {
            let mut bytes = bytes.clone();
            batch(&mut bytes, sequence, chain);
            let (told, found) = scanned(&bytes);
            assert_eq!((told, found.next_sequence, found.offset), (1, 1, end));
            let why = found.stopped_by.expect("it says why");
            assert!(why.contains("does not follow"), "{history}: {why}");
        }
        let mut alone = Vec::new();
        batch(&mut alone, 0, 6);
        let (told, found) = scanned(&alone);
        assert_eq!((told, found.offset), (0, 0));
        assert!(found.stopped_by.is_some());
    }

    #[test]
    fn the_last_byte_that_was_written_is_found_across_blocks() {
        let mut bytes = vec![0; 3 * BLOCK_BYTES + 17];
        assert_eq!(last_written(&bytes), None);
        for at in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            3 * BLOCK_BYTES,
            3 * BLOCK_BYTES + 16,
        ] {
            bytes[at] = 1;
            assert_eq!(last_written(&bytes), Some(at));
        }
        assert_eq!(last_written(&[]), None);
    }
}
