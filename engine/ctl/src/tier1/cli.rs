//! The command line of `tier1-cache-util`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::cli::AdminConnection;

/// Inspect, verify and recompress the files in Tier 1 of a node.
///
/// Without --directory it asks the running engine; with it, it works on a data directory that no engine uses, and holds the directory's lock
/// meanwhile.
///
/// Exit codes: 0 ok, 1 a file is missing, damaged or foreign, 2 usage, 3 unavailable, 4 refused, 5 not found.
#[derive(Debug, Parser)]
#[command(
    name = "tier1-cache-util",
    disable_version_flag = true,
    max_term_width = 110
)]
pub struct Arguments {
    /// Print the version and exit.
    #[arg(long, short = 'V')]
    pub version: bool,
    #[command(flatten)]
    pub connection: AdminConnection,
    /// Data directory of an engine that does not run.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "url")]
    pub directory: Option<PathBuf>,
    /// Directory of Tier 1 where storage.tier1_directory is set; by default it is in the data directory.
    #[arg(long, global = true, value_name = "DIR", requires = "directory")]
    pub tier1_directory: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// A data directory, and where its files of Tier 1 are.
pub struct Place {
    pub directory: PathBuf,
    /// As the configuration names it.
    pub tier1_directory: Option<PathBuf>,
}

impl Arguments {
    pub fn place(&self, directory: &Path) -> Place {
        Place {
            directory: directory.to_owned(),
            tier1_directory: self.tier1_directory.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List per stream how many files Tier 1 has, their size and compression ratio, and where else their segments are.
    ///
    /// Reads header and index of each file; a file that is missing or damaged there is listed as a finding and counts in no sum. The level of
    /// zstd is not recorded in a file.
    Stats {
        /// Streams whose names match, `*` for any characters.
        #[arg(long, value_name = "PATTERN", value_parser = pattern)]
        stream: Option<String>,
    },
    /// Read every file, decompress every block and compare all checksums with the files and the manifests.
    ///
    /// Exit code 1 when a file is missing, damaged or belongs to no segment; each is listed with what to do.
    Verify {
        /// Streams whose names match, `*` for any characters.
        #[arg(long, value_name = "PATTERN", value_parser = pattern)]
        stream: Option<String>,
    },
    /// Compress every file again at another level of zstd.
    ///
    /// A new file is verified before it replaces the old one, and an interrupted command continues when it is run again. Objects in Tier 2 stay as
    /// they are; segments that still wait for their upload are uploaded as they were compressed last.
    Recompress {
        /// zstd level; by default tier1.compression_level of the running engine. Required with --directory.
        #[arg(long, value_name = "1..19", value_parser = clap::value_parser!(i32).range(1..=19))]
        level: Option<i32>,
        /// Streams whose names match, `*` for any characters.
        #[arg(long, value_name = "PATTERN", value_parser = pattern)]
        stream: Option<String>,
    },
    /// Measure what a zstd dictionary would save of a stream. Dictionaries are not stored or used.
    ///
    /// Trains a dictionary on the older half of the stream's blocks in Tier 1 and compresses the newer half with and without it. Needs
    /// --directory and takes no lock: it may run next to the engine.
    Train(TrainArguments),
}

#[derive(Debug, Args)]
pub struct TrainArguments {
    pub stream: String,
    /// Measure and change nothing; the only form there is.
    #[arg(long, required = true)]
    pub measure: bool,
    /// zstd level that both are compressed at.
    #[arg(long, value_name = "1..19", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: i32,
    /// Maximum size of the dictionary.
    #[arg(long, value_name = "BYTES", default_value_t = 112_640, value_parser = clap::value_parser!(u32).range(1_024..=1_048_576))]
    pub dictionary_bytes: u32,
}

pub(crate) fn pattern(text: &str) -> Result<String, String> {
    match aof2_core::pattern::problem(text) {
        None => Ok(text.to_owned()),
        Some(problem) => Err(format!("`{text}` matches no stream name; {problem}")),
    }
}
