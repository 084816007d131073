//! Which records are shown.

use std::time::Duration;

use aof2_format::custom_event;
use aof2_format::manifest_record::EVENT_NAMES;

use super::chunk::{Chunk, Record};

/// What a newer release wrote, in the list of names.
const UNKNOWN: &str = "Unknown";

/// An event that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Type(u16),
    /// Of a `CustomEvent`.
    Schema(u32),
    Unknown,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Nanoseconds since 1970.
    At(i64),
    Ago(Duration),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// None: all.
    pub events: Vec<Kind>,
    pub since_unix_nanos: Option<i64>,
}

pub fn kind(text: &str) -> Result<Kind, String> {
    let is_meant = |name: &str| name.eq_ignore_ascii_case(text);
    let types = (0..).zip(EVENT_NAMES);
    let mut types = types.map(|(id, name)| (name, Kind::Type(id)));
    let schemas = custom_event::SCHEMAS.into_iter();
    let mut schemas = schemas.map(|(id, name)| (name, Kind::Schema(id)));
    let found = types
        .find(|(name, _)| is_meant(name))
        .or_else(|| schemas.find(|(name, _)| is_meant(name)));
    match found {
        Some((_, kind)) => Ok(kind),
        None if is_meant(UNKNOWN) => Ok(Kind::Unknown),
        None => Err(format!("`{text}` is no event; use one of {}", names())),
    }
}

fn names() -> String {
    let schemas = custom_event::SCHEMAS.iter().map(|(_, name)| *name);
    let all: Vec<&str> = EVENT_NAMES
        .into_iter()
        .chain(schemas)
        .chain([UNKNOWN])
        .collect();
    all.join(", ")
}

pub fn since(text: &str) -> Result<Since, String> {
    if let Some(ago) = aof2_node::config::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let time = text.parse::<jiff::Timestamp>();
    let nanos = time
        .ok()
        .and_then(|it| i64::try_from(it.as_nanosecond()).ok());
    nanos.map(Since::At).ok_or_else(|| {
        format!(
            "`{text}` is no time; use RFC 3339 such as 2026-11-25T04:00:00Z, or a duration such as 90s, 30m or 2h"
        )
    })
}

impl Since {
    pub fn unix_nanos(self, now: jiff::Timestamp) -> i64 {
        let nanos = match self {
            Since::At(nanos) => return nanos,
            Since::Ago(ago) => now.as_nanosecond() - ago.as_nanos() as i128,
        };
        i64::try_from(nanos).unwrap_or(0)
    }
}

impl Filter {
    pub fn is_active(&self) -> bool {
        !self.events.is_empty() || self.since_unix_nanos.is_some()
    }

    pub fn shows(&self, record: &Record) -> bool {
        let is_late = self
            .since_unix_nanos
            .is_none_or(|since| record.wall_unix_nanos >= since);
        let is_meant = self.events.is_empty() || self.events.iter().any(|kind| kind.is_of(record));
        is_late && is_meant
    }

    /// Leaves the records that are shown. `false`: there is nothing to show of the chunk.
    pub fn apply(&self, chunk: &mut Chunk) -> bool {
        if !self.is_active() {
            return true;
        }
        chunk.records.retain(|record| self.shows(record));
        !chunk.records.is_empty() || chunk.damage.is_some()
    }
}

impl Kind {
    fn is_of(self, record: &Record) -> bool {
        match self {
            Kind::Type(type_id) => record.type_id == type_id,
            Kind::Schema(schema_id) => record.schema_id == Some(schema_id),
            Kind::Unknown => {
                let is_later = usize::from(record.type_id) >= EVENT_NAMES.len();
                let schema = record.schema_id;
                is_later || schema.is_some_and(|id| custom_event::name(id).is_none())
            }
        }
    }
}
