//! What callers of a store see.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use aof2_core::config::MIB;
use aof2_core::port::TierRecord;
use aof2_core::request::SegmentState;
use aof2_core::{
    AppendError, Durability, OpenError, ReadError, ReadRequest, Remedy, StoreError, WouldBlockKind,
};
use common::*;

#[test]
fn durable_appends_are_read_back_in_order_at_their_sequences() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for index in 0..100u64 {
        let appended = durable(&store, "orders", format!("record {index}").as_bytes()).unwrap();
        assert_eq!(
            (appended.first_sequence, appended.count, appended.duplicate),
            (index, 1, false)
        );
    }
    let records = read_all(&store, "orders");
    assert_eq!(records.len(), 100);
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record.sequence, index as u64);
        assert_eq!(record.payload, format!("record {index}"));
        assert!(record.appended_unix_nanos > 0);
    }
    let info = store.describe("orders").unwrap();
    assert_eq!(
        (
            info.durable_sequence,
            info.next_sequence,
            info.sealed_sequence
        ),
        (100, 100, 0)
    );
}

#[test]
fn everything_is_there_after_a_reopen_and_appends_go_on() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = open(directory.path());
        for stream in ["a", "b", "c"] {
            for index in 0..50 {
                durable(&store, stream, format!("{stream}{index}").as_bytes()).unwrap();
            }
        }
        store.close().unwrap();
    }
    let store = open(directory.path());
    for stream in ["a", "b", "c"] {
        let expected: Vec<_> = (0..50)
            .map(|index| format!("{stream}{index}").into_bytes())
            .collect();
        assert_eq!(payloads(&read_all(&store, stream)), expected);
        assert_eq!(durable(&store, stream, b"more").unwrap().first_sequence, 50);
    }
    assert_eq!(store.metrics().replay.records, 150);
    drop(store);
    let store = open(directory.path());
    assert_eq!(read_all(&store, "b").len(), 51);
}

#[test]
fn a_batch_gets_consecutive_sequences() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let batch: Vec<&[u8]> = vec![b"x", b"", b"zzz"];
    let appended = store
        .append(request("s", &batch, Durability::Durable))
        .unwrap();
    assert_eq!((appended.first_sequence, appended.count), (0, 3));
    assert_eq!(durable(&store, "s", b"next").unwrap().first_sequence, 3);
    assert_eq!(
        payloads(&read_from(&store, "s", 1, false)),
        vec![b"".to_vec(), b"zzz".to_vec(), b"next".to_vec()]
    );
}

#[test]
fn many_segments_are_rolled_sealed_and_read_back_across_their_borders() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let payload = vec![7u8; 10_000];
    for _ in 0..600 {
        buffered(&store, "big", &payload).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(read_all(&store, "big").len(), 600);
    // Segments of 1 MiB, and one whose successor is late up to twice as large: the open one holds 208 records at most.
    eventually("sealing", || {
        store.describe("big").unwrap().sealed_sequence >= 600 - 208
    });
    let segments = store.segments("big").unwrap();
    assert!(segments.len() > 2, "{segments:?}");
    for pair in segments.windows(2) {
        assert_eq!(
            pair[0].base_sequence + pair[0].records,
            pair[1].base_sequence
        );
    }
    drop(store);
    let store = open(directory.path());
    let records = read_all(&store, "big");
    assert_eq!(records.len(), 600);
    assert!(
        records
            .iter()
            .enumerate()
            .all(|(index, record)| record.sequence == index as u64 && record.payload == payload)
    );
}

#[test]
fn a_durable_append_makes_the_buffered_ones_before_it_durable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    durable(&store, "s", b"first").unwrap();
    for _ in 0..10 {
        buffered(&store, "s", b"buffered").unwrap();
    }
    durable(&store, "s", b"last").unwrap();
    assert_eq!(store.describe("s").unwrap().durable_sequence, 12);
    assert_eq!(read_all(&store, "s").len(), 12);
}

#[test]
fn buffered_records_become_durable_by_themselves_and_are_visible_before_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    buffered(&store, "s", b"soon").unwrap();
    assert_eq!(read_from(&store, "s", 0, true).len(), 1);
    assert_eq!(
        store
            .wait_durable_beyond("s", 0, Duration::from_secs(10))
            .unwrap(),
        1
    );
    assert_eq!(read_all(&store, "s").len(), 1);
}

