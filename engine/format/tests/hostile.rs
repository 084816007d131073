//! Hostile bytes: a decoder answers with damage, or with the value that was written; it never panics.

mod support;

use aof2_format::damage::Damage;
use aof2_format::producer_changes::{ProducerChanges, ProducerRun};
use aof2_format::record_batch::{self, BodySummary, Fields};
use aof2_format::segment::SegmentHeader;
use aof2_format::{Salt, Seed, checksum, journal};
use proptest::prelude::*;
use support::decoders::DECODERS;
use support::*;

#[test]
fn every_truncation_is_damage() {
    for (name, decode) in DECODERS {
        let whole = golden(name);
        decode(&whole).unwrap_or_else(|damage| panic!("{name}: {damage}"));
        for length in 0..whole.len() {
            let decoded = decode(&whole[..length]);
            assert!(
                decoded.is_err(),
                "{name} cut to {length} of {} bytes decodes to {decoded:?}",
                whole.len()
            );
        }
    }
}

#[test]
fn every_changed_byte_is_damage() {
    for (name, decode) in DECODERS {
        let whole = golden(name);
        for at in 0..whole.len() {
            for change in [0x01, 0x20, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let decoded = decode(&bytes);
                assert!(
                    decoded.is_err(),
                    "{name} with byte {at} xor {change:#x} decodes to {decoded:?}"
                );
            }
        }
    }
}

#[test]
fn bytes_of_one_thing_are_not_another() {
    for (name, decode) in DECODERS {
        for (other, _) in GOLDEN {
            let are_both = |kind: &str| name.starts_with(kind) && other.starts_with(kind);
            let is_same_kind = are_both("record_batch") || are_both("compaction");
            if other != name && !is_same_kind {
                assert!(decode(&golden(other)).is_err(), "{other} decodes as {name}");
            }
        }
    }
}

#[test]
fn zeroes_are_unwritten_rather_than_corrupt() {
    let zeroes = [0; 8192];
    assert!(
        record_batch::decode(&zeroes, stream_seed())
            .unwrap_err()
            .is_unwritten()
    );
    assert!(
        journal::decode_commit(&zeroes, FILE_SALT, file_seed())
            .unwrap_err()
            .is_unwritten()
    );
    assert!(SegmentHeader::decode(&zeroes).unwrap_err().is_unwritten());
}

#[test]
fn a_newer_version_is_told_from_corruption_and_named() {
    let mut block = golden("segment_header");
    block[8] = 9;
    let crc = checksum::crc32c(&block[..4092]);
    block[4092..].copy_from_slice(&crc.to_le_bytes());
    let damage = SegmentHeader::decode(&block).unwrap_err();
    assert!(damage.is_newer_version());
    assert_eq!(
        damage.to_string(),
        "segment header: format version 9 is newer than 0, the newest this release reads"
    );

    let json = br#"{"format":"aof2-volume","format_version":3,"shape":"unknown"}"#;
    assert!(
        aof2_format::volume::VolumeIdentity::decode(json)
            .unwrap_err()
            .is_newer_version()
    );
}

fn written_under(salt: Salt) -> Vec<u8> {
    let fields = Fields {
        base_sequence: 7,
        ..Fields::default()
    };
    let mut bytes = Vec::new();
    record_batch::encode(&mut bytes, &fields, [&b"payload"[..]], Seed::new(salt)).unwrap();
    bytes
}

/// A recycled journal file, a misdirected write, another stream: the bytes are whole, the salt is not theirs.
#[test]
fn whole_bytes_under_another_salt_are_damage() {
    let other = Salt(STREAM_SALT.0 ^ 1);
    let batch = record_batch::decode(&golden("record_batch"), Seed::new(other)).map(drop);
    assert!(matches!(batch, Err(Damage::Checksum { .. })), "{batch:?}");
    // A batch has no field for its salt: that its own writer used another one shows in the checksum alone.
    assert_eq!(
        record_batch::decode(&written_under(other), Seed::new(other)).map(drop),
        Ok(())
    );
    let foreign = record_batch::decode(&written_under(other), stream_seed()).map(drop);
    assert!(
        matches!(foreign, Err(Damage::Checksum { .. })),
        "{foreign:?}"
    );
    let stale =
        journal::decode_commit(&golden("journal_commit"), other, Seed::new(other)).map(drop);
    assert!(
        matches!(stale, Err(Damage::Value { field: "salt", .. })),
        "{stale:?}"
    );
    let misread = journal::decode_commit(&golden("journal_commit"), other, file_seed()).map(drop);
    assert!(
        matches!(misread, Err(Damage::Value { field: "salt", .. })),
        "{misread:?}"
    );
}

/// A torn commit of a recycled file: its head is new, its end is an old commit's bytes.
#[test]
fn a_commit_with_an_older_commits_tail_is_damage() {
    let mut bytes = golden("journal_commit");
    let at = bytes.len() - 45;
    bytes[at..].fill(0x5A);
    assert!(matches!(
        journal::decode_commit(&bytes, FILE_SALT, file_seed()).map(drop),
        Err(Damage::Checksum { .. })
    ));
}

