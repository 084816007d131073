//! A store on a recording disk, and a caller that writes down what it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use aof2_core::config::{KIB, MIB};
use aof2_core::io::Rng;
use aof2_core::{AppendRequest, Config, Durability, Identity, OpenOptions, ReadRequest, Store};
use parking_lot::Mutex;

use crate::dice::Dice;
use crate::disk::{ROOT, RecordingDisk};
use crate::model::{Note, id_of, payload};

const CLUSTER: &str = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

/// Small files, so that little work rolls and recycles.
pub fn config() -> Config {
    let mut config = Config::new(Path::new(ROOT));
    config.journal.file_bytes = 4 * MIB;
    config.journal.files = 2;
    config.segment.target_bytes = MIB;
    config.checkpoint.journal_bytes = 256 * KIB;
    config.manifest.base_after_chunks = 1;
    config
}

pub fn identity() -> Identity {
    Identity {
        cluster_id: CLUSTER.to_owned(),
        node: "orders-0".to_owned(),
    }
}

#[derive(Debug)]
pub struct SeededRng(pub Mutex<Dice>);

impl Rng for SeededRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next()
    }

    fn uuid(&self) -> uuid::Uuid {
        let mut dice = self.0.lock();
        uuid::Uuid::from_u64_pair(dice.next(), dice.next())
    }
}

pub fn options(disk: &RecordingDisk, config: Config, dice: &mut Dice) -> OpenOptions {
    let mut options = OpenOptions::new(config, identity());
    options.environment.disk = Arc::new(disk.clone());
    options.environment.rng = Arc::new(SeededRng(Mutex::new(dice.fork())));
    options
}

/// How a caller appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Waits for stable storage.
    Durable,
    /// The same, told by a callback, which notes the moment.
    Called,
    Buffered,
}

pub struct Session {
    pub disk: RecordingDisk,
    pub store: Store,
    next_id: u64,
    waiting: Vec<Receiver<Result<(), String>>>,
}

impl Session {
    /// Records of one session have numbers from `first_id` on.
    pub fn new(disk: RecordingDisk, store: Store, first_id: u64) -> Session {
        Session {
            disk,
            store,
            next_id: first_id,
            waiting: Vec::new(),
        }
    }

    pub fn open(
        disk: RecordingDisk,
        config: Config,
        first_id: u64,
        dice: &mut Dice,
    ) -> Result<Session, String> {
        let store = Store::open(options(&disk, config, dice))
            .map_err(|error| format!("it does not open: {error:?}"))?;
        Ok(Session::new(disk, store, first_id))
    }

    /// The records of all streams, in order; an error for anything that readers must never see.
    pub fn served(&self) -> Result<BTreeMap<String, Vec<u64>>, String> {
        if let Some(message) = self.store.poisoned() {
            return Err(format!("it is poisoned: {message}"));
        }
        let mut served = BTreeMap::new();
        for info in self.store.streams() {
            let name = info.name.to_string();
            if let Some(damage) = info.damage {
                return Err(format!("{name} is damaged: {damage}"));
            }
            let ids = self.read(&name)?;
            if info.next_sequence != ids.len() as u64 {
                return Err(format!(
                    "{name}: the next sequence is {}, {} records are served",
                    info.next_sequence,
                    ids.len()
                ));
            }
            served.insert(name, ids);
        }
        Ok(served)
    }

    fn read(&self, stream: &str) -> Result<Vec<u64>, String> {
        let request = ReadRequest {
            stream: stream.to_owned(),
            from_sequence: 0,
            limit: 0,
            include_staged: false,
        };
        let told = |error: aof2_core::ReadError| format!("{stream} cannot be read: {error:?}");
        let mut reader = self.store.read(request).map_err(told)?;
        let mut ids = Vec::new();
        while let Some(batch) = reader.next_batch(1 << 20).map_err(told)? {
            for record in batch {
                if record.sequence != ids.len() as u64 {
                    return Err(format!(
                        "{stream}: sequence {} comes where {} was expected",
                        record.sequence,
                        ids.len()
                    ));
                }
                let id = id_of(stream, &record.payload).ok_or_else(|| {
                    format!(
                        "{stream}: sequence {} holds bytes that nobody wrote",
                        record.sequence
                    )
                })?;
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// One batch. The notes stand where they can be relied on: an attempt before, an acknowledgement after.
    pub fn append(&mut self, stream: &str, lengths: &[usize], how: How) -> Result<(), String> {
        let ids: Vec<u64> = (self.next_id..).take(lengths.len()).collect();
        self.next_id += ids.len() as u64;
        let durability = match how {
            How::Durable | How::Called => Durability::Durable,
            How::Buffered => Durability::Buffered,
        };
        let request = AppendRequest {
            stream: stream.to_owned(),
            payloads: ids
                .iter()
                .zip(lengths)
                .map(|(id, length)| payload(stream, *id, *length))
                .collect(),
            durability,
            producer: None,
        };
        self.watch(stream);
        self.disk.note(Note::Attempt {
            stream: stream.to_owned(),
            ids: ids.clone(),
        });
        let note = {
            let (disk, stream) = (self.disk.clone(), stream.to_owned());
            move |first| {
                disk.note(Note::Acknowledged {
                    stream,
                    first,
                    ids,
                    is_durable: durability == Durability::Durable,
                });
            }
        };
        if how == How::Called {
            let (tell, told) = sync_channel(1);
            let on_done = Box::new(move |result: Result<aof2_core::Appended, _>| {
                let result = result.map(|appended| note(appended.first_sequence));
                // Whoever asked may have given up.
                let _ = tell.send(result.map_err(|error| format!("{error:?}")));
            });
            self.store.append_with(request, on_done);
            self.waiting.push(told);
            return Ok(());
        }
        let appended = self
            .store
            .append(request)
            .map_err(|error| format!("{stream} refuses an append: {error:?}"))?;
        note(appended.first_sequence);
        Ok(())
    }

    /// Notes the watermark when it moves next.
    fn watch(&self, stream: &str) {
        let Ok(info) = self.store.describe(stream) else {
            return;
        };
        let (disk, name) = (self.disk.clone(), stream.to_owned());
        let note = Box::new(move |count| {
            disk.note(Note::Durable {
                stream: name,
                count,
            });
        });
        // A stream that is there stays there.
        let waits = self
            .store
            .on_durable_beyond(stream, info.durable_sequence, note);
        if let Ok(waits) = waits {
            waits.detach();
        }
    }

    /// Waits for the callbacks.
    pub fn settle(&mut self) -> Result<(), String> {
        for told in self.waiting.drain(..) {
            told.recv()
                .map_err(|_| "an append was never answered".to_owned())??;
        }
        Ok(())
    }

    pub fn close(mut self) -> Result<(), String> {
        self.settle()?;
        self.store
            .close()
            .map_err(|error| format!("it does not close: {error:?}"))
    }
}
