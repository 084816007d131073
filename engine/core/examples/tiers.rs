//! Reads from all tiers, and appends beside them, each held against what it cannot be faster than, in one run.
//!
//! `cargo run --release -p aof2-core --example tiers -- [directory] [MiB] [ms that a request to Tier 2 takes] [scan | points | readers | appends | segments]`
//!
//! For `segments` the second number is how many of them there are.
//!
//! Tier 2 is a folder whose requests take so long: what a bucket costs without what its network does by chance.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // no part of the store
#![allow(unsafe_code)] // the limit that a hot scan is held against maps files of its own

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aof2_core::claims::suite::{CLUSTER, claims_of};
use aof2_core::jobs::warm;
use aof2_core::objects::directory::DirectoryStore;
use aof2_core::objects::{
    ListedPage, Object, ObjectError, ObjectMeta, ObjectStore, Page, PutOutcome, Removal, Source,
    Upload,
};
use aof2_core::request::ReadRequest;
use aof2_core::tier::Tiers;
use aof2_core::{
    AppendError, AppendRequest, Claims, Config, Durability, Identity, OpenOptions, Store,
};
use aof2_format::checksum::crc32c;
use bytes::Bytes;

const RECORD_BYTES: usize = 1024;
const MIB: u64 = 1 << 20;
const STREAM: &str = "a";
/// Records of one append; a checksum covers them together.
const BATCH: usize = 16;
const BLOCK: usize = 64 << 10;

/// A folder whose requests take a while.
struct Distant {
    near: DirectoryStore,
    latency: Duration,
}

impl Distant {
    fn travel(&self) -> &DirectoryStore {
        thread::sleep(self.latency);
        &self.near
    }
}

impl ObjectStore for Distant {
    fn place(&self) -> String {
        self.near.place()
    }
    fn put_if_absent(&self, key: &str, upload: &Upload) -> Result<PutOutcome, ObjectError> {
        self.travel().put_if_absent(key, upload)
    }
    fn put_if_match(
        &self,
        key: &str,
        upload: &Upload,
        etag: &str,
    ) -> Result<PutOutcome, ObjectError> {
        self.travel().put_if_match(key, upload, etag)
    }
    fn put(&self, key: &str, upload: &Upload) -> Result<String, ObjectError> {
        self.travel().put(key, upload)
    }
    fn get_within(&self, key: &str, max_bytes: u64) -> Result<Option<Object>, ObjectError> {
        self.travel().get_within(key, max_bytes)
    }
    fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Option<Bytes>, ObjectError> {
        self.travel().get_range(key, offset, length)
    }
    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        self.travel().head(key)
    }
    fn list(&self, prefix: &str, start_after: Option<&str>) -> Result<Vec<String>, ObjectError> {
        self.travel().list(prefix, start_after)
    }
    fn list_page(&self, prefix: &str, start_after: Option<&str>) -> Result<Page, ObjectError> {
        self.travel().list_page(prefix, start_after)
    }
    fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<ListedPage, ObjectError> {
        self.travel().list_objects(prefix, start_after)
    }
    fn delete(&self, key: &str) -> Result<Removal, ObjectError> {
        self.travel().delete(key)
    }
}

/// Where most of the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Hot,
    Warm,
    Cold,
}

struct Node {
    store: Store,
    tiers: Tiers,
    objects: Arc<dyn ObjectStore>,
    config: Config,
    directory: PathBuf,
}

impl Node {
    fn open(directory: &Path, place: Place, bytes: u64, latency: Duration) -> Node {
        std::fs::create_dir_all(directory).expect("a folder");
        let near = DirectoryStore::open(directory.join("bucket")).expect("a bucket");
        let objects: Arc<dyn ObjectStore> = Arc::new(Distant { near, latency });
        let claims = Arc::new(claims_of(&objects, "p/", "bench-0"));
        let volume = directory.join("volume");
        std::fs::create_dir_all(&volume).expect("a folder");
        let mut config = Config::new(&volume);
        config.journal.files = 4;
        config.tier0.instance_quota_bytes = match place {
            Place::Hot => 4 * bytes,
            Place::Warm | Place::Cold => 64 * MIB,
        };
        config.tier1.max_bytes = match place {
            Place::Hot | Place::Warm => 0,
            Place::Cold => 16 * MIB,
        };
        // Each tier is measured where it is.
        config.hydration.on_demand = false;
        let identity = Identity {
            cluster_id: CLUSTER.to_owned(),
            node: "bench-0".to_owned(),
        };
        let mut options = OpenOptions::new(config.clone(), identity);
        options.claims = Some(claims.clone() as Arc<dyn Claims>);
        let store = Store::open(options).expect("the store opens");
        let tiers = Tiers::start(Arc::new(store.clone()), Some(claims), &config).expect("threads");
        Node {
            store,
            tiers,
            objects,
            config,
            directory: volume,
        }
    }