/// Checksums that hold over values that no writer of ours makes.
#[test]
fn values_out_of_range_are_refused_behind_a_right_checksum() {
    let body = 5u32.to_le_bytes();
    let refused = |fields: &Fields, body: BodySummary, bytes: &[u8]| {
        let mut head = [0; record_batch::HEADER_BYTES];
        record_batch::encode_header(&mut head, fields, &body, stream_seed());
        let whole = [&head[..], bytes].concat();
        match record_batch::decode(&whole, stream_seed()) {
            Err(Damage::Value { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    let summary = |bytes, count| BodySummary {
        bytes,
        count,
        crc: checksum::crc32c(&body),
    };
    let fields = Fields::default();
    assert_eq!(refused(&fields, summary(4, 1), &body), "record length");
    assert_eq!(refused(&fields, summary(4, 0), &body), "count");
    assert_eq!(refused(&fields, summary(4, 2), &body), "count");
    assert_eq!(refused(&fields, summary(u32::MAX, 1), &body), "body bytes");
    assert_eq!(
        refused(
            &Fields {
                durable_upto: 1,
                ..fields
            },
            summary(4, 1),
            &body
        ),
        "durable watermark"
    );
    assert_eq!(
        refused(
            &Fields {
                base_sequence: u64::MAX,
                ..fields
            },
            summary(4, 1),
            &body
        ),
        "base sequence"
    );
    let trailing = [0u32.to_le_bytes(), [0; 4]].concat();
    let one = BodySummary {
        bytes: 8,
        count: 1,
        crc: checksum::crc32c(&trailing),
    };
    assert_eq!(
        refused(&fields, one, &trailing),
        "bytes behind the last record"
    );
}

/// A table of producers is searched by halves: what does not ascend is no table.
#[test]
fn runs_that_no_writer_makes_are_refused_behind_a_right_checksum() {
    let run = |first_producer_seq, first_sequence, count| ProducerRun {
        first_producer_seq,
        first_sequence,
        count,
    };
    let refused = |runs: Vec<ProducerRun>| {
        let changes = ProducerChanges {
            producers: vec![(7, runs)],
            ..ProducerChanges::default()
        };
        match ProducerChanges::decode(&changes.encode()) {
            Err(Damage::Value { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(vec![]), "runs");
    assert_eq!(refused(vec![run(0, 0, 0)]), "records of a run");
    assert_eq!(refused(vec![run(u64::MAX, 0, 2)]), "records of a run");
    assert_eq!(refused(vec![run(0, u64::MAX, 2)]), "records of a run");
    let ascending = "first sequence of a run";
    assert_eq!(refused(vec![run(0, 0, 2), run(1, 2, 1)]), ascending);
    assert_eq!(refused(vec![run(0, 5, 2), run(2, 6, 1)]), ascending);
}

#[test]
fn a_body_that_no_batch_holds_is_refused_before_it_is_written() {
    let empty: [&[u8]; 0] = [];
    assert!(
        BodySummary::of(empty)
            .unwrap_err()
            .to_string()
            .contains("0 bytes in 0 records")
    );
    let large = vec![0; record_batch::MAX_BODY_BYTES];
    assert!(
        BodySummary::of([&large[..]])
            .unwrap_err()
            .to_string()
            .contains("16777220 bytes in 1 records")
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
        for (_, decode) in DECODERS {
            let _ = decode(&bytes);
        }
    }

    /// Several changes at once, so that the length fields and their checks are hit too.
    #[test]
    fn changed_golden_bytes_never_panic(
        which in 0..DECODERS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (name, decode) = DECODERS[which];
        let mut bytes = golden(name);
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = decode(&bytes);
    }

    #[test]
    fn a_batch_holds_what_was_put_into_it(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..20),
        base_sequence in 0..u64::MAX / 2,
        seq in 0..u64::MAX / 2,
        prev_chain in any::<u32>(),
    ) {
        let fields = Fields {
            base_sequence,
            epoch: 3,
            prev_chain,
            producer: record_batch::Producer { id: 9, seq },
            appended_unix_nanos: -5,
            durable_upto: base_sequence,
        };
        let mut bytes = vec![0xEE; 3];
        record_batch::encode(&mut bytes, &fields, payloads.iter().map(Vec::as_slice), stream_seed()).unwrap();
        let at = bytes.len();
        bytes.extend_from_slice(&[0xEE; 5]);
        let batch = record_batch::decode(&bytes[3..], stream_seed()).unwrap();
        prop_assert_eq!(batch.fields(), &fields);
        prop_assert_eq!(batch.batch_bytes(), at - 3);
        prop_assert!(batch.payloads().eq(payloads.iter().map(Vec::as_slice)));
    }
}
