use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::*;
use aof2_core::{AppendError, Durability};

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

/// A disk that takes 20 s for a call keeps nobody who must not wait, and loses no order.
#[test]
fn an_append_that_must_not_wait_is_given_back_while_the_disk_is_slow() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = small_config(directory.path());
    config.segment.target_bytes = 16 << 20;
    let (store, faults) = open_with_faults(config);
    durable(&store, "s", b"first").unwrap();
    durable(&store, "other", b"first").unwrap();
    let large = vec![b'x'; 900 << 10];
    buffered(&store, "s", &large).unwrap();
    let small = || request("s", &[b"small"], Durability::Buffered);
    let try_append = |request| {
        let (sender, answered) = std::sync::mpsc::channel();
        let on_done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        store.try_append_with(request, on_done).map(|()| answered)
    };
    let waiting = faults.at_one_moment(|| {
        // It needs blocks: what may wait for the disk is another's business.
        let large = request("s", &[&large], Durability::Buffered);
        let Err(busy) = try_append(large) else {
            panic!("blocks were given while the disk stood still")
        };
        assert_eq!(busy.request.payloads[0].len(), 900 << 10);
        let store = store.clone();
        let waiting = std::thread::spawn(move || store.append_with(busy.request, busy.on_done));
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        // It holds the stream now, and closing admission waits for it.
        while try_append(small()).is_ok() {
            assert!(std::time::Instant::now() < deadline, "it does not wait");
            std::thread::yield_now();
        }
        let other = request("other", &[b"small"], Durability::Buffered);
        try_append(other)
            .ok()
            .expect("another stream waits for nothing");
        waiting
    });
    waiting.join().unwrap();
    // A background thread may hold the stream for a moment: then it is given back, too.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let answered = loop {
        if let Ok(answered) = try_append(small()) {
            break answered;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the disk answers again"
        );
        std::thread::yield_now();
    };
    let last = answered.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(
        last.unwrap().first_sequence + 1,
        store.describe("s").unwrap().next_sequence
    );
}