    fn filled(directory: &Path, place: Place, bytes: u64, latency: Duration, batch: usize) -> Node {
        let node = Node::open(directory, place, bytes, latency);
        let records = bytes / RECORD_BYTES as u64;
        let mut next = 0;
        while next < records {
            append(&node.store, next, batch, Durability::Buffered);
            next += batch as u64;
        }
        node.store.seal(None).expect("sealed");
        node.settle();
        node
    }

    /// Until everything is where it belongs.
    fn settle(&self) {
        let mut known = None;
        let mut since = Instant::now();
        loop {
            let moves = self.tiers.tier2_status().expect("a Tier 2").moves;
            let now = (
                moves.pending_uploads,
                moves.evicted_segments,
                moves.evicted_warm_segments,
                moves.compressed_segments,
            );
            if now.0 > 0 || known != Some(now) {
                since = Instant::now();
                known = Some(now);
            }
            if since.elapsed() > Duration::from_secs(1) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn copies(&self) -> String {
        let segments = self.store.segments(STREAM).expect("a stream");
        let hot = segments.iter().filter(|it| it.copies.hot).count();
        let warm = segments
            .iter()
            .filter(|it| it.copies.warm.is_some())
            .count();
        format!("{} segments, {hot} hot, {warm} warm", segments.len())
    }

    /// Seconds for the records from `from` to `to`.
    fn scan(&self, from: u64, to: u64) -> f64 {
        let request = ReadRequest {
            stream: STREAM.to_owned(),
            from_sequence: from,
            limit: 0,
            include_staged: false,
        };
        let mut reader = self.store.read(request).expect("a stream");
        let begun = Instant::now();
        let mut bytes = 0;
        while reader.position() < to {
            let batch = reader.next_batch(MIB as usize).expect("readable");
            let Some(batch) = batch else { break };
            bytes += batch.iter().map(|it| it.payload.len()).sum::<usize>();
        }
        assert!(bytes as u64 >= (to - from) * RECORD_BYTES as u64);
        begun.elapsed().as_secs_f64()
    }

    fn point(&self, sequence: u64) {
        let request = ReadRequest {
            stream: STREAM.to_owned(),
            from_sequence: sequence,
            limit: 1,
            include_staged: false,
        };
        let mut reader = self.store.read(request).expect("a stream");
        let batch = reader.next_batch(RECORD_BYTES).expect("readable");
        assert_eq!(batch.expect("a record")[0].sequence, sequence);
    }

    fn close(self) {
        self.tiers.stop();
        self.store.close().expect("closes");
    }

    /// Warm files or objects, ascending.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.directory.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.objects.list("p/segments/", None).expect("a bucket");
        assert!(!keys.is_empty());
        keys
    }
}

/// A file or an object as the product's own walk over warm files takes it.
struct Bytewise(Vec<u8>);

impl Source for Bytewise {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        let from = offset as usize;
        buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
        Ok(())
    }
}

/// Half of it is the same in all, the other half are digits, as of log lines.
fn payload(sequence: u64) -> Bytes {
    let mut bytes = vec![b'.'; RECORD_BYTES];
    let mut state = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for part in bytes[..RECORD_BYTES / 2].chunks_mut(16) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        part.copy_from_slice(&format!("{state:016x}").as_bytes()[..part.len()]);
    }
    bytes.into()
}

