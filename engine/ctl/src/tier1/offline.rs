//! On a data directory whose lock is held.

use std::path::{Path, PathBuf};

use aof2_admin_api::tier1::{Tier1Stats, Tier1Work};
use aof2_core::error::{OpenError, with_causes};
use aof2_core::io::Environment;
use aof2_core::jobs::recompress::{self, Watch};
use aof2_core::offline::{self, Ledger, OfflineError};
use aof2_core::pattern;
use aof2_core::port::{Port, SealedSegment};
use aof2_core::tier::{LocalKind, LocalStatus};
use aof2_core::tier1::{self, Inventory, Report, Walk};
use aof2_node::tier1 as told;

use super::cli::Place;
use super::render;
use crate::exit::Failure;
use crate::progress::Progress;

pub fn stats(place: &Place, streams: Option<&str>) -> Result<Tier1Stats, Failure> {
    let environment = Environment::system();
    let looked = Looked::at(&environment, place, streams)?;
    let mut stats = told::stats(
        tier1::stats(&*environment.disk, &looked.inventory),
        &looked.inventory,
    );
    stats.findings.extend(looked.of_streams());
    Ok(stats)
}

pub fn verify(
    place: &Place,
    streams: Option<&str>,
    progress: &Progress,
) -> Result<Tier1Work, Failure> {
    let environment = Environment::system();
    let looked = Looked::at(&environment, place, streams)?;
    let alone = Alone {
        store: None,
        progress,
        kind: LocalKind::Verify,
    };
    let report = tier1::verify_all(&*environment.disk, &looked.inventory, &alone);
    progress.clear();
    let mut work = told::work(&ended(LocalKind::Verify, report));
    work.findings.extend(looked.of_streams());
    Ok(work)
}

pub fn recompress(
    place: &Place,
    streams: Option<&str>,
    level: i32,
    progress: &Progress,
) -> Result<Tier1Work, Failure> {
    let tier1_directory = place.tier1_directory.clone();
    let store = offline::open(Environment::system(), &place.directory, tier1_directory);
    let store = store.map_err(failure)?;
    let disk = store.environment().disk.clone();
    let tier1_directory = store.tier1_directory();
    let inventory = take(&*disk, &tier1_directory, &store.ever_sealed(), streams)?;
    let kind = LocalKind::Recompress { level };
    let alone = Alone {
        store: Some(&store),
        progress,
        kind,
    };
    let mut one = |segment: &SealedSegment, path: &Path, on_read: &dyn Fn(u64)| {
        let watch = Watch {
            is_stopping: &|| false,
            on_read,
        };
        let made = recompress::prepare(&*disk, path, segment, level, watch)?;
        tier1::finish(&store, segment, made)
    };
    let report = tier1::recompress_all(&inventory, &alone, &mut one);
    progress.clear();
    store
        .close()
        .map_err(|error| Failure::Unavailable(with_causes(&error)))?;
    Ok(told::work(&ended(kind, report)))
}

fn ended(kind: LocalKind, report: Report) -> LocalStatus {
    LocalStatus {
        id: 0,
        kind,
        report,
        has_ended: true,
    }
}

/// The manifests of a directory, and what lies in its Tier 1.
struct Looked {
    ledger: Ledger,
    inventory: Inventory,
    directory: PathBuf,
}

impl Looked {
    fn at(
        environment: &Environment,
        place: &Place,
        streams: Option<&str>,
    ) -> Result<Looked, Failure> {
        let mut ledger = Ledger::read(environment, &place.directory).map_err(failure)?;
        let tier1_directory = place.tier1_directory.clone();
        let directory = tier1_directory.unwrap_or_else(|| offline::tier1_in(&place.directory));
        let segments = ledger.segments();
        let inventory = take(&*environment.disk, &directory, &segments, streams)?;
        let is_wanted = |name: &str| streams.is_none_or(|pattern| pattern::fits(pattern, name));
        ledger.streams.retain(|stream| is_wanted(&stream.name));
        Ok(Looked {
            ledger,
            inventory,
            directory: place.directory.clone(),
        })
    }

    /// Of a stream that is damaged the manifest may name too little.
    fn of_streams(&self) -> Vec<aof2_admin_api::tier1::Tier1Finding> {
        let damaged = self.ledger.streams.iter().filter_map(|stream| {
            let damage = stream.damage.as_ref()?;
            Some(aof2_admin_api::tier1::Tier1Finding {
                kind: aof2_admin_api::tier1::Tier1FindingKind::Damaged,
                path: self.directory.display().to_string(),
                stream: Some(stream.name.to_string()),
                what: format!("stream is damaged, so that copies may be unlisted: {damage}"),
                remedy: "start the engine and ask `aof2-admin streams`".to_owned(),
                ..aof2_admin_api::tier1::Tier1Finding::default()
            })
        });
        damaged.collect()
    }
}

fn take(
    disk: &dyn aof2_core::io::Disk,
    tier1_directory: &Path,
    segments: &[SealedSegment],
    streams: Option<&str>,
) -> Result<Inventory, Failure> {
    let inventory = Inventory::take(disk, tier1_directory, segments).map_err(|error| {
        Failure::Unavailable(format!(
            "cannot list {}: {error}",
            tier1_directory.display()
        ))
    })?;
    let Some(wanted) = streams else {
        return Ok(inventory);
    };
    let names = inventory.streams();
    if !names.iter().any(|name| pattern::fits(wanted, name)) {
        let names = match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        return Err(Failure::NotFound(format!(
            "pattern {wanted:?} fits no stream with a copy in Tier 1; streams with one: {names}"
        )));
    }
    Ok(inventory.of_streams(|name| pattern::fits(wanted, name)))
}

fn failure(error: OfflineError) -> Failure {
    let message = with_causes(&error);
    match &error {
        OfflineError::NoVolume { .. } => Failure::Usage(message),
        OfflineError::InUse { .. } => Failure::Refused(message),
        OfflineError::Open(OpenError::Disk { .. } | OpenError::Poisoned { .. }) => {
            Failure::Unavailable(message)
        }
        OfflineError::Open(_) => Failure::Refused(message),
    }
}

/// Nobody else works on the directory.
struct Alone<'a> {
    /// `None`: nothing changes meanwhile.
    store: Option<&'a aof2_core::Store>,
    progress: &'a Progress,
    kind: LocalKind,
}

impl Walk for Alone<'_> {
    fn now(&self, segment: &SealedSegment) -> Option<SealedSegment> {
        match self.store {
            None => Some(segment.clone()),
            Some(store) => Port::sealed_segment(store, &segment.stream, segment.segment_id),
        }
    }

    fn is_stopping(&self) -> bool {
        false
    }

    fn note(&self, report: &Report) {
        let work = told::work(&ended(self.kind, report.clone()));
        let text = render::so_far(&work);
        self.progress.show(work.done_bytes, work.bytes, &text);
    }
}
