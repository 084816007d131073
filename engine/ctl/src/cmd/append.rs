//! `append`: records from the command line or from standard input.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aof2_node::proto::append_response::Outcome as Answer;
use aof2_node::proto::{AppendRequest, Appended, Durability, Reason};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::{AppendArguments, Connection};
use crate::data;
use crate::exit::{Failure, Outcome};
use crate::render;

const MAX_BATCH_RECORDS: usize = 256;
const MAX_BATCH_BYTES: usize = 1 << 20;
const REQUESTS_IN_FLIGHT: usize = 16;

#[derive(Default, Serialize)]
struct Summary {
    stream: String,
    records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sequence: Option<u64>,
    /// Records that the stream held before, by their producer's numbers.
    duplicates: u64,
}

pub async fn run(connection: &Connection, arguments: AppendArguments) -> Result<Outcome, Failure> {
    let AppendArguments {
        stream,
        payload,
        buffered,
        producer_id,
        producer_seq,
        producer_since,
    } = arguments;
    let template = AppendRequest {
        stream: stream.clone(),
        durability: if buffered {
            Durability::Buffered
        } else {
            Durability::Durable
        }
        .into(),
        producer_id: producer_id.unwrap_or(0),
        producer_seq: producer_seq.unwrap_or(0),
        producer_since: producer_since.unwrap_or(0),
        ..AppendRequest::default()
    };
    let (requests, queue) = mpsc::channel(REQUESTS_IN_FLIGHT);
    let (counts, mut asked) = mpsc::unbounded_channel();
    let refused_one = Arc::new(AtomicBool::new(false));
    let is_refused = refused_one.clone();
    // On a thread of its own, since a terminal or a pipe may be silent for long.
    let source = tokio::task::spawn_blocking(move || {
        let batcher = Batcher {
            next: template,
            bytes: 0,
            queue: requests,
            counts,
            is_refused,
        };
        if payload.is_empty() {
            batcher.send_lines(BufReader::new(std::io::stdin().lock()))
        } else {
            batcher.send_all(payload.into_iter().map(Bytes::from));
            Ok(())
        }
    });
    let verb = format!("append to {stream}");
    let mut client = data::client(&connection.socket);
    let mut summary = Summary {
        stream,
        ..Summary::default()
    };
    let answers = async {
        let unavailable = |status: &tonic::Status| data::failure(&connection.socket, &verb, status);
        let mut answers = client
            .append(ReceiverStream::new(queue))
            .await
            .map_err(|status| unavailable(&status))?
            .into_inner();
        // What was sent behind a refused request is answered too, and may be stored.
        let mut refusal = None;
        while let Some(answer) = answers
            .message()
            .await
            .map_err(|status| unavailable(&status))?
        {
            // All are of one stream: answers come in the order of the requests.
            let count = asked.recv().await.unwrap_or(0);
            match answer.outcome {
                Some(Answer::Appended(appended)) => summary.add(&appended),
                // A success without a sequence to show.
                Some(Answer::Refused(refused)) if refused.reason() == Reason::AlreadyAppended => {
                    summary.records += count;
                    summary.duplicates += count;
                }
                Some(Answer::Refused(refused)) => {
                    refused_one.store(true, Ordering::Relaxed);
                    refusal.get_or_insert_with(|| data::refused(&refused));
                }
                None => {
                    return Err(Failure::Unavailable(format!(
                        "{verb}: engine sent an empty answer"
                    )));
                }
            }
            // Standard input may be silent for long: it is not waited for.
            if refusal.is_some() && asked.is_empty() {
                break;
            }
        }
        refusal.map_or(Ok(()), Err)
    };
    let answered = answers.await;
    if connection.json {
        render::json(&summary)?;
    } else if summary.records > 0 {
        render::line(&summary.to_string())?;
    }
    // Where the engine refused, the rest of the input is of no interest.
    answered?;
    match source.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(Failure::Usage(format!(
                "cannot read standard input: {error}"
            )));
        }
        Err(error) => return Err(Failure::Unavailable(format!("standard input: {error}"))),
    }
    if summary.records == 0 {
        return Err(Failure::Usage(
            "nothing to append; give --payload, or lines on standard input".into(),
        ));
    }
    Ok(Outcome::Clean)
}

