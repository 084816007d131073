//! The words that one program says and another one decides by.
//!
//! - Each word stands here once. A writer cannot misspell it, and a reader that matches learns of a new one from the compiler.
//! - Versions skew during a rollout: a word that a reader does not know is kept as it is, and written again as it was read.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An enum that is a string in JSON. `From<&str>` alone makes `Unknown`, so two values are equal where their words are.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$note:meta])* $word:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$note])* $word,)+
            /// A word that this reader does not know.
            Unknown(String),
        }

        impl $name {
            /// All that this release knows.
            pub const KNOWN: &'static [$name] = &[$($name::$word,)+];

            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$word => stringify!($word),)+
                    $name::Unknown(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $(stringify!($word) => $name::$word,)+
                    _ => $name::Unknown(word.to_owned()),
                }
            }
        }

        /// Not known: what a report of an older release leaves out.
        impl Default for $name {
            fn default() -> Self {
                $name::Unknown(String::new())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Ok(String::deserialize(from)?.as_str().into())
            }
        }
    };
}

words! {
    /// Why a verb was refused.
    ErrorReason {
        /// 400: the request is malformed.
        BadRequest,
        /// 404: no such stream, segment or path.
        NotFound,
        /// 404: the stream is here, and neither its manifest nor the bucket has the snapshot that is to be deleted.
        UnknownSnapshot,
        /// 409: the request carries an operator epoch older than one seen before.
        StaleOperatorEpoch,
        /// 409: not while a drain runs, or while the process ends.
        Draining,
        /// 409: something else has that name, and it is not overwritten.
        Conflict,
        /// 503: the engine keeps up only this listener, since it refuses its data (see `Dump::refusal`), or still recovers.
        NotServing,
        /// 503: Tier 2 does not answer.
        Tier2Unreachable,
        /// 507: no space beyond the reserve.
        DiskFull,
        /// 500.
        Internal,
    }
}

words! {
    /// Why the last drain fell back to `Open`, or what the running one waits for.
    DrainReason {
        UploadTimeout,
        DrainTimeout,
        TokenExpired,
        Resumed,
        Tier2Unreachable,
        Tier2Refused,
        /// The engine's volume has no room for what the way down writes.
        DiskFull,
        /// A sealed segment is damaged: it is not uploaded unless somebody repairs it.
        Damaged,
    }
}

words! {
    /// Why an engine does not serve, though its process is up.
    RefusalReason {
        /// The volume is empty, and Tier 2 says that its streams are not.
        VolumeLost,
        /// Tier 2 proves a later state of the volume.
        RolledBack,
        /// The prefix in Tier 2 is another cluster's.
        PrefixInUse,
        /// The directory is another node's or another cluster's.
        ForeignDirectory,
        NewerFormat,
        /// Another process holds the directory.
        Locked,
        Damaged,
        /// No space to recover in. Tried again until there is.
        DiskFull,
        DiskError,
        Poisoned,
        Config,
    }
}

words! {
    /// What an append waited for when it was refused.
    WouldBlockKind {
        /// Tier 0 is at its quota.
        Admission,
        /// The next segment is not ready.
        Rollover,
        /// Bytes have to come back from a lower tier first.
        Hydration,
        /// More is staged than the disk takes.
        Flush,
        /// The reader is at the end of what is durable.
        Tail,
    }
}

words! {
    /// What is wrong with Tier 2.
    Tier2Reason {
        /// It does not answer, or says that it is too busy.
        Tier2Unreachable,
        BucketMissing,
        AccessDenied,
        /// It overwrites against preconditions: nothing is written there.
        Tier2IgnoresPreconditions,
        CredentialsExpired,
        /// The clocks of node and object store differ too much.
        ClockSkew,
        /// An object has to be restored from an archive before it can be read.
        ObjectArchived,
        QuotaExceeded,
        /// The key that encrypts the bucket cannot be used.
        EncryptionKey,
        /// It rejects the header of the checksum.
        ChecksumRejected,
        WrongRegion,
        /// For a reason that a retry does not change, or that the engine does not know.
        Tier2Refused,
        /// An object is not what was written.
        Corrupt,
    }
}

