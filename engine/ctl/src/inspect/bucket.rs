//! Manifests in the bucket: closed chunks and catalogues, as snapshots leave them there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aof2_core::error::with_causes;
use aof2_core::objects::directory::DirectoryStore;
use aof2_core::objects::{ObjectError, ObjectStore, Tier2};
use aof2_core::pattern;
use aof2_format::names::ObjectKey;
use aof2_format::snapshot::{Catalogue, MAX_CATALOGUE_BYTES};
use aof2_node::bucket;
use aof2_node::config::{ConfigErrors, Settings};
use clap::Args;
use serde::Serialize;

use super::chunk::{Chunk, decode_chunk};
use crate::exit::Failure;
use crate::render::{self, Column};

const SCHEME: &str = "s3://";
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// How the bucket is reached.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reading a bucket")]
pub struct BucketArguments {
    /// Read the bucket that [tier2] of this configuration file names, as the engine does.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["place", "tier2_directory"])]
    pub config: Option<PathBuf>,
    /// Read a Tier 2 that is a directory, as `aof2-engine run --tier2-directory` keeps it.
    #[arg(long, value_name = "DIR", conflicts_with = "place")]
    pub tier2_directory: Option<PathBuf>,
    /// Endpoint of the object store, with scheme; by default the one of AWS in the region.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the bucket.
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// How the bucket is addressed.
    #[arg(long, value_name = "VirtualHost|Path", value_parser = ["VirtualHost", "Path"])]
    pub addressing: Option<String>,
    /// Directory with access_key_id, secret_access_key and optionally session_token; by default /etc/aof2/s3-credentials.
    #[arg(long, value_name = "DIR")]
    pub credentials_directory: Option<PathBuf>,
    /// CA bundle of the endpoint; the system's by default.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// A snapshot's catalogue, in short.
#[derive(Debug, Serialize)]
pub struct CatalogueRow {
    pub key: String,
    pub stream: String,
    pub snapshot_id: String,
    pub created_at: String,
    pub request: String,
    pub start_sequence: u64,
    pub durable_sequence: u64,
    pub uploaded_sequence: u64,
    pub segments: u64,
    pub object_bytes: u64,
    pub chunks: u64,
    /// The manifest up to here gives it.
    pub chunk_index: u64,
    pub chunk_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

impl CatalogueRow {
    /// One whose time cannot be read is shown.
    pub fn is_since(&self, unix_nanos: Option<i64>) -> bool {
        let at = self.created_at.parse::<jiff::Timestamp>();
        let at = at.ok().map(|at| at.as_nanosecond());
        match (at, unix_nanos) {
            (Some(at), Some(since)) => at >= i128::from(since),
            (None, _) | (_, None) => true,
        }
    }
}

/// Objects of one stream, by their keys.
#[derive(Default)]
pub struct StreamObjects {
    pub chunks: Vec<String>,
    pub catalogues: Vec<String>,
}

pub struct Bucket {
    tier2: Tier2,
}

impl Bucket {
    /// `None`: a volume is meant.
    pub fn of(place: Option<&str>, arguments: &BucketArguments) -> Result<Option<Bucket>, Failure> {
        let url = place.and_then(|place| place.strip_prefix(SCHEME));
        let settings = match (url, &arguments.config, &arguments.tier2_directory) {
            (Some(url), ..) => of_url(url, arguments)?,
            (None, Some(file), _) => bucket::settings_of_file(file).map_err(wrong)?,
            (None, None, Some(directory)) => of_directory(directory)?,
            (None, None, None) => return Ok(None),
        };
        let Some(tier2) = &settings.tier2 else {
            return Err(Failure::Usage(
                "the configuration has no [tier2]: its engine keeps everything on its volume"
                    .to_owned(),
            ));
        };
        let tier2 = bucket::open(tier2).map_err(Failure::Usage)?;
        Ok(Some(Bucket { tier2 }))
    }

    fn store(&self) -> &dyn ObjectStore {
        self.tier2.store()
    }

    pub fn place(&self) -> String {
        self.tier2.place()
    }

