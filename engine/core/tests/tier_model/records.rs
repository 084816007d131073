//! Records go in and are read again.

use std::time::Duration;

use aof2_core::io::Clock as _;
use aof2_core::{AppendError, AppendRequest, Durability, ReadError, ReadRequest, Reader};
use bytes::Bytes;

use crate::model::{self, Record};
use crate::world::{NAMES, World};

const READ_BYTES: usize = 64 << 10;

impl World {
    pub fn append(&mut self, stream: usize, sizes: &[u32], is_durable: bool) -> Result<(), String> {
        let (at, is_dated) = (self.now(), self.stepped.is_none());
        let batch: Vec<Record> = (self.next_id..)
            .zip(sizes)
            .map(|(id, length)| Record {
                id,
                length: *length,
                at,
                is_dated,
            })
            .collect();
        self.next_id += batch.len() as u64;
        let name = NAMES[stream];
        let request = AppendRequest {
            stream: name.to_owned(),
            payloads: batch.iter().map(|it| model::payload(name, it)).collect(),
            durability: match is_durable {
                true => Durability::Durable,
                false => Durability::Buffered,
            },
            producer: None,
        };
        let first = self.streams[stream].next();
        self.streams[stream].attempt(&batch);
        let appended = self.node.store.append(request);
        self.tell(|| format!("  {appended:?}"));
        if self.is_powerless() {
            // Whatever was answered came too late to be heard.
            return Ok(());
        }
        let known = &mut self.streams[stream];
        match appended {
            Ok(done) if done.first_sequence == first && done.count as usize == batch.len() => {
                if is_durable {
                    known.durable = known.next();
                }
                Ok(())
            }
            Ok(done) => Err(format!("{name}: {done:?} where {first} is next")),
            Err(
                AppendError::WouldBlock { .. }
                | AppendError::DiskFull { .. }
                | AppendError::ClaimPending { .. },
            ) => {
                known.take_back(batch.len());
                Ok(())
            }
            Err(error) => Err(format!("{name} refuses an append: {error:?}")),
        }
    }

    pub fn pieces(&mut self, stream: usize, count: u64) -> Result<(), String> {
        for _ in 0..count {
            if self.is_powerless() {
                break;
            }
            let size = 1 + self.dice.below(600) as u32;
            self.append(stream, &[size], true)?;
            let sealed = self.node.store.seal(Some(NAMES[stream]));
            self.tell(|| format!("  {sealed:?}"));
        }
        Ok(())
    }

    /// Whoever waits asks again as long as something else goes before.
    pub fn merge(&mut self, stream: Option<usize>, waits: bool) {
        let name = stream.map(|stream| NAMES[stream]);
        let mut asked = self.node.compaction.ask(name);
        for _ in 0..if waits { 8 } else { 0 } {
            self.clock.sleep(Duration::from_secs(1));
            let Ok(before) = &asked else { break };
            let Some(run) = self.node.compaction.run(before.id) else {
                break;
            };
            if self.is_powerless() || run.outputs > 0 {
                asked = Ok(run);
                break;
            }
            if run.has_ended {
                asked = self.node.compaction.ask(name);
            }
        }
        self.tell(|| format!("  {asked:?}"));
    }

    /// Reads up to `limit` records, 0 = all, and compares them.
    pub fn read(&mut self, stream: usize, from: u64, limit: u64) -> Result<u64, String> {
        let Ok(mut reader) = self.node.store.read(request(stream, from, limit)) else {
            // Nothing was ever acknowledged.
            return match self.streams[stream].durable {
                0 => Ok(0),
                durable => Err(format!("{}: gone, with {durable} records", NAMES[stream])),
            };
        };
        let mut next = from;
        loop {
            match self.read_from(stream, &mut reader, READ_BYTES)? {
                Some(position) if position > next => next = position,
                Some(_) | None => break,
            }
        }
        let durable = self.streams[stream].durable;
        let end = match limit {
            0 => durable,
            limit => durable.min(from + limit),
        };
        let may_end_early = self.is_powerless() || self.may_fail_to_read();
        if next < end && !may_end_early && next >= self.start(stream)? {
            return Err(format!(
                "{}: read from {from} ends at {next} of {end}",
                NAMES[stream]
            ));
        }
        Ok(next)
    }