words! {
    /// Why the snapshot of a stream failed.
    SnapshotReason {
        NoTier2,
        Tier2Unreachable,
        BucketMissing,
        AccessDenied,
        Tier2IgnoresPreconditions,
        CredentialsExpired,
        ClockSkew,
        ObjectArchived,
        QuotaExceeded,
        EncryptionKey,
        ChecksumRejected,
        WrongRegion,
        Tier2Refused,
        Corrupt,
        ClaimPending,
        PrefixInUse,
        Superseded,
        Damaged,
        Poisoned,
        DiskFull,
        /// An object of ours that must be there is not.
        ObjectMissing,
        /// A key of ours holds other bytes.
        KeyTaken,
        /// The catalogue would be larger than what is read back.
        TooLarge,
        /// A segment is not uploaded for a reason that is not Tier 2.
        UploadRefused,
        /// Dropped while it waited: too many newer requests for the stream.
        Displaced,
    }
}

impl Tier2Reason {
    /// Tier 2 answers, and the answer is no.
    pub fn is_refusal(&self) -> bool {
        match self {
            Tier2Reason::Tier2Unreachable | Tier2Reason::Corrupt | Tier2Reason::Unknown(_) => false,
            Tier2Reason::BucketMissing
            | Tier2Reason::AccessDenied
            | Tier2Reason::Tier2IgnoresPreconditions
            | Tier2Reason::CredentialsExpired
            | Tier2Reason::ClockSkew
            | Tier2Reason::ObjectArchived
            | Tier2Reason::QuotaExceeded
            | Tier2Reason::EncryptionKey
            | Tier2Reason::ChecksumRejected
            | Tier2Reason::WrongRegion
            | Tier2Reason::Tier2Refused => true,
        }
    }
}

impl From<Tier2Reason> for SnapshotReason {
    fn from(reason: Tier2Reason) -> Self {
        match reason {
            Tier2Reason::Tier2Unreachable => SnapshotReason::Tier2Unreachable,
            Tier2Reason::BucketMissing => SnapshotReason::BucketMissing,
            Tier2Reason::AccessDenied => SnapshotReason::AccessDenied,
            Tier2Reason::Tier2IgnoresPreconditions => SnapshotReason::Tier2IgnoresPreconditions,
            Tier2Reason::CredentialsExpired => SnapshotReason::CredentialsExpired,
            Tier2Reason::ClockSkew => SnapshotReason::ClockSkew,
            Tier2Reason::ObjectArchived => SnapshotReason::ObjectArchived,
            Tier2Reason::QuotaExceeded => SnapshotReason::QuotaExceeded,
            Tier2Reason::EncryptionKey => SnapshotReason::EncryptionKey,
            Tier2Reason::ChecksumRejected => SnapshotReason::ChecksumRejected,
            Tier2Reason::WrongRegion => SnapshotReason::WrongRegion,
            Tier2Reason::Tier2Refused => SnapshotReason::Tier2Refused,
            Tier2Reason::Corrupt => SnapshotReason::Corrupt,
            Tier2Reason::Unknown(word) => SnapshotReason::from(word.as_str()),
        }
    }
}

words! {
    /// What a second reader found wrong with a snapshot.
    VerifyReason {
        ObjectMissing,
        DigestMismatch,
        SizeMismatch,
        Undecodable,
        /// The manifest's chunks, replayed, do not give the catalogue.
        ReplayDiffers,
        /// It has to be restored from an archive before it can be read.
        ObjectArchived,
    }
}

words! {
    /// Who owns a stream, as far as its node knows.
    ClaimState {
        Claimed,
        ClaimPending,
        /// Without Tier 2.
        Local,
        Superseded,
    }
}

words! {
    /// Where the bytes of a segment are.
    SegmentState {
        Active,
        Sealed,
        /// Compressed next to the sealed file.
        Warm,
        Uploaded,
        /// Below the start of its stream; only its object is left.
        Trimmed,
        /// Merged into another segment; only its object is left.
        Replaced,
    }
}

