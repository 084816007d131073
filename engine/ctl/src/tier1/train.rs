//! `train --measure`: what a dictionary would save.

use aof2_core::error::with_causes;
use aof2_core::io::Environment;
use aof2_core::offline;
use aof2_core::tier1::{Measure, MeasureError, measure};
use aof2_format::StreamName;
use serde_json::json;

use super::cli::{Arguments, TrainArguments};
use crate::exit::{Failure, Outcome};
use crate::render::{bytes, json as print_json, line};

/// From here on a dictionary is worth what it costs.
const WORTH_PERCENT: f64 = 10.0;

pub fn run(arguments: &Arguments, wanted: &TrainArguments) -> Result<Outcome, Failure> {
    let TrainArguments {
        stream,
        measure: _,
        level,
        dictionary_bytes,
    } = wanted;
    let Some(directory) = &arguments.directory else {
        return Err(Failure::Usage(
            "--directory is missing: the measurement reads the files of Tier 1; add --directory with the data directory, in a pod /var/lib/aof2"
                .to_owned(),
        ));
    };
    let name = StreamName::new(stream).map_err(|error| Failure::Usage(error.to_string()))?;
    let tier1_directory = match &arguments.tier1_directory {
        Some(directory) => directory.clone(),
        None => offline::tier1_in(directory),
    };
    let disk = Environment::system().disk;
    let found = measure(
        &*disk,
        &tier1_directory,
        &name,
        *level,
        *dictionary_bytes as usize,
    )
    .map_err(failure)?;
    match arguments.connection.json {
        true => print_json(&json!({
            "stream": stream,
            "files": found.files,
            "level": found.level,
            "dictionary_bytes": found.dictionary_bytes,
            "trained_blocks": found.trained_blocks,
            "trained_bytes": found.trained_bytes,
            "tried_blocks": found.tried_blocks,
            "tried_bytes": found.tried_bytes,
            "plain_bytes": found.plain_bytes,
            "with_dictionary_bytes": found.with_dictionary_bytes,
            "saved_percent": found.saved_percent(),
            "is_stored": false,
        }))?,
        false => line(&page(stream, &found))?,
    }
    Ok(Outcome::Clean)
}

fn page(stream: &str, found: &Measure) -> String {
    let saved = found.saved_percent();
    let verdict = match saved >= WORTH_PERCENT {
        true => "a dictionary would be worth it; this release stores none",
        false => "a dictionary would not be worth it",
    };
    format!(
        "stream {stream}, level {}: {} blocks of {} files compressed with a dictionary of {} that was trained on {} older blocks\n\
         without {}, with it {} ({saved:.1} % saved): {verdict}",
        found.level,
        found.tried_blocks,
        found.files,
        bytes(found.dictionary_bytes),
        found.trained_blocks,
        bytes(found.plain_bytes),
        bytes(found.with_dictionary_bytes),
    )
}

fn failure(error: MeasureError) -> Failure {
    let message = with_causes(&error);
    match error {
        MeasureError::NoFiles { .. } | MeasureError::TooFew { .. } => Failure::NotFound(message),
        MeasureError::List { .. } | MeasureError::File(_) | MeasureError::Codec(_) => {
            Failure::Unavailable(message)
        }
        MeasureError::Training { .. } => Failure::Refused(message),
    }
}
