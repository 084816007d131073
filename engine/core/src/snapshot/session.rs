//! One request for one stream, and what to do next about it: pure over the stream's facts and the clock's value.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_format::snapshot::{RecoveryNotes, SnapshotId};

use super::{SnapshotPhase, SnapshotReason, SnapshotStatus, Why};
use crate::coordinator::memo::FailureKind;
use crate::objects::Tier2Reason;
use crate::store::StreamFacts;

pub(super) struct Session {
    pub status: SnapshotStatus,
    pub seals: bool,
    /// Sealed count that has to be uploaded; `None` until the seal is begun.
    pub target: Option<u64>,
    /// The marker is durable; these are still to be written.
    pub notes: Option<RecoveryNotes>,
    /// Ids that it had before its own: those were taken.
    pub earlier_ids: Vec<SnapshotId>,
    pub is_under_way: bool,
    /// Most things that one attempt has reported: an attempt that only repeats them is no progress.
    pub furthest: u64,
    /// After a failed step: how often in a row, and when to try again.
    pub failed: Option<(u32, Instant)>,
}

impl Session {
    pub fn new(stream: Arc<str>, request: String, seals: bool, id: SnapshotId, now: i64) -> Self {
        Session {
            status: SnapshotStatus {
                stream,
                snapshot_id: id,
                request,
                phase: SnapshotPhase::Pending,
                started_unix_nanos: now,
                heartbeat_unix_nanos: now,
                completed_unix_nanos: None,
                chunk_index: 0,
                chunk_offset: 0,
                durable_sequence: 0,
                uploaded_sequence: 0,
                key: String::new(),
                digest: String::new(),
                bytes: 0,
                why: None,
            },
            seals,
            target: None,
            notes: None,
            earlier_ids: Vec::new(),
            is_under_way: false,
            furthest: 0,
            failed: None,
        }
    }

    pub fn has_id(&self, id: SnapshotId) -> bool {
        self.status.snapshot_id == id || self.earlier_ids.contains(&id)
    }

    pub fn is_over(&self) -> bool {
        self.status.phase.is_over()
    }

    /// Something was done: not stuck.
    pub fn heartbeat(&mut self, now_unix_nanos: i64) {
        self.status.heartbeat_unix_nanos = now_unix_nanos;
    }
}

/// What is known about the way to Tier 2.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    pub poisoned: Option<String>,
    /// Of the store, while it does not answer or refuses.
    pub tier2: Option<(Tier2Reason, String)>,
    /// While the breaker rests.
    pub tier2_not_before: Option<Instant>,
    /// Of this stream's segments, where one does not get on.
    pub upload_failure: Option<(FailureKind, String)>,
    pub is_claim_confirmed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Rolls; waits for nothing.
    Seal,
    /// Chunks, catalogue, marker.
    Publish,
    Notes,
    Wait {
        phase: SnapshotPhase,
        why: Option<Why>,
        next_at: Option<Instant>,
    },
    Fail(Why),
}

pub(super) fn plan(
    now: Instant,
    session: &Session,
    facts: &StreamFacts,
    outlook: &Outlook,
) -> Next {
    if let Some(message) = &outlook.poisoned {
        return Next::Fail(Why::new(SnapshotReason::Poisoned, message));
    }
    if let Some(to) = facts.superseded_by {
        let message = format!(
            "another volume owns the stream now (epoch {to} supersedes {})",
            facts.epoch
        );
        return Next::Fail(Why::new(SnapshotReason::Superseded, message));
    }
    if let Some(damage) = &facts.damage {
        return Next::Fail(Why::new(SnapshotReason::Damaged, damage));
    }
    let Some(target) = session.target else {
        return Next::Seal;
    };
    if session.notes.is_none() && facts.uploaded < target {
        return wait_for_uploads(target, facts, outlook);
    }
    let not_before = session
        .failed
        .map(|(_, at)| at)
        .max(outlook.tier2_not_before);
    if let Some(at) = not_before.filter(|at| *at > now) {
        return Next::Wait {
            phase: session.status.phase,
            // What the failed step said stays.
            why: session.status.why.clone(),
            next_at: Some(at),
        };
    }
    if session.notes.is_some() {
        Next::Notes
    } else {
        Next::Publish
    }
}

fn wait_for_uploads(target: u64, facts: &StreamFacts, outlook: &Outlook) -> Next {
    let phase = if facts.sealed < target {
        SnapshotPhase::Pending
    } else {
        SnapshotPhase::Uploading
    };
    let why = match (&outlook.tier2, &outlook.upload_failure) {
        // First: it stays when Tier 2 answers again.
        (_, Some((FailureKind::Damage, message))) => {
            return Next::Fail(Why::new(SnapshotReason::Damaged, message));
        }
        (Some((reason, message)), _) => Some(Why::new(SnapshotReason::Tier2(*reason), message)),
        (None, Some((FailureKind::Final, message))) => {
            return Next::Fail(Why::new(SnapshotReason::Damaged, message));
        }
        (None, Some((FailureKind::Outage, message))) if !outlook.is_claim_confirmed => {
            Some(Why::new(SnapshotReason::ClaimPending, message))
        }
        (None, Some((FailureKind::Outage, message))) => Some(Why::new(
            SnapshotReason::Tier2(Tier2Reason::Unreachable),
            message,
        )),
        (None, Some((FailureKind::BucketFull, message))) => Some(Why::new(
            SnapshotReason::Tier2(Tier2Reason::QuotaExceeded),
            message,
        )),
        (None, Some((FailureKind::DiskFull, message))) => {
            Some(Why::new(SnapshotReason::DiskFull, message))
        }
        (None, Some((FailureKind::Refused, message))) => {
            Some(Why::new(SnapshotReason::UploadRefused, message))
        }
        (None, None) => None,
    };
    Next::Wait {
        phase,
        why,
        next_at: None,
    }
}

