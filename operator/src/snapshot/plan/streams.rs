//! The streams of one look, sorted by how far they are.

use aof2_admin_api::{SnapshotIndex, SnapshotPhase, SnapshotReason, SnapshotReport};
use aof2_crds::snapshot::{
    Aof2SnapshotStatus, MAX_STREAMS, SnapshotReason as Reason, SnapshotStream,
};

use super::Action;
use crate::machine::{bounded, quoted, see_log};
use crate::snapshot::facts::{ClusterFacts, Facts};

/// Sessions begun in one look and pod; an engine bounds what it does at once itself.
const BEGUN_AT_ONCE: usize = 64;

pub(super) struct Streams<'a> {
    pub(super) unreachable: Vec<(&'a str, &'a str)>,
    pub(super) missing: Vec<&'a str>,
    /// Pod and report.
    done: Vec<(&'a str, &'a SnapshotReport)>,
    pub(super) failed: Vec<(&'a str, &'a SnapshotReport)>,
    pub(super) waiting: Vec<(&'a str, &'a str, Option<&'a SnapshotReport>)>,
    pub(super) begin: Vec<Action>,
}

impl<'a> Streams<'a> {
    pub(super) fn of(facts: &'a Facts) -> Self {
        let wanted = &facts.spec.streams;
        let mut view = Self {
            unreachable: Vec::new(),
            missing: Vec::new(),
            done: Vec::new(),
            failed: Vec::new(),
            waiting: Vec::new(),
            begin: Vec::new(),
        };
        let mut seen = Vec::new();
        for pod in &facts.pods {
            let streams = match &pod.streams {
                Ok(streams) => streams,
                Err(why) => {
                    view.unreachable.push((&pod.name, why));
                    continue;
                }
            };
            let mut begun = 0;
            for stream in streams {
                if !wanted.is_empty() && !wanted.contains(&stream.name) {
                    continue;
                }
                seen.push(stream.name.as_str());
                match &stream.report {
                    Some(report) if report.phase == SnapshotPhase::Done => {
                        view.done.push((&pod.name, report));
                    }
                    Some(report) if report.phase == SnapshotPhase::Failed => {
                        view.failed.push((&pod.name, report));
                    }
                    report => view
                        .waiting
                        .push((&pod.name, &stream.name, report.as_ref())),
                }
                if stream.report.is_none() && begun < BEGUN_AT_ONCE {
                    begun += 1;
                    view.begin.push(Action::Begin {
                        pod: pod.name.clone(),
                        stream: stream.name.clone(),
                    });
                }
            }
        }
        view.missing = wanted
            .iter()
            .map(String::as_str)
            .filter(|stream| !seen.contains(stream))
            .collect();
        view
    }

    pub(super) fn total(&self) -> usize {
        self.done.len() + self.failed.len() + self.waiting.len()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.unreachable.is_empty() && self.failed.is_empty() && self.waiting.is_empty()
    }

    /// In one line, with what the engine said last.
    pub(super) fn what_is_missing(&self) -> (Reason, String) {
        if let Some((pod, why)) = self.unreachable.first() {
            return (
                Reason::NodeUnreachable,
                format!(
                    "Engine of {pod} unreachable; its streams are unknown ({}). {}",
                    quoted(why),
                    see_log(pod)
                ),
            );
        }
        let done = format!("{} of {} streams done", self.done.len(), self.total());
        let told = self
            .waiting
            .iter()
            .find_map(|(pod, stream, report)| Some((pod, stream, (*report)?)))
            .filter(|(_, _, report)| report.reason.is_some());
        match told {
            Some((pod, stream, report)) => {
                let reason = match report.reason {
                    Some(SnapshotReason::Tier2Unreachable) => Reason::Tier2Unreachable,
                    Some(_) | None => Reason::DeadlineExceeded,
                };
                (
                    reason,
                    format!(
                        "{done}. Stream {stream} on {pod} waits since {} ({})",
                        report.heartbeat,
                        failure_of(report)
                    ),
                )
            }
            None => (Reason::DeadlineExceeded, done),
        }
    }

    pub(super) fn fill(&self, status: &mut Aof2SnapshotStatus) {
        let total = self.total();
        status.streams_total = i64::try_from(total).unwrap_or(i64::MAX);
        // In steps of 5 percent where there are many: a thousand streams are no thousand writes.
        let step = (total / 20).max(1);
        let done = match self.is_complete() {
            true => self.done.len(),
            false => self.done.len() / step * step,
        };
        status.streams_done = i64::try_from(done).unwrap_or(i64::MAX);
        let failed = self.failed.iter().map(|(pod, report)| SnapshotStream {
            message: bounded(&failure_of(report), 512),
            ..shown(pod, report)
        });
        let taken = self.done.iter().map(|(pod, report)| shown(pod, report));
        // While it runs only failures are told stream by stream.
        status.streams = match self.is_complete() {
            true => taken.take(MAX_STREAMS).collect(),
            false => failed.take(MAX_STREAMS).collect(),
        };
    }
}

pub(super) fn shown(pod: &str, report: &SnapshotReport) -> SnapshotStream {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    SnapshotStream {
        name: report.stream.clone(),
        pod: pod.to_owned(),
        snapshot_id: report.snapshot_id.clone(),
        chunk_index: number(report.chunk_index),
        chunk_offset: number(report.chunk_offset),
        durable_sequence: number(report.durable_sequence),
        uploaded_sequence: number(report.uploaded_sequence),
        key: report.key.clone(),
        digest: report.digest.clone(),
        bytes: number(report.bytes),
        message: String::new(),
    }
}

pub(super) fn failure_of(report: &SnapshotReport) -> String {
    format!(
        "{}, {}",
        report
            .reason
            .as_ref()
            .map_or("no reason", |reason| reason.as_str()),
        report.message.as_deref().map_or("no message", quoted)
    )
}

/// The same bytes whenever it is made again: it is created once.
pub(super) fn index(facts: &Facts, cluster: &ClusterFacts, streams: &Streams<'_>) -> SnapshotIndex {
    let completed_at = streams
        .done
        .iter()
        .filter_map(|(_, report)| report.completed_at.clone())
        .max()
        .unwrap_or_default();
    SnapshotIndex {
        name: facts.name.clone(),
        cluster_id: cluster.cluster_id.clone(),
        completed_at,
        streams: streams
            .done
            .iter()
            .map(|(_, report)| (report.stream.clone(), (*report).clone()))
            .collect(),
    }
}
