//! One stream's writer: resume, append, and begin again after every failure, for as long as its patience lasts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aof2_core::backoff;
use aof2_node::proto::append_response::Outcome as Answer;
use aof2_node::proto::{AppendRequest, AppendResponse, Appended, DescribeRequest, Reason, Refused};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::bucket::Bucket;
use super::collector::Pending;
use super::payload::{payload, producer_id};
use super::stats::Stats;
use crate::data::{self, Client};
use crate::exit::Failure;
use crate::verify::{Acknowledgement, Hash, sha256};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// What one writer needs.
pub struct Writer {
    pub client: Client,
    pub stream: String,
    /// Records a second; 0 = no limit.
    pub rate: f64,
    pub record_bytes: usize,
    /// Records that may wait for the engine or the collector.
    pub in_flight: u32,
    /// End after so many acknowledged records; 0 = never.
    pub count: u64,
    /// How long it tries again without an acknowledgement; `None` = for ever.
    pub patience: Option<Duration>,
    /// Differs between any two processes.
    pub run: u64,
    pub collector: mpsc::Sender<Pending>,
    pub stats: Arc<Stats>,
    /// True when the process is asked to stop.
    pub stop: watch::Receiver<bool>,
}

/// A record that waits for the engine's answer.
struct Sent {
    producer_seq: u64,
    hash: Hash,
    sent_at: Instant,
    place: OwnedSemaphorePermit,
}

/// Where the stream stands, as this process knows it.
struct Progress {
    producer_id: u64,
    bucket: Bucket,
    window: Arc<Semaphore>,
    /// Behind the last producer_seq that this process saw acknowledged.
    acknowledged_end: Option<u64>,
    run: u64,
    acknowledged: u64,
    failures: u32,
}

/// Why a connection was given up.
enum Break {
    /// All that was asked for is done, or the process ends.
    Done,
    /// The engine said no, or went away: begin again after a while.
    Retry(String),
}

