//! `aof2.toml`: the configuration of an engine, and the problems of an invalid file.
//!
//! Pure: text in, [`Settings`] or every error with file, line and column out. One table, [`keys::KEYS`], describes each key once
//! (default, range, unit, whether it reloads, who owns it); parsing, the schema, the differences between two files and the
//! effective file are all driven by it.

mod diff;
mod document;
pub mod environment;
mod error;
mod intact;
pub mod keys;
mod nearest;
mod price;
mod render;
mod retention;
mod schema;
mod settings;
mod value;

pub use diff::{changes, shortened_retention, told};
pub use error::{ConfigError, ConfigErrors, Problem};
pub use intact::revision_of;
pub use keys::{KeySpec, Owner};
pub use price::Price;
pub use schema::schema;
pub use settings::{
    Append, Checkpoint, Cluster, Journal, Listen, Log, Report, Segment, Settings, Storage, Tier0,
    Tier1, Tier2, Tier2Place, Tls,
};
pub use value::{Kind, Value, format_duration, parse_duration};

pub use aof2_admin_api::schema::MAX_FILE_BYTES;

/// Whose file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The one that a user writes (`spec.configFrom`): keys of the operator are refused, naming the field to set instead.
    User,
    /// The one that the operator renders for a pod: keys of both, those that identify the node are required, and it has to be what the
    /// operator wrote.
    Pod,
    /// For an engine outside Kubernetes: keys of both, all optional.
    StandAlone,
}

/// Reads a file. `file` is its name in messages.
pub fn parse(file: &str, text: &str, mode: Mode) -> Result<Settings, ConfigErrors> {
    if mode == Mode::Pod {
        intact::check(file, text)?;
    }
    let values = document::read(file, text, mode)?;
    Settings::from_values(values)
}