#[test]
fn large_durable_appends_go_past_the_journal_and_survive() {
    let directory = tempfile::tempdir().unwrap();
    let payload: Vec<u8> = (0..900_000u32).map(|index| index as u8).collect();
    {
        let store = open(directory.path());
        let before = store.metrics().journal_bytes;
        for _ in 0..8 {
            durable(&store, "bulk", &payload).unwrap();
            durable(&store, "small", b"beside").unwrap();
        }
        assert!(
            store.metrics().journal_bytes - before < 900_000,
            "bulk is not written twice"
        );
    }
    let store = open(directory.path());
    assert!(
        read_all(&store, "bulk")
            .iter()
            .all(|record| record.payload == payload)
    );
    assert_eq!(read_all(&store, "bulk").len(), 8);
    assert_eq!(read_all(&store, "small").len(), 8);
}

#[test]
fn many_writers_and_streams_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                let stream = format!("s{}", writer % 4);
                for index in 0..200 {
                    durable(&store, &stream, format!("{writer}:{index}").as_bytes()).unwrap();
                }
            });
        }
    });
    for stream in 0..4 {
        let records = read_all(&store, &format!("s{stream}"));
        assert_eq!(records.len(), 400);
        for writer in [stream, stream + 4] {
            let mine: Vec<_> = records
                .iter()
                .filter(|record| record.payload.starts_with(format!("{writer}:").as_bytes()))
                .collect();
            let expected: Vec<_> = (0..200).map(|index| format!("{writer}:{index}")).collect();
            assert!(
                mine.iter()
                    .map(|record| &record.payload[..])
                    .eq(expected.iter().map(|text| text.as_bytes()))
            );
        }
    }
    assert!(
        store.metrics().journal_rounds < 1600,
        "writers share rounds"
    );
}

#[test]
fn pipelined_appends_are_answered_in_order_from_the_first_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (sender, receiver) = mpsc::channel();
    for index in 0..500u64 {
        let sender = sender.clone();
        let mut request = request("piped", &[b"x"], Durability::Durable);
        request.producer = Some(aof2_core::Producer {
            id: 9,
            first_seq: index,
            since: 0,
        });
        store.append_with(
            request,
            Box::new(move |result| sender.send((index, result)).unwrap()),
        );
    }
    drop(sender);
    let mut answers = 0;
    for (index, result) in receiver {
        assert_eq!(result.unwrap().first_sequence, index);
        assert_eq!(answers, index);
        answers += 1;
    }
    assert_eq!(answers, 500);
}

/// Faster than segments can be made, and half of it sent before the stream exists: what is refused in the middle would be
/// overtaken by what comes behind it.
#[test]
fn a_pipeline_that_outruns_the_roll_waits_and_keeps_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let target_bytes = store.config().segment.target_bytes as usize;
    let payload = vec![7; target_bytes / 2];
    let count = (24 << 20) / payload.len() as u64;
    let (sender, receiver) = mpsc::channel();
    for index in 0..count {
        let sender = sender.clone();
        store.append_with(
            request("fast", &[&payload], Durability::Buffered),
            Box::new(move |result| sender.send((index, result)).unwrap()),
        );
    }
    drop(sender);
    let sequences: Vec<(u64, u64)> = receiver
        .into_iter()
        .map(|(index, result)| (index, result.unwrap().first_sequence))
        .collect();
    assert_eq!(sequences.len() as u64, count);
    assert!(sequences.iter().all(|(index, sequence)| index == sequence));
    store.close().unwrap();
}

