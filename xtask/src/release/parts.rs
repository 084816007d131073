//! The list of what is inside an image (an SBOM), as CycloneDX JSON: https://cyclonedx.org/docs/1.5/json/

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cargo::cargo;
use crate::command::output;
use crate::image::VERSION;
use crate::places;

/// Everything that is compiled into the programs of `packages`; what only builds or tests them is not.
pub fn list(name: &str, packages: &[&str]) -> Result<String> {
    let metadata = output(cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let lock = std::fs::read_to_string(places::root().join("Cargo.lock"))?;
    let document = document(name, packages, &metadata, &checksums(&lock)?)?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

type Checksums = BTreeMap<(String, String), String>;

fn checksums(lock: &str) -> Result<Checksums> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock cannot be read")?;
    let packages = lock["package"].as_array().into_iter().flatten();
    let text = |package: &toml::Value, key: &str| {
        package
            .get(key)
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
    };
    Ok(packages
        .filter_map(|package| {
            let key = (text(package, "name")?, text(package, "version")?);
            Some((key, text(package, "checksum")?))
        })
        .collect())
}

fn document(name: &str, roots: &[&str], metadata: &Value, sums: &Checksums) -> Result<Value> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = array(&metadata["packages"])
        .into_iter()
        .map(|package| (word(&package["id"]), package))
        .collect();
    let needs: BTreeMap<String, Vec<String>> = array(&metadata["resolve"]["nodes"])
        .iter()
        .map(|node| (word(&node["id"]), compiled_in(node)))
        .collect();
    let mut open: Vec<String> = packages
        .iter()
        .filter(|(_, package)| roots.contains(&package["name"].as_str().unwrap_or_default()))
        .map(|(id, _)| id.clone())
        .collect();
    let tops = open.clone();
    let mut reached = BTreeSet::new();
    while let Some(id) = open.pop() {
        if reached.insert(id.clone()) {
            open.extend(needs.get(&id).cloned().unwrap_or_default());
        }
    }
    let address = |id: &String| -> Result<String> {
        let package = packages
            .get(id)
            .with_context(|| format!("no package {id}"))?;
        Ok(format!(
            "pkg:cargo/{}@{}",
            word(&package["name"]),
            word(&package["version"])
        ))
    };
    let mut components = Vec::new();
    let mut dependencies = vec![json!({
        "ref": name,
        "dependsOn": tops.iter().map(&address).collect::<Result<Vec<_>>>()?,
    })];
    for id in &reached {
        let package = &packages[id];
        let key = (word(&package["name"]), word(&package["version"]));
        let mut component = json!({
            "type": "library", "bom-ref": address(id)?, "purl": address(id)?, "name": key.0, "version": key.1,
        });
        if let Some(license) = package["license"].as_str() {
            component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
        }
        if let Some(sum) = sums.get(&key) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
        }
        components.push(component);
        let inside: Vec<String> = needs
            .get(id)
            .into_iter()
            .flatten()
            .map(&address)
            .collect::<Result<_>>()?;
        dependencies.push(json!({"ref": address(id)?, "dependsOn": inside}));
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": name, "name": name, "version": VERSION}},
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Of one node of the resolved graph: what is no dependency of tests or of the build alone.
fn compiled_in(node: &Value) -> Vec<String> {
    let is_normal = |kinds: &Value| {
        let kinds = kinds.as_array().into_iter().flatten();
        kinds.into_iter().any(|kind| kind["kind"].is_null())
    };
    let mut ids: Vec<String> = node["deps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|dependency| is_normal(&dependency["dep_kinds"]))
        .filter_map(|dependency| dependency["pkg"].as_str().map(str::to_owned))
        .collect();
    ids.sort();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_in_is_listed_with_its_checksum_and_what_only_builds_is_not() {
        let package = |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"});
        let needs = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let packages = ["app", "used", "deep", "builds", "tests"].map(package);
        let metadata = json!({
            "packages": packages,
            "resolve": {"nodes": [
                {"id": "app", "deps": [needs("used", Value::Null), needs("builds", json!("build")), needs("tests", json!("dev"))]},
                {"id": "used", "deps": [needs("deep", Value::Null)]},
                {"id": "deep", "deps": []}, {"id": "builds", "deps": []}, {"id": "tests", "deps": []},
            ]},
        });
        let sums = checksums(
            "[[package]]\nname = 'deep'\nversion = '1.0.0'\nchecksum = 'abc'\n[[package]]\nname = 'app'\nversion = '1.0.0'\n",
        )
        .unwrap();
        let document = document("image", &["app"], &metadata, &sums).unwrap();
        let names: Vec<&str> = document["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["app", "deep", "used"]);
        assert_eq!(document["components"][1]["hashes"][0]["content"], "abc");
        assert_eq!(document["components"][0].get("hashes"), None);
        assert_eq!(
            document["components"][0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(
            document["dependencies"][0]["dependsOn"],
            json!(["pkg:cargo/app@1.0.0"])
        );
    }
}
