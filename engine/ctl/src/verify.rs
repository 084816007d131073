//! The oracle's comparison: a stream as it reads back, compared with what a producer received. Pure, and independent of the engine:
//! it knows only records and acknowledgements.
//!
//! - An acknowledgement is *read* when the record at its sequence has its producer_seq and its hash, *reordered* when such a record
//!   stands elsewhere only, and *lost* otherwise. Every acknowledgement is exactly one of the three.
//! - A record is *duplicated* when an earlier one has the same producer and producer_seq. It is also *reordered* when it comes
//!   behind a later one of its producer, or when its sequence does not grow.
//! - The rest of the records is *unacknowledged*: appended, and the answer did not arrive or was not sent on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// One acknowledgement, a line of the collector's list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub stream: String,
    pub sequence: u64,
    pub producer_seq: u64,
    /// Of the payload, in hexadecimal digits.
    #[serde(with = "hex_hash")]
    pub sha256: Hash,
}

mod hex_hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &super::Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<super::Hash, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut hash = super::Hash::default();
        hex::decode_to_slice(text.as_bytes(), &mut hash)
            .map_err(|error| D::Error::custom(format!("sha256: {error}")))?;
        Ok(hash)
    }
}

pub fn sha256(payload: &[u8]) -> Hash {
    Sha256::digest(payload).into()
}

/// What was found. `read + lost + reordered + trimmed` of acknowledgements is `acknowledged`, unless records are out of order among
/// themselves, which `reordered` counts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub acknowledged: u64,
    pub read: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicated: u64,
    pub unacknowledged: u64,
    /// Acknowledged, and below the start of the stream now.
    #[serde(skip_serializing_if = "is_zero")]
    pub trimmed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        let Verdict {
            acknowledged,
            read,
            lost,
            reordered,
            duplicated,
            unacknowledged: _,
            trimmed,
        } = *self;
        acknowledged == read + trimmed && lost == 0 && reordered == 0 && duplicated == 0
    }
}

impl std::ops::AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        let Verdict {
            acknowledged,
            read,
            lost,
            reordered,
            duplicated,
            unacknowledged,
            trimmed,
        } = other;
        self.acknowledged += acknowledged;
        self.read += read;
        self.lost += lost;
        self.reordered += reordered;
        self.duplicated += duplicated;
        self.unacknowledged += unacknowledged;
        self.trimmed += trimmed;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            acknowledged,
            read,
            lost,
            reordered,
            duplicated,
            unacknowledged,
            trimmed,
        } = self;
        write!(
            f,
            "acknowledged {acknowledged}, read {read}, lost {lost}, reordered {reordered}, duplicated {duplicated}, \
             unacknowledged {unacknowledged}"
        )?;
        match trimmed {
            0 => Ok(()),
            _ => write!(f, ", trimmed {trimmed}"),
        }
    }
}

/// How many findings are listed; the rest is in the numbers.
pub const MAX_FINDINGS: usize = 20;

/// Findings in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<String>);

impl Findings {
    fn add(&mut self, text: impl FnOnce() -> String) {
        if self.0.len() < MAX_FINDINGS {
            self.0.push(text());
        }
    }
}

/// The comparison of one stream. Feed it the records in the order in which they are read.
pub struct Audit {
    stream: String,
    /// By (producer_seq, hash): the sequences that were promised.
    promised: HashMap<(u64, Hash), BTreeSet<u64>>,
    acknowledged: u64,
    seen: HashSet<(u64, u64)>,
    newest: BTreeMap<u64, u64>,
    last_sequence: Option<u64>,
    /// Of a promised (producer_seq, hash): found at a sequence that was not promised.
    elsewhere: HashMap<(u64, Hash), u64>,
    /// What lies below was trimmed.
    first_sequence: u64,
    verdict: Verdict,
    findings: Findings,
}

