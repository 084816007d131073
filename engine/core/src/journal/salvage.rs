//! What can be had of commits that were synced and do not verify.
//!
//! Headers of commits and frames have checksums of their own, and so have the bytes that frames carry. So a flipped byte costs at
//! most the frame that it is in, and it is known whose bytes that were. Where that is not known, nothing is given out.

use aof2_format::journal::{
    COMMIT_HEADER_BYTES, CommitHead, FRAME_HEADER_BYTES, Frame, decode_commit_head, decode_frame,
    padded_bytes,
};
use aof2_format::{Salt, Seed};

/// A frame, and where its body begins.
pub(crate) type Found<'a> = (usize, Frame<'a>);

/// Commits that are known to have been synced, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub first: u64,
    pub last: u64,
    /// A commit that verifies stands right behind them.
    pub is_followed: bool,
}

/// Every frame of the missing commits, which begin at `from` and end at `to` at the latest. `None`: some of them are unknown.
pub(crate) fn salvage<'a>(
    file: &'a [u8],
    (from, to): (usize, usize),
    (salt, seed): (Salt, Seed),
    missing: Missing,
) -> Option<Vec<Found<'a>>> {
    let mut frames = Vec::new();
    let mut at = from;
    for number in missing.first..=missing.last {
        let region = file.get(at..to)?;
        let head = decode_commit_head(region, salt, seed)
            .ok()
            .filter(|head| head.fields.number == number);
        match head {
            Some(CommitHead { fields, bytes }) => {
                let whole = region.get(..bytes)?;
                let rest = take_frames(whole, at, Some(fields.frame_count), &mut frames)?;
                if !rest.is_empty() {
                    return None;
                }
                at += padded_bytes(bytes);
            }
            // Its frames end where the padding begins.
            None if missing.is_followed && number == missing.last => {
                take_frames(region, at, None, &mut frames)?;
                at = to;
            }
            None => return None,
        }
    }
    (!missing.is_followed || at == to).then_some(frames)
}

/// The frames behind a commit's header: so many, or as many as there are. Answers what stands behind them.
fn take_frames<'a>(
    commit: &'a [u8],
    at: usize,
    count: Option<u32>,
    frames: &mut Vec<Found<'a>>,
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
        let body_at = at + commit.len() - rest.len() + FRAME_HEADER_BYTES;
        let (frame, behind) = decode_frame(rest).ok()?;
        frames.push((body_at, frame));
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

    use super::*;

    const SALT: Salt = Salt(99);

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
        let found = salvage(&file, (0, to), (SALT, seed), missing)?;
        let frames = found.into_iter().map(|(at, frame)| match frame {
            Frame::StreamBytes { stream, bytes, .. } => {
                assert_eq!(file[at..at + bytes.len()], *bytes);
                (stream.0, bytes == bodies[stream.0 as usize])
            }
            other => panic!("{other:?}"),
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
        let seed = Seed::new(SALT);
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
        let all = (0, file.len());
        let count = |file: &[u8], last| {
            salvage(file, all, (SALT, seed), missing(last)).map(|found| found.len())
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
