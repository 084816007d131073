//! What must hold after a power cut, from what callers were told before it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// What the test notes between changes of the disk.
#[derive(Clone, Debug)]
pub enum Note {
    /// These records are about to be appended: from here on they may be there.
    Attempt { stream: String, ids: Vec<u64> },
    /// They have these sequences. Durable: they and all before them must be there.
    Acknowledged {
        stream: String,
        first: u64,
        ids: Vec<u64>,
        is_durable: bool,
    },
    /// The published watermark: a count of records that must be there.
    Durable { stream: String, count: u64 },
    /// A store was opened and serves this: from here on nothing else was ever there.
    Served(BTreeMap<String, Vec<u64>>),
}

#[derive(Clone, Debug, Default)]
pub struct StreamModel {
    /// Records by sequence, as far as they are known.
    known: BTreeMap<u64, u64>,
    /// Everything that was attempted.
    allowed: BTreeSet<u64>,
    /// Count of records that must be there.
    pub must: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub streams: BTreeMap<String, StreamModel>,
}

impl Model {
    /// As of a point of a recording that began with `self`.
    pub fn after(&self, notes: &[(usize, Note)], changes: usize) -> Model {
        let mut model = self.clone();
        let mut is_later = false;
        for (at, note) in notes {
            is_later |= *at > changes;
            match note {
                Note::Served(_) if is_later => break,
                Note::Served(streams) => {
                    model = Model::default();
                    for (stream, ids) in streams {
                        model.streams.insert(stream.clone(), StreamModel::of(ids));
                    }
                }
                Note::Attempt { stream, ids } if !is_later => {
                    model.stream(stream).allowed.extend(ids);
                }
                // Which sequence a record has is true before it is told.
                Note::Acknowledged {
                    stream,
                    first,
                    ids,
                    is_durable,
                } => {
                    let stream = model.stream(stream);
                    stream.known.extend((*first..).zip(ids.iter().copied()));
                    if *is_durable && !is_later {
                        stream.must = stream.must.max(first + ids.len() as u64);
                    }
                }
                Note::Durable { stream, count } if !is_later => {
                    let stream = model.stream(stream);
                    stream.must = stream.must.max(*count);
                }
                Note::Attempt { .. } | Note::Durable { .. } => {}
            }
        }
        model
    }

    fn stream(&mut self, name: &str) -> &mut StreamModel {
        self.streams.entry(name.to_owned()).or_default()
    }

    /// The records of every stream that a store serves, in order.
    pub fn check(&self, served: &BTreeMap<String, Vec<u64>>) -> Result<(), String> {
        for (name, stream) in &self.streams {
            let found = served.get(name).map_or(&[][..], Vec::as_slice);
            if (found.len() as u64) < stream.must {
                return Err(format!(
                    "{name}: {} records must be there, {} are",
                    stream.must,
                    found.len()
                ));
            }
        }
        for (name, found) in served {
            let Some(stream) = self.streams.get(name) else {
                return Err(format!("{name}: nobody appended to such a stream"));
            };
            stream.check(name, found)?;
        }
        Ok(())
    }

    /// One line per stream: name, count that must be there, known records, records that may be there.
    pub fn to_text(&self) -> String {
        let lines = self.streams.iter().map(|(name, stream)| {
            let known = stream
                .known
                .iter()
                .map(|(sequence, id)| format!("{sequence}={id}"));
            let allowed = stream.allowed.iter().map(u64::to_string);
            format!(
                "{name} {} {} {}\n",
                stream.must,
                known.chain(["-".to_owned()]).collect::<Vec<_>>().join(","),
                allowed
                    .chain(["-".to_owned()])
                    .collect::<Vec<_>>()
                    .join(",")
            )
        });
        lines.collect()
    }

    pub fn from_text(text: &str) -> Model {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let parts = |text: &str| -> Vec<String> {
            let parts = text.split(',').filter(|part| *part != "-");
            parts.map(str::to_owned).collect()
        };
        let streams = text.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, must, known, allowed] = words[..] else {
                panic!("{line:?} has four words")
            };
            let known = parts(known).into_iter().map(|pair| {
                let (sequence, id) = pair.split_once('=').expect("a pair");
                (number(sequence), number(id))
            });
            let stream = StreamModel {
                known: known.collect(),
                allowed: parts(allowed).iter().map(|id| number(id)).collect(),
                must: number(must),
            };
            (name.to_owned(), stream)
        });
        Model {
            streams: streams.collect(),
        }
    }

    /// Tells models apart.
    pub fn digest(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        for (name, stream) in &self.streams {
            (name, stream.must, stream.known.len(), stream.allowed.len()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl StreamModel {
    fn of(ids: &[u64]) -> StreamModel {
        StreamModel {
            known: (0..).zip(ids.iter().copied()).collect(),
            allowed: ids.iter().copied().collect(),
            must: ids.len() as u64,
        }
    }

    fn check(&self, name: &str, found: &[u64]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for (sequence, id) in (0..).zip(found) {
            if !self.allowed.contains(id) {
                return Err(format!(
                    "{name}: sequence {sequence} holds record {id}, which nobody appended or which was gone already"
                ));
            }
            if !seen.insert(*id) {
                return Err(format!("{name}: record {id} is there twice"));
            }
            match self.known.get(&sequence) {
                Some(known) if known != id => {
                    return Err(format!(
                        "{name}: sequence {sequence} was given to record {known} and holds record {id}"
                    ));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// A record that says who it is. At least 24 bytes; what follows the head depends on both.
pub fn payload(stream: &str, id: u64, length: usize) -> Bytes {
    /// Not a multiple of a sector.
    const PATTERN_BYTES: usize = 1_000;
    let salt = stream.bytes().fold(0_u64, |salt, byte| {
        salt.wrapping_mul(31).wrapping_add(byte.into())
    });
    let mut bytes = Vec::with_capacity(length.max(24));
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&salt.to_le_bytes());
    let mut dice = crate::dice::Dice::new(id);
    while bytes.len() < length.clamp(24, PATTERN_BYTES) {
        bytes.extend_from_slice(&dice.next().to_le_bytes());
    }
    bytes.truncate(length.max(24));
    while bytes.len() < length {
        let more = bytes.len().min(length - bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes.into()
}

/// Whose record it is, if it is whole.
pub fn id_of(stream: &str, bytes: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    (payload(stream, id, bytes.len()) == bytes).then_some(id)
}