fn append(store: &Store, next: u64, count: usize, durability: Durability) {
    let payloads: Vec<Bytes> = (next..next + count as u64).map(payload).collect();
    loop {
        let request = AppendRequest {
            stream: STREAM.to_owned(),
            payloads: payloads.clone(),
            durability,
            producer: None,
        };
        match store.append(request) {
            Ok(_) => return,
            Err(AppendError::WouldBlock { .. } | AppendError::DiskFull { .. }) => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ratio(name: &str, limit: &str, limit_seconds: f64, seconds: f64) {
    println!(
        "{name}: {:.2} of {limit} ({:.0} us, limit {:.0} us)",
        limit_seconds / seconds,
        seconds * 1e6,
        limit_seconds * 1e6
    );
}

fn scan(root: &Path, bytes: u64, latency: Duration) {
    let records = bytes / RECORD_BYTES as u64;
    // Hot: the files mapped, every byte through the checksum of records.
    let node = Node::filled(&root.join("hot"), Place::Hot, bytes, latency, BATCH);
    println!("hot: {}", node.copies());
    let files = node.files("seg");
    let mapped = || {
        let begun = Instant::now();
        let mut sum = 0;
        for path in &files {
            let file = File::open(path).expect("opened");
            let length = file.metadata().expect("there").len() as usize;
            let map = unsafe { memmap2::Mmap::map(&file).expect("mapped") };
            for part in map[..length].chunks(RECORD_BYTES) {
                sum ^= crc32c(part);
            }
        }
        std::hint::black_box(sum);
        begun.elapsed().as_secs_f64()
    };
    let pairs: Vec<(f64, f64)> = (0..5).map(|_| (mapped(), node.scan(0, records))).collect();
    let of = |at: fn(&(f64, f64)) -> f64| median(pairs.iter().map(at).collect());
    ratio(
        "scan, hot",
        "mmap and checksum",
        of(|it| it.0),
        of(|it| it.1),
    );
    node.close();

    // Warm: every block of every warm file, decompressed by one thread.
    let node = Node::filled(&root.join("warm"), Place::Warm, bytes, latency, BATCH);
    println!("warm: {}", node.copies());
    let warm_end = node
        .store
        .segments(STREAM)
        .expect("a stream")
        .iter()
        .find(|it| it.copies.hot)
        .map_or(records, |it| it.base_sequence);
    let files = node.files("aofz");
    let decompressed = || {
        let begun = Instant::now();
        for path in &files {
            let source = Bytewise(std::fs::read(path).expect("read"));
            let index = warm::read_index(&source, "a file").expect("an index");
            for (number, block) in index.blocks.iter().enumerate() {
                let from = block.compressed_offset as usize;
                let part = &source.0[from..from + block.compressed_bytes as usize];
                std::hint::black_box(warm::block_of(&index, number, part).expect("whole"));
            }
        }
        begun.elapsed().as_secs_f64()
    };
    let share = warm_end as f64 / records as f64;
    let pairs: Vec<(f64, f64)> = (0..5)
        .map(|_| (decompressed() * share, node.scan(0, warm_end)))
        .collect();
    let of = |at: fn(&(f64, f64)) -> f64| median(pairs.iter().map(at).collect());
    ratio(
        "scan, warm",
        "decompression by one thread",
        of(|it| it.0),
        of(|it| it.1),
    );
    node.close();

    // Cold: the same blocks by ranged GETs, as many at a time.
    let node = Node::filled(&root.join("cold"), Place::Cold, bytes, latency, BATCH);
    println!("cold: {}", node.copies());
    let cold_end = node
        .store
        .segments(STREAM)
        .expect("a stream")
        .iter()
        .find(|it| it.copies.hot || it.copies.warm.is_some())
        .map_or(records, |it| it.base_sequence);
    let share = cold_end as f64 / records as f64;
    let raw = || ranged_gets(&node, share);
    let pairs: Vec<(f64, f64)> = (0..3).map(|_| (raw(), node.scan(0, cold_end))).collect();
    let of = |at: fn(&(f64, f64)) -> f64| median(pairs.iter().map(at).collect());
    ratio(
        "scan, cold",
        "ranged GETs of the same length, as many at a time",
        of(|it| it.0),
        of(|it| it.1),
    );
    node.close();
}

/// Blocks of the first part of the objects, each with a GET of its own.
fn ranged_gets(node: &Node, share: f64) -> f64 {
    let keys = node.keys();
    let keys = &keys[..(keys.len() as f64 * share).ceil() as usize];
    // As long as one of the engine's.
    const REQUEST_BYTES: u64 = MIB;
    let mut parts: Vec<(&String, u64, u64)> = Vec::new();
    for key in keys {
        let object = node.objects.get(key).expect("answered").expect("there");
        let source = Bytewise(object.bytes.to_vec());
        let index = warm::read_index(&source, key).expect("an index");
        let mut left = 0;
        for (number, block) in index.blocks.iter().enumerate() {
            let bytes = u64::from(block.compressed_bytes);
            match parts.last_mut().filter(|_| left > 0) {
                Some((_, _, length)) => *length += bytes,
                None => {
                    parts.push((key, block.compressed_offset, bytes));
                    left = REQUEST_BYTES;
                }
            }
            left = left.saturating_sub(index.uncompressed_bytes(number) as u64);
        }
    }
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..node.config.tier2.read_concurrency {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some((key, offset, length)) = parts.get(at) else {
                        return;
                    };
                    let part = node.objects.get_range(key, *offset, *length);
                    std::hint::black_box(part.expect("answered"));
                }
            });
        }
    });
    begun.elapsed().as_secs_f64()
}

