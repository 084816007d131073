//! From file to file: all of them verified, or all of them compressed again. Whoever waits is told after each.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check::{Finding, check, finding_of};
use super::inventory::{Inventory, Leftover};
use crate::error::with_causes;
use crate::io::Disk;
use crate::jobs::recompress::{self, Made, RecompressError};
use crate::jobs::warm::WarmFacts;
use crate::port::{Port, SealedSegment};

/// That a report lists: a volume that is gone as a whole would fill the memory of the engine.
const MOST_FINDINGS: usize = 1_000;
/// Of a file, between two words about the progress.
const NOTED_BYTES: u64 = 1 << 20;

/// How far a walk is, and what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// To look at, with their bytes as the manifests have them.
    pub files: u64,
    pub bytes: u64,
    /// Looked at.
    pub done_files: u64,
    pub done_bytes: u64,
    /// Of these, copies that left Tier 1 meanwhile.
    pub gone_files: u64,
    /// Compressed again, and how long their files were and are.
    pub replaced_files: u64,
    pub replaced_bytes: u64,
    pub new_bytes: u64,
    /// Whose new file would have been the same one.
    pub same_files: u64,
    /// Left alone, since they are about to be uploaded.
    pub busy_files: u64,
    /// The first thousand.
    pub findings: Vec<Finding>,
    pub more_findings: u64,
    pub leftovers: Vec<Leftover>,
    /// Why it ended before its end.
    pub failure: Option<String>,
}

/// What a walk asks of whoever has it done.
pub trait Walk: Sync {
    /// A segment as the manifest has it now; `None`: it is gone.
    fn now(&self, segment: &SealedSegment) -> Option<SealedSegment>;
    fn is_stopping(&self) -> bool;
    fn note(&self, report: &Report);
}

impl Report {
    fn of(inventory: &Inventory) -> Report {
        Report {
            files: inventory.named.len() as u64,
            bytes: inventory.named_bytes(),
            leftovers: inventory.leftovers.clone(),
            ..Report::default()
        }
    }

    fn find(&mut self, finding: Finding) {
        match self.findings.len() < MOST_FINDINGS {
            true => self.findings.push(finding),
            false => self.more_findings += 1,
        }
    }

    fn note_done(&mut self, segment: &SealedSegment) {
        self.done_files += 1;
        self.done_bytes += segment.copies.warm.unwrap_or(0);
    }
}

/// For whoever looks at the progress while a large file is read.
fn within<'a>(walk: &'a dyn Walk, report: &'a Report) -> impl Fn(u64) + Sync + 'a {
    let read = AtomicU64::new(0);
    move |bytes| {
        let before = read.fetch_add(bytes, Ordering::Relaxed);
        let now = before + bytes;
        if before / NOTED_BYTES != now / NOTED_BYTES {
            let done_bytes = (report.done_bytes + now).min(report.bytes);
            walk.note(&Report {
                done_bytes,
                ..report.clone()
            });
        }
    }
}

/// Reads every file. A finding counts where the manifest still names the copy after it was made.
pub fn verify_all(disk: &dyn Disk, inventory: &Inventory, walk: &dyn Walk) -> Report {
    let mut report = Report::of(inventory);
    for (path, bytes) in &inventory.foreign {
        report.find(Finding::of_foreign(path, *bytes));
    }
    walk.note(&report);
    for (segment, path) in &inventory.named {
        if walk.is_stopping() {
            report.failure = Some(with_causes(&RecompressError::Stopping));
            break;
        }
        if check(disk, path, segment, &within(walk, &report)).is_err() {
            let now = walk.now(segment);
            match now.filter(|now| now.copies.warm.is_some()) {
                None => report.gone_files += 1,
                Some(now) => {
                    if let Err(finding) = check(disk, path, &now, &|_| ()) {
                        report.find(*finding);
                    }
                }
            }
        }
        report.note_done(segment);
        walk.note(&report);
    }
    report
}

