//! Reads the claims of this node's streams again: an owner that was superseded finds out without uploading anything, and a volume
//! that was not held against Tier 2 yet is. The same request tells whether Tier 2 answers.

use crate::claims::{ClaimStanding, Refreshed, StreamClaims};
use crate::port::Port;

pub fn check_claims(port: &dyn Port, claims: &StreamClaims) {
    let streams: Vec<_> = port
        .watermarks()
        .into_iter()
        .map(|mark| (mark.stream, mark.epoch))
        .collect();
    let settled = port.keep_standing();
    if let Err(error) = &settled {
        tracing::debug!("Tier 2 has not confirmed this volume yet: {error}");
    }
    match claims.refresh(&port.volume(), &streams, settled.is_ok()) {
        Ok(Refreshed { lost, waiting }) => {
            for (stream, standing) in lost {
                if let ClaimStanding::Superseded { from, to, owner } = standing {
                    tracing::error!(%stream, from, to, owner, "another volume owns the stream now; this node no longer serves it");
                    port.supersede(&stream, to);
                }
            }
            for (stream, error) in waiting {
                tracing::debug!(%stream, "claim not confirmed: {error}");
            }
        }
        Err(error) => tracing::debug!("claims not confirmed: {error}"),
    }
}

/// Streams whose claim this process has not seen in Tier 2.
pub fn unconfirmed(port: &dyn Port, claims: &StreamClaims) -> u64 {
    let watermarks = port.watermarks();
    let is_unconfirmed = |stream: &str, epoch| !claims.is_confirmed(stream, epoch);
    watermarks
        .iter()
        .filter(|mark| is_unconfirmed(&mark.stream, mark.epoch))
        .count() as u64
}
