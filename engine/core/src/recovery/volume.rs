//! Whose directory this is: the lock, the identity, and the refusals that come before anything is read.

use std::path::Path;
use std::sync::Arc;

use crate::io::sync::Mutex;
use crate::volume::VolumeIds;
use aof2_format::names::file;
use aof2_format::volume::{NEWEST_VERSION, VolumeIdentity as StoredIdentity};
use aof2_format::{ClusterId, FORMAT_VERSION, NodeId, VolumeId};

use crate::error::ClaimError;
use crate::error::OpenError;
use crate::io::{DirectoryLock, Disk, FileClass, Rng, read_file, replace_file};
use crate::port::{Claims, Standing, VolumeIdentity};
use crate::segment::files;
use crate::volume::Identity;
use crate::volume::Volume;

const IDENTITY_LIMIT_BYTES: u64 = 16 << 10;

pub(crate) fn lock(disk: &dyn Disk, root: &Path) -> Result<Box<dyn DirectoryLock>, OpenError> {
    disk.create_directory(root).map_err(at("create", root))?;
    let path = root.join(file::LOCK);
    disk.lock(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::Locked {
            path: root.to_owned(),
        },
        _ => OpenError::Disk {
            verb: "lock",
            path,
            source,
        },
    })
}

/// Reads the identity, or draws one for an empty directory. Where Tier 2 answers, nothing is written on a volume that it refuses.
pub(crate) fn identify(
    disk: &dyn Disk,
    rng: &dyn Rng,
    root: &Path,
    identity: &Identity,
    claims: Option<&Arc<dyn Claims>>,
) -> Result<Volume, OpenError> {
    let cluster_id: ClusterId = identity.cluster_id.parse().map_err(|_| OpenError::Config {
        key: "cluster.id",
        value: identity.cluster_id.clone(),
        rule: "a UUID",
    })?;
    let path = root.join(file::VOLUME);
    let is_new = !disk.exists(&path).map_err(at("look for", &path))?;
    let stored = if is_new {
        let streams = files::streams(root);
        if disk.exists(&streams).map_err(at("look for", &streams))? {
            let message = "directory holds streams but no identity".to_owned();
            return Err(OpenError::Damaged { path, message });
        }
        StoredIdentity {
            format_version: FORMAT_VERSION,
            cluster_id,
            node: identity.node.clone(),
            node_id: NodeId(*rng.uuid().as_bytes()),
            volume_id: VolumeId(*rng.uuid().as_bytes()),
            is_admitted: false,
            mark: 0,
        }
    } else {
        read_identity(disk, &path, root, identity, cluster_id)?
    };
    let identity = VolumeIdentity {
        cluster_id: stored.cluster_id.to_string(),
        node: stored.node.clone(),
        node_id: stored.node_id.to_string(),
        volume_id: stored.volume_id.to_string(),
    };
    let admission = match claims {
        None => None,
        Some(claims) => check_claims(&**claims, &identity, standing_of(&stored))?,
    };
    if is_new {
        replace_file(disk, &path, &stored.encode(), FileClass::Other)
            .map_err(at("write", &path))?;
    }
    Ok(Volume {
        identity,
        ids: VolumeIds {
            cluster_id: stored.cluster_id,
            node_id: stored.node_id,
            volume_id: stored.volume_id,
        },
        admission,
        stored: Mutex::new(stored),
    })
}

pub(crate) fn standing_of(stored: &StoredIdentity) -> Standing {
    Standing {
        is_admitted: stored.is_admitted,
        mark: stored.mark,
    }
}

/// Whose volume it says it is.
pub(crate) fn stored(disk: &dyn Disk, root: &Path) -> Result<Identity, OpenError> {
    let stored = decode_identity(disk, &root.join(file::VOLUME), root)?;
    Ok(Identity {
        cluster_id: stored.cluster_id.to_string(),
        node: stored.node,
    })
}

fn decode_identity(disk: &dyn Disk, path: &Path, root: &Path) -> Result<StoredIdentity, OpenError> {
    let bytes = read_file(disk, path, IDENTITY_LIMIT_BYTES).map_err(at("read", path))?;
    let newer = |found: u32| OpenError::NewerFormat {
        path: root.to_owned(),
        found,
        known: NEWEST_VERSION.into(),
    };
    StoredIdentity::decode(&bytes).map_err(|damage| match damage {
        aof2_format::Damage::Version {
            what: _,
            found,
            supported: _,
        } => newer(found),
        other => OpenError::Damaged {
            path: path.to_owned(),
            message: other.to_string(),
        },
    })
}

fn read_identity(
    disk: &dyn Disk,
    path: &Path,
    root: &Path,
    identity: &Identity,
    cluster_id: ClusterId,
) -> Result<StoredIdentity, OpenError> {
    let stored = decode_identity(disk, path, root)?;
    let foreign =
        |field: &'static str, found: String, expected: String| OpenError::ForeignDirectory {
            path: root.to_owned(),
            field,
            found,
            expected,
        };
    if stored.cluster_id != cluster_id {
        return Err(foreign(
            "cluster",
            stored.cluster_id.to_string(),
            cluster_id.to_string(),
        ));
    }
    if stored.node != identity.node {
        return Err(foreign("node", stored.node, identity.node.clone()));
    }
    Ok(stored)
}

/// `None`: Tier 2 does not tell now, so the check is owed. That the volume is an older state of itself is kept until its streams are
/// known, so that the refusal can name them.
fn check_claims(
    claims: &dyn Claims,
    volume: &VolumeIdentity,
    standing: Standing,
) -> Result<Option<Result<bool, ClaimError>>, OpenError> {
    let error = match claims.check_volume(volume, standing) {
        Err(error) => error,
        admitted => return Ok(Some(admitted)),
    };
    match OpenError::of_claims(&volume.node, error.clone()) {
        Some(OpenError::RolledBack { .. }) => Ok(Some(Err(error))),
        Some(refused) => Err(refused),
        None => {
            tracing::warn!(
                error = %error,
                "Tier 2 has not confirmed this volume; existing streams open, new streams and uploads wait"
            );
            Ok(None)
        }
    }
}

pub(crate) fn at(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Disk { verb, path, source }
}
