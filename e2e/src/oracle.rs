//! The verdict: is every acknowledgement that counts still there, in order, once?

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::collector::{Acknowledgement, to_lines};
use crate::engine::{DATA_SOCKET, Engine};

/// Sum over engines of what `aof2-admin verify` found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    pub acknowledged: u64,
    /// Acknowledged records found at their sequence with the right hash.
    pub read: u64,
    pub lost: u64,
    pub reordered: u64,
    /// Pairs of sequences with equal (producer_id, producer_seq).
    pub duplicated: u64,
    /// Records in the streams that nobody was told of: appended while the answer was lost.
    pub unacknowledged: u64,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        let Self {
            acknowledged,
            read,
            lost,
            reordered,
            duplicated,
            unacknowledged: _,
        } = *self;
        acknowledged == read && lost == 0 && reordered == 0 && duplicated == 0
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        let Self {
            acknowledged,
            read,
            lost,
            reordered,
            duplicated,
            unacknowledged,
        } = other;
        self.acknowledged += acknowledged;
        self.read += read;
        self.lost += lost;
        self.reordered += reordered;
        self.duplicated += duplicated;
        self.unacknowledged += unacknowledged;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acknowledged,
            read,
            lost,
            reordered,
            duplicated,
            unacknowledged,
        } = self;
        write!(
            f,
            "acknowledged {acknowledged}, read {read}, lost {lost}, reordered {reordered}, duplicated {duplicated}, unacknowledged {unacknowledged}"
        )
    }
}

/// Has every engine check the acknowledgements of its streams. `lists` holds, per pod, what the collector has.
pub async fn verify(engines: &[(Engine, Vec<Acknowledgement>)]) -> Result<Verdict> {
    let mut sum = Verdict::default();
    for (engine, list) in engines {
        sum += verify_one(engine, list).await?;
    }
    Ok(sum)
}

pub async fn verify_one(engine: &Engine, list: &[Acknowledgement]) -> Result<Verdict> {
    verify_lines(engine, &to_lines(list)).await
}

/// The same with a list as `aof2-admin load` writes it.
pub async fn verify_lines(engine: &Engine, list: &str) -> Result<Verdict> {
    let output = engine
        .admin(
            &["verify", "--socket", DATA_SOCKET, "--json"],
            Some(list.as_bytes()),
        )
        .await?;
    // Exit code 1 is a finding, which the verdict holds; anything else is no verdict at all.
    let verdict = parse(&output.stdout).with_context(|| {
        format!(
            "`aof2-admin verify` in {} gave no verdict (exit code {:?}): {}{}",
            engine.pod, output.code, output.stdout, output.stderr
        )
    })?;
    if output.success != verdict.is_clean() {
        bail!(
            "`aof2-admin verify` in {} says `{verdict}` and ends with code {:?}",
            engine.pod,
            output.code
        );
    }
    Ok(verdict)
}

fn parse(stdout: &str) -> Result<Verdict> {
    let line = stdout
        .lines()
        .find(|line| line.starts_with('{'))
        .context("no JSON in its output")?;
    Ok(serde_json::from_str(line)?)
}

/// Splits a list by the pod that each stream lives in.
pub fn by_pod(
    streams: &[(String, String)],
    mut list: impl FnMut(&str) -> Result<Vec<Acknowledgement>>,
) -> Result<BTreeMap<String, Vec<Acknowledgement>>> {
    let mut per_pod: BTreeMap<String, Vec<Acknowledgement>> = BTreeMap::new();
    for (stream, pod) in streams {
        per_pod
            .entry(pod.clone())
            .or_default()
            .extend(list(stream)?);
    }
    Ok(per_pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_prints_the_line_that_people_read() {
        let verdict = Verdict {
            acknowledged: 5,
            read: 5,
            unacknowledged: 2,
            ..Verdict::default()
        };
        assert_eq!(
            verdict.to_string(),
            "acknowledged 5, read 5, lost 0, reordered 0, duplicated 0, unacknowledged 2"
        );
        assert!(verdict.is_clean());
    }

    #[test]
    fn a_record_that_was_not_read_spoils_the_verdict_even_when_nobody_calls_it_lost() {
        assert!(
            !Verdict {
                acknowledged: 5,
                read: 4,
                ..Verdict::default()
            }
            .is_clean()
        );
        assert!(
            !Verdict {
                acknowledged: 5,
                read: 5,
                duplicated: 1,
                ..Verdict::default()
            }
            .is_clean()
        );
    }
}
