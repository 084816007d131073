//! Staging: an append gets its sequences and its place in the segment here, under the stream's lock, and nothing is waited for.

use std::sync::Arc;

use crate::io::sync::MutexGuard;
use aof2_format::BLOCK_BYTES;
use aof2_format::record_batch::{self, BodySummary, Fields, HEADER_BYTES};
use aof2_format::segment::SegmentHeader;
use bytes::Bytes;

use super::{Entry, Quarantined, Staged, Stream};
use crate::admit::Refusal;
use crate::config::Config;
use crate::error::{AppendError, WouldBlockKind};
use crate::metrics::add;
use crate::pace::HELD_LIMIT_BYTES;
use crate::port::RecordTimes;
use crate::producers::Verdict;
use crate::request::{AppendCallback, AppendRequest, Appended, Durability, Producer};
use crate::segment::active::{ActiveSegment, GrowError};
use crate::stream::host::Host;
use crate::stream::work::{SealWork, Work};

/// Staging memory of one stream; less where many streams are active.
const CHUNK_BYTES: usize = 256 << 10;
const SMALL_CHUNK_BYTES: usize = 64 << 10;
const MANY_STREAMS: usize = 256;
/// Largest number of pieces that wait for the segment writer before appends are held up.
const MAX_WAITING_PIECES: usize = 64;

/// The answer to an acknowledged append.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Appended(Appended),
    /// A duplicate that has no sequence to tell: not remembered, or not consecutive.
    Known {
        producer: Producer,
        count: u32,
        /// Producer number that comes next.
        next: u64,
    },
}

impl Answer {
    /// For the caller. A duplicate without a sequence is an error by type, so that nothing can be taken for one.
    pub fn into_result(self, stream: &Stream) -> Result<Appended, AppendError> {
        match self {
            Answer::Appended(appended) => Ok(appended),
            Answer::Known {
                producer,
                count,
                next,
            } => Err(AppendError::AlreadyAppended {
                stream: stream.name.to_string(),
                producer_id: producer.id,
                first_seq: producer.first_seq,
                count,
                next,
            }),
        }
    }

    fn is_duplicate(&self) -> bool {
        match self {
            Answer::Appended(appended) => appended.duplicate,
            Answer::Known { .. } => true,
        }
    }
}

/// What became of an append that was not refused.
pub(crate) enum Outcome {
    /// Acknowledged at once: buffered, or a duplicate that is durable. The caller calls back after it let the stream go.
    Done(Answer, Option<AppendCallback>),
    /// Acknowledged when this round is done. The callback, where there was one, is with the stream.
    Round(u64, Answer),
    /// The stream has no segment, or a full one whose successor is late: the request waits with the stream, see `wait_for_segment`.
    NeedsSegment(Option<AppendCallback>),
    /// Nothing was done: it takes the disk, and the caller never waits for it.
    NeedsDisk(Option<AppendCallback>),
}

/// Whether an append may wait for the disk, or for a lock whose holder does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Waits,
    NeverWaits,
}

/// Where a batch goes.
enum Place {
    In(Arc<ActiveSegment>),
    /// A new segment has to be made first.
    NeedsSegment,
    NeedsDisk,
}

/// A refusal gives the callback back.
pub(crate) type Refused = (AppendError, Option<AppendCallback>);

/// What a request counts while it waits: its payloads and the handle of each, so never nothing.
pub(crate) fn held_bytes(request: &AppendRequest) -> u64 {
    request
        .payloads
        .iter()
        .map(|payload| (payload.len() + size_of::<Bytes>()) as u64)
        .sum()
}

