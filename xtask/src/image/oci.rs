//! An OCI image layout with one uncompressed layer: what `ctr images import`, `kind load` and `crane push` all read.
//! The same input gives the same digest, which is how a node is asked whether it has the image already.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tar::Archive;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Of a Helm chart in a registry: https://helm.sh/docs/topics/registries/
const CHART_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
}

/// The files of an image by path, without a leading slash. Folders above a file need not be named.
#[derive(Default)]
pub struct Files(BTreeMap<String, Entry>);

impl Files {
    pub fn add(&mut self, path: &str, entry: Entry) {
        let mut above = Path::new(path).parent();
        while let Some(folder) = above.filter(|folder| !folder.as_os_str().is_empty()) {
            self.0
                .entry(folder.to_string_lossy().into_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
            above = folder.parent();
        }
        self.0.insert(path.to_owned(), entry);
    }

    pub fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        let content =
            fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        self.add(
            path,
            Entry::File {
                mode: 0o755,
                content,
            },
        );
        Ok(())
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::new(Vec::new());
        for (path, entry) in &self.0 {
            match entry {
                Entry::Folder { mode } => archive.folder(path, *mode)?,
                Entry::File { mode, content } => archive.file(path, *mode, content)?,
                Entry::Symlink { target } => archive.symlink(path, target)?,
            }
        }
        Ok(archive.finish()?)
    }
}

/// An image on disk.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name and tag, as pods will write it.
    pub reference: String,
    /// Digest of the manifest, `sha256:...`.
    pub digest: String,
    /// Folder with the layout.
    pub layout: PathBuf,
}

impl Image {
    /// Writes the layout into `layout`; `config` is the image's "config" object (entrypoint, user, ...), `architecture` a word of
    /// Go's: `amd64`, `arm64`.
    pub fn write(
        reference: &str,
        architecture: &str,
        config: &Value,
        files: &Files,
        layout: &Path,
    ) -> Result<Self> {
        let blobs = empty_layout(layout)?;
        let layer = blob(&blobs, LAYER, &files.layer()?)?;
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        });
        let config = blob(&blobs, CONFIG, &serde_json::to_vec(&config)?)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = blob(&blobs, MANIFEST, &serde_json::to_vec(&manifest)?)?;
        Self::finish(reference, manifest, layout)
    }

    /// One reference for several platforms; each part with its architecture.
    pub fn index(reference: &str, parts: &[(&str, Image)], layout: &Path) -> Result<Self> {
        let blobs = empty_layout(layout)?;
        let mut manifests = Vec::new();
        for (architecture, image) in parts {
            for entry in fs::read_dir(image.layout.join("blobs/sha256"))? {
                let entry = entry?;
                fs::copy(entry.path(), blobs.join(entry.file_name()))?;
            }
            let hash = image.digest.trim_start_matches("sha256:");
            let bytes = fs::metadata(blobs.join(hash))?.len();
            manifests.push(json!({
                "mediaType": MANIFEST, "digest": image.digest, "size": bytes,
                "platform": {"architecture": architecture, "os": "linux"},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let index = blob(&blobs, INDEX, &serde_json::to_vec(&index)?)?;
        Self::finish(reference, index, layout)
    }

    /// A packaged Helm chart, with its `Chart.yaml` as JSON.
    pub fn chart(reference: &str, chart: &Value, package: &[u8], layout: &Path) -> Result<Self> {
        let blobs = empty_layout(layout)?;
        let config = blob(&blobs, CHART_CONFIG, &serde_json::to_vec(chart)?)?;
        let layer = blob(&blobs, CHART_LAYER, package)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = blob(&blobs, MANIFEST, &serde_json::to_vec(&manifest)?)?;
        Self::finish(reference, manifest, layout)
    }

    fn finish(reference: &str, mut top: Value, layout: &Path) -> Result<Self> {
        let digest = top["digest"].as_str().unwrap_or_default().to_owned();
        // containerd takes the image's name from here.
        top["annotations"] = json!({"io.containerd.image.name": reference});
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(
            layout.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(Self {
            reference: reference.to_owned(),
            digest,
            layout: layout.to_path_buf(),
        })
    }

    /// The layout as one archive.
    pub fn archive(&self, into: impl Write) -> Result<()> {
        let mut archive = Archive::new(into);
        for name in ["oci-layout", "index.json"] {
            archive.file(name, 0o644, &fs::read(self.layout.join(name))?)?;
        }
        let mut blobs: Vec<_> =
            fs::read_dir(self.layout.join("blobs/sha256"))?.collect::<Result<_, _>>()?;
        blobs.sort_by_key(std::fs::DirEntry::file_name);
        for blob in blobs {
            let path = format!("blobs/sha256/{}", blob.file_name().to_string_lossy());
            archive.file(&path, 0o644, &fs::read(blob.path())?)?;
        }
        archive.finish()?;
        Ok(())
    }

    /// The part of the reference after the last slash, for file names: `aof2-engine:0.1.0`.
    pub fn short_name(&self) -> &str {
        self.reference.rsplit('/').next().unwrap_or(&self.reference)
    }
}

/// Answers the folder of its blobs.
fn empty_layout(layout: &Path) -> Result<PathBuf> {
    if layout.exists() {
        fs::remove_dir_all(layout)?;
    }
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
    Ok(blobs)
}

/// Stores `content` under its hash and returns its descriptor.
fn blob(blobs: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let hash = hex::encode(Sha256::digest(content));
    fs::write(blobs.join(&hash), content)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": content.len()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(layout: &Path, content: &[u8]) -> Image {
        let mut files = Files::default();
        files.add(
            "usr/bin/tool",
            Entry::File {
                mode: 0o755,
                content: content.to_vec(),
            },
        );
        files.add("tmp", Entry::Folder { mode: 0o1777 });
        Image::write(
            "aof2.local/tool:1",
            "amd64",
            &json!({"Entrypoint": ["/usr/bin/tool"]}),
            &files,
            layout,
        )
        .unwrap()
    }

    #[test]
    fn equal_files_give_an_equal_digest_and_other_files_another() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(&folder.path().join("a"), b"one");
        assert_eq!(first.digest, write(&folder.path().join("b"), b"one").digest);
        assert_ne!(first.digest, write(&folder.path().join("c"), b"two").digest);
    }

    #[test]
    fn every_descriptor_points_at_a_blob_of_its_size_and_hash() {
        let folder = tempfile::tempdir().unwrap();
        let image = write(folder.path(), b"content");
        let read = |digest: &Value| {
            let hash = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            let content = fs::read(folder.path().join("blobs/sha256").join(hash)).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&content)), hash);
            content
        };
        let index: Value =
            serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["digest"], json!(image.digest));
        let manifest: Value =
            serde_json::from_slice(&read(&index["manifests"][0]["digest"])).unwrap();
        for descriptor in [&manifest["config"], &manifest["layers"][0]] {
            assert_eq!(
                read(&descriptor["digest"]).len() as u64,
                descriptor["size"].as_u64().unwrap()
            );
        }
        let config: Value = serde_json::from_slice(&read(&manifest["config"]["digest"])).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
    }
}
