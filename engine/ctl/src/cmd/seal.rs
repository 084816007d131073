//! `seal` and `flush`.

use aof2_admin_api::report::StreamVerbReport;

use crate::cli::Connection;
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

pub async fn seal(connection: &Connection, stream: Option<&str>) -> Result<Outcome, Failure> {
    let report = super::admin(connection)?.seal(stream).await?;
    print(connection, "SEALED RECORDS", &report)
}

pub async fn flush(connection: &Connection) -> Result<Outcome, Failure> {
    let report = super::admin(connection)?.flush().await?;
    print(connection, "DURABLE RECORDS", &report)
}

fn print(
    connection: &Connection,
    count: &'static str,
    report: &StreamVerbReport,
) -> Result<Outcome, Failure> {
    if connection.json {
        render::json(report)?;
    } else {
        let rows = report
            .streams
            .iter()
            .map(|(stream, count)| vec![stream.clone(), count.to_string()]);
        render::line(&render::table(
            &[Column::Text("STREAM"), Column::Number(count)],
            rows,
        ))?;
    }
    Ok(Outcome::Clean)
}