impl Stream {
    /// `body` was computed over the payloads by the caller. A durable append with a callback leaves it with the stream; without
    /// one the caller waits for the round.
    pub fn stage(
        self: &Arc<Self>,
        host: &dyn Host,
        staged: &mut MutexGuard<'_, Staged>,
        request: &AppendRequest,
        body: &BodySummary,
        callback: Option<AppendCallback>,
        pace: Pace,
    ) -> Result<Outcome, Refused> {
        let config = host.common().config.load();
        let admission = match pace {
            Pace::Waits => host.common().space.admission(),
            Pace::NeverWaits => match host.common().space.try_admission() {
                Some(admission) => admission,
                None => return Ok(Outcome::NeedsDisk(callback)),
            },
        };
        if let Some(reason) = &*admission {
            return Err((
                AppendError::Draining {
                    reason: reason.clone(),
                },
                callback,
            ));
        }
        if let Err(error) = self.check_open(host, staged) {
            return Err((error, callback));
        }
        let count = u64::from(body.count);
        if let Some(producer) = request.producer {
            let Producer {
                id,
                first_seq,
                since,
            } = producer;
            match staged.producers.judge(id, since, first_seq, count) {
                Verdict::New => {}
                Verdict::Forgotten { before } => {
                    let error = AppendError::ProducerForgotten {
                        stream: self.name.to_string(),
                        producer_id: id,
                        since,
                        before,
                    };
                    return Err((error, callback));
                }
                Verdict::Gap { next } => {
                    let error = AppendError::SequenceGap {
                        stream: self.name.to_string(),
                        producer_id: id,
                        got: first_seq,
                        next,
                    };
                    return Err((error, callback));
                }
                Verdict::Known {
                    first_sequence,
                    next,
                } => {
                    add(&host.common().counters.duplicates, count);
                    let count = body.count;
                    let answer = match first_sequence {
                        Some(first_sequence) => Answer::Appended(Appended {
                            first_sequence,
                            count,
                            duplicate: true,
                        }),
                        None => Answer::Known {
                            producer,
                            count,
                            next,
                        },
                    };
                    let durability = request.durability;
                    return Ok(self.acknowledge(host, staged, durability, answer, callback));
                }
            }
        }
        if let Some(Refusal::Quota {
            total_bytes,
            quota_bytes,
        }) = host.common().space.over_quota(&config)
        {
            return Err((self.at_quota(host, total_bytes, quota_bytes), callback));
        }
        if staged.active.is_none() {
            staged.active = staged.next.take();
            (staged.tail, staged.open_offset) = (0, 0);
        }
        let Some(active) = staged.active.clone() else {
            return Ok(Outcome::NeedsSegment(callback));
        };
        let batch_bytes = body.batch_bytes() as u64;
        let active = match self.segment_for(host, staged, active, batch_bytes, &config, pace) {
            Ok(Place::In(active)) => active,
            Ok(Place::NeedsSegment) => return Ok(Outcome::NeedsSegment(callback)),
            Ok(Place::NeedsDisk) => return Ok(Outcome::NeedsDisk(callback)),
            Err(error) => return Err((error, callback)),
        };
        let first_sequence = self.put(host, staged, &active, request, body);
        let answer = Answer::Appended(Appended {
            first_sequence,
            count: body.count,
            duplicate: false,
        });
        Ok(self.acknowledge(host, staged, request.durability, answer, callback))
    }

