//! Small data directories, and what was acknowledged in them.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::config::MIB;
use aof2_core::io::SystemDisk;
use aof2_core::io::fault::{FaultDisk, Faults};
use aof2_core::{AppendRequest, Config, Durability, Identity, OpenOptions, Producer, Store};
use aof2_format::Seed;
use aof2_format::journal::{self, JournalHeader};
use aof2_format::journal_mark::JournalMark;
use bytes::Bytes;

pub const CLUSTER: &str = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
const BLOCK: usize = 4096;

pub struct Fixture {
    pub name: &'static str,
    directory: tempfile::TempDir,
    data: PathBuf,
    image: Image,
    /// Payloads by stream.
    pub model: BTreeMap<String, Vec<Vec<u8>>>,
}

pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub fn options(directory: &Path) -> OpenOptions {
    let mut config = Config::new(directory);
    config.journal.file_bytes = 4 * MIB;
    config.journal.files = 2;
    config.segment.target_bytes = MIB;
    // Nothing but the journal holds what is appended, until something asks for a checkpoint.
    config.checkpoint.interval = Duration::from_secs(3600);
    OpenOptions::new(
        config,
        Identity {
            cluster_id: CLUSTER.to_owned(),
            node: "orders-0".to_owned(),
        },
    )
}

struct Writer<'a> {
    store: &'a Store,
    model: &'a mut BTreeMap<String, Vec<Vec<u8>>>,
}

impl Writer<'_> {
    fn append(&mut self, stream: &str, bytes: usize) {
        let records = self.model.entry(stream.to_owned()).or_default();
        let mut payload = format!("{stream}/{}/", records.len()).into_bytes();
        payload.resize(payload.len() + bytes, b'.');
        let appended = self
            .store
            .append(AppendRequest {
                stream: stream.to_owned(),
                payloads: vec![Bytes::from(payload.clone())],
                durability: Durability::Durable,
                producer: Some(Producer {
                    id: 7,
                    first_seq: records.len() as u64,
                    since: 0,
                }),
            })
            .unwrap();
        assert_eq!(appended.first_sequence, records.len() as u64);
        records.push(payload);
    }
}

impl Fixture {
    pub fn killed() -> Fixture {
        Fixture::make("killed", |data, store, faults| {
            wait_for_the_mark(data);
            let kept = data.parent().unwrap().join("kept");
            faults.at_one_moment(|| copy(data, &kept));
            drop(store);
            std::fs::remove_dir_all(data).unwrap();
            std::fs::rename(kept, data).unwrap();
        })
    }

    pub fn closed() -> Fixture {
        Fixture::make("closed", |_, store, _| store.close().unwrap())
    }

    /// Three streams: one with sealed segments and an open one, one with an open one alone, one with a single record. `old` is a state
    /// of the same directory in the middle of it.
    fn make(name: &'static str, end: impl FnOnce(&Path, Store, &Faults)) -> Fixture {
        let directory = scratch();
        let data = directory.path().join("data");
        let mut model = BTreeMap::new();
        // An earlier process, so that there is a journal file that is not needed any more.
        {
            let store = Store::open(options(&data)).unwrap();
            let mut writer = Writer {
                store: &store,
                model: &mut model,
            };
            for stream in ["orders", "carts"] {
                writer.append(stream, 40);
                writer.append(stream, 400);
            }
            store.seal(Some("orders")).unwrap();
        }
        let (disk, faults) = FaultDisk::new(Arc::new(SystemDisk));
        let mut options = options(&data);
        options.environment.disk = disk;
        let store = Store::open(options).unwrap();
        let mut writer = Writer {
            store: &store,
            model: &mut model,
        };
        for _ in 0..3 {
            writer.append("orders", 100);
        }
        store.seal(Some("orders")).unwrap();
        let mut writer = Writer {
            store: &store,
            model: &mut model,
        };
        writer.append("orders", 10);
        writer.append("carts", 10);
        wait_for_the_mark(&data);
        faults.at_one_moment(|| copy(&data, &directory.path().join("old")));
        for round in 0..3 {
            writer.append("orders", 20 + round);
            writer.append("carts", 700);
        }
        writer.append("single", 5);
        end(&data, store, &faults);
        Fixture {
            name,
            image: Image::of(&data),
            data,
            directory,
            model,
        }
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn old(&self) -> PathBuf {
        self.directory.path().join("old")
    }

    pub fn copy_to(&self, to: &Path) {
        if to.exists() {
            std::fs::remove_dir_all(to).unwrap();
        }
        self.image.write(to);
    }
}

/// A directory in memory: files are mostly zeroes, and only what is not is kept.
#[derive(Default)]
struct Image {
    directories: Vec<PathBuf>,
    files: Vec<SparseFile>,
}

struct SparseFile {
    path: PathBuf,
    length: u64,
    blocks: Vec<(u64, Vec<u8>)>,
}

impl Image {
    fn of(root: &Path) -> Image {
        let (files, directories) = crate::contents(root);
        let files = files.into_iter().map(|path| {
            let bytes = std::fs::read(root.join(&path)).unwrap();
            let blocks = bytes.chunks(BLOCK).enumerate();
            let written = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
            SparseFile {
                path,
                length: bytes.len() as u64,
                blocks: written
                    .map(|(index, block)| ((index * BLOCK) as u64, block.to_vec()))
                    .collect(),
            }
        });
        Image {
            files: files.collect(),
            directories,
        }
    }

    fn write(&self, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for directory in &self.directories {
            std::fs::create_dir_all(to.join(directory)).unwrap();
        }
        for SparseFile {
            path,
            length,
            blocks,
        } in &self.files
        {
            let file = std::fs::File::create(to.join(path)).unwrap();
            file.set_len(*length).unwrap();
            for (offset, block) in blocks {
                file.write_all_at(block, *offset).unwrap();
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    Image::of(from).write(to);
}

/// Until the mark tells of the last commit in the journal.
fn wait_for_the_mark(data: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mark = std::fs::read(data.join("journal.mark")).unwrap();
        let marked = JournalMark::decode_file(&mark)
            .map(|mark| mark.commit)
            .max()
            .unwrap_or(0);
        if marked == last_commit(data) {
            return;
        }
        assert!(Instant::now() < deadline, "the journal is not marked");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn last_commit(data: &Path) -> u64 {
    let mut last = 0;
    for entry in std::fs::read_dir(data.join("journal")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let Ok(header) = JournalHeader::decode_any(&bytes) else {
            continue;
        };
        let mut offset = journal::FIRST_COMMIT_OFFSET as usize;
        while let Ok(commit) =
            journal::decode_commit(&bytes[offset..], header.salt, Seed::new(header.salt))
        {
            last = last.max(commit.fields.number);
            offset += commit.padded_bytes();
        }
    }
    last
}