    pub fn may_fail_to_read(&self) -> bool {
        self.is_out || self.memory_may_fail() || self.lack.is_some()
    }

    /// Faults that were injected may not be met yet.
    pub fn memory_may_fail(&self) -> bool {
        self.checks.has_faults
    }

    /// The next batch of a reader, compared. Answers where the reader is, `None` where it gets no further.
    pub fn read_from(
        &mut self,
        stream: usize,
        reader: &mut Reader,
        bytes: usize,
    ) -> Result<Option<u64>, String> {
        let from = reader.position();
        match reader.next_batch(bytes) {
            Ok(Some(records)) => {
                let found: Vec<(u64, Bytes)> = records
                    .into_iter()
                    .map(|record| (record.sequence, record.payload))
                    .collect();
                self.streams[stream].check(from, &found)?;
                Ok(Some(reader.position()))
            }
            Ok(None) => Ok(None),
            Err(ReadError::Trimmed { first, .. }) if first > from => {
                self.begins(stream)?;
                let start = self.streams[stream].start;
                match first <= start {
                    true => Ok(None),
                    false => Err(format!(
                        "{}: a reader at {from} is told of {first}, and it begins at {start}",
                        NAMES[stream]
                    )),
                }
            }
            Err(_) if self.is_powerless() => Ok(None),
            Err(ReadError::Unavailable { .. } | ReadError::WouldBlock { .. })
                if self.may_fail_to_read() =>
            {
                Ok(None)
            }
            Err(ReadError::Disk { source, .. })
                if self.lack.is_some() && source.raw_os_error() == Some(24) =>
            {
                Ok(None)
            }
            Err(error) => Err(format!("{}: read at {from}: {error:?}", NAMES[stream])),
        }
    }

    pub fn read_below(&mut self, stream: usize) -> Result<(), String> {
        let start = self.start(stream)?;
        if start == 0 || self.is_powerless() {
            return Ok(());
        }
        let reader = self.node.store.read(request(stream, start - 1, 1));
        let found = reader.and_then(|mut reader| reader.next_batch(READ_BYTES));
        match found {
            Err(ReadError::Trimmed { first, .. }) if first >= start => Ok(()),
            other => Err(format!(
                "{}: begins at {start}, and a read before it gives {other:?}",
                NAMES[stream]
            )),
        }
    }

    pub fn read_beyond(&mut self, stream: usize) -> Result<(), String> {
        let next = self.streams[stream].next();
        let Ok(mut reader) = self.node.store.read(request(stream, next + 3, 0)) else {
            return Ok(());
        };
        match reader.next_batch(READ_BYTES) {
            Ok(None) => Ok(()),
            _ if self.is_powerless() => Ok(()),
            other => Err(format!("{}: {other:?} beyond the end", NAMES[stream])),
        }
    }

    pub fn tail(&mut self, stream: usize) -> Result<(), String> {
        let next = self.streams[stream].next();
        if next == 0 {
            return Ok(());
        }
        let store = &self.node.store;
        let waited = store.wait_durable_beyond(NAMES[stream], next - 1, Duration::from_secs(1));
        match waited {
            Ok(durable) if durable <= next => Ok(()),
            _ if self.is_powerless() => Ok(()),
            Err(ReadError::UnknownStream { .. }) => Ok(()),
            other => Err(format!("{}: {other:?} records of {next}", NAMES[stream])),
        }
    }

    pub fn read_on(&mut self, bytes: usize) -> Result<(), String> {
        let Some((stream, mut reader)) = self.reader.take() else {
            return Ok(());
        };
        let goes_on = self.read_from(stream, &mut reader, bytes)?;
        self.tell(|| format!("  {goes_on:?}"));
        self.reader = goes_on.map(|_| (stream, reader));
        Ok(())
    }
}

pub fn request(stream: usize, from_sequence: u64, limit: u64) -> ReadRequest {
    ReadRequest {
        stream: NAMES[stream].to_owned(),
        from_sequence,
        limit,
        include_staged: false,
    }
}
