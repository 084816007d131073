//! What a damaged directory is worth.

use std::path::Path;

use aof2_core::{
    AppendError, AppendRequest, Durability, OpenError, ReadError, ReadRequest, Store, StreamInfo,
};
use bytes::Bytes;

use crate::fixture::{self, Fixture};
use crate::mutation::Mutation;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every stream has every record and takes more.
    Harmless,
    /// A stream is known to be damaged.
    Damaged,
    /// A read tells of the damage.
    ReadFails,
    /// The volume is refused.
    Refused,
}

/// `Err`: what must not be.
pub fn of(data: &Path, fixture: &Fixture, mutation: &Mutation) -> Result<Verdict, String> {
    let first = opened(data, fixture, mutation)?;
    // What was told once is told again, also behind a restart.
    let second = opened(data, fixture, mutation)?;
    if second < first {
        return Err(format!(
            "{first:?} at the first start, {second:?} at the second"
        ));
    }
    Ok(first)
}

fn opened(data: &Path, fixture: &Fixture, mutation: &Mutation) -> Result<Verdict, String> {
    let store = match Store::open(fixture::options(data)) {
        Ok(store) => store,
        Err(
            error @ (OpenError::Damaged { .. }
            | OpenError::ForeignDirectory { .. }
            | OpenError::NewerFormat { .. }),
        ) if mutation.path() == Path::new("volume.json") => {
            let _ = error;
            return Ok(Verdict::Refused);
        }
        Err(error) => return Err(format!("the node does not start: {error:?}")),
    };
    let mut worst = Verdict::Harmless;
    for (stream, acknowledged) in &fixture.model {
        let verdict = of_stream(&store, stream, acknowledged)
            .map_err(|violation| format!("stream {stream}: {violation}"))?;
        let is_other = mutation.stream().is_some_and(|own| own != stream);
        if is_other && verdict != Verdict::Harmless {
            return Err(format!(
                "stream {stream} is {verdict:?}, by another stream's file"
            ));
        }
        worst = worst.max(verdict);
    }
    Ok(worst)
}

/// `acknowledged` records have to be there, whatever was appended behind them by an earlier look.
fn of_stream(store: &Store, stream: &str, acknowledged: &[Vec<u8>]) -> Result<Verdict, String> {
    let (read, refused) = read(store, stream);
    // A sealed segment is looked at when it is first read.
    let info = store.describe(stream).map_err(|error| error.to_string())?;
    for (sequence, payload) in &read {
        if acknowledged
            .get(*sequence as usize)
            .is_some_and(|known| known != payload)
        {
            return Err(format!("sequence {sequence} holds other bytes"));
        }
    }
    let is_complete = refused.is_none()
        && read.len() >= acknowledged.len()
        && read
            .iter()
            .enumerate()
            .all(|(index, (sequence, _))| index as u64 == *sequence);
    match (&info.damage, &refused) {
        (None, None) if is_complete => goes_on(store, stream, &info, read.len() as u64),
        (None, None) => Err(format!(
            "{} records were acknowledged, {} are read, and nothing is said",
            acknowledged.len(),
            read.len()
        )),
        (Some(damage), _) => stays_damaged(store, stream, damage, acknowledged.len() as u64),
        (None, Some(ReadError::Damaged { .. } | ReadError::NotResident { .. })) => {
            Ok(Verdict::ReadFails)
        }
        (None, Some(other)) => Err(format!("{other:?}")),
    }
}

fn read(store: &Store, stream: &str) -> (Vec<(u64, Vec<u8>)>, Option<ReadError>) {
    let request = ReadRequest {
        stream: stream.to_owned(),
        from_sequence: 0,
        limit: 0,
        include_staged: false,
    };
    let mut records = Vec::new();
    let mut reader = match store.read(request) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(error)),
    };
    loop {
        match reader.next_batch(1 << 20) {
            Ok(Some(batch)) => records.extend(
                batch
                    .into_iter()
                    .map(|record| (record.sequence, record.payload.to_vec())),
            ),
            Ok(None) => return (records, None),
            Err(error) => return (records, Some(error)),
        }
    }
}

fn append(store: &Store, stream: &str) -> Result<u64, AppendError> {
    store
        .append(AppendRequest {
            stream: stream.to_owned(),
            payloads: vec![Bytes::from_static(b"later")],
            durability: Durability::Durable,
            producer: None,
        })
        .map(|appended| appended.first_sequence)
}

fn goes_on(
    store: &Store,
    stream: &str,
    info: &StreamInfo,
    records: u64,
) -> Result<Verdict, String> {
    match append(store, stream) {
        Ok(sequence) if sequence == records => Ok(Verdict::Harmless),
        Ok(sequence) => Err(format!(
            "sequence {sequence} is given where {records} was next ({info:?})"
        )),
        Err(error) => Err(format!("it is good and refuses an append: {error}")),
    }
}

/// Known damage in the middle keeps nothing from being appended behind it; at the end it does, for nobody knows which sequences were
/// given.
fn stays_damaged(
    store: &Store,
    stream: &str,
    damage: &str,
    acknowledged: u64,
) -> Result<Verdict, String> {
    match append(store, stream) {
        Err(AppendError::Damaged { .. }) => Ok(Verdict::Damaged),
        Ok(sequence) if sequence >= acknowledged => Ok(Verdict::Damaged),
        other => Err(format!(
            "it is damaged ({damage}) and an append answers {other:?}"
        )),
    }
}
