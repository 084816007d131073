//! Which objects below a stream's own prefix nobody knows any more: of an epoch that is over, or with the id of a segment that was given
//! out, and named by no manifest and no catalogue. Such an object stays until it has been there for the grace: by the store's word, and
//! in two listings that lie so far apart.

use std::time::{Duration, Instant};

use aof2_format::names::SegmentRef;
use aof2_format::snapshot::SnapshotId;

use super::delete::Named;

/// The object may be of a segment that this owner, or one before it, has given an id to.
pub(crate) fn is_given_out(segment: &SegmentRef, epoch: u32, next_segment_id: u64) -> bool {
    segment.epoch < epoch || (segment.epoch == epoch && segment.segment_id < next_segment_id)
}

/// An object that the stream's own manifest does not speak for, as listings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub bytes: u64,
    pub etag: String,
    /// By the clock of the store.
    pub modified_unix_nanos: Option<i64>,
    /// The first listing that showed it, and since which all did, was over then.
    pub first_seen: Instant,
}

impl Sight {
    /// Another object under the same key is seen for the first time.
    pub fn continues(self, before: Option<&Sight>) -> Sight {
        let is_same = |before: &&Sight| {
            before.etag == self.etag
                && before.bytes == self.bytes
                && before.modified_unix_nanos == self.modified_unix_nanos
        };
        let first_seen = before
            .filter(is_same)
            .map_or(self.first_seen, |it| it.first_seen);
        Sight { first_seen, ..self }
    }
}

/// What the manifests of epochs that are over say of an object, as far as they are in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// It is of the epoch of its stream.
    None,
    /// A chunk names it.
    Named,
    /// They can be read, and none names it.
    Unnamed,
    /// There is nothing of the manifest of its epoch: what that epoch held is not known.
    NoManifest,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub grace: Duration,
    /// When the last listing began.
    pub listing_began: Instant,
    /// Every catalogue that is there, whoever took it.
    pub catalogues: &'a [Named],
    pub is_snapshot_running: bool,
    /// `None` while the clock is not trusted.
    pub now_unix_nanos: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Orphan,
    Stays(Why),
}

/// Why it is not an orphan, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Snapshot {
        snapshot_id: SnapshotId,
    },
    SnapshotRunning,
    /// A manifest of an epoch that is over names it.
    Manifest,
    NoManifest,
    Upload,
    /// The clock does not tell how old it is.
    Clock,
    /// Younger than the grace, or of unknown age.
    Age,
    SecondListing,
}

pub(crate) fn judge(
    segment: &SegmentRef,
    sight: &Sight,
    elsewhere: Elsewhere,
    is_uploading: bool,
    look: &Look<'_>,
) -> Verdict {
    let names_it = |named: &&Named| named.segments.contains(segment.segment_id);
    // The newest: it is kept longest.
    if let Some(Named { snapshot_id, .. }) = look.catalogues.iter().rev().find(names_it) {
        return Verdict::Stays(Why::Snapshot {
            snapshot_id: *snapshot_id,
        });
    }
    match elsewhere {
        Elsewhere::None | Elsewhere::Unnamed => {}
        Elsewhere::Named => return Verdict::Stays(Why::Manifest),
        Elsewhere::NoManifest => return Verdict::Stays(Why::NoManifest),
    }
    if look.is_snapshot_running {
        return Verdict::Stays(Why::SnapshotRunning);
    }
    if is_uploading {
        return Verdict::Stays(Why::Upload);
    }
    let Some(now) = look.now_unix_nanos else {
        return Verdict::Stays(Why::Clock);
    };
    let grace = i64::try_from(look.grace.as_nanos()).unwrap_or(i64::MAX);
    let is_old = |modified: i64| now >= modified.saturating_add(grace);
    if !sight.modified_unix_nanos.is_some_and(is_old) {
        return Verdict::Stays(Why::Age);
    }
    // The first listing itself is never the second.
    let is_again = look.listing_began >= sight.first_seen
        && look.listing_began.duration_since(sight.first_seen) >= look.grace;
    match is_again {
        true => Verdict::Orphan,
        false => Verdict::Stays(Why::SecondListing),
    }
}

/// When a stream's objects are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// After the process began: one that ends again and again lists nothing.
    pub first: Duration,
    pub between: Duration,
    /// After a listing by which nothing could be decided.
    pub retry: Duration,
}

