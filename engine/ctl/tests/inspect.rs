//! `manifest-inspect` on what a real engine writes: filters, a manifest that is followed, and buckets.

#[path = "support/s3.rs"]
mod s3;
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use aof2_format::manifest_base::{BaseChunk, ManifestBase};
use aof2_format::manifest_chunk::{self, ManifestChunkHeader};
use aof2_format::manifest_record::{ManifestEvent, ManifestRecord};
use aof2_format::names::file;
use aof2_format::{ClusterId, Salt, Seed, StreamName, StreamUuid};

use s3::S3;
use serde_json::Value;
use support::{Engine, INSPECT, Ran, run, wait_for};

fn inspect(arguments: &[&str]) -> Ran {
    run(INSPECT, arguments, "")
}

/// Names of the events in a list of chunks.
fn events(chunks: &Value) -> Vec<String> {
    let chunks = chunks.as_array().expect("a list");
    let records = chunks
        .iter()
        .flat_map(|chunk| chunk["records"].as_array().expect("a list"));
    let event = |record: &Value| record["event"].as_str().expect("a name").to_owned();
    records.map(event).collect()
}

/// A process that follows, and the lines that it has printed.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    fn start(arguments: &[&str]) -> Follower {
        let mut child = Command::new(INSPECT)
            .args(arguments)
            .arg("--follow")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (printed, said) = (lines.clone(), child.stderr.take().expect("piped"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                printed.lock().expect("no panic").push(line);
            }
        });
        // With JSON nothing says that it has begun but what it prints.
        if !arguments.contains(&"--json") {
            let mut first = String::new();
            let mut said = BufReader::new(said);
            said.read_line(&mut first).expect("a line");
            assert!(first.starts_with("following "), "{first}");
            std::thread::spawn(move || said.lines().count());
        }
        Follower { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    fn until(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        wait_for(what, || holds(&self.lines()).then_some(()));
    }

    /// As a terminal does at Ctrl-C.
    fn interrupt(mut self) -> i32 {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.expect("kill runs").success());
        let status = wait_for("its end", || self.child.try_wait().expect("its state"));
        status.code().expect("it was not killed")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sealed(engine: &Engine, stream: &str) {
    engine.admin(&["append", stream, "--payload", "x"], "").ok();
    engine.admin(&["seal", "--stream", stream], "").ok();
}

#[test]
fn events_streams_and_times_choose_what_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = Engine::start_with_tier2(directory.path());
    for stream in ["orders-a", "orders-b", "payments"] {
        sealed(&engine, stream);
    }
    engine
        .admin(&["trim", "payments", "--before", "1", "--yes"], "")
        .ok();
    let segments = || engine.admin(&["segments", "--json"], "").json().to_string();
    wait_for("the uploads", || {
        (segments().matches("\"Cold\"").count() >= 2).then_some(())
    });
    // Recovery brings what only the journal holds into the chunks.
    engine.restart();
    engine.kill();
    let data = engine.data().display().to_string();

    let seals = inspect(&[&data, "--event", "SealSegment", "--json"]).json();
    assert_eq!(events(&seals), ["SealSegment"; 3]);
    let two = inspect(&[
        &data,
        "--event",
        "uploaddone",
        "--event",
        "SealSegment",
        "--stream",
        "orders-*",
        "--json",
    ]);
    assert_eq!(
        events(&two.json()),
        ["SealSegment", "UploadDone", "SealSegment", "UploadDone"]
    );
    let trims = inspect(&[&data, "--event", "StartSequence"]).ok();
    assert!(
        trims.contains("CustomEvent")
            && trims.contains("schema=StartSequence")
            && trims.contains("start_sequence=1"),
        "{trims}"
    );
    assert!(trims.contains(": 1 of "), "{trims}");
    assert_eq!(
        inspect(&[&data, "--event", "Unknown"]).ok(),
        "no record matches\n"
    );
    // A chunk without a record is shown where nothing is chosen.
    let mut all = inspect(&[&data, "--json"]).json();
    let chunks = all.as_array_mut().expect("a list");
    chunks.retain(|chunk| chunk["records"].as_array().is_some_and(|it| !it.is_empty()));
    assert_eq!(
        inspect(&[&data, "--since", "2020-01-01T00:00:00Z", "--json"]).json(),
        all
    );
    assert_eq!(
        inspect(&[&data, "--since", "2100-01-01T00:00:00Z", "--json"]).json(),
        Value::Array(Vec::new())
    );
    assert!(
        inspect(&[&data, "--since", "2h"])
            .ok()
            .contains("SealSegment")
    );

    let typo = inspect(&[&data, "--event", "SealSegmnt"]);
    assert_eq!(typo.code, 2, "{typo:?}");
    assert!(
        typo.stderr
            .contains("`SealSegmnt` is no event; use one of SegmentOpened, SealSegment, ")
            && typo.stderr.contains(
                "CustomEvent, ProducerChanges, SnapshotNote, StartSequence, StreamCut, Compaction, SnapshotDeletion, Unknown"
            ),
        "{typo:?}"
    );
    let late = inspect(&[&data, "--since", "yesterday"]);
    assert!(
        late.code == 2 && late.stderr.contains("is no time; use RFC 3339"),
        "{late:?}"
    );
    let nobody = inspect(&[&data, "--stream", "nobody"]);
    assert!(
        nobody.code == 2 && nobody.stderr.contains("matches \"nobody\""),
        "{nobody:?}"
    );
}