impl Writer {
    /// Fails where its patience ends.
    pub async fn run(mut self) -> Result<(), Failure> {
        let mut progress = Progress {
            producer_id: producer_id(&self.stream),
            bucket: Bucket::new(self.rate, Instant::now()),
            window: Arc::new(Semaphore::new(self.in_flight as usize)),
            acknowledged_end: None,
            run: self.run,
            acknowledged: 0,
            failures: 0,
        };
        let mut failing_since: Option<Instant> = None;
        loop {
            let acknowledged_before = progress.acknowledged;
            let reason = match self.attempt(&mut progress).await {
                Break::Done => return Ok(()),
                Break::Retry(reason) => reason,
            };
            if *self.stop.borrow() {
                return Ok(());
            }
            self.stats.reconnected();
            if progress.acknowledged > acknowledged_before {
                progress.failures = 0;
                failing_since = None;
            }
            let failing = failing_since.get_or_insert_with(Instant::now).elapsed();
            if self.patience.is_some_and(|patience| failing >= patience) {
                return Err(Failure::Unavailable(format!(
                    "stream {} has no acknowledgement for {} s after {} records ({reason}); see --give-up",
                    self.stream,
                    failing.as_secs(),
                    progress.acknowledged
                )));
            }
            self.stats.waits(&self.stream, reason);
            progress.failures = progress.failures.saturating_add(1);
            let pause = backoff::pause_after(progress.failures, FIRST_BACKOFF, LONGEST_BACKOFF);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut self.stop) => return Ok(()),
            }
        }
    }

    /// One call, from where the stream stands now.
    async fn attempt(&mut self, progress: &mut Progress) -> Break {
        let next = match self.resume(progress).await {
            Ok(next) => next,
            Err(reason) => return Break::Retry(reason),
        };
        let (requests, queue) = mpsc::channel(self.in_flight as usize);
        match self.client.append(ReceiverStream::new(queue)).await {
            Ok(answers) => {
                self.pump(progress, next, requests, answers.into_inner())
                    .await
            }
            Err(status) => Break::Retry(unavailable(&status)),
        }
    }

    /// The producer_seq to go on with.
    async fn resume(&mut self, progress: &mut Progress) -> Result<u64, String> {
        let request = DescribeRequest {
            stream: self.stream.clone(),
            producer_id: progress.producer_id,
        };
        let next = match self.client.describe(request).await {
            Ok(answer) => answer
                .into_inner()
                .last_producer_seq
                .map_or(0, |last| last + 1),
            // The first append creates it.
            Err(status) if status.code() == Code::NotFound => 0,
            Err(status) => return Err(unavailable(&status)),
        };
        if progress.acknowledged_end.is_some_and(|end| next < end) {
            // Acknowledged records are gone. What is sent in their place is another record with another hash, so that the list of
            // acknowledgements proves it.
            self.stats.set_back();
            progress.run = progress.run.wrapping_add(1);
            progress.acknowledged_end = Some(next);
        }
        Ok(next)
    }

    async fn pump(
        &mut self,
        progress: &mut Progress,
        first: u64,
        requests: mpsc::Sender<AppendRequest>,
        mut answers: tonic::Streaming<AppendResponse>,
    ) -> Break {
        let mut next = first;
        let mut sent: VecDeque<Sent> = VecDeque::new();
        let mut requests = Some(requests);
        let mut is_stopping = false;
        loop {
            let has_enough =
                self.count > 0 && progress.acknowledged + sent.len() as u64 >= self.count;
            if is_stopping || has_enough {
                // Half-closed: the answers to what is under way still come.
                requests = None;
                if sent.is_empty() {
                    return Break::Done;
                }
            }
            let pause = match &requests {
                Some(_) => progress.bucket.take(Instant::now()).err(),
                None => None,
            };
            let can_send = requests.is_some() && pause.is_none();
            tokio::select! {
                biased;
                answer = answers.message(), if !sent.is_empty() => match answer {
                    Ok(Some(answer)) => {
                        if can_send {
                            progress.bucket.give_back();
                        }
                        let Some(record) = sent.pop_front() else {
                            return Break::Retry("engine sent an answer without a request".into());
                        };
                        if let Err(reason) = self.answered(progress, record, answer).await {
                            return Break::Retry(reason);
                        }
                    }
                    Ok(None) => return Break::Retry("engine ended the call".into()),
                    Err(status) => return Break::Retry(unavailable(&status)),
                },
                () = stopped(&mut self.stop), if !is_stopping => is_stopping = true,
                place = progress.window.clone().acquire_owned(), if can_send => {
                    let Ok(place) = place else {
                        return Break::Done;
                    };
                    let record = payload(&self.stream, next, progress.run, self.record_bytes);
                    sent.push_back(Sent { producer_seq: next, hash: sha256(&record), sent_at: Instant::now(), place });
                    let request = AppendRequest {
                        stream: self.stream.clone(),
                        payloads: vec![record],
                        producer_id: progress.producer_id,
                        producer_seq: next,
                        request_id: next,
                        ..AppendRequest::default()
                    };
                    next += 1;
                    // The queue is as long as the window, so this waits for the call's flow control alone.
                    if let Some(requests) = &requests
                        && requests.send(request).await.is_err()
                    {
                        return Break::Retry("call ended".into());
                    }
                }
                () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            }
        }
    }

    /// Takes the answer to the oldest request. A refusal ends the call: what is behind it is refused as well.
    async fn answered(
        &self,
        progress: &mut Progress,
        record: Sent,
        answer: AppendResponse,
    ) -> Result<(), String> {
        let Sent {
            producer_seq,
            hash,
            sent_at,
            place,
        } = record;
        if answer.request_id != producer_seq {
            return Err(format!(
                "answer to request {producer_seq} names {}",
                answer.request_id
            ));
        }
        let appended = match answer.outcome {
            Some(Answer::Appended(appended)) => appended,
            // It is there, as durable as one that is answered with its sequence.
            Some(Answer::Refused(refused)) if refused.reason() == Reason::AlreadyAppended => {
                Appended {
                    duplicate: true,
                    ..Appended::default()
                }
            }
            Some(Answer::Refused(refused)) => return Err(self.refused(&refused)),
            None => return Err("engine sent an empty answer".into()),
        };
        self.stats.acknowledged(&self.stream, sent_at.elapsed());
        progress.acknowledged += 1;
        progress.acknowledged_end = Some(producer_seq + 1);
        if appended.duplicate {
            // The stream held this number before: written by another process, or by this one before the connection broke. Which
            // of the two, and so the hash of what is stored, is not known here, so it is not reported.
            return Ok(());
        }
        let acknowledgement = Acknowledgement {
            stream: self.stream.clone(),
            sequence: appended.first_sequence,
            producer_seq,
            sha256: hash,
        };
        // The collector's task ends after all writers.
        let _ = self
            .collector
            .send(Pending {
                acknowledgement,
                place,
            })
            .await;
        Ok(())
    }

    fn refused(&self, refused: &Refused) -> String {
        let reason = data::reason_name(refused.reason());
        self.stats.refused(reason.clone());
        match refused.reason() {
            // Told by name; the rest explains itself.
            Reason::Draining | Reason::Poisoned => reason,
            _ => format!("{reason}: {}", refused.message),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn unavailable(status: &tonic::Status) -> String {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled => "engine does not answer".into(),
        _ => status.message().to_owned(),
    }
}
