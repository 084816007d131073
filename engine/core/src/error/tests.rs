//! Every error that reaches a user, as it is read: short, and with what to do where a person has to act.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;

/// With values of usual length. What a cause says is its own length.
const MAX_CHARACTERS: usize = 300;

/// One of these stands in each message that asks for an act.
const ACTS: &[&str] = &[
    "use ",
    "send ",
    "resend ",
    "retry",
    "restart",
    "restore",
    "read ",
    "continue ",
    "mount ",
    "stop ",
    "choose ",
    "free ",
    "shows ",
    "lists ",
    "seal it",
    "raise ",
];

fn name() -> String {
    "orders-0-invoices".into()
}

fn path() -> PathBuf {
    "/var/lib/aof2/streams/orders-0-invoices".into()
}

fn message() -> String {
    "cannot write /var/lib/aof2/journal/000001.log: Input/output error".into()
}

fn damage() -> String {
    "segment 3, sequences 5 to 9: file is missing; restore 000003.seg from a copy of the volume and restart the engine".into()
}

/// The next variant; a new one does not compile until it is here.
fn appends() -> Vec<AppendError> {
    let mut all = vec![AppendError::InvalidStreamName {
        name: "Orders".into(),
        rule: "1 to 63 lower-case letters, digits and inner hyphens",
    }];
    loop {
        let stream = name();
        all.push(match all.last().expect("one") {
            AppendError::InvalidStreamName { .. } => AppendError::NotOwner {
                stream,
                owner: "orders-1".into(),
                address: "orders-1.orders.aof2.svc:7423".into(),
            },
            AppendError::NotOwner { .. } => AppendError::ClaimPending {
                stream,
                message: "no answer from Tier 2".into(),
            },
            AppendError::ClaimPending { .. } => AppendError::RecordTooLarge {
                size_bytes: 1048577,
                limit_bytes: 1048576,
            },
            AppendError::RecordTooLarge { .. } => AppendError::BatchTooLarge {
                size_bytes: 16777217,
                overhead_bytes: 4,
                limit_bytes: 16777216,
            },
            AppendError::BatchTooLarge { .. } => AppendError::TooManyRecords {
                records: 600_000,
                limit: 524_288,
            },
            AppendError::TooManyRecords { .. } => AppendError::WouldBlock {
                stream,
                kind: WouldBlockKind::Admission,
                message: "Tier 0 would hold 5 bytes (tier0.instance_quota_bytes is 4); raise tier0.cluster_max_bytes, nothing frees Tier 0 yet".into(),
            },
            AppendError::WouldBlock { .. } => AppendError::Draining {
                reason: "Drained".into(),
            },
            AppendError::Draining { .. } => AppendError::DiskFull {
                free_bytes: 1048576,
                reserve_bytes: 67108864,
            },
            AppendError::DiskFull { .. } => AppendError::SequenceGap {
                stream,
                producer_id: 7,
                got: 9,
                next: 4,
            },
            AppendError::SequenceGap { .. } => AppendError::AlreadyAppended {
                stream,
                producer_id: 7,
                first_seq: 4,
                count: 3,
                next: 7,
            },
            AppendError::AlreadyAppended { .. } => AppendError::ProducerForgotten {
                stream,
                producer_id: 7,
                since: 4,
                before: 9,
            },
            AppendError::ProducerForgotten { .. } => AppendError::Damaged {
                stream,
                message: damage(),
            },
            AppendError::Damaged { .. } => AppendError::Poisoned { message: message() },
            AppendError::Poisoned { .. } => AppendError::Superseded {
                stream,
                from: 1,
                to: 2,
            },
            AppendError::Superseded { .. } => AppendError::VolumeRefused {
                stream,
                reason: "VolumeLost",
                message: "mount the original volume".into(),
            },
            AppendError::VolumeRefused { .. } => AppendError::EmptyBatch { stream },
            AppendError::EmptyBatch { .. } => return all,
        });
    }
}

