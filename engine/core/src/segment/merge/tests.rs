use aof2_format::checksum::crc64nvme;
use aof2_format::record_batch::{Fields, GapReason};
use aof2_format::{ClusterId, Salt, StreamName, StreamUuid};

use super::*;
use crate::io::SystemDisk;
use crate::io::fault::{Call, Fault, FaultDisk, How};

const SALT: Salt = Salt(7);

/// Segments of a stream, one behind the other.
struct Stream {
    chain: u32,
    next: u64,
    next_id: u64,
}

impl Stream {
    fn new() -> Stream {
        Stream {
            chain: 0,
            next: 0,
            next_id: 1,
        }
    }

    /// Of so many batches of two records; 0 = of a gap.
    fn segment(&mut self, batches: u64) -> Input {
        let header = SegmentHeader {
            cluster_id: ClusterId([1; 16]),
            stream: StreamName::new("orders").expect("a name"),
            stream_uuid: StreamUuid([2; 16]),
            stream_salt: SALT,
            segment_id: self.next_id,
            epoch: 3,
            base_sequence: self.next,
            prev_chain: self.chain,
            created_unix_nanos: self.next_id as i64,
        };
        self.next_id += 1;
        let mut bytes = header.encode().to_vec();
        let seed = Seed::new(SALT);
        for _ in 0..batches {
            let payloads = [&b"one"[..], &[9; 3_000]];
            self.chain =
                record_batch::encode(&mut bytes, &self.fields(), payloads, seed).expect("fits");
            self.next += 2;
        }
        if batches == 0 {
            let (fields, end) = (self.fields(), self.next + 50);
            let reason = GapReason::LossWindow;
            self.chain = record_batch::encode_gap(&mut bytes, &fields, end, reason, seed);
            self.next = end;
        }
        Input {
            info: SealedInfo {
                segment_id: header.segment_id,
                epoch: 3,
                base_sequence: header.base_sequence,
                end_sequence: self.next,
                data_end: bytes.len() as u64,
                crc64: crc64nvme(&bytes),
            },
            bytes: bytes.into(),
        }
    }

    fn fields(&self) -> Fields {
        Fields {
            base_sequence: self.next,
            epoch: 3,
            prev_chain: self.chain,
            ..Fields::default()
        }
    }
}

const OUTPUT: Identity = Identity {
    segment_id: 77,
    sealed_unix_nanos: 5,
};

fn merged(disk: &dyn Disk, folder: &Path, inputs: &[Input]) -> Result<Made, MergeFileError> {
    let path = folder.join("output");
    let mut parts = 0;
    let made = merge(disk, &path, &OUTPUT, inputs, &mut |_, _, length| {
        parts += length;
        true
    });
    if let Ok(made) = &made {
        assert_eq!(parts, made.info.data_end, "each part is told of once");
    }
    made
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
fn the_output_holds_the_batches_of_its_inputs_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stream = Stream::new();
    stream.segment(1);
    let inputs = [3, 1, 0, 90, 2].map(|batches| stream.segment(batches));
    let made = merged(&SystemDisk, folder.path(), &inputs).expect("merged");
    let file = std::fs::read(folder.path().join("output")).expect("there");
    let data_end = made.info.data_end as usize;
    let batches: Vec<u8> = inputs
        .iter()
        .flat_map(|input| input.bytes[DATA_OFFSET as usize..].to_vec())
        .collect();
    assert_eq!(file[DATA_OFFSET as usize..data_end], batches);
    assert_eq!(made.info.crc64, crc64nvme(&file[..data_end]));
    let header = SegmentHeader::decode(&file).expect("a header");
    let first = SegmentHeader::decode(&inputs[0].bytes).expect("a header");
    let expected = SegmentHeader {
        segment_id: 77,
        ..first
    };
    assert_eq!(header, expected);
    let seal_at = SegmentSeal::offset(made.info.data_end) as usize;
    let seal = SegmentSeal::decode(&file[seal_at..]).expect("a seal");
    assert!(made.info.is_of_seal(header.stream_uuid, &seal));
    assert_eq!((seal.chain, made.chain), (stream.chain, stream.chain));
    assert_eq!(
        (made.info.base_sequence, made.info.end_sequence),
        (2, stream.next)
    );
    assert_eq!(file.len() as u64, made.info.file_bytes());
    // A batch is found in it.
    assert_eq!(made.index.find(2), Some((2, DATA_OFFSET)));
    assert!(
        made.index
            .find(stream.next - 1)
            .is_some_and(|(at, _)| at > 60)
    );
    // Again: the same bytes, which an object of the first try is recognised by.
    let again = merged(&SystemDisk, folder.path(), &inputs).expect("merged");
    assert_eq!(again.info, made.info);
}

