//! What must hold, from acknowledgements alone: the payload of every record follows from its stream, producer and number.

use std::collections::BTreeMap;
use std::path::Path;

use aof2_core::{Identity, OpenOptions, ReadRequest, Store};

use crate::child;

pub const CLUSTER: &str = "0192f0aa-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub stream: String,
    pub sequence: u64,
    pub producer: u64,
    pub producer_seq: u64,
}

impl Ack {
    pub fn line(&self) -> String {
        format!(
            "+ {} {} {} {} .\n",
            self.stream, self.sequence, self.producer, self.producer_seq
        )
    }

    pub fn parse(line: &str) -> Option<Ack> {
        let mut words = line.split(' ');
        if words.next()? != "+" {
            return None;
        }
        let ack = Ack {
            stream: words.next()?.to_owned(),
            sequence: words.next()?.parse().ok()?,
            producer: words.next()?.parse().ok()?,
            producer_seq: words.next()?.parse().ok()?,
        };
        // The last word tells a whole line from one that was cut off.
        (words.next() == Some(".")).then_some(ack)
    }
}

/// Who wrote a record: producer and number.
type Author = (u64, u64);

#[derive(Default)]
pub struct Model {
    acknowledged: BTreeMap<String, BTreeMap<u64, Author>>,
}

impl Model {
    pub fn acknowledge(&mut self, ack: Ack) {
        let Ack {
            stream,
            sequence,
            producer,
            producer_seq,
        } = ack;
        self.acknowledged
            .entry(stream)
            .or_default()
            .insert(sequence, (producer, producer_seq));
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
            .values()
            .map(|stream| stream.len() as u64)
            .sum()
    }

    /// Opens the directory and compares. The first violation is told.
    pub fn check(&self, directory: &Path) -> Result<(), String> {
        let identity = Identity {
            cluster_id: CLUSTER.to_owned(),
            node: "crash-0".to_owned(),
        };
        let store = Store::open(OpenOptions::new(child::config(directory), identity))
            .map_err(|error| error.to_string())?;
        for (stream, acknowledged) in &self.acknowledged {
            let records = read(&store, stream)?;
            for (sequence, author) in acknowledged {
                match records.get(*sequence as usize) {
                    None => {
                        return Err(format!(
                            "{stream}: acknowledged sequence {sequence} is lost, {} are left",
                            records.len()
                        ));
                    }
                    Some(found) if found != author => {
                        return Err(format!(
                            "{stream}: sequence {sequence} was acknowledged as {author:?} and holds {found:?}"
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        for info in store.streams() {
            if let Some(damage) = info.damage {
                return Err(format!("{}: {damage}", info.name));
            }
            in_order(&info.name, &read(&store, &info.name)?)?;
        }
        Ok(())
    }
}

/// Each producer's numbers from 0, each once, in order.
fn in_order(stream: &str, records: &[Author]) -> Result<(), String> {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for (sequence, (producer, producer_seq)) in records.iter().enumerate() {
        let expected = next.entry(*producer).or_default();
        if producer_seq != expected {
            return Err(format!(
                "{stream}: sequence {sequence} holds number {producer_seq} of producer {producer}, {expected} was expected"
            ));
        }
        *expected += 1;
    }
    Ok(())
}

fn read(store: &Store, stream: &str) -> Result<Vec<Author>, String> {
    let request = ReadRequest {
        stream: stream.to_owned(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    let mut reader = store.read(request).map_err(|error| error.to_string())?;
    let mut authors = Vec::new();
    while let Some(batch) = reader
        .next_batch(1 << 20)
        .map_err(|error| error.to_string())?
    {
        for record in batch {
            if record.sequence != authors.len() as u64 {
                return Err(format!(
                    "{stream}: sequence {} stands where {} was expected",
                    record.sequence,
                    authors.len()
                ));
            }
            let expected = child::payload(stream, record.producer_id, record.producer_seq);
            if record.payload != expected {
                return Err(format!(
                    "{stream}: sequence {} holds bytes that nobody wrote",
                    record.sequence
                ));
            }
            authors.push((record.producer_id, record.producer_seq));
        }
    }
    Ok(authors)
}