/// `close` comes while appends wait for a segment: each is answered, and the next process has those that were admitted, which
/// are the first ones.
#[test]
fn close_answers_appends_that_wait_for_a_segment_and_keeps_what_it_admitted() {
    let directory = tempfile::tempdir().unwrap();
    let count = 20;
    for round in 0..20 {
        let stream = format!("late-{round}");
        let store = open(directory.path());
        let payload = vec![7; store.config().segment.target_bytes as usize / 2];
        let (sender, receiver) = mpsc::channel();
        for index in 0..count {
            let sender = sender.clone();
            store.append_with(
                request(&stream, &[&payload], Durability::Buffered),
                Box::new(move |result| sender.send((index, result)).unwrap()),
            );
        }
        drop(sender);
        store.close().unwrap();
        // In the order of the requests: a refusal may be sender before the acknowledgement of what was admitted earlier.
        let answers: BTreeMap<u64, _> = receiver.into_iter().collect();
        assert_eq!(answers.len() as u64, count, "{stream}");
        let admitted = answers.values().take_while(|answer| answer.is_ok()).count();
        for (index, answer) in &answers {
            let is_as_admitted = match answer {
                Ok(appended) => *index < admitted as u64 && appended.first_sequence == *index,
                Err(AppendError::Draining { .. }) => *index >= admitted as u64,
                Err(_) => false,
            };
            assert!(
                is_as_admitted,
                "{stream}: request {index}: {answer:?}, and the first {admitted} were admitted"
            );
        }
        drop(store);
        let store = open(directory.path());
        let kept = store
            .describe(&stream)
            .map_or(0, |info| info.durable_sequence);
        assert_eq!(kept, admitted as u64, "{stream}");
        if admitted > 0 {
            assert_eq!(read_all(&store, &stream).len(), admitted, "{stream}");
        }
        store.close().unwrap();
    }
}

#[test]
fn an_idempotent_producer_is_answered_with_its_old_sequences_also_after_seal_and_restart() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = open(directory.path());
        assert_eq!(
            produced(&store, "s", 5, 0, &[b"a", b"b"])
                .unwrap()
                .first_sequence,
            0
        );
        durable(&store, "s", b"somebody else").unwrap();
        assert_eq!(
            produced(&store, "s", 5, 2, &[b"c"]).unwrap().first_sequence,
            3
        );
        let again = produced(&store, "s", 5, 0, &[b"a", b"b"]).unwrap();
        assert_eq!((again.first_sequence, again.duplicate), (0, true));
        assert_eq!(store.last_producer_seq("s", 5).unwrap(), Some(2));
        store.seal(Some("s")).unwrap();
    }
    {
        let store = open(directory.path());
        let again = produced(&store, "s", 5, 2, &[b"c"]).unwrap();
        assert_eq!((again.first_sequence, again.duplicate), (3, true));
        assert_eq!(store.last_producer_seq("s", 5).unwrap(), Some(2));
        assert_eq!(
            produced(&store, "s", 5, 3, &[b"d"]).unwrap().first_sequence,
            4
        );
    }
    let store = open(directory.path());
    assert!(produced(&store, "s", 5, 3, &[b"d"]).unwrap().duplicate);
    match produced(&store, "s", 5, 7, &[b"gap"]) {
        Err(error @ AppendError::SequenceGap { next: 4, .. }) => {
            assert!(
                error
                    .to_string()
                    .contains("sent producer_seq 7 where 4 is next"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read_all(&store, "s").len(), 5);
}

#[test]
fn sealing_is_reported_by_count_and_by_the_hook_and_leaves_nothing_unsealed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (sender, receiver) = mpsc::channel();
    store.on_sealed(std::sync::Arc::new(move |segment| {
        sender.send(segment.clone()).unwrap();
    }));
    durable(&store, "a", b"1").unwrap();
    buffered(&store, "b", b"2").unwrap();
    let sealed = store.seal(None).unwrap();
    assert_eq!(
        sealed.into_iter().collect::<Vec<_>>(),
        vec![("a".to_owned(), 1), ("b".to_owned(), 1)]
    );
    let first = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(first.end_sequence(), 1);
    for watermark in store.watermarks() {
        assert_eq!(
            (
                watermark.acked,
                watermark.sealed,
                watermark.sealed_uploaded,
                watermark.unsealed_bytes
            ),
            (1, 1, 0, 0)
        );
    }
    assert_eq!(
        store.seal(Some("a")).unwrap()["a"],
        1,
        "sealing again changes nothing"
    );
    assert!(matches!(
        store.seal(Some("nobody")),
        Err(StoreError::UnknownStream { .. })
    ));
    assert_eq!(durable(&store, "a", b"3").unwrap().first_sequence, 1);
    assert_eq!(read_all(&store, "a").len(), 2);
}

#[test]
fn sealed_bytes_and_committed_uploads_are_the_same_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let before = {
        let store = open(directory.path());
        for index in 0..10u64 {
            durable(&store, "s", &index.to_le_bytes()).unwrap();
        }
        store.seal(None).unwrap();
        let pending = store.sealed_segments_pending();
        assert_eq!(pending.len(), 1);
        let bytes = store.segment_bytes("s", pending[0].segment_id).unwrap();
        assert_eq!(bytes.len() as u64, pending[0].bytes);
        assert_eq!(aof2_format::checksum::crc64nvme(&bytes), pending[0].crc64);
        let id = pending[0].segment_id;
        store
            .commit_manifest("s", id, TierRecord::CompressionStarted)
            .unwrap();
        store
            .commit_manifest(
                "s",
                id,
                TierRecord::CompressionDone {
                    compressed_bytes: 99,
                    dictionary_id: 0,
                },
            )
            .unwrap();
        assert_eq!(store.segments("s").unwrap()[0].state, SegmentState::Warm);
        store
            .commit_manifest("s", id, TierRecord::UploadStarted { key: "k".into() })
            .unwrap();
        store
            .commit_manifest(
                "s",
                id,
                TierRecord::UploadDone {
                    key: "k".into(),
                    etag: "e".into(),
                },
            )
            .unwrap();
        assert!(matches!(
            store.commit_manifest("s", id + 100, TierRecord::CompressionStarted),
            Err(StoreError::UnknownSegment { .. })
        ));
        (pending[0].crc64, bytes.to_vec(), id)
    };
    let store = open(directory.path());
    assert!(store.sealed_segments_pending().is_empty());
    let segments = store.segments("s").unwrap();
    assert_eq!(
        (segments[0].state, segments[0].key.as_deref()),
        (SegmentState::Uploaded, Some("k"))
    );
    assert_eq!(store.watermarks()[0].sealed_uploaded, 10);
    assert_eq!(
        store.segment_bytes("s", before.2).unwrap().to_vec(),
        before.1
    );
}

