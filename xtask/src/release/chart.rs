//! The chart as a package that names the images of its release.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::image::LOCAL_PREFIX;
use crate::image::oci::Image;
use crate::image::tar::Archive;

pub const NAME: &str = "aof2-operator";

pub struct Packaged {
    /// `Chart.yaml`.
    pub chart: Value,
    /// A gzipped tar, as Helm reads it.
    pub archive: Vec<u8>,
}

/// `prefix` takes the place of the local prefix in the images that the values name.
pub fn package(folder: &Path, prefix: &str) -> Result<Packaged> {
    let mut archive = Archive::new(Vec::new());
    let mut chart = None;
    for file in files(folder)? {
        let path = folder.join(&file);
        let mut content =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match file.to_str() {
            Some("Chart.yaml") => chart = Some(serde_saphyr::from_str(&content)?),
            Some("values.yaml") => content = with_images_of(&content, prefix, 2)?,
            _ => {}
        }
        let name = format!("{NAME}/{}", file.display());
        archive.file(&name, 0o644, content.as_bytes())?;
    }
    Ok(Packaged {
        chart: chart.with_context(|| format!("{} has no Chart.yaml", folder.display()))?,
        archive: gzip(&archive.finish()?)?,
    })
}

impl Packaged {
    fn version(&self) -> &str {
        self.chart["version"].as_str().unwrap_or_default()
    }

    pub fn file_name(&self) -> String {
        format!("{NAME}-{}.tgz", self.version())
    }

    pub fn image(&self, prefix: &str, layout: &Path) -> Result<Image> {
        let reference = format!("{prefix}/charts/{NAME}:{}", self.version());
        Image::chart(&reference, &self.chart, &self.archive, layout)
    }
}

/// `count`: how often it names one; a name that is written otherwise would be left.
pub fn with_images_of(text: &str, prefix: &str, count: usize) -> Result<String> {
    let named = format!(": {LOCAL_PREFIX}/");
    let found = text.matches(&named).count();
    if found != count {
        bail!("images under {LOCAL_PREFIX} are named {found} times, {count} were expected");
    }
    Ok(text.replace(&named, &format!(": {prefix}/")))
}

/// Below `folder`, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            match entry.file_type()?.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Without a name and a time.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-n", "-9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gzip")?;
    let mut input = child.stdin.take().context("gzip without input")?;
    // What a chart has fits into memory, and the output into no pipe: both ends at once.
    let output = std::thread::scope(|scope| {
        let writes = scope.spawn(move || input.write_all(content));
        let output = child.wait_with_output();
        match writes.join() {
            Ok(written) => written?,
            Err(_) => bail!("writing to gzip panicked"),
        }
        Ok(output?)
    })?;
    if !output.status.success() {
        bail!("gzip ended with {}", output.status);
    }
    Ok(output.stdout)
}
