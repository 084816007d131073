//! `manifest-inspect`: the manifest records of a data directory, of one chunk file or of a bucket, read only and without the engine.
//!
//! The engine may be running: what lies behind the last whole commit of a newest chunk may just be on its way there, or still in
//! the journal alone. It is shown, and is not a finding. Damage anywhere else is one.

use std::path::PathBuf;

use clap::Parser;

use self::bucket::{Bucket, BucketArguments};
use self::chunk::Chunk;
use self::filter::{Filter, Kind, Since};
use self::output::{Form, Output};
use crate::exit::{Failure, Outcome};

mod base;
mod bucket;
mod chunk;
mod event;
mod files;
mod filter;
mod follow;
mod output;
mod page;

const EXAMPLES: &str = "Examples:
  manifest-inspect /var/lib/aof2 --stream 'orders-*' --since 2h
  manifest-inspect /var/lib/aof2 --event UploadFailed --event CompressionFailed --follow
  manifest-inspect --config /etc/aof2/aof2.toml --stream orders
  manifest-inspect s3://BUCKET/PREFIX/ --endpoint https://s3.example.com --region eu-west-1 --credentials-directory DIR";

/// Print the manifest records of a data directory, a chunk file or a bucket. Reads only, and does not disturb a running engine.
///
/// Exit codes: 0 ok, 1 damage was found, 2 usage, 3 the bucket is unavailable, 5 the bucket has no such manifest.
#[derive(Debug, Parser)]
#[command(
    name = "manifest-inspect",
    disable_version_flag = true,
    max_term_width = 110,
    after_help = EXAMPLES
)]
pub struct Arguments {
    /// Print the version and exit.
    #[arg(long, short = 'V')]
    pub version: bool,
    /// A data directory, a stream's directory, a chunk file (.mlog), a stream's manifest/base, or s3://BUCKET/PREFIX/.
    #[arg(value_name = "DIR|FILE|URL", required_unless_present_any = ["version", "config", "tier2_directory"])]
    pub place: Option<PathBuf>,
    /// Print only streams of a data directory or a bucket whose names match, `*` for any characters.
    #[arg(long, value_name = "PATTERN", value_parser = crate::tier1::pattern)]
    pub stream: Option<String>,
    /// Print only this event, or this schema of a CustomEvent; repeatable. Unknown stands for what a newer release wrote.
    #[arg(long = "event", value_name = "KIND", value_parser = filter::kind)]
    pub events: Vec<Kind>,
    /// Print only records from this time on: RFC 3339, or a duration before now such as 30m.
    #[arg(long, value_name = "TIME|DURATION", value_parser = filter::since)]
    pub since: Option<Since>,
    /// Print new records as they come, one line each, until interrupted.
    ///
    /// Older ones are printed first where --since asks for them. Records reach the files of a volume with a checkpoint, within checkpoint.interval
    /// (5s); those in a bucket with snapshots.
    #[arg(long)]
    pub follow: bool,
    /// Print JSON; with --follow one object per line.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub bucket: BucketArguments,
}

impl Arguments {
    fn filter(&self) -> Filter {
        let now = jiff::Timestamp::now();
        Filter {
            events: self.events.clone(),
            since_unix_nanos: self.since.map(|since| since.unix_nanos(now)),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let place = arguments.place.as_ref();
    let url = place.and_then(|place| place.to_str());
    let bucket = Bucket::of(url, &arguments.bucket)?;
    let filter = arguments.filter();
    let only = arguments.stream.as_deref();
    match (&bucket, place, arguments.follow) {
        (Some(bucket), _, false) => of_bucket(bucket, only, &filter, arguments.json),
        (None, Some(place), false) => of_volume(place, only, &filter, arguments.json),
        (Some(bucket), _, true) => follow::bucket(bucket, only, &filter, arguments.json),
        (None, Some(place), true) => follow::volume(place, only, &filter, arguments.json),
        (None, None, _) => Err(Failure::Usage(
            "give a data directory, a chunk file or a bucket".into(),
        )),
    }
}

fn of_volume(
    place: &std::path::Path,
    only: Option<&str>,
    filter: &Filter,
    json: bool,
) -> Result<Outcome, Failure> {
    let directories = files::chunk_files(place, only)?;
    if directories.is_empty() {
        return Err(files::nothing_found(place, only));
    }
    let mut output = Output::begin(match json {
        true => Form::List,
        false => Form::Text,
    })?;
    for directory in directories.keys() {
        // Once more: a running engine may have pruned a chunk since the directory was listed.
        let read = || files::read_directory(directory, place);
        for mut chunk in read().or_else(|_| read())? {
            show(&mut output, filter, &mut chunk)?;
        }
    }
    output.end(filter)
}

fn of_bucket(
    bucket: &Bucket,
    only: Option<&str>,
    filter: &Filter,
    json: bool,
) -> Result<Outcome, Failure> {
    let streams = bucket.streams(only)?;
    if streams.is_empty() {
        return Err(nothing_in(bucket, only));
    }
    let mut output = Output::begin(match json {
        true => Form::Object,
        false => Form::Text,
    })?;
    for objects in streams.values() {
        for key in &objects.chunks {
            show(&mut output, filter, &mut bucket.chunk(key)?)?;
        }
    }
    output.begin_catalogues()?;
    // They hold no events.
    if filter.events.is_empty() {
        for (stream, objects) in &streams {
            let mut rows = Vec::new();
            for key in &objects.catalogues {
                rows.push(bucket.catalogue(key)?);
            }
            rows.retain(|row| row.damage.is_some() || row.is_since(filter.since_unix_nanos));
            output.catalogues(stream, &rows)?;
        }
    }
    output.end(filter)
}

fn nothing_in(bucket: &Bucket, only: Option<&str>) -> Failure {
    let place = bucket.place();
    Failure::NotFound(match only {
        Some(only) => format!(
            "{place} has no manifest chunk and no catalogue of a stream that matches {only:?}; they come with the first snapshot of a stream"
        ),
        None => format!(
            "{place} has no manifest chunk and no catalogue below this prefix; they come with the first snapshot of a stream"
        ),
    })
}

fn show(output: &mut Output, filter: &Filter, chunk: &mut Chunk) -> Result<(), Failure> {
    match filter.apply(chunk) {
        true => output.chunk(chunk),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