/// What came of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    Replaced {
        before: WarmFacts,
        after: WarmFacts,
    },
    Same,
    /// It is on its way to Tier 2, or about to be.
    Busy,
}

/// Puts what was made of a copy in its place. The caller keeps others from dropping or making the copy meanwhile.
pub fn finish(
    port: &dyn Port,
    segment: &SealedSegment,
    made: Made,
) -> Result<Again, RecompressError> {
    match made {
        Made::Same(facts) => {
            let now = port.sealed_segment(&segment.stream, segment.segment_id);
            let now = now.filter(|now| now.copies.warm.is_some());
            let now = now.ok_or(RecompressError::Gone)?;
            let is_recorded = now.copies.warm == Some(facts.size_bytes);
            if !is_recorded || now.moves.is_compressing_again {
                recompress::record(port, segment, facts)?;
            }
            Ok(Again::Same)
        }
        Made::Other(prepared) => {
            let before = prepared.before;
            let after = prepared.swap(port, segment)?;
            Ok(Again::Replaced { before, after })
        }
    }
}

/// Compresses one copy again; told of the bytes that it reads.
pub type One<'a> =
    &'a mut dyn FnMut(&SealedSegment, &Path, &dyn Fn(u64)) -> Result<Again, RecompressError>;

/// Compresses every copy again, by `one`. What cannot be read is a finding; what the volume or the manifest refuses ends the walk, and
/// keeps what was done.
pub fn recompress_all(inventory: &Inventory, walk: &dyn Walk, one: One<'_>) -> Report {
    let mut report = Report::of(inventory);
    walk.note(&report);
    for (segment, path) in &inventory.named {
        let now = walk.now(segment);
        let Some(now) = now.filter(|now| now.copies.warm.is_some()) else {
            report.gone_files += 1;
            report.note_done(segment);
            continue;
        };
        let made = one(&now, path, &within(walk, &report));
        match made {
            Ok(Again::Replaced { before, after }) => {
                report.replaced_files += 1;
                report.replaced_bytes += before.size_bytes;
                report.new_bytes += after.size_bytes;
            }
            Ok(Again::Same) => report.same_files += 1,
            Ok(Again::Busy) => report.busy_files += 1,
            Err(RecompressError::Gone) => report.gone_files += 1,
            Err(RecompressError::Copy(error)) => {
                let still = walk.now(segment);
                match still.filter(|still| still.copies.warm.is_some()) {
                    None => report.gone_files += 1,
                    Some(still) => report.find(finding_of(path, &still, &error)),
                }
            }
            Err(
                error @ (RecompressError::File(_)
                | RecompressError::Codec { .. }
                | RecompressError::Manifest(_)
                | RecompressError::Stopping),
            ) => {
                let (stream, id) = (&segment.stream, segment.segment_id);
                let why = with_causes(&error);
                report.failure = Some(format!(
                    "segment {id} of stream {stream} keeps its present file: {why}"
                ));
                break;
            }
        }
        report.note_done(segment);
        walk.note(&report);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sync::Mutex;

    #[derive(Default)]
    struct Noted(Mutex<Vec<u64>>);

    impl Walk for Noted {
        fn now(&self, segment: &SealedSegment) -> Option<SealedSegment> {
            Some(segment.clone())
        }

        fn is_stopping(&self) -> bool {
            false
        }

        fn note(&self, report: &Report) {
            self.0.lock().push(report.done_bytes);
        }
    }

    #[test]
    fn a_large_file_is_noted_while_it_is_read_and_never_beyond_the_whole() {
        let noted = Noted::default();
        let report = Report {
            done_bytes: 5,
            bytes: 2 * NOTED_BYTES,
            ..Report::default()
        };
        let within = within(&noted, &report);
        for bytes in [NOTED_BYTES - 1, 1, 10, 3 * NOTED_BYTES] {
            within(bytes);
        }
        let expected = [NOTED_BYTES + 5, 2 * NOTED_BYTES];
        assert_eq!(*noted.0.lock(), expected);
    }
}