impl Audit {
    /// `acknowledgements` are those of this stream; equal ones count once.
    pub fn new(stream: &str, acknowledgements: impl IntoIterator<Item = Acknowledgement>) -> Self {
        let mut promised: HashMap<(u64, Hash), BTreeSet<u64>> = HashMap::new();
        let mut acknowledged = 0;
        for acknowledgement in acknowledgements {
            let Acknowledgement {
                stream: _,
                sequence,
                producer_seq,
                sha256,
            } = acknowledgement;
            if promised
                .entry((producer_seq, sha256))
                .or_default()
                .insert(sequence)
            {
                acknowledged += 1;
            }
        }
        Self {
            stream: stream.to_owned(),
            promised,
            acknowledged,
            seen: HashSet::new(),
            newest: BTreeMap::new(),
            last_sequence: None,
            elsewhere: HashMap::new(),
            first_sequence: 0,
            verdict: Verdict::default(),
            findings: Findings::default(),
        }
    }

    /// The stream begins here, or later.
    pub fn begins_at(&mut self, first_sequence: u64) {
        self.first_sequence = self.first_sequence.max(first_sequence);
    }

    pub fn observe(&mut self, sequence: u64, producer_id: u64, producer_seq: u64, hash: Hash) {
        let stream = &self.stream;
        if self.last_sequence.is_some_and(|last| sequence <= last) {
            self.verdict.reordered += 1;
            self.findings.add(|| {
                format!("{stream}: sequence {sequence} was read after an equal or greater sequence")
            });
        }
        self.last_sequence = Some(sequence.max(self.last_sequence.unwrap_or(0)));

        let is_duplicate = producer_id != 0 && !self.seen.insert((producer_id, producer_seq));
        if is_duplicate {
            self.verdict.duplicated += 1;
            self.findings.add(|| {
                format!(
                    "{stream}: sequence {sequence} holds producer_seq {producer_seq} a second time"
                )
            });
        }

        let key = (producer_seq, hash);
        let is_promised_here = match self.promised.get_mut(&key) {
            // Taken out, so that what stays was not kept.
            Some(sequences) => sequences.remove(&sequence),
            None => false,
        };
        let mut is_moved = false;
        if is_promised_here {
            self.verdict.read += 1;
        } else if self.promised.contains_key(&key) && !is_duplicate {
            self.elsewhere.insert(key, sequence);
            is_moved = true;
        } else if !is_duplicate {
            self.verdict.unacknowledged += 1;
        }

        if producer_id != 0 {
            let newest = self.newest.entry(producer_id).or_insert(producer_seq);
            if producer_seq < *newest && !is_duplicate && !is_moved {
                let newest = *newest;
                self.verdict.reordered += 1;
                self.findings.add(|| {
                    format!("{stream}: sequence {sequence} holds producer_seq {producer_seq}, after {newest} of the same producer")
                });
            }
            *newest = producer_seq.max(*newest);
        }
    }

