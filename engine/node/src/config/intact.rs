//! Whether a pod's file is what its operator wrote. Somebody may have edited it, or a mount may show a part of it.

use aof2_admin_api::revision::{self, ALTERED, Altered};

use super::error::{ConfigError, ConfigErrors, Problem};
use super::{MAX_FILE_BYTES, Mode};

/// Refuses a file that is another one than its operator wrote: the keys of such a file say nothing.
pub fn check(file: &str, text: &str) -> Result<(), ConfigErrors> {
    // One that is too large is refused for that.
    if text.len() > MAX_FILE_BYTES {
        return Ok(());
    }
    revision::check(text).map_err(|altered| {
        let key = match altered {
            Altered::Text => "",
            Altered::Keys { .. } => "operator.revision",
        };
        ConfigErrors(vec![ConfigError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: key.to_owned(),
            problem: Problem::Altered(altered),
        }])
    })
}

/// The operator's revision in a file that is perhaps not valid otherwise. In a pod, [`ALTERED`] for one that is not what an operator
/// writes: its error is no verdict on the revision that it names.
pub fn revision_of(text: &str, mode: Mode) -> Option<String> {
    let named = || {
        let table: toml::Table = text.parse().ok()?;
        let revision = table.get("operator")?.get("revision")?;
        Some(revision.as_str()?.to_owned())
    };
    match mode {
        Mode::Pod if revision::check(text).is_err() => Some(ALTERED.to_owned()),
        Mode::Pod => Some(named().unwrap_or_else(|| ALTERED.to_owned())),
        Mode::User | Mode::StandAlone => named(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_of_a_bad_file_is_found_where_it_is_toml() {
        let bad = "[operator]\nrevision = \"x1\"\n[log]\nlevl = 1\n";
        assert_eq!(revision_of(bad, Mode::StandAlone).as_deref(), Some("x1"));
        assert_eq!(revision_of("[operator\n", Mode::StandAlone), None);
    }

    #[test]
    fn a_pods_file_that_no_operator_wrote_is_of_no_revision() {
        let bad = "[operator]\nrevision = \"x1\"\n[log]\nlevl = 1\n";
        // `{"log":{"levl":1,},}`
        let whole = bad.replace("x1", "6275f31f");
        for (text, revision) in [
            (bad, ALTERED),
            ("[operator\n", ALTERED),
            ("", ALTERED),
            (whole.as_str(), "6275f31f"),
        ] {
            assert_eq!(revision_of(text, Mode::Pod).as_deref(), Some(revision));
        }
    }
}