    fn check_open(&self, host: &dyn Host, staged: &Staged) -> Result<(), AppendError> {
        if host.common().poison.is_set() {
            return Err(AppendError::Poisoned {
                message: host.common().poison.reason(),
            });
        }
        match &staged.quarantined {
            None => {}
            Some(Quarantined::Damaged { sequence, message }) => {
                let message = format!("from sequence {sequence}: {message}");
                return Err(AppendError::Damaged {
                    stream: self.name.to_string(),
                    message,
                });
            }
            Some(Quarantined::Superseded { to }) => {
                return Err(AppendError::Superseded {
                    stream: self.name.to_string(),
                    from: self.epoch().into(),
                    to: *to,
                });
            }
            Some(Quarantined::Refused { reason, message }) => {
                return Err(AppendError::VolumeRefused {
                    stream: self.name.to_string(),
                    reason,
                    message: message.to_string(),
                });
            }
            Some(Quarantined::Gone) => unreachable!("the caller looks the name up again"),
        }
        if self.is_behind(host, staged) {
            return Err(AppendError::WouldBlock {
                stream: self.name.to_string(),
                kind: WouldBlockKind::Flush,
                message: "disk is slower than the appends (staging limit reached); retry"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// Too much is staged that the disk has not taken.
    pub fn is_behind(&self, host: &dyn Host, staged: &Staged) -> bool {
        staged.pieces.len() > MAX_WAITING_PIECES || host.common().staging.is_full()
    }

    /// The request waits with the stream, behind those that wait already, for an opener to stage it: a refusal here would let the
    /// requests of a pipeline that come behind it overtake. What waits is bounded in bytes over all streams.
    pub fn wait_for_segment(
        self: &Arc<Self>,
        host: &dyn Host,
        staged: &mut Staged,
        request: AppendRequest,
        callback: AppendCallback,
    ) -> Result<(), Refused> {
        if !host.common().staging.hold(held_bytes(&request)) {
            let error = AppendError::WouldBlock {
                stream: self.name.to_string(),
                kind: WouldBlockKind::Rollover,
                message: format!(
                    "next segment not ready and {} bytes of appends already wait (limit {HELD_LIMIT_BYTES}); retry",
                    host.common().staging.held_bytes()
                ),
            };
            return Err((error, Some(callback)));
        }
        staged.pending.push_back((request, callback));
        if !staged.opening {
            staged.opening = true;
            host.push(Work::Open(self.clone()));
        }
        Ok(())
    }

    fn at_quota(&self, host: &dyn Host, total_bytes: u64, quota_bytes: u64) -> AppendError {
        let held = host.common().space.held();
        let held = held
            .as_deref()
            .map_or("nothing frees Tier 0 without Tier 2", String::as_str);
        AppendError::WouldBlock {
            stream: self.name.to_string(),
            kind: WouldBlockKind::Admission,
            message: format!(
                "Tier 0 would hold {total_bytes} bytes (tier0.instance_quota_bytes is {quota_bytes}), and {held}; retry, or raise tier0.cluster_max_bytes"
            ),
        }
    }

    /// The segment that takes a batch of this size, with blocks for it.
    fn segment_for(
        self: &Arc<Self>,
        host: &dyn Host,
        staged: &mut Staged,
        active: Arc<ActiveSegment>,
        batch_bytes: u64,
        config: &Config,
        pace: Pace,
    ) -> Result<Place, AppendError> {
        let target_bytes = config.segment_target_bytes();
        let mut active = active;
        let end = staged.tail.max(BLOCK_BYTES as u64) + batch_bytes;
        if end > target_bytes && staged.tail > 0 {
            if staged.next.is_some() {
                self.roll(host, staged);
                let Some(next) = staged.active.clone() else {
                    return Ok(Place::NeedsSegment);
                };
                active = next;
            } else {
                self.ask_for_next(host, staged);
                // The next one is late. The target gives way before the caller does, up to twice its size.
                if end
                    > target_bytes
                        .saturating_mul(2)
                        .min(aof2_format::segment::MAX_SEGMENT_BYTES)
                {
                    if let Some(refusal) = staged.next_refused {
                        return Err(self.cannot_grow(host, GrowError::Refused(refusal)));
                    }
                    return Ok(Place::NeedsSegment);
                }
            }
        } else if end > target_bytes / 2 {
            self.ask_for_next(host, staged);
        }
        let end = staged.tail.max(BLOCK_BYTES as u64) + batch_bytes;
        // The seal block has its place from the start.
        let end = end + 2 * BLOCK_BYTES as u64;
        if pace == Pace::NeverWaits && !active.has_blocks(end) {
            return Ok(Place::NeedsDisk);
        }
        match active.grow(&host.common().space, end, target_bytes) {
            Ok(()) => Ok(Place::In(active)),
            Err(error) => Err(self.cannot_grow(host, error)),
        }
    }

    /// The answer to a caller when no blocks were given.
    pub fn cannot_grow(&self, host: &dyn Host, error: GrowError) -> AppendError {
        match error {
            GrowError::Refused(Refusal::Quota {
                total_bytes,
                quota_bytes,
            }) => self.at_quota(host, total_bytes, quota_bytes),
            GrowError::Refused(Refusal::Full {
                free_bytes,
                reserve_bytes,
            }) => AppendError::DiskFull {
                free_bytes,
                reserve_bytes,
            },
            GrowError::Refused(Refusal::Lack(lack)) => AppendError::WouldBlock {
                stream: self.name.to_string(),
                kind: WouldBlockKind::Rollover,
                message: format!("engine has no {} left; {}", lack.as_str(), lack.remedy()),
            },
            GrowError::Disk { verb, path, source } => {
                host.common().poison.set(verb, &path, &source);
                AppendError::Poisoned {
                    message: host.common().poison.reason(),
                }
            }
        }
    }

    fn ask_for_next(self: &Arc<Self>, host: &dyn Host, staged: &mut Staged) {
        if staged.next.is_none() && !staged.preparing {
            staged.preparing = true;
            host.push(Work::Prepare(self.clone()));
        }
    }

    /// The active segment takes no more records; the one made ahead, if there is one, does from here on.
    pub fn roll(self: &Arc<Self>, host: &dyn Host, staged: &mut Staged) {
        staged.freeze();
        if let Some(rolled) = staged.active.take() {
            host.push(Work::Seal(SealWork {
                stream: self.clone(),
                segment: rolled,
                end: staged.tail,
                end_sequence: staged.next_sequence,
                chain: staged.chain,
                times: staged.times,
                changes: staged.producers.take_changes(),
            }));
        }
        staged.active = staged.next.take();
        staged.tail = 0;
        staged.open_offset = 0;
    }

    /// Encodes the batch into the open chunk. Answers its first sequence.
    fn put(
        self: &Arc<Self>,
        host: &dyn Host,
        staged: &mut Staged,
        active: &Arc<ActiveSegment>,
        request: &AppendRequest,
        body: &BodySummary,
    ) -> u64 {
        let now = host.common().env.clock.unix_nanos();
        let first_sequence = staged.next_sequence;
        let is_first = staged.tail == 0;
        let head_bytes = if is_first { BLOCK_BYTES } else { 0 };
        let need = head_bytes + body.batch_bytes();
        if staged.open.capacity() - staged.open.len() < need {
            staged.freeze();
            self.ask_for_write_out(host, staged);
            let many = host.stream_count() > MANY_STREAMS;
            let chunk = if many { SMALL_CHUNK_BYTES } else { CHUNK_BYTES };
            staged.open = bytes::BytesMut::with_capacity(chunk.max(need));
        }
        if is_first {
            self.begin_segment(host, staged, active, now);
            staged.times = RecordTimes::at(now);
        }
        staged.times.note(now);
        let fields = Fields {
            base_sequence: first_sequence,
            epoch: self.epoch(),
            prev_chain: staged.chain,
            producer: request.producer.map_or_else(Default::default, |producer| {
                record_batch::Producer {
                    id: producer.id,
                    seq: producer.first_seq,
                }
            }),
            appended_unix_nanos: now,
            durable_upto: self.durable(),
        };
        let mut header = [0; HEADER_BYTES];
        staged.chain = record_batch::encode_header(&mut header, &fields, body, self.identity.seed);
        staged.open.extend_from_slice(&header);
        for payload in &request.payloads {
            staged
                .open
                .extend_from_slice(&(payload.len() as u32).to_le_bytes());
            staged.open.extend_from_slice(payload);
        }
        active.index.lock().note(first_sequence, staged.tail);
        staged.tail += body.batch_bytes() as u64;
        staged.position += body.batch_bytes() as u64;
        active.note_staged(staged.tail);
        staged.next_sequence += u64::from(body.count);
        if let Some(producer) = request.producer {
            staged.producers.note(
                producer.id,
                producer.first_seq,
                u64::from(body.count),
                first_sequence,
            );
        }
        host.common().staging.add(need as u64);
        add(
            &host.common().counters.records_appended,
            u64::from(body.count),
        );
        add(
            &host.common().counters.bytes_appended,
            u64::from(body.bytes),
        );
        if !staged.is_dirty {
            staged.is_dirty = true;
            host.mark_dirty(self);
        }
        first_sequence
    }

    /// The segment's header goes the way of the records: staged, journaled, written. `SegmentOpened` is staged before it, so the
    /// round that makes its first record durable makes that durable too.
    fn begin_segment(
        self: &Arc<Self>,
        host: &dyn Host,
        staged: &mut Staged,
        active: &Arc<ActiveSegment>,
        now: i64,
    ) {
        let base_sequence = staged.next_sequence;
        active.begin(
            base_sequence,
            self.epoch(),
            host.common().env.clock.monotonic(),
        );
        let header = SegmentHeader {
            cluster_id: host.common().ids.cluster_id,
            stream: self.name.clone(),
            stream_uuid: self.identity.uuid,
            stream_salt: self.identity.salt,
            segment_id: active.id,
            epoch: self.epoch(),
            base_sequence,
            prev_chain: staged.chain,
            created_unix_nanos: now,
        };
        staged.open.extend_from_slice(&header.encode());
        staged.tail = BLOCK_BYTES as u64;
        staged.position += BLOCK_BYTES as u64;
        self.segments.write().push(Entry::Open(active.clone()));
        self.manifest
            .stage_segment_opened(&self.owned(host), active.id, base_sequence);
        host.push(Work::Name {
            stream: self.clone(),
            segment: active.clone(),
        });
    }

    pub fn ask_for_write_out(self: &Arc<Self>, host: &dyn Host, staged: &mut Staged) {
        if !staged.is_queued {
            staged.is_queued = true;
            host.ask_for_write_out(self);
        }
    }

    /// Answers at once, or enlists the stream for the next round.
    fn acknowledge(
        self: &Arc<Self>,
        host: &dyn Host,
        staged: &mut Staged,
        durability: Durability,
        answer: Answer,
        callback: Option<AppendCallback>,
    ) -> Outcome {
        let is_durable_already = answer.is_duplicate() && self.durable() >= staged.next_sequence;
        if durability == Durability::Buffered || is_durable_already {
            return Outcome::Done(answer, callback);
        }
        match callback {
            Some(callback) => {
                staged.callbacks.push((callback, answer));
                Outcome::Round(self.enlist(host, staged), answer)
            }
            None => {
                staged.blocked += 1;
                if staged.round == 0 {
                    staged.round = host.enlist_and_lead(self);
                }
                Outcome::Round(staged.round, answer)
            }
        }
    }

    /// The round that makes durable what is staged now.
    pub fn enlist(self: &Arc<Self>, host: &dyn Host, staged: &mut Staged) -> u64 {
        if staged.round == 0 {
            staged.round = host.enlist(self);
        }
        staged.round
    }
}
