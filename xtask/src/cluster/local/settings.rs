//! What makes one local cluster different from another: its slot. Ports, networks and names all follow from it, so clusters
//! in different slots never meet.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cluster::Wishes;
use crate::places;

/// The second byte of the addresses goes up by two per slot from here, and stays a byte.
const FIRST_NETWORK: u32 = 87;
const SLOTS: u32 = 32;
const FIRST_PORT: u32 = 16443;
/// Clusters whose addresses people may come to know by heart.
const FIXED_SLOTS: [(&str, u32); 2] = [("demo", 0), ("test", 1)];

#[derive(Debug, Clone)]
pub struct Settings {
    pub name: String,
    pub nodes: u32,
    pub audit: bool,
    pub folder: PathBuf,
    slot: u32,
}

impl Settings {
    /// The settings of a cluster that `up` has recorded.
    pub fn recorded(name: &str) -> Result<Option<Self>> {
        let folder = places::clusters()?.join(name);
        let file = folder.join("cluster.json");
        if !file.is_file() {
            return Ok(None);
        }
        let read = || -> Result<Self> {
            let record: Value = serde_json::from_slice(&fs::read(&file)?)?;
            let number = |key: &str| {
                record[key]
                    .as_u64()
                    .and_then(|number| u32::try_from(number).ok())
                    .with_context(|| format!("no `{key}`"))
            };
            Ok(Self {
                name: name.to_owned(),
                nodes: number("nodes")?,
                audit: record["audit"] == true,
                folder: folder.clone(),
                slot: number("slot")?,
            })
        };
        read().map(Some).with_context(|| {
            format!(
                "{} is damaged; remove it and take the cluster down",
                file.display()
            )
        })
    }

    /// The settings to bring `name` up with: what is recorded, widened by what is wished now.
    pub fn for_up(name: &str, wishes: Wishes) -> Result<Self> {
        let settings = match Self::recorded(name)? {
            Some(recorded) => Self {
                nodes: recorded.nodes.max(wishes.nodes.unwrap_or(1)),
                audit: recorded.audit || wishes.audit,
                ..recorded
            },
            None => Self {
                name: name.to_owned(),
                nodes: wishes.nodes.unwrap_or(1),
                audit: wishes.audit,
                folder: places::clusters()?.join(name),
                slot: free_slot(name)?,
            },
        };
        if settings.nodes == 0 || settings.nodes > 9 {
            bail!("{} nodes: give 1 to 9", settings.nodes);
        }
        Ok(settings)
    }

    pub fn record(&self) -> Result<()> {
        let record = json!({"slot": self.slot, "nodes": self.nodes, "audit": self.audit});
        fs::write(
            self.folder.join("cluster.json"),
            serde_json::to_vec_pretty(&record)?,
        )?;
        Ok(())
    }

    /// First two bytes of the network that host and nodes share.
    pub fn network(&self) -> String {
        format!("10.{}", FIRST_NETWORK + 2 * self.slot)
    }

    /// The network of ClusterIPs.
    pub fn services(&self) -> String {
        format!("10.{}", FIRST_NETWORK + 2 * self.slot + 1)
    }

    /// The host's address on the bridge: the API server and DNS listen there.
    pub fn host(&self) -> String {
        format!("{}.0.1", self.network())
    }

    pub fn node_address(&self, node: u32) -> String {
        format!("{}.0.{}", self.network(), 10 + node)
    }

    pub fn pods(&self, node: u32) -> String {
        format!("{}.{node}.0/24", self.network())
    }

    pub fn port(&self, part: Port) -> u32 {
        FIRST_PORT + 10 * self.slot + part as u32
    }

    pub fn server(&self) -> String {
        format!("https://{}:{}", self.host(), self.port(Port::ApiServer))
    }

    /// An interface name has at most 15 characters, and a node's adds two.
    pub fn bridge(&self) -> String {
        match FIXED_SLOTS.iter().find(|(name, _)| *name == self.name) {
            Some((name, _)) => format!("aof2{name}"),
            None => format!("aof2c{}", self.slot),
        }
    }

    pub fn node_interface(&self, node: u32) -> String {
        format!("{}-{node}", self.bridge())
    }

    /// The control group above all pods of the cluster.
    pub fn cgroup(&self) -> String {
        format!("aof2-{}", self.name)
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    pub fn node_folder(&self, node: u32) -> PathBuf {
        self.folder.join(format!("node{node}"))
    }

    pub fn audit_log(&self) -> Option<PathBuf> {
        self.audit.then(|| self.folder.join("log/audit.jsonl"))
    }
}

/// Offsets from the cluster's first port.
#[derive(Clone, Copy)]
pub enum Port {
    ApiServer = 0,
    Etcd = 1,
    EtcdPeer = 2,
    ControllerManager = 3,
    Scheduler = 4,
    DnsHealth = 5,
    DnsReady = 6,
}

fn free_slot(name: &str) -> Result<u32> {
    if let Some((_, slot)) = FIXED_SLOTS.iter().find(|(fixed, _)| *fixed == name) {
        return Ok(*slot);
    }
    let mut taken: Vec<u32> = FIXED_SLOTS.iter().map(|(_, slot)| *slot).collect();
    for other in other_clusters(name)? {
        taken.extend(Settings::recorded(&other)?.map(|settings| settings.slot));
    }
    (0..SLOTS)
        .find(|slot| !taken.contains(slot))
        .with_context(|| format!("{SLOTS} local clusters exist; take one down"))
}

/// Names of the local clusters that are recorded, without `name`.
pub fn other_clusters(name: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(places::clusters()?)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        if other != name && entry.path().join("cluster.json").is_file() {
            names.push(other);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_slot(name: &str, slot: u32) -> Settings {
        Settings {
            name: name.into(),
            nodes: 1,
            audit: false,
            folder: PathBuf::new(),
            slot,
        }
    }

    #[test]
    fn two_slots_share_no_network_port_or_interface() {
        let (demo, test) = (in_slot("demo", 0), in_slot("test", 1));
        assert_eq!(
            (demo.host().as_str(), test.host().as_str()),
            ("10.87.0.1", "10.89.0.1")
        );
        assert_ne!(demo.services(), test.network());
        assert!(demo.port(Port::DnsReady) < test.port(Port::ApiServer));
        assert_ne!(demo.bridge(), test.bridge());
        assert_ne!(demo.cgroup(), test.cgroup());
    }

    #[test]
    fn the_last_slot_still_has_valid_addresses_and_names() {
        let last = in_slot("a-name-of-20-letters", SLOTS - 1);
        assert_eq!(last.services(), "10.150");
        assert!(last.node_interface(9).len() <= 15);
    }
}