fn reads() -> Vec<ReadError> {
    let mut all = vec![ReadError::UnknownStream { stream: name() }];
    loop {
        let stream = name();
        all.push(match all.last().expect("one") {
            ReadError::UnknownStream { .. } => ReadError::Trimmed {
                stream,
                from: 3,
                first: 10,
            },
            ReadError::Trimmed { .. } => ReadError::Damaged {
                stream,
                sequence: 5,
                to_sequence: Some(10),
                segment_id: Some(3),
                message: damage(),
            },
            ReadError::Damaged { .. } => ReadError::NotResident {
                stream,
                segment_id: 3,
            },
            ReadError::NotResident { .. } => ReadError::WouldBlock {
                stream,
                kind: WouldBlockKind::Hydration,
                message: "1024 reads of lower tiers wait already; retry later".into(),
            },
            ReadError::WouldBlock { .. } => ReadError::Unavailable {
                stream,
                segment_id: 3,
                message: "cannot GET segments/a of bucket b (no connection); the engine retries"
                    .into(),
            },
            ReadError::Unavailable { .. } => ReadError::Disk {
                path: path(),
                source: Arc::new(std::io::ErrorKind::Other.into()),
            },
            ReadError::Disk { .. } => ReadError::Superseded {
                stream,
                from: 1,
                to: 2,
            },
            ReadError::Superseded { .. } => ReadError::VolumeRefused {
                stream,
                reason: "VolumeLost",
                message: "mount the original volume".into(),
            },
            ReadError::VolumeRefused { .. } => ReadError::Closed,
            ReadError::Closed => return all,
        });
    }
}

fn proofs() -> Vec<RolledBack> {
    let mut all = vec![RolledBack::Mark {
        local: 3,
        bucket: 4,
        key: "prod/orders/marks/4".into(),
    }];
    loop {
        let (stream, key) = (name(), "prod/orders/orders-0-invoices/1/3.aof2w".to_owned());
        all.push(match all.last().expect("one") {
            RolledBack::Mark { .. } => RolledBack::Segment {
                stream,
                local: 100,
                bucket: 200,
                key,
            },
            RolledBack::Segment { .. } => RolledBack::ManifestChunk {
                stream,
                local: 1,
                bucket: 2,
                key,
            },
            RolledBack::ManifestChunk { .. } => RolledBack::Claim { stream, epoch: 1 },
            RolledBack::Claim { .. } => return all,
        });
    }
}

fn opens() -> Vec<OpenError> {
    let mut all = vec![OpenError::Locked { path: path() }];
    loop {
        all.push(match all.last().expect("one") {
            OpenError::Locked { .. } => OpenError::ForeignDirectory {
                path: path(),
                field: "node",
                found: "orders-1".into(),
                expected: "orders-0".into(),
            },
            OpenError::ForeignDirectory { .. } => OpenError::NewerFormat {
                path: path(),
                found: 2,
                known: 1,
            },
            OpenError::NewerFormat { .. } => OpenError::VolumeLost {
                node: "orders-0".into(),
                streams: vec![name()],
            },
            OpenError::VolumeLost { .. } => OpenError::RolledBack {
                node: "orders-0".into(),
                proofs: proofs()[..1].to_vec(),
                since: AcknowledgedSince(vec![(name().into(), 3, 5)]),
            },
            OpenError::RolledBack { .. } => OpenError::PrefixInUse {
                cluster_id: "0192f0aa-0000-7000-8000-000000000001".into(),
                owner: "shop/orders".into(),
            },
            OpenError::PrefixInUse { .. } => OpenError::Damaged {
                path: path(),
                message: "checksum differs".into(),
            },
            OpenError::Damaged { .. } => OpenError::Disk {
                verb: "open",
                path: path(),
                source: std::io::ErrorKind::Other.into(),
            },
            OpenError::Disk { .. } => OpenError::Poisoned { message: message() },
            OpenError::Poisoned { .. } => OpenError::Config {
                key: "journal.files",
                value: "1".into(),
                rule: "at least 2",
            },
            OpenError::Config { .. } => return all,
        });
    }
}

