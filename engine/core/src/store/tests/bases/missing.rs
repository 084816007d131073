//! Files of a manifest that are gone, of those that something else speaks of.

use super::*;

#[test]
fn a_stream_whose_base_and_chunks_are_gone_is_damaged_with_file_and_remedy_until_they_are_back() {
    let volume = volume();
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 5] = [
        ("is missing", |folder| {
            std::fs::remove_file(base_file(folder)).expect("removed");
        }),
        ("checksum", |folder| {
            overwrite(&base_file(folder), |bytes| bytes[300] ^= 1);
        }),
        ("newer than", |folder| {
            overwrite(&base_file(folder), |bytes| {
                bytes[8] = 9;
                let crc = aof2_format::checksum::crc32c(&bytes[..252]);
                bytes[252..256].copy_from_slice(&crc.to_le_bytes());
            });
        }),
        ("belongs to stream", |folder| {
            rebase(folder, |base| base.stream_uuid = StreamUuid([9; 16]));
        }),
        ("chain", |folder| {
            rebase(folder, |base| base.chunks[2].chain ^= 1);
        }),
    ];
    for (why, lose) in losses {
        for gone in [0..3, 1..2, 2..3] {
            let copy = volume.copy();
            lose(copy.path());
            for number in gone.clone() {
                std::fs::remove_file(chunk_file(copy.path(), number)).expect("removed");
            }
            for _ in 0..2 {
                let (store, _) = open(copy.path());
                let told = damage(&store).unwrap_or_else(|| panic!("{why}, without {gone:?}"));
                let path = base_file(copy.path());
                for part in [why, &path.display().to_string(), "Restore the base"] {
                    assert!(told.contains(part), "{part} is not in: {told}");
                }
                store.append(durable("a")).expect_err("refused");
                store.append(durable("other")).expect("acknowledged");
                store.close().expect("closes");
            }
            // As the message says.
            for number in gone {
                let from = chunk_file(volume.folder.path(), number);
                std::fs::copy(from, chunk_file(copy.path(), number)).expect("put back");
            }
            volume.starts(copy.path(), why, false);
        }
    }
    let copy = volume.copy();
    for number in 0..4 {
        std::fs::remove_file(chunk_file(copy.path(), number)).expect("removed");
    }
    let (store, _) = open(copy.path());
    let told = damage(&store).expect("the chunk behind the base is gone");
    for part in [
        "manifest chunk 3 is missing",
        "restore EPOCH-00000000000000000003.mlog",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

/// Of the chunk in use nothing but the journal says that it was there.
#[test]
fn a_stream_whose_newest_chunk_is_gone_is_damaged_until_it_is_back() {
    for after in [AFTER, u64::MAX] {
        let folder = tempfile::tempdir().expect("a folder");
        let start = || {
            let mut options = options(folder.path());
            options.config.manifest.base_after_chunks = after;
            Store::open(options).expect("the directory opens")
        };
        let store = start();
        store.append(durable("a")).expect("acknowledged");
        store.seal(Some("a")).expect("sealed");
        for _ in 0..=AFTER {
            commit(&store, failed(ReasonCode::Codec));
            close_chunk(&store);
        }
        commit(&store, failed(ReasonCode::Transient));
        let known = state(&store);
        store.close().expect("closes");
        // The next process knows of the chunk only what was carried over.
        start().close().expect("closes");
        assert_eq!(base_file(folder.path()).exists(), after == AFTER);
        let newest = chunk_file(folder.path(), AFTER + 1);
        let aside = folder.path().join("aside");
        std::fs::rename(&newest, &aside).expect("moved");
        for _ in 0..3 {
            let store = start();
            let told = damage(&store).expect("the journal knows of it");
            for part in [
                "manifest chunk 4 is missing",
                "EPOCH-00000000000000000004.mlog from a backup",
            ] {
                assert!(told.contains(part), "{part} is not in: {told}");
            }
            store.append(durable("a")).expect_err("refused");
            store.append(durable("other")).expect("acknowledged");
            store.close().expect("closes");
        }
        std::fs::rename(&aside, &newest).expect("put back");
        let store = start();
        assert_eq!(damage(&store), None);
        assert_eq!(state(&store), known);
        store.append(durable("a")).expect("acknowledged");
        store.close().expect("closes");
    }
}

/// The journal knows of the last two chunks. That one before them is gone is told by those behind it.
#[test]
fn a_chunk_that_is_gone_before_others_is_damage_and_nothing_behind_it_is_touched() {
    let volume = volume();
    let folder = volume.copy();
    let start = || {
        let mut options = options(folder.path());
        options.config.manifest.base_after_chunks = u64::MAX;
        Store::open(options).expect("the directory opens")
    };
    let store = start();
    close_chunk(&store);
    commit(&store, failed(ReasonCode::BucketOrNetwork));
    let known = state(&store);
    store.close().expect("closes");
    // Each begins another file of the journal: what the old ones said of the chunks is written over.
    for _ in 0..=crate::testing::small_config(folder.path()).journal.files {
        let store = start();
        store.append(durable("other")).expect("acknowledged");
        store.close().expect("closes");
    }
    for gone in [4, 5] {
        let aside = folder.path().join("aside");
        std::fs::rename(chunk_file(folder.path(), gone), &aside).expect("moved");
        let behind = gone + 1..=6;
        let bytes_behind = || {
            let bytes = behind
                .clone()
                .map(|number| std::fs::read(chunk_file(folder.path(), number)));
            bytes
                .collect::<Result<Vec<_>, _>>()
                .expect("they are there")
        };
        let before = bytes_behind();
        for _ in 0..2 {
            let store = start();
            let told = damage(&store).expect("a chunk behind it is there");
            let missing = format!("manifest chunk {gone} is missing");
            assert!(told.contains(&missing), "{told}");
            store.append(durable("a")).expect_err("refused");
            store.append(durable("other")).expect("acknowledged");
            // Nor is anything added: it would stand in the wrong chunk.
            let stream = store.known("a").expect("it exists");
            let owned = stream.owned(store.pipeline());
            let commit = stream
                .manifest
                .commit(&owned, 1, vec![failed(ReasonCode::Codec)]);
            assert!(
                commit
                    .expect_err("refused")
                    .to_string()
                    .contains("no writable manifest")
            );
            let cut = stream.manifest.cut(&owned).expect_err("refused");
            assert!(cut.to_string().contains("no writable manifest"), "{cut}");
            store.close().expect("closes");
        }
        assert!(bytes_behind() == before, "they are as they were");
        std::fs::rename(&aside, chunk_file(folder.path(), gone)).expect("put back");
        let store = start();
        assert_eq!(damage(&store), None, "with {gone}");
        assert_eq!(state(&store), known);
        store.close().expect("closes");
    }
}

/// It holds nothing, but the one before it is closed, and may be in Tier 2.
#[test]
fn an_empty_chunk_in_use_that_is_gone_is_made_again_and_the_closed_one_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    store.seal(Some("a")).expect("sealed");
    close_chunk(&store);
    let known = state(&store);
    store.close().expect("closes");
    let closed = std::fs::read(chunk_file(folder.path(), 0)).expect("a chunk");
    std::fs::remove_file(chunk_file(folder.path(), 1)).expect("removed");
    let (store, _) = open(folder.path());
    assert_eq!(damage(&store), None);
    assert_eq!(state(&store), known);
    commit(&store, failed(ReasonCode::Codec));
    let known = state(&store);
    store.close().expect("closes");
    let found = std::fs::read(chunk_file(folder.path(), 0)).expect("a chunk");
    assert!(found == closed, "it is as it was");
    let (store, _) = open(folder.path());
    assert_eq!(damage(&store), None);
    assert_eq!(state(&store), known);
}

/// A start that was cut off removed some of them.
#[test]
fn an_empty_chunk_behind_a_gap_is_not_gone_on_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = open(folder.path());
    store.append(durable("a")).expect("acknowledged");
    store.close().expect("closes");
    let empty = chunk_file(folder.path(), 2);
    std::fs::write(&empty, [0; 8 << 10]).expect("written");
    for number in 0..3 {
        let (store, _) = open(folder.path());
        assert_eq!(damage(&store), None, "start {number}");
        commit(&store, failed(ReasonCode::Codec));
        close_chunk(&store);
        let stream = store.known("a").expect("it exists");
        assert_eq!(stream.manifest.chunk_in_use(), Some(number + 1));
        store.close().expect("closes");
    }
}