/// Of records far apart, each in a block that nobody read yet.
fn points(root: &Path, bytes: u64, latency: Duration) {
    for place in [Place::Hot, Place::Warm, Place::Cold] {
        let node = Node::filled(
            &root.join(format!("points-{place:?}")),
            place,
            bytes,
            latency,
            1,
        );
        println!("{place:?}: {}", node.copies());
        let segments = node.store.segments(STREAM).expect("a stream");
        let wanted: Vec<u64> = segments
            .iter()
            .filter(|it| match place {
                Place::Hot => it.copies.hot,
                Place::Warm => !it.copies.hot && it.copies.warm.is_some(),
                Place::Cold => !it.copies.hot && it.copies.warm.is_none(),
            })
            .flat_map(|it| (0..8).map(move |part| it.base_sequence + part * it.records / 8))
            .collect();
        let each = |read: &dyn Fn(usize, u64)| {
            let times = wanted.iter().enumerate().map(|(at, sequence)| {
                let begun = Instant::now();
                read(at, *sequence);
                begun.elapsed().as_secs_f64()
            });
            median(times.collect())
        };
        let (limit, limit_seconds) = match place {
            Place::Hot => {
                let files = node.files("seg");
                let files: Vec<File> = files.iter().map(|it| File::open(it).expect("it")).collect();
                let mut buffer = vec![0; RECORD_BYTES];
                let buffer = std::cell::RefCell::new(&mut buffer);
                let time = each(&|at, _| {
                    let file = &files[at / 8 % files.len()];
                    let length = file.metadata().expect("there").len();
                    let offset = at as u64 % 8 * (length / 8 - RECORD_BYTES as u64);
                    let mut buffer = buffer.borrow_mut();
                    file.read_exact_at(&mut buffer, offset).expect("read");
                    std::hint::black_box(crc32c(&buffer));
                });
                ("pread and checksum", time)
            }
            Place::Warm => {
                let path = node.files("aofz").remove(0);
                let source = Bytewise(std::fs::read(path).expect("read"));
                let index = warm::read_index(&source, "a file").expect("an index");
                let time = each(&|at, _| {
                    let number = at % index.blocks.len();
                    let block = &index.blocks[number];
                    let from = block.compressed_offset as usize;
                    let part = &source.0[from..from + block.compressed_bytes as usize];
                    std::hint::black_box(warm::block_of(&index, number, part).expect("whole"));
                });
                ("decompression of a block", time)
            }
            Place::Cold => {
                let keys = node.keys();
                let time = each(&|at, _| {
                    let key = &keys[at % keys.len()];
                    std::hint::black_box(
                        node.objects.get_range(key, 4096, 4096).expect("answered"),
                    );
                });
                ("a ranged GET", time)
            }
        };
        // The first read of a segment also learns where its blocks are.
        let time = each(&|_, sequence| node.point(sequence));
        ratio(
            &format!("point read, {place:?}"),
            limit,
            limit_seconds,
            time,
        );
        node.close();
    }
}

/// Appends a second of one writer, alone and beside readers of cold data.
fn readers(root: &Path, bytes: u64, latency: Duration) {
    const READERS: usize = 1_000;
    let node = Node::filled(&root.join("readers"), Place::Cold, bytes, latency, BATCH);
    println!("beside readers: {}", node.copies());
    let mut next = bytes / RECORD_BYTES as u64;
    let cold = next / 2;
    let mut rate = |seconds: f64| {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed().as_secs_f64() < seconds {
            append(&node.store, next, 1, Durability::Durable);
            next += 1;
            count += 1;
        }
        f64::from(count) / begun.elapsed().as_secs_f64()
    };
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let alone = rate(3.0);
        let is_over = AtomicBool::new(false);
        let read = AtomicU64::new(0);
        let beside = thread::scope(|scope| {
            for reader in 0..READERS {
                let (node, is_over, read) = (&node, &is_over, &read);
                scope.spawn(move || {
                    let mut at = (reader as u64 * 7919) % cold;
                    while !is_over.load(Ordering::Relaxed) {
                        let request = ReadRequest {
                            stream: STREAM.to_owned(),
                            from_sequence: at,
                            limit: 16,
                            include_staged: false,
                        };
                        let mut reader = node.store.read(request).expect("a stream");
                        match reader.next_batch(BLOCK) {
                            Ok(_) => {
                                read.fetch_add(1, Ordering::Relaxed);
                            }
                            // Refused: as a client that waits.
                            Err(_) => thread::sleep(Duration::from_millis(50)),
                        }
                        at = (at + 104_729) % cold;
                    }
                });
            }
            let rate = rate(3.0);
            is_over.store(true, Ordering::Relaxed);
            rate
        });
        println!(
            "durable appends: {alone:.0}/s alone, {beside:.0}/s beside {READERS} readers of {} cold reads",
            read.load(Ordering::Relaxed)
        );
        ratios.push(beside / alone);
    }
    println!(
        "1,000 readers of cold data beside a writer: {:.2} of alone",
        median(ratios)
    );
    node.close();
}