    /// By stream. `only` is a pattern.
    pub fn streams(&self, only: Option<&str>) -> Result<BTreeMap<String, StreamObjects>, Failure> {
        let mut streams: BTreeMap<String, StreamObjects> = BTreeMap::new();
        let prefix = self.tier2.prefix();
        let is_wanted = |stream: &str| only.is_none_or(|only| pattern::fits(only, stream));
        // A name without a star has a prefix of its own.
        let below = only.filter(|only| !only.contains('*'));
        let below = below.map_or_else(String::new, |name| format!("{name}/"));
        for kind in ["manifest", "snapshots"] {
            let keys = self.store().list(&format!("{prefix}{kind}/{below}"), None);
            for key in keys.map_err(failure)? {
                match ObjectKey::parse(prefix, &key) {
                    Some(ObjectKey::ManifestChunk { stream, .. }) if is_wanted(stream.as_str()) => {
                        let objects = streams.entry(stream.to_string()).or_default();
                        objects.chunks.push(key);
                    }
                    Some(ObjectKey::Snapshot { stream, .. }) if is_wanted(stream.as_str()) => {
                        let objects = streams.entry(stream.to_string()).or_default();
                        objects.catalogues.push(key);
                    }
                    // Of a newer release, or of somebody else.
                    Some(_) | None => {}
                }
            }
        }
        for objects in streams.values_mut() {
            // A chunk has the epoch of its time in its key.
            objects.chunks.sort_by_key(|key| self.chunk_number(key));
            objects.catalogues.sort_by_key(|key| self.snapshot_id(key));
        }
        Ok(streams)
    }

    fn chunk_number(&self, key: &str) -> u64 {
        match ObjectKey::parse(self.tier2.prefix(), key) {
            Some(ObjectKey::ManifestChunk { chunk, .. }) => chunk,
            _ => u64::MAX,
        }
    }

    fn snapshot_id(&self, key: &str) -> u64 {
        match ObjectKey::parse(self.tier2.prefix(), key) {
            Some(ObjectKey::Snapshot { snapshot_id, .. }) => snapshot_id,
            _ => u64::MAX,
        }
    }

    /// Only closed chunks are in the bucket: what does not verify is damage.
    pub fn chunk(&self, key: &str) -> Result<Chunk, Failure> {
        match self.get(key, MAX_CHUNK_BYTES)? {
            Ok(bytes) => Ok(decode_chunk(key, &bytes, false)),
            Err(damage) => {
                let mut chunk = decode_chunk(key, &[], true);
                chunk.damage = Some(damage);
                Ok(chunk)
            }
        }
    }

    pub fn catalogue(&self, key: &str) -> Result<CatalogueRow, Failure> {
        let bytes = self.get(key, MAX_CATALOGUE_BYTES as u64)?;
        let decoded = bytes.and_then(|bytes| {
            let catalogue = Catalogue::decode(&bytes);
            catalogue.map_err(|damage| damage.to_string())
        });
        Ok(match decoded {
            Ok(catalogue) => row(key, &catalogue),
            Err(damage) => CatalogueRow {
                key: key.to_owned(),
                stream: String::new(),
                snapshot_id: String::new(),
                created_at: String::new(),
                request: String::new(),
                start_sequence: 0,
                durable_sequence: 0,
                uploaded_sequence: 0,
                segments: 0,
                object_bytes: 0,
                chunks: 0,
                chunk_index: 0,
                chunk_offset: 0,
                damage: Some(damage),
            },
        })
    }

