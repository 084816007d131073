//! Whether a file in Tier 1 stands for its segment, and what a person can do where it does not.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::with_causes;
use crate::io::Disk;
use crate::jobs::warm::{FileSource, WarmError, WarmFacts, verify};
use crate::objects::Source;
use crate::port::SealedSegment;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The manifest names the copy, and its file is not there.
    Missing,
    /// The disk does not give it.
    Unreadable,
    /// What is there does not decompress to the segment.
    Damaged,
    /// It stands for the segment, and the manifest has another length.
    OtherLength,
    /// A file that belongs to no segment of this node.
    Foreign,
}

/// Something a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    pub path: PathBuf,
    /// Of a copy that a manifest names.
    pub segment: Option<FoundSegment>,
    pub what: String,
    pub remedy: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSegment {
    pub stream: Arc<str>,
    pub segment_id: u64,
    pub sequences: Range<u64>,
}

impl Finding {
    pub fn of_foreign(path: &Path, bytes: u64) -> Finding {
        Finding {
            kind: FindingKind::Foreign,
            path: path.to_owned(),
            segment: None,
            what: format!("no manifest names this file of {bytes} bytes"),
            remedy: "no engine reads or removes it; move it away, or delete it".to_owned(),
        }
    }
}

impl FoundSegment {
    fn of(segment: &SealedSegment) -> FoundSegment {
        FoundSegment {
            stream: segment.stream.clone(),
            segment_id: segment.segment_id,
            sequences: segment.base_sequence..segment.end_sequence(),
        }
    }
}

/// Reads all of a file: every block is decompressed and held against its checksum, the whole against the checksum and the length in the
/// manifest.
///
/// `on_read` is told of the bytes of each read.
pub fn check(
    disk: &dyn Disk,
    path: &Path,
    segment: &SealedSegment,
    on_read: &(dyn Fn(u64) + Sync),
) -> Result<WarmFacts, Box<Finding>> {
    let name = path.display().to_string();
    let opened = disk.open_read(path).and_then(FileSource::new);
    let found = opened
        .map_err(|source| WarmError::Read {
            name: name.clone(),
            source,
        })
        .and_then(|source| verify(&Counted { source, on_read }, &name, segment));
    let facts = found.map_err(|error| Box::new(finding_of(path, segment, &error)))?;
    let recorded = segment.copies.warm;
    if recorded != Some(facts.size_bytes) && !segment.moves.is_compressing_again {
        let recorded = recorded.unwrap_or(0);
        return Err(Box::new(Finding {
            kind: FindingKind::OtherLength,
            path: path.to_owned(),
            segment: Some(FoundSegment::of(segment)),
            what: format!(
                "file holds the segment in {} bytes, and the manifest records {recorded}",
                facts.size_bytes
            ),
            remedy: "another program replaced the file; `tier1-cache-util recompress` records its length again"
                .to_owned(),
        }));
    }
    Ok(facts)
}

/// A file whose reads are counted.
struct Counted<'a> {
    source: FileSource,
    on_read: &'a (dyn Fn(u64) + Sync),
}

impl Source for Counted<'_> {
    fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (self.on_read)(buffer.len() as u64);
        self.source.read_at(offset, buffer)
    }
}

/// Of a copy that cannot be used.
pub(super) fn finding_of(path: &Path, segment: &SealedSegment, error: &WarmError) -> Finding {
    let kind = match error {
        WarmError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            FindingKind::Missing
        }
        // It is shorter than its own index says.
        WarmError::Read { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            FindingKind::Damaged
        }
        WarmError::Read { .. } => FindingKind::Unreadable,
        WarmError::Damaged { .. } | WarmError::Block { .. } | WarmError::AnotherSegment { .. } => {
            FindingKind::Damaged
        }
    };
    Finding {
        kind,
        path: path.to_owned(),
        segment: Some(FoundSegment::of(segment)),
        what: with_causes(error),
        remedy: remedy(segment),
    }
}

fn remedy(segment: &SealedSegment) -> String {
    let SealedSegment {
        stream,
        segment_id,
        base_sequence,
        copies,
        ..
    } = segment;
    let last = segment.end_sequence().saturating_sub(1);
    if copies.cold.is_some() {
        let delete = format!(
            "with the engine running, `aof2-admin segments delete {stream} {segment_id} --tier 1`"
        );
        let end = segment.end_sequence();
        return match copies.hot {
            true => format!("Tier 0 and Tier 2 have these records; {delete}"),
            false => format!(
                "readers get these records from Tier 2; {delete}, then `aof2-admin hydrate {stream} --from {base_sequence} --to {end}`"
            ),
        };
    }
    if copies.hot {
        return "the engine makes the file again from Tier 0 before it uploads the segment"
            .to_owned();
    }
    format!(
        "the file is the only copy of the records {base_sequence} to {last}; restore it from a copy of the volume"
    )
}