/// Doubles from a quarter of a second to ten.
pub(super) fn pause_after(times: u32) -> Duration {
    Duration::from_millis(250 << times.saturating_sub(1).min(6)).min(Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(sealed: u64, uploaded: u64) -> StreamFacts {
        StreamFacts {
            epoch: 1,
            durable: sealed,
            sealed,
            uploaded,
            superseded_by: None,
            damage: None,
        }
    }

    fn session(target: Option<u64>) -> Session {
        let id = SnapshotId::new(1, 1);
        let mut session = Session::new("s".into(), "r".into(), true, id, 0);
        session.target = target;
        session
    }

    fn next(session: &Session, facts: &StreamFacts, outlook: &Outlook) -> Next {
        plan(Instant::now(), session, facts, outlook)
    }

    fn waits(next: Next) -> (SnapshotPhase, Option<&'static str>) {
        match next {
            Next::Wait { phase, why, .. } => (phase, why.map(|why| why.reason.as_str())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_seals_then_waits_for_the_uploads_then_publishes() {
        let outlook = Outlook::default();
        assert_eq!(next(&session(None), &facts(0, 0), &outlook), Next::Seal);
        let sealing = session(Some(5));
        assert_eq!(
            waits(next(&sealing, &facts(3, 3), &outlook)),
            (SnapshotPhase::Pending, None)
        );
        assert_eq!(
            waits(next(&sealing, &facts(5, 3), &outlook)),
            (SnapshotPhase::Uploading, None)
        );
        assert_eq!(next(&sealing, &facts(5, 5), &outlook), Next::Publish);
    }

    #[test]
    fn an_outage_is_waited_for_with_its_reason_and_damage_is_the_end() {
        let sealing = session(Some(5));
        let mut outlook = Outlook {
            tier2: Some((Tier2Reason::AccessDenied, "no".into())),
            ..Outlook::default()
        };
        assert_eq!(
            waits(next(&sealing, &facts(5, 3), &outlook)),
            (SnapshotPhase::Uploading, Some("AccessDenied"))
        );
        outlook.tier2 = None;
        outlook.upload_failure = Some((FailureKind::Outage, "claim".into()));
        assert_eq!(
            waits(next(&sealing, &facts(5, 3), &outlook)).1,
            Some("ClaimPending")
        );
        outlook.is_claim_confirmed = true;
        assert_eq!(
            waits(next(&sealing, &facts(5, 3), &outlook)).1,
            Some("Tier2Unreachable")
        );
        outlook.upload_failure = Some((FailureKind::Refused, "disk".into()));
        assert_eq!(
            waits(next(&sealing, &facts(5, 3), &outlook)).1,
            Some("UploadRefused")
        );
        outlook.upload_failure = Some((FailureKind::Damage, "bits".into()));
        assert!(
            matches!(next(&sealing, &facts(5, 3), &outlook), Next::Fail(why) if why.reason == SnapshotReason::Damaged)
        );
    }

    #[test]
    fn a_stream_that_is_gone_for_this_node_ends_the_session_whatever_it_waits_for() {
        let outlook = Outlook::default();
        let mut taken = facts(5, 5);
        taken.superseded_by = Some(2);
        let mut damaged = facts(5, 5);
        damaged.damage = Some("bits".into());
        let poisoned = Outlook {
            poisoned: Some("sync".into()),
            ..Outlook::default()
        };
        for (facts, outlook, reason) in [
            (taken, &outlook, SnapshotReason::Superseded),
            (damaged, &outlook, SnapshotReason::Damaged),
            (facts(5, 5), &poisoned, SnapshotReason::Poisoned),
        ] {
            assert!(
                matches!(next(&session(Some(5)), &facts, outlook), Next::Fail(why) if why.reason == reason)
            );
        }
    }

    #[test]
    fn a_failed_step_is_repeated_after_its_pause_and_not_before() {
        let now = Instant::now();
        let mut session = session(Some(5));
        let at = now + Duration::from_secs(1);
        session.failed = Some((1, at));
        session.status.phase = SnapshotPhase::Publishing;
        session.status.why = Some(Why::new(SnapshotReason::ClaimPending, "wait"));
        match plan(now, &session, &facts(5, 5), &Outlook::default()) {
            Next::Wait {
                phase,
                why,
                next_at,
            } => {
                assert_eq!(phase, SnapshotPhase::Publishing);
                assert_eq!(why, session.status.why);
                assert_eq!(next_at, Some(at));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            plan(at, &session, &facts(5, 5), &Outlook::default()),
            Next::Publish
        );
        let pauses: Vec<u128> = [1, 2, 6, 7, 99]
            .map(|times| pause_after(times).as_millis())
            .into();
        assert_eq!(pauses, [250, 500, 8000, 10_000, 10_000]);
    }
}
