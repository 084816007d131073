//! Sources of volumes. Only those that are of the pod's own namespace, and not another's in it: what is not listed here is refused, so
//! that a source of a later Kubernetes is too.

use serde_json::{Map, Value};

use super::policy::text;
use super::{SpecError, Surroundings};

const ORDINARY: [&str; 4] = ["configMap", "downwardAPI", "emptyDir", "image"];
const ORDINARY_PROJECTIONS: [&str; 4] = [
    "clusterTrustBundle",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
];

pub(super) fn check(
    at: &str,
    volume: &Map<String, Value>,
    around: &Surroundings<'_>,
) -> Result<(), SpecError> {
    for (source, value) in volume.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{at}.{source}");
        match source.as_str() {
            "name" => {}
            "secret" => {
                let name = value["secretName"].as_str().unwrap_or_default();
                around.check_secret(&format!("{at}.secretName"), name)?;
            }
            "persistentVolumeClaim" => {
                let name = value["claimName"].as_str().unwrap_or_default();
                around.check_claim(&format!("{at}.claimName"), name)?;
            }
            "projected" => projected(&at, value, around)?,
            "ephemeral" => ephemeral(&at, value, around)?,
            source if ORDINARY.contains(&source) => {}
            source => {
                let what = ["driver", "path", "server", "pdName", "volumeID"]
                    .iter()
                    .find_map(|key| value[*key].as_str())
                    .map_or_else(|| text(value), str::to_owned);
                let why = format!("A volume of kind {source} reaches beyond the pod ({what})");
                around.policy.need("volumes", at, source, &why)?;
            }
        }
    }
    Ok(())
}

fn projected(at: &str, value: &Value, around: &Surroundings<'_>) -> Result<(), SpecError> {
    let sources = value["sources"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, source) in sources.iter().enumerate() {
        let Some(source) = source.as_object() else {
            continue;
        };
        for (kind, value) in source.iter().filter(|(_, value)| !value.is_null()) {
            let at = format!("{at}.sources[{index}].{kind}");
            match kind.as_str() {
                "secret" => {
                    let name = value["name"].as_str().unwrap_or_default();
                    around.check_secret(&format!("{at}.name"), name)?;
                }
                kind if ORDINARY_PROJECTIONS.contains(&kind) => {}
                kind => {
                    let why = format!("A projection of kind {kind} reaches beyond the pod");
                    around.policy.need("volumes", at, kind, &why)?;
                }
            }
        }
    }
    Ok(())
}

/// A claim of the pod's own is harmless, unless it is filled from another's volume, or is one.
fn ephemeral(at: &str, value: &Value, around: &Surroundings<'_>) -> Result<(), SpecError> {
    let spec = &value["volumeClaimTemplate"]["spec"];
    for field in ["dataSource", "dataSourceRef", "volumeName"] {
        if !spec[field].is_null() {
            let at = format!("{at}.volumeClaimTemplate.spec.{field}");
            let why = "The volume would hold what belongs to somebody else";
            around.policy.need("volumes", at, field, why)?;
        }
    }
    Ok(())
}