#[test]
fn a_manifest_is_followed_from_chunk_to_chunk_until_it_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start_with_tier2(directory.path());
    sealed(&engine, "orders");
    let data = engine.data().display().to_string();
    let before = inspect(&[&data, "--json"]);
    assert_eq!(before.code, 0, "{before:?}");
    let lines = Follower::start(&[&data]);
    let json = Follower::start(&[
        &data,
        "--json",
        "--since",
        "2020-01-01T00:00:00Z",
        "--event",
        "SealSegment",
    ]);
    let filtered = Follower::start(&[&data, "--stream", "pay*"]);
    let count = |event: &str, lines: &[String]| {
        let of_event = lines.iter().filter(|line| line.contains(event));
        of_event.count()
    };
    for (round, stream) in (1..).zip(["orders", "payments", "orders"]) {
        sealed(&engine, stream);
        // It closes a chunk, and another one begins.
        engine.admin(&["snapshot", "take", stream], "").ok();
        lines.until("the seal and the marker", |lines| {
            count(" SealSegment ", lines) >= round && count(" SnapshotMarker ", lines) == round
        });
    }
    json.until("all seals", |lines| lines.len() == 4);
    for line in json.lines() {
        let record: Value = serde_json::from_str(&line).expect("one object per line");
        assert_eq!(record["event"], "SealSegment");
        assert!(
            record["stream"].is_string() && record["manifest_sequence"].is_u64(),
            "{line}"
        );
    }
    filtered.until("the other stream", |lines| {
        count(" SnapshotMarker ", lines) == 1
    });
    assert!(
        filtered
            .lines()
            .iter()
            .all(|line| line.contains(" payments "))
    );
    // Each record once and in its order.
    let mut next = std::collections::BTreeMap::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number: u64 = words[2].parse().expect("its number");
        let last = next.insert(words[1].to_owned(), number);
        assert!(last.is_none_or(|last| last + 1 == number), "{line}");
    }
    for follower in [lines, json, filtered] {
        assert_eq!(follower.interrupt(), 0);
    }
    let one_chunk = Command::new("find")
        .args([&data, "-name", "*.mlog"])
        .output()
        .expect("find runs");
    let listed = String::from_utf8(one_chunk.stdout).expect("UTF-8");
    let chunk = listed.lines().next().expect("a chunk");
    let refused = inspect(&[chunk, "--follow"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("is a file"),
        "{refused:?}"
    );
}

#[test]
fn a_tier_2_in_a_directory_has_chunks_and_catalogues() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start_with_tier2(directory.path());
    let tier2 = engine.path("tier2");
    sealed(&engine, "orders");
    let nothing = inspect(&["--tier2-directory", &tier2]);
    assert_eq!(nothing.code, 5, "{nothing:?}");
    assert!(
        nothing
            .stderr
            .contains("with the first snapshot of a stream"),
        "{nothing:?}"
    );
    engine.admin(&["snapshot", "take", "orders"], "").ok();
    let both = inspect(&["--tier2-directory", &tier2, "--json"]).json();
    assert!(
        events(&both["chunks"]).contains(&"UploadDone".to_owned()),
        "{both}"
    );
    let catalogue = &both["catalogues"][0];
    assert_eq!(
        (&catalogue["stream"], &catalogue["segments"]),
        (&"orders".into(), &1.into())
    );
    let page = inspect(&["--tier2-directory", &tier2]).ok();
    assert!(
        page.contains("stream orders: 1 catalogues") && page.contains("SealSegment"),
        "{page}"
    );
    let other = inspect(&["--tier2-directory", &engine.path("data")]);
    assert!(
        other.code == 2 && other.stderr.contains("holds no Tier 2"),
        "{other:?}"
    );
}

