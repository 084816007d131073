//! `verify`: reads the list of acknowledgements from standard input and the streams from the engine.

use std::collections::BTreeMap;
use std::io::BufRead;

use aof2_node::proto::{DescribeRequest, ReadRequest};
use serde::Serialize;
use tonic::Code;

use crate::cli::Connection;
use crate::data::{self, Client, ReadFailure};
use crate::exit::{Failure, Outcome};
use crate::render;
use crate::verify::{Acknowledgement, Audit, Findings, MAX_FINDINGS, Verdict, sha256};

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
}

pub async fn run(connection: &Connection) -> Result<Outcome, Failure> {
    let lists = read_lists(std::io::stdin().lock())?;
    if lists.is_empty() {
        // Nothing lost of nothing proves nothing.
        return Err(Failure::Usage(
            "nothing to verify; give the lines that `load` wrote on standard input".into(),
        ));
    }
    let mut client = data::client(&connection.socket);
    let mut report = Report {
        verdict: Verdict::default(),
        findings: Vec::new(),
    };
    for (stream, list) in lists {
        let (verdict, Findings(findings)) =
            verify_stream(connection, &mut client, &stream, list).await?;
        report.verdict += verdict;
        report.findings.extend(findings);
    }
    report.findings.truncate(MAX_FINDINGS);
    if connection.json {
        // One line, so that it can be found between others.
        render::line(
            &serde_json::to_string(&report)
                .map_err(|error| crate::exit::of_output(error.into()))?,
        )?;
    } else {
        for finding in &report.findings {
            render::line(finding)?;
        }
        render::line(&report.verdict.to_string())?;
    }
    Ok(if report.verdict.is_clean() {
        Outcome::Clean
    } else {
        Outcome::Negative
    })
}

fn read_lists(mut input: impl BufRead) -> Result<BTreeMap<String, Vec<Acknowledgement>>, Failure> {
    let mut lists: BTreeMap<String, Vec<Acknowledgement>> = BTreeMap::new();
    let mut line = String::new();
    let mut number = 0u64;
    loop {
        line.clear();
        number += 1;
        let length = input
            .read_line(&mut line)
            .map_err(|error| Failure::Usage(format!("standard input, line {number}: {error}")))?;
        if length == 0 {
            return Ok(lists);
        }
        if line.trim().is_empty() {
            continue;
        }
        let acknowledgement: Acknowledgement = serde_json::from_str(&line).map_err(|error| {
            Failure::Usage(format!(
                "standard input, line {number}: {error}; expected lines written by `load`"
            ))
        })?;
        lists
            .entry(acknowledgement.stream.clone())
            .or_default()
            .push(acknowledgement);
    }
}

/// Reads on behind damage: what is not served counts as lost, the rest is held against the list. So it does behind what is trimmed while it
/// reads.
async fn verify_stream(
    connection: &Connection,
    client: &mut Client,
    stream: &str,
    list: Vec<Acknowledgement>,
) -> Result<(Verdict, Findings), Failure> {
    let mut audit = Audit::new(stream, list);
    let mut damage = Vec::new();
    let mut from = None;
    let read = loop {
        let read = read_stream(client, stream, from, &mut audit).await;
        match read {
            Err(ReadFailure::Engine(status)) if data::read_on_from(&status) > from => {
                from = data::read_on_from(&status);
                if status.code() == Code::OutOfRange {
                    audit.begins_at(from.unwrap_or_default());
                    continue;
                }
                damage.push(format!("{stream}: {}", status.message()));
            }
            read => break read,
        }
    };
    let (verdict, mut findings) = audit.finish();
    findings.0.splice(0..0, damage);
    match read {
        Ok(()) => {}
        Err(ReadFailure::Here(failure)) => return Err(failure),
        Err(ReadFailure::Engine(status)) => match status.code() {
            Code::NotFound | Code::DataLoss => findings
                .0
                .insert(0, format!("{stream}: {}", status.message())),
            _ => {
                return Err(data::failure(
                    &connection.socket,
                    &format!("read {stream}"),
                    &status,
                ));
            }
        },
    }
    Ok((verdict, findings))
}

async fn read_stream(
    client: &mut Client,
    stream: &str,
    from: Option<u64>,
    audit: &mut Audit,
) -> Result<(), ReadFailure> {
    let describe = DescribeRequest {
        stream: stream.to_owned(),
        producer_id: 0,
    };
    let info = client
        .describe(describe)
        .await?
        .into_inner()
        .info
        .unwrap_or_default();
    audit.begins_at(info.first_sequence);
    let request = ReadRequest {
        stream: stream.to_owned(),
        from_sequence: from.unwrap_or(info.first_sequence),
        limit: 0,
        include_staged: false,
    };
    data::read(client, request, |batch| {
        for record in batch.records {
            audit.observe(
                record.sequence,
                record.producer_id,
                record.producer_seq,
                sha256(&record.payload),
            );
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_apart_by_stream() {
        let hash = "00".repeat(32);
        let line = |stream: &str, sequence: u64| {
            format!(
                "{{\"stream\":\"{stream}\",\"sequence\":{sequence},\"producer_seq\":0,\"sha256\":\"{hash}\"}}\n"
            )
        };
        let text = line("a", 0) + &line("b", 0) + "\n" + &line("a", 1);
        let lists = read_lists(text.as_bytes()).unwrap();
        assert_eq!((lists["a"].len(), lists["b"].len()), (2, 1));
    }

    #[test]
    fn a_line_that_is_no_acknowledgement_is_named() {
        let Err(Failure::Usage(message)) = read_lists("{\"stream\":\"a\"}\n".as_bytes()) else {
            panic!("accepted");
        };
        assert!(
            message.contains("line 1") && message.contains("missing field"),
            "{message}"
        );
    }
}