    /// The inner error: what is there is not what was put there.
    fn get(&self, key: &str, max_bytes: u64) -> Result<Result<Vec<u8>, String>, Failure> {
        match self.store().get_within(key, max_bytes) {
            Ok(Some(object)) => Ok(Ok(object.bytes.to_vec())),
            Ok(None) => Ok(Err("object was deleted since it was listed".to_owned())),
            Err(error @ ObjectError::Corrupt { .. }) => Ok(Err(with_causes(&error))),
            Err(error) => Err(failure(error)),
        }
    }
}

fn failure(error: ObjectError) -> Failure {
    Failure::Unavailable(with_causes(&error))
}

fn wrong(errors: ConfigErrors) -> Failure {
    Failure::Usage(errors.messages().join("; "))
}

/// One that is not there would be made.
fn of_directory(directory: &Path) -> Result<Settings, Failure> {
    match directory.join(DirectoryStore::PRIVATE).is_dir() {
        true => Ok(bucket::settings_of_directory(directory)),
        false => Err(Failure::Usage(format!(
            "{} holds no Tier 2; name the directory of `aof2-engine run --tier2-directory`",
            directory.display()
        ))),
    }
}

fn of_url(url: &str, arguments: &BucketArguments) -> Result<Settings, Failure> {
    let (name, prefix) = url.split_once('/').unwrap_or((url, ""));
    if name.is_empty() || prefix.is_empty() {
        return Err(Failure::Usage(format!(
            "{SCHEME}{url} names no prefix; use {SCHEME}BUCKET/PREFIX/ with the prefix of the cluster (spec.tier2.prefix)"
        )));
    }
    if arguments.region.is_none() {
        return Err(Failure::Usage(format!(
            "--region is missing; add the region of bucket {name}"
        )));
    }
    let prefix = match prefix.ends_with('/') {
        true => prefix.to_owned(),
        false => format!("{prefix}/"),
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|it| it.display().to_string());
    let keys = [
        ("tier2.bucket", Some(name.to_owned())),
        ("tier2.prefix", Some(prefix)),
        ("tier2.endpoint", arguments.endpoint.clone()),
        ("tier2.region", arguments.region.clone()),
        ("tier2.addressing", arguments.addressing.clone()),
        (
            "tier2.credentials_directory",
            path(&arguments.credentials_directory),
        ),
        ("tier2.ca_file", path(&arguments.ca_file)),
    ];
    bucket::settings_of(&keys).map_err(wrong)
}

fn row(key: &str, catalogue: &Catalogue) -> CatalogueRow {
    CatalogueRow {
        key: key.to_owned(),
        stream: catalogue.stream.to_string(),
        snapshot_id: catalogue.snapshot_id.to_string(),
        created_at: catalogue.created_at.clone(),
        request: catalogue.request.clone(),
        start_sequence: catalogue.start_sequence,
        durable_sequence: catalogue.durable_sequence,
        uploaded_sequence: catalogue.uploaded_sequence,
        segments: catalogue.segments.len() as u64,
        object_bytes: catalogue.segments.iter().map(|it| it.object_bytes).sum(),
        chunks: catalogue.chunks.len() as u64,
        chunk_index: catalogue.chunk_index,
        chunk_offset: catalogue.chunk_offset,
        damage: None,
    }
}

/// Catalogues of one stream.
pub fn page(stream: &str, rows: &[CatalogueRow]) -> String {
    let columns = [
        Column::Text("SNAPSHOT"),
        Column::Text("CREATED"),
        Column::Text("REQUEST"),
        Column::Number("FROM"),
        Column::Number("UPLOADED"),
        Column::Number("DURABLE"),
        Column::Number("SEGMENTS"),
        Column::Number("BYTES"),
        Column::Text("MANIFEST UP TO"),
    ];
    let mut part = format!("stream {stream}: {} catalogues\n", rows.len());
    let (good, bad): (Vec<&CatalogueRow>, Vec<&CatalogueRow>) =
        rows.iter().partition(|row| row.damage.is_none());
    if !good.is_empty() {
        part += &render::table(
            &columns,
            good.into_iter().map(|row| {
                vec![
                    row.snapshot_id.clone(),
                    row.created_at.clone(),
                    row.request.clone(),
                    row.start_sequence.to_string(),
                    row.uploaded_sequence.to_string(),
                    row.durable_sequence.to_string(),
                    row.segments.to_string(),
                    render::bytes(row.object_bytes),
                    format!("chunk {} byte {}", row.chunk_index, row.chunk_offset),
                ]
            }),
        );
    }
    for row in bad {
        let damage = row.damage.as_deref().unwrap_or_default();
        part = part.trim_end().to_owned();
        part += &format!("\nDAMAGED: {}: {damage}", row.key);
    }
    part.trim_end().to_owned()
}
