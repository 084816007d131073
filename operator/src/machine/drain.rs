//! A drain as the engine reports it, for everything that takes a serving pod away: a rollout and a scale-down.

use aof2_admin_api::{DrainPhase, DrainStatus};
use aof2_crds::Duration;
use jiff::{SignedDuration, Timestamp};

use super::later;

/// How long a drained engine stays closed when nobody removes it.
pub const DRAIN_TTL: Duration = Duration::from_secs(60);
/// A token must outlive what it is for: an eviction and the kubelet's hearing of it, or a write to the StatefulSet and its controller.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain<'a> {
    /// The engine admits appends.
    Open,
    Uploading,
    Closing,
    Drained(Token<'a>),
    /// Drained, and not for long enough any more.
    Expiring,
    /// A phase of a newer engine.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub value: &'a str,
    pub expires_at: Timestamp,
}

impl<'a> Drain<'a> {
    pub fn of(status: &'a DrainStatus, now: Timestamp) -> Self {
        match status.phase {
            DrainPhase::Open => Self::Open,
            DrainPhase::Uploading => Self::Uploading,
            DrainPhase::Closing => Self::Closing,
            DrainPhase::Drained => token(status, now).map_or(Self::Expiring, Self::Drained),
            DrainPhase::Unknown => Self::Unknown,
        }
    }

    /// Without it nobody may remove a pod that serves.
    pub fn token(self) -> Option<Token<'a>> {
        match self {
            Self::Drained(token) => Some(token),
            Self::Open | Self::Uploading | Self::Closing | Self::Expiring | Self::Unknown => None,
        }
    }
}

/// A token without a text, or with a time that does not parse, is none.
fn token(status: &DrainStatus, now: Timestamp) -> Option<Token<'_>> {
    let value = status.token.as_deref().filter(|token| !token.is_empty())?;
    let expires_at: Timestamp = status.expires_at.as_deref()?.parse().ok()?;
    (later(now, TOKEN_MARGIN) < expires_at).then_some(Token { value, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(token: &str, expires_at: &str) -> DrainStatus {
        DrainStatus {
            phase: DrainPhase::Drained,
            token: Some(token.to_owned()),
            expires_at: Some(expires_at.to_owned()),
            ..DrainStatus::default()
        }
    }

    #[test]
    fn a_token_counts_only_with_a_text_and_for_longer_than_what_it_is_for_takes() {
        let now = "2026-09-21T10:00:00Z".parse().unwrap();
        let is_drained = |status: &DrainStatus| Drain::of(status, now).token().is_some();
        assert!(is_drained(&drained("token", "2026-09-21T10:00:16Z")));
        for status in [
            drained("token", "2026-09-21T10:00:15Z"),
            drained("token", "soon"),
            drained("", "2026-09-21T10:01:00Z"),
        ] {
            assert_eq!(Drain::of(&status, now), Drain::Expiring, "{status:?}");
        }
        let closing = DrainStatus {
            phase: DrainPhase::Closing,
            ..drained("token", "2026-09-21T10:01:00Z")
        };
        assert_eq!(Drain::of(&closing, now), Drain::Closing);
    }
}
