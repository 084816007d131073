//! What a log is, without tiers: records in their order, of which the first may be gone by rules and the last may be lost by a power cut.
//! It shares no code with the store.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

/// A record that somebody tried to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of all that were ever tried.
    pub id: u64,
    pub length: u32,
    /// When, by the time that has passed.
    pub at: Duration,
    /// The wall clock stood where it should.
    pub is_dated: bool,
}

/// By which records may go on their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub max_age: Option<Duration>,
    pub max_bytes: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Stream {
    pub name: &'static str,
    /// By sequence. The last ones may be attempts that were never answered.
    pub records: Vec<Record>,
    /// Where a batch ends: all of it is there or none.
    ends: BTreeSet<u64>,
    /// Records that must be there: acknowledged as durable, or below a watermark.
    pub durable: u64,
    /// The first that can be read: where it was seen last.
    pub start: u64,
    /// The highest start that anybody asked for.
    pub trimmed: u64,
    pub uploaded: u64,
    pub sealed: u64,
    pub rule: Rule,
    /// A pass that is under way goes on by the rule that it began with; when that was replaced.
    pub last_rule: (Rule, Duration),
}

/// A pass takes less.
const PASS: Duration = Duration::from_secs(10);

/// Nothing that zstd makes smaller in a small one; a large one repeats itself.
pub fn payload(stream: &str, record: &Record) -> Bytes {
    let length = record.length as usize;
    let mut state = record.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(stream.as_bytes()[0]);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length.min(512) {
        bytes.extend_from_slice(&state.to_le_bytes());
        state = state.rotate_left(23).wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
    while bytes.len() < length {
        bytes.extend_from_within(..bytes.len().min(length - bytes.len()));
    }
    bytes.truncate(length);
    bytes.into()
}

impl Stream {
    pub fn new(name: &'static str) -> Stream {
        Stream {
            name,
            records: Vec::new(),
            ends: BTreeSet::from([0]),
            durable: 0,
            start: 0,
            trimmed: 0,
            uploaded: 0,
            sealed: 0,
            rule: Rule::default(),
            last_rule: (Rule::default(), Duration::ZERO),
        }
    }

    pub fn next(&self) -> u64 {
        self.records.len() as u64
    }

    /// A batch that may be there from here on.
    pub fn attempt(&mut self, batch: &[Record]) {
        self.records.extend_from_slice(batch);
        self.ends.insert(self.next());
    }

    /// It was refused.
    pub fn take_back(&mut self, count: usize) {
        self.ends.remove(&self.next());
        self.records.truncate(self.records.len() - count);
    }

    /// What a start after a crash serves.
    pub fn recovered(&mut self, end: u64) -> Result<(), String> {
        let name = self.name;
        if end < self.durable {
            return Err(format!(
                "{name}: {} records were durable, {end} are there",
                self.durable
            ));
        }
        if end > self.next() {
            return Err(format!(
                "{name}: {} records were tried, {end} are there",
                self.next()
            ));
        }
        if !self.ends.contains(&end) {
            return Err(format!("{name}: {end} records are there, and a half batch"));
        }
        self.records.truncate(end as usize);
        self.ends.split_off(&(end + 1));
        self.durable = end;
        Ok(())
    }

    /// Counts that a stream reports; none steps back.
    pub fn told(
        &mut self,
        first: u64,
        durable: u64,
        sealed: u64,
        uploaded: u64,
    ) -> Result<(), String> {
        let name = self.name;
        let counts = [
            ("durable", self.durable, durable, self.next()),
            ("sealed", self.sealed, sealed, durable),
            ("uploaded", self.uploaded, uploaded, sealed),
        ];
        for (what, before, now, most) in counts {
            if now < before || now > most {
                return Err(format!(
                    "{name}: {what} up to {now} after {before}, of {most} at most"
                ));
            }
        }
        if first < self.start || first > sealed {
            return Err(format!(
                "{name}: begins at {first} after {}, sealed up to {sealed}",
                self.start
            ));
        }
        (self.durable, self.sealed, self.uploaded) = (durable, sealed, uploaded);
        Ok(())
    }

    /// The start is seen at `first`: by a trim, or by the rule. `is_dated`: the wall clock is where it should be.
    pub fn begins_at(&mut self, first: u64, now: Duration) -> Result<(), String> {
        let from = self.start.max(self.trimmed);
        for sequence in from..first {
            let record = &self.records[sequence as usize];
            // As long as it is younger, by the time that has really passed.
            let is_old = |max: Duration| now.saturating_sub(record.at) >= max || !record.is_dated;
            let may_go = |rule: &Rule| rule.max_age.is_some_and(is_old) || rule.max_bytes.is_some();
            let (last_rule, until) = &self.last_rule;
            let may = may_go(&self.rule) || now <= *until + PASS && may_go(last_rule);
            if !may {
                return Err(format!(
                    "{}: begins at {first}, and record {sequence} of {:?} may not go at {now:?} by {:?}",
                    self.name, record.at, self.rule
                ));
            }
        }
        self.start = first;
        Ok(())
    }

    /// Whether these are the records from `from` on.
    pub fn check(&self, from: u64, found: &[(u64, Bytes)]) -> Result<(), String> {
        for (expected, (sequence, bytes)) in (from..).zip(found) {
            let record = self.records.get(expected as usize);
            let is_it = |record: &Record| payload(self.name, record) == *bytes;
            if *sequence != expected || !record.is_some_and(is_it) {
                return Err(format!(
                    "{}: read from {from}: sequence {sequence} of {} bytes where {expected} is {record:?}",
                    self.name,
                    bytes.len()
                ));
            }
        }
        Ok(())
    }
}