impl Summary {
    fn add(&mut self, appended: &Appended) {
        self.records += u64::from(appended.count);
        self.first_sequence.get_or_insert(appended.first_sequence);
        self.last_sequence =
            Some(appended.first_sequence + u64::from(appended.count).saturating_sub(1));
        if appended.duplicate {
            self.duplicates += u64::from(appended.count);
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} records", self.stream, self.records)?;
        if let (Some(first), Some(last)) = (self.first_sequence, self.last_sequence) {
            write!(f, ", sequences {first} to {last}")?;
        }
        if self.duplicates > 0 {
            write!(f, ", {} of them already present", self.duplicates)?;
        }
        Ok(())
    }
}

/// Gathers records into requests.
struct Batcher {
    next: AppendRequest,
    bytes: usize,
    queue: mpsc::Sender<AppendRequest>,
    /// Records of each request, in order.
    counts: mpsc::UnboundedSender<u64>,
    /// One was refused: the rest is not sent.
    is_refused: Arc<AtomicBool>,
}

impl Batcher {
    /// False when nobody takes requests any more.
    fn add(&mut self, payload: Bytes) -> bool {
        let is_full = self.next.payloads.len() >= MAX_BATCH_RECORDS
            || self.bytes + payload.len() > MAX_BATCH_BYTES;
        if is_full && !self.send() {
            return false;
        }
        self.bytes += payload.len();
        self.next.payloads.push(payload);
        true
    }

    fn send(&mut self) -> bool {
        let count = self.next.payloads.len() as u64;
        if count == 0 {
            return true;
        }
        if self.is_refused.load(Ordering::Relaxed) {
            return false;
        }
        let mut following = AppendRequest {
            payloads: Vec::new(),
            ..self.next.clone()
        };
        if following.producer_id != 0 {
            following.producer_seq += count;
        }
        following.request_id += 1;
        self.bytes = 0;
        // Where nobody listens any more, nobody takes the request either.
        let _ = self.counts.send(count);
        self.queue
            .blocking_send(std::mem::replace(&mut self.next, following))
            .is_ok()
    }

    fn send_all(mut self, payloads: impl Iterator<Item = Bytes>) {
        for payload in payloads {
            if !self.add(payload) {
                return;
            }
        }
        self.send();
    }

    /// Each line without its line feed is a record. What has arrived is sent before more is waited for.
    fn send_lines<R: Read>(mut self, mut input: BufReader<R>) -> std::io::Result<()> {
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line)? > 0 {
            let is_taken = self.add(without_line_feed(std::mem::take(&mut line)));
            let has_another = input.buffer().contains(&b'\n');
            if !is_taken || !(has_another || self.send()) {
                return Ok(());
            }
        }
        self.send();
        Ok(())
    }
}

fn without_line_feed(mut line: Vec<u8>) -> Bytes {
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests_of(input: &str) -> Vec<AppendRequest> {
        let (queue, mut requests) = mpsc::channel(100);
        let next = AppendRequest {
            producer_id: 1,
            producer_seq: 10,
            ..AppendRequest::default()
        };
        Batcher {
            next,
            bytes: 0,
            queue,
            counts: mpsc::unbounded_channel().0,
            is_refused: Arc::default(),
        }
        .send_lines(BufReader::new(input.as_bytes()))
        .unwrap();
        std::iter::from_fn(|| requests.blocking_recv()).collect()
    }

    #[test]
    fn lines_that_have_arrived_together_share_a_request() {
        let requests = requests_of("a\n\nlast without a line feed");
        let payloads: Vec<Vec<&[u8]>> = requests
            .iter()
            .map(|request| {
                request
                    .payloads
                    .iter()
                    .map(|payload| &payload[..])
                    .collect()
            })
            .collect();
        assert_eq!(
            payloads,
            [vec![&b"a"[..], b""], vec![b"last without a line feed"]]
        );
        assert_eq!(
            requests
                .iter()
                .map(|request| request.producer_seq)
                .collect::<Vec<_>>(),
            [10, 12]
        );
    }

    #[test]
    fn a_request_is_bounded_and_no_record_is_left_out() {
        let lines: String = (0..1000).map(|line| format!("{line}\n")).collect();
        let requests = requests_of(&lines);
        assert!(
            requests
                .iter()
                .all(|request| request.payloads.len() <= MAX_BATCH_RECORDS)
        );
        let payloads: Vec<String> = requests
            .iter()
            .flat_map(|request| &request.payloads)
            .map(|payload| format!("{}\n", String::from_utf8_lossy(payload)))
            .collect();
        assert_eq!(payloads.concat(), lines);
    }
}
