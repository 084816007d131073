//! Tier 2 as a configuration names it, for tools that read it without an engine.

use std::path::Path;

use aof2_core::objects::Tier2;

use crate::config::{self, ConfigErrors, Mode, Settings, Value};
use crate::data_plane::{OpenFailure, connect};
use crate::source::STAND_ALONE_PREFIX;

/// Of the file that an engine runs with.
pub fn settings_of_file(file: &Path) -> Result<Settings, ConfigErrors> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| ConfigErrors::unreadable(&name, &error))?;
    config::parse(&name, &text, Mode::StandAlone)
}

/// Of `--tier2-directory`.
pub fn settings_of_directory(directory: &Path) -> Settings {
    let mut settings = Settings::stand_alone();
    settings.use_tier2_directory(directory, STAND_ALONE_PREFIX);
    settings
}

/// Of keys that are given one by one; those without a value keep their default.
pub fn settings_of(keys: &[(&'static str, Option<String>)]) -> Result<Settings, ConfigErrors> {
    let given = keys.iter().filter_map(|(key, value)| {
        let value = value.clone()?;
        Some((*key, Value::Text(value)))
    });
    let given: Vec<_> = given.collect();
    Settings::stand_alone().with(&given)
}

/// Makes no request. An error names the key that has to be corrected.
pub fn open(settings: &config::Tier2) -> Result<Tier2, String> {
    connect(settings).map_err(|failure| match failure {
        OpenFailure::Config { key, message } => format!("{key}: {message}"),
        OpenFailure::Refused(refusal) | OpenFailure::Waits(refusal) => refusal.message,
        OpenFailure::Poisoned(message) => message,
    })
}
