//! What can be had of commits that were synced and do not verify.
//!
//! Headers of commits and frames have checksums of their own, and so have the bytes that frames carry. So a flipped byte costs at
//! most the frame that it is in, and it is known whose bytes that were. Where that is not known, nothing is given out.

use std::io;
use std::ops::Range;

use aof2_format::journal::{
    COMMIT_HEADER_BYTES, CommitHead, FRAME_HEADER_BYTES, decode_commit_head, decode_frame,
    padded_bytes,
};
use aof2_format::{Salt, Seed};

use super::scan::{Content, LONGEST_COMMIT_BYTES, Pieces};

/// Commits that are known to have been synced, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub first: u64,
    pub last: u64,
    /// A commit that verifies stands right behind them.
    pub is_followed: bool,
}

/// Every frame of the missing commits, which stand in the gap. `None`: some of them are unknown.
pub(crate) fn salvage(
    file: &mut Pieces<'_>,
    gap: Range<u64>,
    (salt, seed): (Salt, Seed),
    missing: Missing,
) -> io::Result<Option<Vec<Content>>> {
    let mut frames = Vec::new();
    let mut at = gap.start;
    for number in missing.first..=missing.last {
        let left = gap.end.saturating_sub(at);
        let head = decode_commit_head(up_to(file.get(at, COMMIT_HEADER_BYTES)?, left), salt, seed)
            .ok()
            .filter(|head| head.fields.number == number);
        let (bytes, count) = match head {
            Some(CommitHead { fields, bytes }) => (bytes, Some(fields.frame_count)),
            // Its frames end where the padding begins.
            None if missing.is_followed && number == missing.last => {
                (usize::try_from(left).unwrap_or(usize::MAX), None)
            }
            None => return Ok(None),
        };
        if bytes > LONGEST_COMMIT_BYTES {
            return Ok(None);
        }
        let whole = up_to(file.get(at, bytes)?, left).get(..bytes);
        let rest = whole.and_then(|whole| take_frames(whole, at, count, &mut frames));
        match (rest, count) {
            (Some([]), Some(_)) => at += padded_bytes(bytes) as u64,
            (Some(_), None) => at = gap.end,
            (Some(_), Some(_)) | (None, _) => return Ok(None),
        }
    }
    Ok((!missing.is_followed || at == gap.end).then_some(frames))
}

fn up_to(bytes: &[u8], left: u64) -> &[u8] {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    &bytes[..left.min(bytes.len())]
}

/// The frames behind a commit's header: so many, or as many as there are. Answers what stands behind them.
fn take_frames<'a>(
    commit: &'a [u8],
    at: u64,
    count: Option<u32>,
    frames: &mut Vec<Content>,
) -> Option<&'a [u8]> {
    let mut rest = commit.get(COMMIT_HEADER_BYTES..)?;
    let mut taken = 0;
    loop {
        let is_done = match count {
            Some(count) => taken == count,
            None => rest.iter().all(|byte| *byte == 0),
        };
        if is_done {
            return Some(rest);
        }
        let body_at = at + (commit.len() - rest.len() + FRAME_HEADER_BYTES) as u64;
        let (frame, behind) = decode_frame(rest).ok()?;
        frames.push(Content::of(&frame, body_at, false));
        rest = behind;
        taken += 1;
    }
}

#[cfg(test)]
mod tests {
    use aof2_format::journal::{
        CommitFields, FrameHeader, decode_commit, encode_frame, seal_commit,
    };
    use aof2_format::{BLOCK_BYTES, StreamNumber};

    use super::super::scan::FrameRef;
    use super::*;
    use crate::io::{Disk, FileClass, SystemDisk};

    const SALT: Salt = Salt(99);