words! {
    /// A verified copy of a segment's bytes.
    SegmentCopy {
        /// Its file in Tier 0.
        Hot,
        /// Its compressed file in Tier 1.
        Warm,
        /// Its object in Tier 2.
        Cold,
    }
}

words! {
    /// What is known of a copy or a catalogue that is gone, beyond that.
    SegmentDeleteNote {
        /// The bucket keeps the bytes of the object as an old version, until a rule of the bucket removes it.
        KeptAsVersion,
        /// It was not there when it was looked at: somebody removed it before, or it never came there.
        Missing,
    }
}

words! {
    /// Why a process ended before it served, in its [termination message](crate::report::Termination).
    TerminationReason {
        ConfigUnreadable,
        ConfigTooLarge,
        ConfigSyntax,
        /// The file is not what the operator wrote.
        ConfigAltered,
        UnknownKey,
        OperatorOwnedKey,
        WrongType,
        OutOfRange,
        MissingKey,
        ConflictingKeys,
        /// The file is well-formed, and the data directory or Tier 2 does not allow what it says.
        ConfigRejected,
        ListenFailed,
        /// A write or sync failed, or a thread of the store is missing.
        Poisoned,
    }
}

words! {
    /// What is wrong with a file in Tier 1.
    Tier1FindingKind {
        /// The manifest names the copy, and its file is not there.
        Missing,
        /// The disk does not give it.
        Unreadable,
        /// What is there does not decompress to the segment.
        Damaged,
        /// It stands for the segment, and the manifest has another length.
        OtherLength,
        /// A file that belongs to no segment of this node.
        Foreign,
    }
}

words! {
    /// What becomes of a file in Tier 1 that no manifest names.
    Tier1LeftoverKind {
        /// Half written: the next start removes it.
        Unfinished,
        /// The manifest gave the copy up: the next start removes it.
        Dropped,
        /// Written, and not recorded: the engine makes it again before the upload.
        Unrecorded,
    }
}

words! {
    /// What was asked of the files in Tier 1.
    Tier1Verb {
        Verify,
        Recompress,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn round_trip<T>(word: &str) -> T
    where
        T: Serialize + for<'de> Deserialize<'de> + for<'a> From<&'a str> + PartialEq + fmt::Debug,
    {
        let json = format!("\"{word}\"");
        let read: T = serde_json::from_str(&json).expect("any word is read");
        assert_eq!(read, T::from(word));
        assert_eq!(serde_json::to_string(&read).expect("JSON"), json);
        read
    }

    #[test]
    fn a_word_of_a_newer_release_is_kept_and_written_again() {
        let unknown = round_trip::<RefusalReason>("VolumeOnFire");
        assert_eq!(unknown, RefusalReason::Unknown("VolumeOnFire".into()));
        assert_eq!(unknown.to_string(), "VolumeOnFire");
        for known in SnapshotReason::KNOWN {
            assert_eq!(&round_trip::<SnapshotReason>(known.as_str()), known);
        }
    }

    #[test]
    fn a_count_by_kind_keeps_kinds_that_are_not_known() {
        let json = r#"{"Admission":3,"Later":1}"#;
        let counts: BTreeMap<WouldBlockKind, u64> = serde_json::from_str(json).unwrap();
        assert_eq!(counts[&WouldBlockKind::Admission], 3);
        assert_eq!(counts[&WouldBlockKind::from("Later")], 1);
        assert_eq!(serde_json::to_string(&counts).unwrap(), json);
    }

    #[test]
    fn the_page_about_the_object_store_has_a_row_for_each_reason() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/guide/object-store.md"
        );
        let page = std::fs::read_to_string(page).expect("the page");
        for reason in Tier2Reason::KNOWN {
            let row = format!("| `{reason}` |");
            assert_eq!(page.matches(&row).count(), 1, "{row}");
        }
    }

    #[test]
    fn what_tier_2_says_is_a_reason_of_a_snapshot_in_the_same_word() {
        for reason in Tier2Reason::KNOWN {
            let of_snapshot = SnapshotReason::from(reason.clone());
            assert_eq!(of_snapshot.as_str(), reason.as_str());
            assert!(SnapshotReason::KNOWN.contains(&of_snapshot));
        }
    }
}
