//! What changes between two configurations, and which of it takes effect without a restart.

use aof2_admin_api::report::ConfigChange;

use super::keys::KEYS;
use super::settings::Settings;

/// How a value that is absent reads.
const ABSENT: &str = "";

/// Keys whose values differ, in the order of the table. The revision is a name of the file, not a value, and is left out.
pub fn changes(from: &Settings, to: &Settings) -> Vec<ConfigChange> {
    KEYS.iter()
        .filter(|spec| spec.key != "operator.revision")
        .filter_map(|spec| {
            let (old, new) = (from.value(spec.key), to.value(spec.key));
            (old != new).then(|| ConfigChange {
                key: spec.key.to_string(),
                from: old.map_or_else(|| ABSENT.to_string(), |value| value.to_string()),
                to: new.map_or_else(|| ABSENT.to_string(), |value| value.to_string()),
                reload: spec.reload,
            })
        })
        .collect()
}