const FIRST: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_secs(3600);
/// A grace below this is one of tests, whose buckets are small.
const SHORTEST_GRACE: Duration = Duration::from_secs(60);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Pace {
    pub fn of(grace: Duration) -> Pace {
        match grace < SHORTEST_GRACE {
            true => Pace {
                first: Duration::ZERO,
                between: grace.max(SHORTEST_PAUSE),
                retry: SHORTEST_PAUSE,
            },
            false => Pace {
                first: FIRST,
                between: DAY,
                retry: RETRY,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: i64 = 1_800_000_000_000_000_000;

    fn segment(epoch: u32, segment_id: u64) -> SegmentRef {
        SegmentRef {
            base_sequence: 10,
            epoch,
            segment_id,
        }
    }

    fn sight(first_seen: Instant) -> Sight {
        Sight {
            bytes: 7,
            etag: "e".to_owned(),
            modified_unix_nanos: Some(NOW - HOUR.as_nanos() as i64),
            first_seen,
        }
    }

    fn look(listing_began: Instant) -> Look<'static> {
        Look {
            grace: HOUR,
            listing_began,
            catalogues: &[],
            is_snapshot_running: false,
            now_unix_nanos: Some(NOW),
        }
    }

    fn judged(sight: &Sight, look: &Look<'_>) -> Verdict {
        judge(&segment(1, 2), sight, Elsewhere::None, false, look)
    }

    #[test]
    fn only_ids_that_were_given_out_are_looked_at() {
        assert!(is_given_out(&segment(1, 2), 1, 3));
        assert!(!is_given_out(&segment(1, 3), 1, 3));
        // Of an owner before, whatever its id.
        assert!(is_given_out(&segment(1, 99), 2, 3));
        // Of an owner after this one, who is the owner now.
        assert!(!is_given_out(&segment(3, 1), 2, 3));
    }

    #[test]
    fn an_object_is_an_orphan_when_two_listings_a_grace_apart_show_it_and_it_is_as_old() {
        let seen = Instant::now();
        let sight = sight(seen);
        let nano = Duration::from_nanos(1);
        assert_eq!(judged(&sight, &look(seen + HOUR)), Verdict::Orphan);
        let early = Verdict::Stays(Why::SecondListing);
        assert_eq!(judged(&sight, &look(seen + HOUR - nano)), early);
        // The first listing began before it was over, and a grace of nothing makes it no second one.
        let same = Look {
            grace: Duration::ZERO,
            ..look(seen - nano)
        };
        assert_eq!(judged(&sight, &same), early);
        let young = Sight {
            modified_unix_nanos: Some(NOW - HOUR.as_nanos() as i64 + 1),
            ..sight.clone()
        };
        let age = Verdict::Stays(Why::Age);
        assert_eq!(judged(&young, &look(seen + 9 * HOUR)), age);
        let unknown = Sight {
            modified_unix_nanos: None,
            ..sight.clone()
        };
        assert_eq!(judged(&unknown, &look(seen + 9 * HOUR)), age);
    }

    #[test]
    fn a_clock_that_is_not_trusted_decides_nothing_whatever_the_grace_is() {
        let seen = Instant::now();
        for grace in [Duration::ZERO, HOUR] {
            let look = Look {
                grace,
                now_unix_nanos: None,
                ..look(seen + 100 * HOUR)
            };
            assert_eq!(judged(&sight(seen), &look), Verdict::Stays(Why::Clock));
        }
    }

    #[test]
    fn what_a_catalogue_or_a_manifest_names_stays() {
        let seen = Instant::now();
        let look = look(seen + HOUR);
        let named = |segments: &[u64]| Named {
            snapshot_id: SnapshotId::new(1, 4),
            from_sequence: 0,
            to_sequence: 5,
            segments: Arc::new(segments.iter().copied().collect()),
        };
        let with = |catalogues: &[Named]| judged(&sight(seen), &Look { catalogues, ..look });
        let snapshot_id = SnapshotId::new(1, 4);
        let kept = Verdict::Stays(Why::Snapshot { snapshot_id });
        assert_eq!(with(&[named(&[1, 2])]), kept);
        // Its sequences do not count: a catalogue names segments.
        assert_eq!(with(&[named(&[1, 3])]), Verdict::Orphan);
        let over = |elsewhere| judge(&segment(1, 2), &sight(seen), elsewhere, false, &look);
        assert_eq!(over(Elsewhere::Named), Verdict::Stays(Why::Manifest));
        assert_eq!(over(Elsewhere::NoManifest), Verdict::Stays(Why::NoManifest));
        assert_eq!(over(Elsewhere::Unnamed), Verdict::Orphan);
        let running = Look {
            is_snapshot_running: true,
            ..look
        };
        let waits = Verdict::Stays(Why::SnapshotRunning);
        assert_eq!(judged(&sight(seen), &running), waits);
        let uploading = judge(&segment(1, 2), &sight(seen), Elsewhere::None, true, &look);
        assert_eq!(uploading, Verdict::Stays(Why::Upload));
    }

    #[test]
    fn another_object_under_the_key_is_seen_for_the_first_time() {
        let first = Instant::now();
        let before = sight(first);
        let again = sight(first + HOUR);
        assert_eq!(again.clone().continues(Some(&before)), before);
        assert_eq!(again.clone().continues(None), again);
        for other in [
            Sight {
                etag: "f".to_owned(),
                ..again.clone()
            },
            Sight {
                bytes: 8,
                ..again.clone()
            },
            Sight {
                modified_unix_nanos: Some(NOW),
                ..again.clone()
            },
        ] {
            assert_eq!(other.clone().continues(Some(&before)), other);
        }
    }

    #[test]
    fn a_bucket_is_listed_daily_unless_the_grace_is_one_of_tests() {
        let daily = Pace::of(24 * HOUR);
        assert_eq!((daily.first, daily.between), (FIRST, DAY));
        assert_eq!(Pace::of(SHORTEST_GRACE), daily);
        assert_eq!(Pace::of(1000 * HOUR), daily);
        let of_tests = Pace::of(Duration::from_secs(2));
        assert_eq!(of_tests.between, Duration::from_secs(2));
        assert_eq!(Pace::of(Duration::ZERO).between, SHORTEST_PAUSE);
    }
}
