//! One file per verb, or per few that belong together.

mod append;
mod compact;
mod config;
mod cut;
mod dump;
mod hydrate;
mod lifecycle;
mod load;
mod read;
mod report;
mod seal;
mod segments;
mod snapshot;
mod streams;
mod trim;
mod verify;

use aof2_admin_api::client::Client;

use crate::cli::{AdminConnection, Connection, EpochVerb, StreamsVerb, Verb};
use crate::exit::{Failure, Outcome};
use crate::tls;

pub async fn run(connection: &Connection, verb: Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Dump => dump::run(connection).await,
        Verb::Streams { verb: None } => streams::streams(connection).await,
        Verb::Streams {
            verb: Some(StreamsVerb::Cut(arguments)),
        } => cut::run(connection, arguments).await,
        Verb::Segments { stream, verb: None } => {
            streams::segments(connection, stream.as_deref()).await
        }
        Verb::Segments {
            stream: _,
            verb: Some(verb),
        } => segments::run(connection, verb).await,
        Verb::Report(arguments) => report::run(connection, arguments).await,
        Verb::Trim(arguments) => trim::run(connection, arguments).await,
        Verb::Seal { stream } => seal::seal(connection, stream.as_deref()).await,
        Verb::Hydrate(arguments) => hydrate::run(connection, arguments).await,
        Verb::Compact(arguments) => compact::run(connection, arguments).await,
        Verb::Flush => seal::flush(connection).await,
        Verb::Append(arguments) => append::run(connection, arguments).await,
        Verb::Read(arguments) => read::read(connection, arguments).await,
        Verb::Tail(arguments) => read::tail(connection, arguments).await,
        Verb::Load(arguments) => load::run(connection, arguments).await,
        Verb::Verify => verify::run(connection).await,
        Verb::Config(verb) => config::run(connection, verb).await,
        Verb::Snapshot(verb) => snapshot::run(connection, verb).await,
        Verb::Drain(arguments) => lifecycle::drain(connection, arguments).await,
        Verb::Resume => lifecycle::resume(connection).await,
        Verb::OperatorEpoch(EpochVerb::Reset) => lifecycle::reset_operator_epoch(connection).await,
        Verb::Prestop => lifecycle::prestop(connection).await,
    }
}

/// The admin API, over the Unix socket or over mutual TLS.
pub(crate) fn admin(connection: &AdminConnection) -> Result<Client, Failure> {
    let client = match (
        &connection.url,
        &connection.tls_directory,
        &connection.server_name,
    ) {
        (Some(url), Some(directory), Some(server_name)) => {
            Client::tls(tls::address(url)?, server_name, tls::config(directory)?)?
        }
        _ => Client::unix(&connection.admin_socket),
    };
    Ok(client.with_timeout(connection.timeout))
}