#[test]
fn what_is_not_what_was_sealed_is_not_merged_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |change: &dyn Fn(&mut Vec<Input>)| {
        let mut stream = Stream::new();
        let mut inputs = vec![stream.segment(2), stream.segment(2), stream.segment(1)];
        change(&mut inputs);
        let error = merged(&SystemDisk, folder.path(), &inputs).expect_err("refused");
        assert_eq!(names(folder.path()), Vec::<String>::new());
        error.to_string()
    };
    let flipped = refused(&|inputs| {
        let mut bytes = inputs[1].bytes.to_vec();
        bytes[5_000] ^= 1;
        inputs[1].bytes = bytes.into();
    });
    assert!(
        flipped.contains("segment 2 cannot be merged") && flipped.contains("crc64"),
        "{flipped}"
    );
    // It verifies, and was sealed so: another batch is not what was acknowledged.
    let batch = refused(&|inputs| {
        let mut bytes = inputs[1].bytes.to_vec();
        bytes[5_000] ^= 1;
        inputs[1].info.crc64 = crc64nvme(&bytes);
        inputs[1].bytes = bytes.into();
    });
    assert!(batch.contains("segment 2 cannot be merged"), "{batch}");
    let missing = refused(&|inputs| drop(inputs.remove(1)));
    assert!(
        missing.contains("segment 3 cannot be merged: header follows sequence 8"),
        "{missing}"
    );
    let swapped = refused(&|inputs| inputs.swap(0, 1));
    assert!(swapped.contains("segment 1 cannot be merged"), "{swapped}");
    let longer = refused(&|inputs| inputs[2].info.end_sequence += 1);
    assert!(
        longer.contains("segment 3 cannot be merged: batches end before"),
        "{longer}"
    );
    let other = refused(&|inputs| inputs[2].info.segment_id = 9);
    assert!(
        other.contains("segment 9 cannot be merged: header"),
        "{other}"
    );
    let short = refused(&|inputs| {
        inputs[2].bytes = inputs[2].bytes.slice(..inputs[2].bytes.len() - 1);
    });
    assert!(short.contains("segment 3 cannot be merged"), "{short}");
}

#[test]
fn a_write_that_did_not_reach_the_device_is_found_before_the_file_has_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stream = Stream::new();
    let inputs = [2, 2].map(|batches| stream.segment(batches));
    let path = folder.path().join("output");
    // Somebody changes a byte behind the write, as a device does that lies.
    for at in [100, 4_500, 8_000] {
        let error = merge(
            &SystemDisk,
            &path,
            &OUTPUT,
            &inputs,
            &mut |file, from, length| {
                if (from..from + length).contains(&at) {
                    file.write_all_at(b"?", at).expect("written");
                }
                true
            },
        );
        let error = error.expect_err("found").to_string();
        assert!(error.contains("is not what was merged"), "{error}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
    let stopped = merge(&SystemDisk, &path, &OUTPUT, &inputs, &mut |_, from, _| {
        from == 0
    });
    assert!(matches!(stopped, Err(MergeFileError::Interrupted)));
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn whatever_call_of_the_disk_fails_there_is_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stream = Stream::new();
    let inputs = [2, 2].map(|batches| stream.segment(batches));
    let calls = [
        Call::Create,
        Call::Allocate,
        Call::Write,
        Call::Sync,
        Call::Rename,
        Call::SyncDirectory,
    ];
    for call in calls {
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        faults.add(Fault::of(call).how(How::Fails(libc::EIO)));
        let error = merged(&*disk, folder.path(), &inputs).expect_err("failed");
        assert!(
            matches!(error, MergeFileError::Disk { .. }),
            "{call:?}: {error}"
        );
        assert_eq!(names(folder.path()), Vec::<String>::new(), "{call:?}");
    }
}
