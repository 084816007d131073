//! Torn tails: half of a commit behind the journal's last one, half of a batch behind a segment's last one. Neither was ever
//! acknowledged, so recovery must not mind.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aof2_format::journal::{
    self, COMMIT_HEADER_BYTES, CommitFields, FIRST_COMMIT_OFFSET, FrameHeader, JournalHeader,
    encode_frame, seal_commit,
};
use aof2_format::names::file;
use aof2_format::record_batch::{self, Fields};
use aof2_format::segment::{DATA_OFFSET, SegmentHeader};
use aof2_format::{Seed, StreamNumber};

use crate::Dice;

/// Tears the journal's tail and that of one open segment. Answers how many.
pub fn tear_tails(directory: &Path, dice: &mut Dice) -> u64 {
    let journal = u64::from(tear_journal(&directory.join(file::JOURNAL_DIR), dice));
    let segments = open_segments(&directory.join(file::STREAMS_DIR));
    let torn = segments.iter().any(|path| tear_segment(path, dice));
    journal + u64::from(torn)
}

fn read(path: &Path) -> (File, Vec<u8>) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    (file, std::fs::read(path).unwrap())
}

fn tear_journal(directory: &Path, dice: &mut Dice) -> bool {
    let newest = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            Some((
                JournalHeader::decode(&std::fs::read(&path).unwrap()).ok()?,
                path,
            ))
        })
        .max_by_key(|(header, _)| header.file_number);
    let Some((header, path)) = newest else {
        return false;
    };
    let (file, bytes) = read(&path);
    let seed = Seed::new(header.salt);
    let (mut offset, mut number, mut prev_crc) =
        (FIRST_COMMIT_OFFSET as usize, header.first_commit, 0);
    while let Ok(commit) = journal::decode_commit(&bytes[offset..], header.salt, seed) {
        offset += commit.padded_bytes();
        number = commit.fields.number + 1;
        prev_crc = commit.crc;
    }
    if offset + 3 * 4096 > bytes.len() {
        return false;
    }
    let mut commit = vec![0; COMMIT_HEADER_BYTES];
    let frame = FrameHeader::StreamBytes {
        stream: StreamNumber(1),
        segment_id: 1,
        position: 4096,
        base_sequence: 0,
    };
    encode_frame(&mut commit, &frame, &vec![0xA5; 8_000]);
    let fields = CommitFields {
        file_number: header.file_number,
        number,
        frame_count: 1,
        written_unix_nanos: 0,
        prev_crc,
    };
    seal_commit(&mut commit, &fields, header.salt, seed);
    let cut = 1 + dice.roll(commit.len() as u64 - 1) as usize;
    file.write_all_at(&commit[..cut], offset as u64).unwrap();
    true
}

/// Segments that are not sealed.
fn open_segments(streams: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    list(streams)
        .iter()
        .flat_map(|stream| list(&stream.join(file::SEGMENTS_DIR)))
        .collect()
}

fn tear_segment(path: &Path, dice: &mut Dice) -> bool {
    let (file, bytes) = read(path);
    let Ok(header) = SegmentHeader::decode(&bytes) else {
        return false;
    };
    let seed = Seed::new(header.stream_salt);
    let (mut offset, mut chain, mut sequence) = (
        DATA_OFFSET as usize,
        header.prev_chain,
        header.base_sequence,
    );
    while let Ok(batch) = record_batch::decode(&bytes[offset..], seed) {
        offset += batch.batch_bytes();
        chain = batch.chain();
        sequence = batch.end_sequence();
    }
    let is_unwritten = bytes[offset..].iter().take(8192).all(|byte| *byte == 0);
    if !is_unwritten || offset + 8192 > bytes.len() {
        // Sealed, or full.
        return false;
    }
    let mut batch = Vec::new();
    let fields = Fields {
        base_sequence: sequence,
        prev_chain: chain,
        epoch: header.epoch,
        ..Fields::default()
    };
    record_batch::encode(&mut batch, &fields, [&[0x5A; 2_000][..]], seed).unwrap();
    let cut = 1 + dice.roll(batch.len() as u64 - 1) as usize;
    file.write_all_at(&batch[..cut], offset as u64).unwrap();
    true
}
