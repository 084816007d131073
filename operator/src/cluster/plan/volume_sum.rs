//! Whether what a configuration lets an engine keep fits on its volumes, with the sum in words.

use aof2_crds::cluster::Storage;

use crate::cluster::config::Revision;

/// What a node needs beside its journal before it takes one append: blocks of a segment.
const FIRST_SEGMENT_BYTES: u64 = 16 << 20;

/// What the engine keeps free for seals, manifests and warm files: a 32nd of the volume, 4 to 64 MiB (`admit` of the engine).
fn reserve_bytes(size_bytes: u64) -> u64 {
    (size_bytes / 32).clamp(4 << 20, 64 << 20)
}

/// Of a volume, for segments alone.
pub fn room_for_segments(revision: &Revision, size_bytes: u64) -> u64 {
    size_bytes
        .saturating_sub(revision.journal_bytes())
        .saturating_sub(reserve_bytes(size_bytes))
}

fn mib(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

/// The journal is allocated whole: on a volume that it fills, no record could ever be appended.
pub fn journal(revision: &Revision, storage: &Storage) -> Result<(), String> {
    let size_bytes = storage.tier0.size.bytes();
    let journal_bytes = revision.journal_bytes();
    let reserve_bytes = reserve_bytes(size_bytes);
    let needed_bytes = journal_bytes
        .saturating_add(reserve_bytes)
        .saturating_add(FIRST_SEGMENT_BYTES);
    if needed_bytes <= size_bytes {
        return Ok(());
    }
    Err(format!(
        "spec.storage.tier0.size {} is too small for the journal. {} of journal, {} of reserve and {} of a first segment make {}. Set a larger size in a new cluster, or lower journal.files in the ConfigMap of spec.configFrom",
        mib(size_bytes),
        mib(journal_bytes),
        mib(reserve_bytes),
        mib(FIRST_SEGMENT_BYTES),
        mib(needed_bytes)
    ))
}

/// Budgets that the user set: a default budget is no promise, and the engine gives up copies before a volume is full.
pub fn budgets(revision: &Revision, storage: &Storage, replicas: i32) -> Result<(), String> {
    let size_bytes = storage.tier0.size.bytes();
    let pods = u64::try_from(replicas).unwrap_or(1).max(1);
    let quota_bytes = revision.set_cluster_max_bytes().map(|bytes| bytes / pods);
    let tier1_bytes = revision.set_tier1_max_bytes();
    if let (Some(tier1), Some(bytes)) = (&storage.tier1, tier1_bytes)
        && bytes > tier1.size.bytes()
    {
        return Err(format!(
            "tier1.max_bytes of {} does not fit into spec.storage.tier1.size of {}. Lower it, or set a larger size",
            mib(bytes),
            mib(tier1.size.bytes())
        ));
    }
    let beside_bytes = match &storage.tier1 {
        Some(_) => None,
        None => tier1_bytes,
    };
    if quota_bytes.is_none() && beside_bytes.is_none() {
        return Ok(());
    }
    let journal_bytes = revision.journal_bytes();
    let reserve_bytes = reserve_bytes(size_bytes);
    let needed_bytes = [
        quota_bytes,
        beside_bytes,
        Some(journal_bytes),
        Some(reserve_bytes),
    ]
    .into_iter()
    .flatten()
    .fold(0, u64::saturating_add);
    if needed_bytes <= size_bytes {
        return Ok(());
    }
    let quota = quota_bytes.map(|bytes| {
        format!(
            "{} of Tier 0 for each of {pods} pods (tier0.cluster_max_bytes), ",
            mib(bytes)
        )
    });
    let beside = beside_bytes.map(|bytes| format!("{} of tier1.max_bytes, ", mib(bytes)));
    Err(format!(
        "The budgets do not fit into spec.storage.tier0.size of {}: {}{}{} of journal and {} of reserve make {}. Lower them, or set a larger size",
        mib(size_bytes),
        quota.unwrap_or_default(),
        beside.unwrap_or_default(),
        mib(journal_bytes),
        mib(reserve_bytes),
        mib(needed_bytes)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::config::UserConfig;

    fn storage(tier0: &str, tier1: Option<&str>) -> Storage {
        let tier1 = tier1.map(|size| serde_json::json!({"size": size}));
        let mut storage = serde_json::json!({"tier0": {"size": tier0}});
        if let Some(tier1) = tier1 {
            storage["tier1"] = tier1;
        }
        serde_json::from_value(storage).unwrap()
    }

    fn said(user: &str, storage: &Storage) -> Result<(), String> {
        let revision = Revision::new(&UserConfig::parse(user).unwrap(), None);
        budgets(&revision, storage, 3)
    }

    #[test]
    fn budgets_that_a_volume_cannot_hold_are_refused_with_the_sum() {
        let small = storage("4Gi", None);
        assert_eq!(said("", &small), Ok(()), "defaults are no promise");
        let tier0 = |gib: u64| format!("[tier0]\ncluster_max_bytes = {}\n", gib << 30);
        assert_eq!(said(&tier0(9), &small), Ok(()));
        assert_eq!(
            said(&tier0(12), &small),
            Ok(()),
            "nor are they where they are written out"
        );
        let refused = said(&tier0(15), &small).unwrap_err();
        for part in [
            "tier0.size of 4096Mi",
            "5120Mi of Tier 0 for each of 3 pods",
            "512Mi of journal",
            "64Mi of reserve",
            "make 5696Mi",
        ] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        let both = format!("{}[tier1]\nmax_bytes = {}\n", tier0(9), 1_u64 << 30);
        let refused = said(&both, &small).unwrap_err();
        assert!(refused.contains("1024Mi of tier1.max_bytes"), "{refused}");
        assert_eq!(said(&both, &storage("4Gi", Some("1Gi"))), Ok(()));
        let refused = said(&both, &storage("4Gi", Some("512Mi"))).unwrap_err();
        assert!(
            refused.contains("spec.storage.tier1.size of 512Mi"),
            "{refused}"
        );
    }
}
