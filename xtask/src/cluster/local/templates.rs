//! The files of `e2e/cluster/config`, in which `{{word}}` stands for what differs between clusters and nodes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::settings::{Port, Settings};
use crate::places;

pub struct Words(Vec<(&'static str, String)>);

impl Words {
    pub fn of(settings: &Settings) -> Self {
        Self(vec![
            ("folder", settings.folder.display().to_string()),
            ("host", settings.host()),
            ("cgroup", settings.cgroup()),
            ("dns-health", settings.port(Port::DnsHealth).to_string()),
            ("dns-ready", settings.port(Port::DnsReady).to_string()),
        ])
    }

    pub fn of_node(settings: &Settings, node: u32) -> Self {
        let mut words = Self::of(settings);
        words.0.extend([
            ("node", format!("node{node}")),
            (
                "node-folder",
                settings.node_folder(node).display().to_string(),
            ),
            ("node-address", settings.node_address(node)),
            ("pods", settings.pods(node)),
        ]);
        words
    }

    fn fill_in(&self, text: &str) -> Result<String> {
        let mut filled = text.to_owned();
        for (word, value) in &self.0 {
            filled = filled.replace(&format!("{{{{{word}}}}}"), value);
        }
        if let Some((_, rest)) = filled.split_once("{{") {
            bail!(
                "unknown word `{{{{{}`",
                rest.lines().next().unwrap_or_default()
            );
        }
        Ok(filled)
    }
}

pub fn path(name: &str) -> PathBuf {
    places::root().join("e2e/cluster/config").join(name)
}

pub fn render(name: &str, words: &Words, into: &Path) -> Result<()> {
    let path = path(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = words
        .fill_in(&text)
        .with_context(|| format!("{}", path.display()))?;
    fs::write(into, text).with_context(|| format!("cannot write {}", into.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_in_and_an_unknown_one_is_named() {
        let words = Words(vec![("node", "node1".into())]);
        assert_eq!(
            words.fill_in("a {{node}} b {{node}}").unwrap(),
            "a node1 b node1"
        );
        assert!(
            words
                .fill_in("a {{nod}}")
                .unwrap_err()
                .to_string()
                .contains("{{nod}}")
        );
    }
}