    /// Frames of streams in the gap: where each one's body begins, its length and whose it is.
    fn frames_in(bytes: &[u8], gap: Range<u64>, missing: Missing) -> Option<Vec<FrameRef>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let file = SystemDisk
            .create(&path, FileClass::Journal)
            .expect("a file");
        file.write_all_at(bytes, 0).expect("written");
        let mut pieces = Pieces::new(&*file, file.len().expect("a length"));
        let found = salvage(&mut pieces, gap, (SALT, Seed::new(SALT)), missing);
        let frames = found.expect("it can be read")?.into_iter();
        Some(
            frames
                .map(|content| match content {
                    Content::Stream(frame) => frame,
                    other => panic!("{other:?}"),
                })
                .collect(),
        )
    }

    fn commit(number: u64, bodies: &[&[u8]]) -> Vec<u8> {
        let mut commit = vec![0; COMMIT_HEADER_BYTES];
        for (index, body) in bodies.iter().enumerate() {
            let header = FrameHeader::StreamBytes {
                stream: StreamNumber(index as u64),
                segment_id: 1,
                position: number * 10_000,
                base_sequence: 0,
            };
            encode_frame(&mut commit, &header, body);
        }
        let fields = CommitFields {
            file_number: 1,
            number,
            frame_count: bodies.len() as u32,
            written_unix_nanos: 0,
            prev_crc: 0,
        };
        seal_commit(&mut commit, &fields, SALT, Seed::new(SALT));
        commit.resize(padded_bytes(commit.len()), 0);
        commit
    }

    /// Two commits; which frames of which streams are found when this byte of the first is flipped.
    fn told(flip: usize) -> Option<Vec<(u64, bool)>> {
        let bodies: [&[u8]; 2] = [&[7; 5_000], &[8; 300]];
        let mut file = [commit(5, &bodies), commit(6, &[&[9; 10]])].concat();
        let to = file.len() - BLOCK_BYTES;
        file[flip] ^= 0x10;
        let seed = Seed::new(SALT);
        assert!(decode_commit(&file, SALT, seed).is_err());
        let missing = Missing {
            first: 5,
            last: 5,
            is_followed: true,
        };
        let found = frames_in(&file, 0..to as u64, missing)?;
        let frames = found.into_iter().map(|frame| {
            assert!(!frame.is_proven);
            let at = frame.at as usize;
            let bytes = &file[at..at + frame.length];
            (frame.stream.0, bytes == bodies[frame.stream.0 as usize])
        });
        Some(frames.collect())
    }

    #[test]
    fn a_flipped_byte_costs_the_frame_that_it_is_in_or_is_not_told_at_all() {
        let first_body = COMMIT_HEADER_BYTES + FRAME_HEADER_BYTES;
        let second = first_body + 5_000;
        for flip in 0..COMMIT_HEADER_BYTES {
            assert_eq!(
                told(flip),
                Some(vec![(0, true), (1, true)]),
                "header byte {flip}"
            );
        }
        for flip in COMMIT_HEADER_BYTES..first_body {
            assert_eq!(told(flip), None, "frame header byte {flip}");
        }
        for flip in [first_body, first_body + 2_500, second - 1] {
            assert_eq!(told(flip), Some(vec![(0, false), (1, true)]));
        }
        assert_eq!(
            told(second + FRAME_HEADER_BYTES + 1),
            Some(vec![(0, true), (1, false)])
        );
        assert_eq!(told(second + 3), None);
    }

    #[test]
    fn the_end_of_a_file_is_told_as_far_as_commits_name_themselves() {
        let mut file = [
            commit(5, &[&[7; 100]]),
            commit(6, &[&[8; 100]]),
            vec![0; BLOCK_BYTES],
        ]
        .concat();
        let missing = |last| Missing {
            first: 5,
            last,
            is_followed: false,
        };
        let all = 0..file.len() as u64;
        let count = |file: &[u8], last| {
            frames_in(file, all.clone(), missing(last)).map(|found| found.len())
        };
        assert_eq!(count(&file, 6), Some(2));
        assert_eq!(count(&file, 7), None, "there is no third one");
        file[COMMIT_HEADER_BYTES + FRAME_HEADER_BYTES] ^= 1;
        assert_eq!(count(&file, 6), Some(2));
        file[BLOCK_BYTES + 20] ^= 1;
        assert_eq!(count(&file, 6), None, "nothing says where it ends");
        assert_eq!(count(&file, 5), Some(1));
    }
}