/// Buffered appends at a steady rate: the 99th percentile while everything moves down, and while nothing does.
fn appends(root: &Path, bytes: u64, latency: Duration) {
    const RATE_BYTES: f64 = 100e6;
    let p99 = |place: Place, name: &str| {
        let node = Node::open(&root.join(name), place, bytes, latency);
        let begun = Instant::now();
        let (mut times, mut next) = (Vec::new(), 0_u64);
        while next * (RECORD_BYTES as u64) < bytes {
            let due = next as f64 * RECORD_BYTES as f64 / RATE_BYTES;
            let wait = due - begun.elapsed().as_secs_f64();
            if wait > 0.0 {
                thread::sleep(Duration::from_secs_f64(wait));
            }
            let before = Instant::now();
            append(&node.store, next, 64, Durability::Buffered);
            times.push(before.elapsed().as_secs_f64());
            next += 64;
        }
        let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
        times.sort_by(f64::total_cmp);
        let p99 = times[times.len() * 99 / 100];
        println!(
            "{name}: {rate:.0} MB/s, p99 {:.2} ms; {}",
            p99 * 1e3,
            node.copies()
        );
        node.close();
        p99
    };
    let idle = p99(Place::Hot, "nothing evicted");
    let busy = p99(Place::Cold, "compressed, uploaded and evicted");
    println!(
        "append p99 while all moves: {:.2} times the other",
        busy / idle
    );
}

/// Many sealed segments: how long a start takes, and what it holds in memory.
fn segments(root: &Path, count: u64, latency: Duration) {
    const STREAMS: u64 = 1_000;
    let each = (count / STREAMS).max(1);
    let directory = root.join("segments");
    let node = Node::open(&directory, Place::Hot, 64 << 30, latency);
    let begun = Instant::now();
    for _ in 0..each {
        for number in 0..STREAMS {
            let request = AppendRequest {
                stream: format!("s{number}"),
                payloads: vec![payload(number)],
                durability: Durability::Buffered,
                producer: None,
            };
            node.store.append(request).expect("appended");
        }
        node.store.seal(None).expect("sealed");
    }
    println!(
        "{} segments in {STREAMS} streams made in {:.0} s",
        each * STREAMS,
        begun.elapsed().as_secs_f64()
    );
    node.close();
    let before = resident_kib();
    let begun = Instant::now();
    let node = Node::open(&directory, Place::Hot, 64 << 30, latency);
    println!(
        "start with {} sealed segments: {:.2} s, {} MiB more in memory",
        each * STREAMS,
        begun.elapsed().as_secs_f64(),
        resident_kib().saturating_sub(before) / 1024
    );
    node.close();
}

/// Anonymous memory: neither maps nor page cache.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|it| it.parse().ok()).unwrap_or_default()
}

fn main() -> ExitCode {
    const PARTS: [&str; 5] = ["scan", "points", "readers", "appends", "segments"];
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let mut number = |otherwise: u64| {
        let text = arguments.next();
        text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let amount = number(1024);
    let bytes = amount * MIB;
    let latency = Duration::from_millis(number(5));
    let only = arguments.next();
    if let Some(unknown) = only.as_deref().filter(|only| !PARTS.contains(only)) {
        eprintln!("part {unknown:?} is not one of {}", PARTS.join(", "));
        return ExitCode::from(2);
    }
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    std::fs::create_dir_all::<&PathBuf>(&directory).expect("the directory can be made");
    let root = tempfile::tempdir_in::<PathBuf>(directory).expect("the directory is writable");
    let root = root.path();
    if wanted("scan") {
        scan(root, bytes, latency);
    }
    if wanted("points") {
        points(root, bytes, latency);
    }
    if wanted("readers") {
        readers(root, bytes, latency);
    }
    if wanted("appends") {
        appends(root, bytes, latency);
    }
    if wanted("segments") {
        let asked = only.is_some().then_some(amount);
        segments(root, asked.unwrap_or(10_000), Duration::ZERO);
    }
    ExitCode::SUCCESS
}