fn stores() -> Vec<StoreError> {
    let mut all = vec![StoreError::UnknownStream { stream: name() }];
    loop {
        let stream = name();
        all.push(match all.last().expect("one") {
            StoreError::UnknownStream { .. } => StoreError::UnknownSegment {
                stream,
                segment_id: 3,
            },
            StoreError::UnknownSegment { .. } => StoreError::Poisoned { message: message() },
            StoreError::Poisoned { .. } => StoreError::DiskFull {
                what: "a manifest chunk".into(),
            },
            StoreError::DiskFull { .. } => StoreError::OutOf {
                what: "the manifest of stream orders".into(),
                lack: "file descriptors",
                remedy: "raise the limit of open files",
            },
            StoreError::OutOf { .. } => StoreError::Damaged {
                stream,
                message: damage(),
            },
            StoreError::Damaged { .. } => StoreError::Closed,
            StoreError::Closed => return all,
        });
    }
}

fn claims() -> Vec<ClaimError> {
    let mut all = vec![ClaimError::NotOwner {
        stream: name(),
        owner: "orders-1".into(),
        address: "orders-1.orders.aof2.svc:7423".into(),
    }];
    loop {
        all.push(match all.last().expect("one") {
            ClaimError::NotOwner { .. } => ClaimError::Pending {
                message: "cannot read claims/orders-0-invoices/1; the engine retries".into(),
            },
            ClaimError::Pending { .. } => ClaimError::Unreadable {
                key: "claims/orders-0-invoices/1".into(),
                message: "object claims/orders-0-invoices/1 is damaged (empty); restore it".into(),
            },
            ClaimError::Unreadable { .. } => ClaimError::VolumeLost {
                streams: vec![name()],
            },
            ClaimError::VolumeLost { .. } => ClaimError::RolledBack {
                proofs: proofs()[..1].to_vec(),
            },
            ClaimError::RolledBack { .. } => ClaimError::PrefixInUse {
                cluster_id: "0192f0aa-0000-7000-8000-000000000001".into(),
                owner: "shop/orders".into(),
            },
            ClaimError::PrefixInUse { .. } => return all,
        });
    }
}

/// Text, and whether a cause stands behind it that says what failed.
fn texts() -> Vec<(String, bool)> {
    fn read(error: &dyn std::error::Error) -> (String, bool) {
        (error.to_string(), error.source().is_some())
    }
    let mut all: Vec<(String, bool)> = Vec::new();
    all.extend(appends().iter().map(|error| read(error)));
    all.extend(reads().iter().map(|error| read(error)));
    all.extend(opens().iter().map(|error| read(error)));
    all.extend(stores().iter().map(|error| read(error)));
    all.extend(claims().iter().map(|error| read(error)));
    all
}

#[test]
fn every_error_is_short_and_begins_with_its_object() {
    for (text, _) in texts() {
        assert!(text.chars().count() <= MAX_CHARACTERS, "{text}");
        let first = text.split(' ').next().unwrap_or_default();
        assert!(!["the", "a", "it", "its"].contains(&first), "{text}");
    }
    for proof in proofs() {
        assert!(proof.to_string().chars().count() <= 160, "{proof}");
    }
}

#[test]
fn every_error_says_what_to_do() {
    for (text, has_cause) in texts() {
        // A failed system call: its cause follows, and the handbook has what to do with a volume.
        if has_cause {
            continue;
        }
        assert!(
            ACTS.iter().any(|act| text.contains(act)),
            "no act in: {text}"
        );
    }
}

#[test]
fn a_message_names_no_act_that_no_tool_does() {
    for (text, _) in texts() {
        for act in [
            "hydrate",
            "recover its",
            "recover them",
            "repair it",
            "aof2-admin restore",
        ] {
            assert!(!text.contains(act), "{act:?} in: {text}");
        }
        let commands = text.match_indices("aof2-admin ");
        for (at, start) in commands {
            let verb: String = text[at + start.len()..]
                .chars()
                .take_while(|letter| letter.is_ascii_lowercase())
                .collect();
            // The verbs are in engine/ctl/src/cli.rs.
            assert!(
                ["streams", "segments", "resume", "seal"].contains(&&*verb),
                "{text}"
            );
        }
    }
}