#[test]
fn tail_waits_for_the_watermark() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    durable(&store, "s", b"0").unwrap();
    assert_eq!(
        store
            .wait_durable_beyond("s", 5, Duration::from_millis(20))
            .unwrap(),
        1
    );
    let (sender, receiver) = mpsc::channel();
    store
        .on_durable_beyond("s", 1, Box::new(move |count| sender.send(count).unwrap()))
        .unwrap();
    assert!(receiver.try_recv().is_err());
    durable(&store, "s", b"1").unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(5)).unwrap(), 2);
}

#[test]
fn a_limit_and_a_start_bound_what_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for index in 0..2_000u64 {
        buffered(&store, "s", &[index as u8; 100]).unwrap();
    }
    store.flush().unwrap();
    for from in [0, 1, 999, 1_998] {
        let request = ReadRequest {
            stream: "s".into(),
            from_sequence: from,
            limit: 2,
            include_staged: false,
        };
        let mut reader = store.read(request).unwrap();
        let batch = reader.next_batch(1 << 20).unwrap().unwrap();
        assert_eq!(
            batch
                .iter()
                .map(|record| record.sequence)
                .collect::<Vec<_>>(),
            vec![from, from + 1]
        );
        assert!(reader.next_batch(1 << 20).unwrap().is_none());
    }
}