#[test]
fn a_bucket_is_read_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = S3::start(directory.path());
    let config = server.config();
    let engine = Engine::start_with_config(directory.path(), &config);
    for stream in ["orders", "payments"] {
        sealed(&engine, stream);
        engine.admin(&["snapshot", "take", stream], "").ok();
    }
    let name = config.display().to_string();
    let by_config = inspect(&["--config", &name, "--json"]).json();
    let streams = |list: &Value| -> Vec<String> {
        let entries = list.as_array().expect("a list").iter();
        entries
            .map(|it| it["stream"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(streams(&by_config["chunks"]), ["orders", "payments"]);
    assert_eq!(streams(&by_config["catalogues"]), ["orders", "payments"]);
    let (endpoint, keys) = (server.endpoint(), server.credentials());
    let by_url = [
        "s3://aof2-test/p",
        "--endpoint",
        &endpoint,
        "--region",
        "us-east-1",
        "--addressing",
        "Path",
        "--credentials-directory",
        &keys,
    ];
    assert_eq!(
        inspect(&[&by_url[..], &["--json"]].concat()).json(),
        by_config
    );
    let one = inspect(
        &[
            &by_url[..],
            &["--json", "--stream", "orders", "--event", "SealSegment"],
        ]
        .concat(),
    );
    let one = one.json();
    assert_eq!(events(&one["chunks"]), ["SealSegment"]);
    assert_eq!(one["catalogues"], Value::Array(Vec::new()));
    let elsewhere = inspect(&["s3://aof2-test/p/", "--endpoint", &endpoint]);
    assert!(
        elsewhere.code == 2 && elsewhere.stderr.contains("--region is missing"),
        "{elsewhere:?}"
    );
    let no_prefix = inspect(&["s3://aof2-test", "--region", "x"]);
    assert!(
        no_prefix.code == 2 && no_prefix.stderr.contains("names no prefix"),
        "{no_prefix:?}"
    );

    let follower = Follower::start(&["--config", &name]);
    sealed(&engine, "orders");
    engine.admin(&["snapshot", "take", "orders"], "").ok();
    follower.until("the chunk and the catalogue", |lines| {
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        has(" orders ") && has(" SealSegment ") && has(" catalogue ")
    });
    assert_eq!(follower.interrupt(), 0);
    server.stop();
    let gone = inspect(&["--config", &name]);
    assert_eq!(gone.code, 3, "{gone:?}");
    assert!(gone.stderr.contains(&endpoint), "{gone:?}");
}

/// Chunks of one manifest, written as an engine does.
struct Manifest {
    folder: PathBuf,
    chain: u32,
    next: u64,
    /// Of each closed chunk and the one in use: chain and next record behind it.
    ends: Vec<(u32, u64, Vec<u8>)>,
    records: Vec<ManifestRecord>,
}

const SALT: Salt = Salt(7);

impl Manifest {
    fn new(folder: &Path) -> Manifest {
        std::fs::create_dir_all(folder).unwrap();
        let mut manifest = Manifest {
            folder: folder.to_owned(),
            chain: 0,
            next: 0,
            ends: Vec::new(),
            records: Vec::new(),
        };
        manifest.begin();
        manifest
    }

    fn path(&self, chunk: usize) -> PathBuf {
        self.folder.join(file::manifest_chunk(1, chunk as u64))
    }

    fn begin(&mut self) {
        let header = ManifestChunkHeader {
            cluster_id: ClusterId([1; 16]),
            stream: StreamName::new("orders").unwrap(),
            stream_uuid: StreamUuid([2; 16]),
            stream_salt: SALT,
            epoch: 1,
            chunk: self.ends.len() as u64,
            base_manifest_sequence: self.next,
            prev_chain: self.chain,
            created_unix_nanos: 0,
        };
        self.ends
            .push((self.chain, self.next, header.encode().to_vec()));
        self.write(None);
    }

    fn commit(&mut self) {
        self.stage();
        self.write(None);
    }

    fn stage(&mut self) {
        let record = ManifestRecord {
            stream_uuid: StreamUuid([2; 16]),
            segment_id: 3,
            manifest_sequence: self.next,
            wall_unix_nanos: 1_764_043_200_000_000_000,
            epoch: 1,
            event: ManifestEvent::SegmentOpened {
                base_sequence: self.next,
                epoch: 1,
            },
        };
        self.next += 1;
        self.records.push(record.clone());
        let (chain, next, bytes) = self.ends.last_mut().unwrap();
        *chain = manifest_chunk::encode_commit(bytes, &[record], *chain, Seed::new(SALT));
        *next += 1;
        self.chain = *chain;
    }

    /// The chunk in use, in blocks that were taken ahead; of the bytes only so many.
    fn write(&self, only: Option<usize>) {
        let (_, _, bytes) = self.ends.last().unwrap();
        let mut blocks = bytes[..only.unwrap_or(bytes.len())].to_vec();
        blocks.resize(bytes.len().next_multiple_of(4_096) + 4_096, 0);
        std::fs::write(self.path(self.ends.len() - 1), blocks).unwrap();
    }

    /// A base stands for all chunks so far, and none of them is left.
    fn prune(&self) {
        let mut first = 0;
        let chunks = self.ends.iter().map(|(chain, next, bytes)| BaseChunk {
            epoch: 1,
            chain: *chain,
            bytes: bytes.len() as u64,
            crc64: 0,
            first_manifest_sequence: std::mem::replace(&mut first, *next),
            next_manifest_sequence: *next,
        });
        let base = ManifestBase {
            cluster_id: ClusterId([1; 16]),
            stream: StreamName::new("orders").unwrap(),
            stream_uuid: StreamUuid([2; 16]),
            stream_salt: SALT,
            epoch: 1,
            created_unix_nanos: 0,
            chunks: chunks.collect(),
            records: self.records.clone(),
            producers: Vec::new(),
            forgotten_before: 0,
            recent_from: 0,
        };
        std::fs::write(self.folder.join(file::MANIFEST_BASE), base.encode()).unwrap();
        for chunk in 0..self.ends.len() {
            std::fs::remove_file(self.path(chunk)).unwrap();
        }
    }
}

/// Numbers of the records that were printed.
fn numbers(lines: &[String]) -> Vec<u64> {
    let number = |line: &String| line.split(' ').nth(2).expect("a number").parse().unwrap();
    lines.iter().map(number).collect()
}

#[test]
fn a_follower_shows_each_record_once_across_torn_commits_new_chunks_and_pruned_ones() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("manifest");
    let mut manifest = Manifest::new(&folder);
    manifest.commit();
    manifest.commit();
    let place = folder.display().to_string();
    let follower = Follower::start(&[&place, "--since", "2020-01-01T00:00:00Z"]);
    follower.until("what was there", |lines| numbers(lines) == [0, 1]);
    // Half of a commit is on its way, and all of the next one stands behind it some time later.
    manifest.stage();
    let whole = manifest.ends.last().unwrap().2.len();
    manifest.write(Some(whole - 5));
    let quiet = Follower::start(&[&place]);
    manifest.commit();
    follower.until("both", |lines| numbers(lines) == [0, 1, 2, 3]);
    manifest.begin();
    manifest.commit();
    follower.until("the next chunk", |lines| numbers(lines) == [0, 1, 2, 3, 4]);
    // Two chunks come and go between two looks; the base has what still counts of them.
    manifest.begin();
    manifest.commit();
    manifest.begin();
    manifest.commit();
    manifest.prune();
    manifest.begin();
    manifest.commit();
    follower.until("all of it", |lines| {
        numbers(lines) == [0, 1, 2, 3, 4, 5, 6, 7]
    });
    quiet.until("what came later", |lines| {
        numbers(lines) == [2, 3, 4, 5, 6, 7]
    });
    assert_eq!(quiet.interrupt(), 0);
    // A chunk that goes on behind what is there: something in between is lost.
    manifest.next += 3;
    manifest.begin();
    manifest.commit();
    follower.until("what goes on", |lines| numbers(lines).last() == Some(&11));
    assert_eq!(follower.interrupt(), 1);
}