    pub fn finish(mut self) -> (Verdict, Findings) {
        let stream = &self.stream;
        let mut missing: Vec<(u64, u64, Option<u64>)> = Vec::new();
        for (key, sequences) in &self.promised {
            let found = self.elsewhere.get(key).copied();
            missing.extend(sequences.iter().map(|sequence| (*sequence, key.0, found)));
        }
        missing.sort_unstable();
        for (sequence, producer_seq, found) in missing {
            match found {
                Some(found) => {
                    self.verdict.reordered += 1;
                    self.findings.add(|| {
                        format!("{stream}: producer_seq {producer_seq}, acknowledged at sequence {sequence}, is at sequence {found}")
                    });
                }
                None if sequence < self.first_sequence => self.verdict.trimmed += 1,
                None => {
                    self.verdict.lost += 1;
                    self.findings.add(|| {
                        format!("{stream}: sequence {sequence}, acknowledged with producer_seq {producer_seq}, is lost")
                    });
                }
            }
        }
        self.verdict.acknowledged = self.acknowledged;
        (self.verdict, self.findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: u64 = 9;

    /// (sequence, producer_seq, payload)
    type Item = (u64, u64, &'static str);

    const WHOLE: [Item; 4] = [(0, 0, "a"), (1, 1, "b"), (2, 2, "c"), (3, 3, "d")];

    fn acknowledged(items: &[Item]) -> Vec<Acknowledgement> {
        items
            .iter()
            .map(|(sequence, producer_seq, payload)| Acknowledgement {
                stream: "s".into(),
                sequence: *sequence,
                producer_seq: *producer_seq,
                sha256: sha256(payload.as_bytes()),
            })
            .collect()
    }

    fn verdict(promised: &[Item], read: &[Item]) -> (Verdict, Findings) {
        let mut audit = Audit::new("s", acknowledged(promised));
        for (sequence, producer_seq, payload) in read {
            audit.observe(
                *sequence,
                PRODUCER,
                *producer_seq,
                sha256(payload.as_bytes()),
            );
        }
        audit.finish()
    }

    #[test]
    fn a_stream_that_kept_its_word_is_clean() {
        let (verdict, findings) = verdict(&WHOLE, &WHOLE);
        assert!(verdict.is_clean() && findings.0.is_empty());
        assert_eq!(
            verdict.to_string(),
            "acknowledged 4, read 4, lost 0, reordered 0, duplicated 0, unacknowledged 0"
        );
    }

    #[test]
    fn records_that_nobody_was_told_of_are_no_fault() {
        let (verdict, _) = verdict(&WHOLE[..2], &WHOLE);
        assert!(verdict.is_clean());
        assert_eq!((verdict.read, verdict.unacknowledged), (2, 2));
    }

    #[test]
    fn what_was_trimmed_is_counted_and_is_not_lost() {
        let mut audit = Audit::new("s", acknowledged(&WHOLE));
        // The first was read before the stream was trimmed, the third is lost.
        for (sequence, producer_seq, payload) in [WHOLE[0], WHOLE[3]] {
            audit.observe(sequence, PRODUCER, producer_seq, sha256(payload.as_bytes()));
        }
        audit.begins_at(2);
        let (mut verdict, findings) = audit.finish();
        assert_eq!((verdict.read, verdict.trimmed, verdict.lost), (2, 1, 1));
        assert!(!verdict.is_clean() && findings.0.len() == 1, "{findings:?}");
        assert!(verdict.to_string().ends_with(", trimmed 1"), "{verdict}");
        verdict += Verdict::default();
        assert_eq!(verdict.trimmed, 1);
        (verdict.lost, verdict.acknowledged) = (0, 3);
        assert!(verdict.is_clean());
    }

    #[test]
    fn a_missing_record_is_lost_at_the_end_and_in_the_middle() {
        for missing in 0..WHOLE.len() {
            let mut read = WHOLE.to_vec();
            read.remove(missing);
            let (verdict, findings) = verdict(&WHOLE, &read);
            assert!(!verdict.is_clean());
            assert_eq!((verdict.read, verdict.lost, verdict.reordered), (3, 1, 0));
            assert_eq!(
                findings.0,
                [format!(
                    "s: sequence {missing}, acknowledged with producer_seq {missing}, is lost"
                )]
            );
        }
    }

    #[test]
    fn an_empty_stream_has_lost_everything() {
        let (verdict, _) = verdict(&WHOLE, &[]);
        assert_eq!((verdict.lost, verdict.read), (4, 0));
    }

    #[test]
    fn a_changed_payload_is_lost() {
        let (verdict, _) = verdict(
            &WHOLE,
            &[(0, 0, "a"), (1, 1, "B"), (2, 2, "c"), (3, 3, "d")],
        );
        assert_eq!(
            (verdict.read, verdict.lost, verdict.unacknowledged),
            (3, 1, 1)
        );
    }

    #[test]
    fn a_sequence_that_was_given_twice_has_lost_its_first_record() {
        // The tail was dropped and written again: the producer was told of sequence 3 twice.
        let promised = [WHOLE[0], WHOLE[1], WHOLE[2], WHOLE[3], (3, 3, "again")];
        let read = [WHOLE[0], WHOLE[1], WHOLE[2], (3, 3, "again")];
        let (verdict, _) = verdict(&promised, &read);
        assert_eq!(
            (verdict.acknowledged, verdict.read, verdict.lost),
            (5, 4, 1)
        );
    }

    #[test]
    fn exchanged_records_are_reordered() {
        let (verdict, findings) = verdict(
            &WHOLE,
            &[(0, 0, "a"), (1, 2, "c"), (2, 1, "b"), (3, 3, "d")],
        );
        assert!(!verdict.is_clean());
        assert_eq!((verdict.read, verdict.lost, verdict.reordered), (2, 0, 2));
        assert!(
            findings.0[0].contains("producer_seq 1, acknowledged at sequence 1, is at sequence 2"),
            "{findings:?}"
        );
    }

    #[test]
    fn an_engine_that_promises_the_wrong_order_is_found_out() {
        let wrong = [(0, 0, "a"), (1, 2, "c"), (2, 1, "b")];
        let (verdict, _) = verdict(&wrong, &wrong);
        assert_eq!((verdict.read, verdict.reordered), (3, 1));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn sequences_that_do_not_grow_are_reordered() {
        let (verdict, _) = verdict(&WHOLE, &[WHOLE[0], WHOLE[2], WHOLE[1], WHOLE[3]]);
        assert!(verdict.reordered > 0 && !verdict.is_clean());
    }

    #[test]
    fn a_record_written_twice_is_duplicated() {
        let read = [WHOLE[0], WHOLE[1], WHOLE[2], WHOLE[3], (4, 2, "c")];
        let (verdict, findings) = verdict(&WHOLE, &read);
        assert_eq!(
            (
                verdict.read,
                verdict.duplicated,
                verdict.lost,
                verdict.reordered
            ),
            (4, 1, 0, 0)
        );
        assert!(!verdict.is_clean());
        assert_eq!(
            findings.0,
            ["s: sequence 4 holds producer_seq 2 a second time"]
        );
    }

    #[test]
    fn records_without_a_producer_are_never_duplicates() {
        let mut audit = Audit::new("s", []);
        audit.observe(0, 0, 0, sha256(b"x"));
        audit.observe(1, 0, 0, sha256(b"x"));
        let (verdict, _) = audit.finish();
        assert_eq!((verdict.duplicated, verdict.unacknowledged), (0, 2));
    }

    #[test]
    fn a_line_sent_twice_is_one_acknowledgement() {
        let twice = [WHOLE, WHOLE].concat();
        let (verdict, _) = verdict(&twice, &WHOLE);
        assert_eq!((verdict.acknowledged, verdict.read), (4, 4));
        assert!(verdict.is_clean());
    }

    #[test]
    fn many_findings_are_counted_and_a_few_are_told() {
        let promised: Vec<Item> = (0..100).map(|sequence| (sequence, sequence, "x")).collect();
        let (verdict, findings) = verdict(&promised, &[]);
        assert_eq!((verdict.lost, findings.0.len()), (100, MAX_FINDINGS));
    }

    #[test]
    fn an_acknowledgement_is_the_documented_line() {
        let line = serde_json::to_string(&acknowledged(&[(5, 3, "a")])[0]).unwrap();
        let hash = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(
            line,
            format!(r#"{{"stream":"s","sequence":5,"producer_seq":3,"sha256":"{hash}"}}"#)
        );
        let wrong = line.replace("ca97", "zz97");
        assert!(
            serde_json::from_str::<Acknowledgement>(&wrong)
                .unwrap_err()
                .to_string()
                .contains("sha256")
        );
    }
}