#[test]
fn refusals_name_the_object_the_value_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let cases: Vec<(AppendError, &str, Remedy)> = vec![
        (
            durable(&store, "Not Allowed", b"x").unwrap_err(),
            "\"Not Allowed\" is invalid; use 1 to 63 lower-case",
            Remedy::Fix,
        ),
        (
            store
                .append(request("s", &[], Durability::Durable))
                .unwrap_err(),
            "holds no record",
            Remedy::Fix,
        ),
        (
            durable(&store, "s", &vec![0; MIB as usize + 1]).unwrap_err(),
            "record of 1048577 bytes exceeds append.max_record_bytes = 1048576",
            Remedy::Fix,
        ),
        (
            {
                store.close_admission("upgrade to 0.1.1");
                let refused = durable(&store, "s", b"x").unwrap_err();
                store.open_admission();
                refused
            },
            "(upgrade to 0.1.1)",
            Remedy::Retry,
        ),
    ];
    for (error, text, remedy) in cases {
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.remedy(), remedy, "{error}");
    }
    durable(&store, "s", b"admitted again").unwrap();
    assert!(matches!(
        store.read(ReadRequest {
            stream: "nobody".into(),
            from_sequence: 0,
            limit: 0,
            include_staged: false
        }),
        Err(ReadError::UnknownStream { .. })
    ));
    assert!(
        store.streams().iter().all(|stream| &*stream.name == "s"),
        "a refused name leaves no stream"
    );
}

#[test]
fn the_quota_of_tier_0_refuses_typed_and_resumes_when_it_is_raised() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.tier0.instance_quota_bytes = 3 * MIB;
    let store = try_open(config.clone()).unwrap();
    let payload = vec![1u8; 100_000];
    let refused = (0..100)
        .find_map(|_| durable(&store, "s", &payload).err())
        .expect("the quota is met");
    match &refused {
        AppendError::WouldBlock {
            kind: WouldBlockKind::Admission,
            message,
            ..
        } => {
            assert!(
                message.contains("tier0.instance_quota_bytes is 3145728"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(store.metrics().would_block[&WouldBlockKind::Admission] > 0);
    assert!(store.metrics().tier0_total_bytes <= 3 * MIB);
    config.tier0.instance_quota_bytes = 30 * MIB;
    store.reconfigure(config.clone());
    durable(&store, "s", &payload).unwrap();
    config.tier0.instance_quota_bytes = MIB;
    store.reconfigure(config);
    assert!(
        durable(&store, "s", b"x").is_err(),
        "a lowered quota holds at once"
    );
}

#[test]
fn segments_roll_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.segment.max_age = Duration::from_millis(100);
    let store = try_open(config).unwrap();
    durable(&store, "s", b"x").unwrap();
    eventually("the roll", || {
        store.describe("s").unwrap().sealed_sequence == 1
    });
}

#[test]
fn a_directory_of_another_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    match try_open(small_config(directory.path())) {
        Err(error @ OpenError::Locked { .. }) => {
            assert!(error.to_string().contains("another process has locked"))
        }
        other => panic!("{:?}", other.err()),
    }
    drop(store);
    let mut other_node = options(small_config(directory.path()));
    other_node.identity.node = "orders-1".to_owned();
    match aof2_core::Store::open(other_node) {
        Err(error @ OpenError::ForeignDirectory { field: "node", .. }) => {
            assert!(
                error
                    .to_string()
                    .contains("\"orders-0\", but this node is \"orders-1\""),
                "{error}"
            );
        }
        other => panic!("{:?}", other.err()),
    }
    let mut other_cluster = options(small_config(directory.path()));
    other_cluster.identity.cluster_id = "0192f0aa-1c2d-7e3f-8a4b-000000000000".to_owned();
    assert!(matches!(
        aof2_core::Store::open(other_cluster),
        Err(OpenError::ForeignDirectory {
            field: "cluster",
            ..
        })
    ));
    let mut config = small_config(directory.path());
    config.segment.target_bytes = 1000;
    assert!(matches!(
        try_open(config),
        Err(OpenError::Config {
            key: "segment.target_bytes",
            ..
        })
    ));
}

#[test]
fn the_journal_is_recycled_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let payload = vec![3u8; 60_000];
    for index in 0..700 {
        durable(&store, if index % 2 == 0 { "a" } else { "b" }, &payload).unwrap();
    }
    let metrics = store.metrics();
    assert!(
        metrics.journal_bytes > 3 * 3 * 4 * MIB,
        "{} bytes went through 12 MiB of files",
        metrics.journal_bytes
    );
    assert!(metrics.journal_files <= 3);
    assert!(metrics.checkpoints > 0);
    drop(store);
    let store = open(directory.path());
    assert_eq!(
        read_all(&store, "a").len() + read_all(&store, "b").len(),
        700
    );
}

