//! `read` and `tail`.

use std::io::Write;

use aof2_node::proto::{DescribeRequest, ReadRequest, Record, RecordBatch, TailRequest};
use serde::Serialize;

use crate::cli::{Connection, ReadArguments, TailArguments};
use crate::data::{self, Client, ReadFailure};
use crate::exit::{Failure, Outcome, of_output};
use crate::render;

/// How records are printed.
#[derive(Clone, Copy)]
enum Form {
    Lines,
    Json,
    Raw,
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    sequence: u64,
    appended_unix_nanos: i64,
    producer_id: u64,
    producer_seq: u64,
    /// Where the payload is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

pub async fn read(connection: &Connection, arguments: ReadArguments) -> Result<Outcome, Failure> {
    let ReadArguments {
        stream,
        from,
        limit,
        include_staged,
        raw,
    } = arguments;
    let verb = format!("read {stream}");
    let form = form(connection, raw);
    let mut client = data::client(&connection.socket);
    let from_sequence = match from {
        Some(from) => from,
        None => {
            describe(connection, &mut client, &stream, &verb)
                .await?
                .first_sequence
        }
    };
    let request = ReadRequest {
        stream,
        from_sequence,
        limit,
        include_staged,
    };
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let read = data::read(&mut client, request, |batch| {
        print(&mut output, form, &batch)
    })
    .await;
    output.flush().map_err(of_output)?;
    match read {
        Ok(()) => Ok(Outcome::Clean),
        Err(ReadFailure::Here(failure)) => Err(failure),
        Err(ReadFailure::Engine(status)) => Err(data::failure(&connection.socket, &verb, &status)),
    }
}

pub async fn tail(connection: &Connection, arguments: TailArguments) -> Result<Outcome, Failure> {
    let TailArguments { stream, from, raw } = arguments;
    let verb = format!("tail {stream}");
    let form = form(connection, raw);
    let mut client = data::client(&connection.socket);
    let from_sequence = match from {
        Some(from) => from,
        None => {
            describe(connection, &mut client, &stream, &verb)
                .await?
                .durable_sequence
        }
    };
    let failure = |status: &tonic::Status| data::failure(&connection.socket, &verb, status);
    let mut batches = client
        .tail(TailRequest {
            stream,
            from_sequence,
        })
        .await
        .map_err(|status| failure(&status))?
        .into_inner();
    loop {
        tokio::select! {
            batch = batches.message() => match batch.map_err(|status| failure(&status))? {
                Some(batch) => print(&mut std::io::stdout().lock(), form, &batch)?,
                None => return Err(Failure::Unavailable(format!("{verb}: engine is shutting down"))),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Outcome::Clean),
        }
    }
}

async fn describe(
    connection: &Connection,
    client: &mut Client,
    stream: &str,
    verb: &str,
) -> Result<aof2_node::proto::StreamInfo, Failure> {
    let request = DescribeRequest {
        stream: stream.to_owned(),
        producer_id: 0,
    };
    let answer = client
        .describe(request)
        .await
        .map_err(|status| data::failure(&connection.socket, verb, &status))?;
    answer.into_inner().info.ok_or_else(|| {
        Failure::Unavailable(format!("{verb}: engine sent an answer without the stream"))
    })
}

fn form(connection: &Connection, raw: bool) -> Form {
    match (connection.json, raw) {
        (true, _) => Form::Json,
        (false, true) => Form::Raw,
        (false, false) => Form::Lines,
    }
}

fn print(output: &mut impl Write, form: Form, batch: &RecordBatch) -> Result<(), Failure> {
    for record in &batch.records {
        write(output, form, record).map_err(of_output)?;
    }
    output.flush().map_err(of_output)
}

fn write(output: &mut impl Write, form: Form, record: &Record) -> std::io::Result<()> {
    let Record {
        sequence,
        payload,
        producer_id,
        producer_seq,
        appended_unix_nanos,
    } = record;
    match form {
        Form::Raw => {
            output.write_all(payload)?;
            output.write_all(b"\n")
        }
        Form::Lines => {
            writeln!(
                output,
                "{sequence:>12}  {}  {}",
                render::time(*appended_unix_nanos),
                render::payload(payload)
            )
        }
        Form::Json => {
            let text = std::str::from_utf8(payload).ok();
            let record = JsonRecord {
                sequence: *sequence,
                appended_unix_nanos: *appended_unix_nanos,
                producer_id: *producer_id,
                producer_seq: *producer_seq,
                payload: text,
                payload_hex: text.is_none().then(|| hex::encode(payload)),
            };
            serde_json::to_writer(&mut *output, &record)?;
            output.write_all(b"\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(form: Form, payload: &'static [u8]) -> String {
        let record = Record {
            sequence: 7,
            payload: payload.into(),
            producer_id: 1,
            producer_seq: 3,
            appended_unix_nanos: 1_764_043_200_123_456_789,
        };
        let mut output = Vec::new();
        write(&mut output, form, &record).unwrap();
        String::from_utf8_lossy(&output).into_owned()
    }

    #[test]
    fn a_record_is_a_line_in_every_form() {
        assert_eq!(
            shown(Form::Lines, b"hello"),
            "           7  2025-11-25T04:00:00.123Z  hello\n"
        );
        assert_eq!(shown(Form::Raw, b"hello"), "hello\n");
        assert_eq!(
            shown(Form::Json, b"hello"),
            "{\"sequence\":7,\"appended_unix_nanos\":1764043200123456789,\"producer_id\":1,\"producer_seq\":3,\"payload\":\"hello\"}\n"
        );
        assert!(shown(Form::Json, &[0xFF]).contains("\"payload_hex\":\"ff\""));
    }
}
