//! The GitOps tree as a pipeline uses it: a copy of `config/` with an overlay for one test, rendered by kustomize and applied by
//! server-side apply under the pipeline's own field manager.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::kubectl::Program;

/// Not the operator's and not kubectl's: whoever shares a field with it meets a conflict.
const FIELD_MANAGER: &str = "--field-manager=gitops";

pub struct Pipeline {
    folder: PathBuf,
    kubectl: Program,
}

impl Pipeline {
    /// `cluster` is the overlay's patch of the base's Aof2Cluster `orders`: its `spec`, as a merge patch.
    pub fn new(environment: &Environment, namespace: &str, spec: &Value) -> Result<Self> {
        let folder = environment
            .cluster_folder
            .join("log/e2e")
            .join(format!("{namespace}-gitops"));
        copy(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../config"),
            &folder,
        )?;
        let overlay = folder.join("overlays/e2e");
        std::fs::create_dir_all(&overlay)?;
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": namespace,
            "resources": ["../../base"], "patches": [{"path": "cluster.yaml"}],
        });
        let patch = json!({
            "apiVersion": "aof2.dev/v1alpha1", "kind": "Aof2Cluster", "metadata": {"name": "orders"}, "spec": spec,
        });
        std::fs::write(
            overlay.join("kustomization.yaml"),
            kustomization.to_string(),
        )?;
        std::fs::write(overlay.join("cluster.yaml"), patch.to_string())?;
        Ok(Self {
            folder,
            kubectl: Program::kubectl(environment),
        })
    }

    /// Changes the value of one key of `config/base/aof2.toml`, as an editor does; the comment behind it stays.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let path = self.folder.join("base/aof2.toml");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, edited(&text, key, value)?)?;
        Ok(())
    }

    /// Replaces the rules of retention, which stand at the end of the file; empty: there are none.
    pub fn set_retention(&self, rules: &str) -> Result<()> {
        let path = self.folder.join("base/aof2.toml");
        let text = std::fs::read_to_string(&path)?;
        let rest = text.split("\n[[retention]]").next().unwrap_or_default();
        std::fs::write(&path, format!("{}\n\n{rules}", rest.trim_end()))?;
        Ok(())
    }

    /// Sets fields of the cluster's spec in the overlay, as a commit does.
    pub fn set_spec(&self, fields: &Value) -> Result<()> {
        let path = self.folder.join("overlays/e2e/cluster.yaml");
        let mut patch: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let spec = patch["spec"]
            .as_object_mut()
            .context("an overlay without spec")?;
        spec.extend(fields.as_object().cloned().unwrap_or_default());
        std::fs::write(&path, patch.to_string())?;
        Ok(())
    }

    /// The copy of `config/`, for whoever works in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifests, as `kubectl kustomize` prints them.
    pub async fn render(&self) -> Result<String> {
        let overlay = self.folder.join("overlays/e2e");
        self.kubectl
            .run(&["kustomize", &overlay.display().to_string()])
            .await
    }

    /// One run of the pipeline. A conflict with another field manager is an error.
    pub async fn apply(&self) -> Result<()> {
        let manifests = self.render().await?;
        self.kubectl
            .run_with(
                &["apply", "--server-side", FIELD_MANAGER, "-f", "-"],
                Some(manifests.as_bytes()),
            )
            .await?;
        Ok(())
    }

    /// What another run would change; empty = in sync.
    pub async fn difference(&self) -> Result<String> {
        let manifests = self.render().await?;
        let output = self
            .kubectl
            .output(
                &["diff", "--server-side", FIELD_MANAGER, "-f", "-"],
                Some(manifests.as_bytes()),
            )
            .await?;
        ensure!(
            matches!(output.code, Some(0 | 1)),
            "kubectl diff failed: {}",
            output.stderr.trim()
        );
        Ok(output.stdout)
    }
}

fn edited(text: &str, key: &str, value: &str) -> Result<String> {
    let (table, name) = key.split_once('.').context("a key without a table")?;
    let mut current = "";
    let mut is_found = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(table) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            current = table;
        }
        match line.split_once('=') {
            Some((left, right)) if current == table && left.trim() == name => {
                let comment = right
                    .split_once('#')
                    .map_or_else(String::new, |(_, comment)| format!("  #{comment}"));
                lines.push(format!("{name} = {value}{comment}"));
                is_found = true;
            }
            Some(_) | None => lines.push(line.to_owned()),
        }
    }
    if !is_found {
        bail!("{key} is not in config/base/aof2.toml");
    }
    Ok(lines.join("\n") + "\n")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?
    {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\n[tier0]\nmax = 1  # hot; bytes\n[tier1]\nmax = 2\n";

    #[test]
    fn an_edit_changes_one_value_and_keeps_what_stands_behind_it() {
        let text = edited(TEXT, "tier0.max", "17").unwrap();
        assert_eq!(
            text,
            "# head\n[tier0]\nmax = 17  # hot; bytes\n[tier1]\nmax = 2\n"
        );
        let text = edited(TEXT, "tier1.max", "\"x\"").unwrap();
        assert!(text.ends_with("[tier1]\nmax = \"x\"\n"), "{text}");
        assert!(edited(TEXT, "tier1.min", "1").is_err());
    }
}