#[test]
fn a_record_behind_a_batch_that_is_longer_than_a_read_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    buffered(&store, "s", b"small").unwrap();
    durable(&store, "s", &[1; 400_000]).unwrap();
    durable(&store, "s", b"last").unwrap();
    assert_eq!(read_from(&store, "s", 1, false)[0].payload.len(), 400_000);
    assert_eq!(read_from(&store, "s", 2, false)[0].payload, "last");
}

/// Answers what the test tells it to.
struct ScriptedClaims {
    answers: std::sync::Mutex<Vec<Result<u64, aof2_core::error::ClaimError>>>,
    volume: Result<bool, aof2_core::error::ClaimError>,
}

impl aof2_core::Claims for ScriptedClaims {
    fn check_volume(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _standing: aof2_core::port::Standing,
    ) -> Result<bool, aof2_core::error::ClaimError> {
        self.volume.clone()
    }

    fn check_streams(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _streams: &[aof2_core::port::LocalStream],
    ) -> Result<(), aof2_core::error::ClaimError> {
        Ok(())
    }

    fn leave_mark(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _mark: u64,
    ) -> Result<(), aof2_core::error::ClaimError> {
        Ok(())
    }

    fn find(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _stream: &str,
    ) -> Result<Option<u64>, aof2_core::error::ClaimError> {
        Ok(None)
    }

    fn claim(
        &self,
        _volume: &aof2_core::VolumeIdentity,
        _stream: &str,
    ) -> Result<u64, aof2_core::error::ClaimError> {
        self.answers.lock().unwrap().remove(0)
    }
}

#[test]
fn a_first_append_waits_for_its_claim_and_is_refused_where_another_owns_the_stream() {
    use aof2_core::error::ClaimError;

    let directory = tempfile::tempdir().unwrap();
    let mut options = options(small_config(directory.path()));
    let pending = ClaimError::Pending {
        message: "Tier 2 does not answer".into(),
    };
    let owned = ClaimError::NotOwner {
        stream: "s".into(),
        owner: "orders-1".into(),
        address: "orders-1.orders".into(),
    };
    options.claims = Some(std::sync::Arc::new(ScriptedClaims {
        answers: std::sync::Mutex::new(vec![Err(pending), Err(owned), Ok(7)]),
        volume: Ok(true),
    }));
    let store = aof2_core::Store::open(options).unwrap();
    let refused = durable(&store, "s", b"x").unwrap_err();
    assert!(
        matches!(refused, AppendError::ClaimPending { .. }),
        "{refused}"
    );
    assert_eq!(refused.remedy(), Remedy::Retry);
    assert!(
        store.streams().is_empty(),
        "an unclaimed stream does not exist"
    );
    let refused = durable(&store, "s", b"x").unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("orders-1 owns stream s; send appends to orders-1.orders"),
        "{refused}"
    );
    assert_eq!(durable(&store, "s", b"x").unwrap().first_sequence, 0);
    assert_eq!(store.describe("s").unwrap().epoch, 7);
    store.supersede("s", 9);
    let refused = durable(&store, "s", b"x").unwrap_err();
    assert!(
        refused.to_string().contains("epoch 9 supersedes 7"),
        "{refused}"
    );
    let request = ReadRequest {
        stream: "s".into(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    assert!(matches!(
        store.read(request).unwrap().next_batch(10),
        Err(ReadError::Superseded { from: 7, to: 9, .. })
    ));
}

#[test]
fn a_lost_volume_is_refused_and_leaves_no_identity_behind() {
    use aof2_core::error::ClaimError;

    let directory = tempfile::tempdir().unwrap();
    let mut lost = options(small_config(directory.path()));
    lost.claims = Some(std::sync::Arc::new(ScriptedClaims {
        answers: std::sync::Mutex::new(Vec::new()),
        volume: Err(ClaimError::VolumeLost {
            streams: vec!["orders-eu".into()],
        }),
    }));
    let refused = aof2_core::Store::open(lost).err().unwrap();
    assert!(matches!(refused, OpenError::VolumeLost { .. }), "{refused}");
    assert!(refused.to_string().contains("orders-eu"), "{refused}");
    assert!(!directory.path().join("volume.json").exists());
}
