//! `drain`, `resume`, `operator-epoch` and `prestop`.

use std::time::Duration;

use aof2_admin_api::client::DrainBounds;
use aof2_admin_api::{DrainPhase, DrainStatus};

use crate::cli::{Connection, DrainArguments};
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The hook must not eat the pod's grace period.
const PRESTOP_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn drain(connection: &Connection, arguments: DrainArguments) -> Result<Outcome, Failure> {
    let DrainArguments {
        ttl,
        upload_timeout,
        drain_timeout,
        without,
        wait,
    } = arguments;
    let client = super::admin(connection)?;
    let mut status = client
        .drain_without(
            DrainBounds {
                ttl,
                upload_timeout,
                drain_timeout,
            },
            &without,
        )
        .await?;
    if status.phase == DrainPhase::Open {
        return Err(Failure::Refused(
            "no drain starts, since the engine is shutting down; its records are safe on its volume"
                .into(),
        ));
    }
    while wait && matches!(status.phase, DrainPhase::Uploading | DrainPhase::Closing) {
        tokio::time::sleep(POLL_INTERVAL).await;
        status = client.drain_status().await?;
    }
    print(connection, &status)?;
    Ok(if wait && status.phase != DrainPhase::Drained {
        Outcome::Negative
    } else {
        Outcome::Clean
    })
}

pub async fn resume(connection: &Connection) -> Result<Outcome, Failure> {
    let status = super::admin(connection)?.resume().await?;
    print(connection, &status)?;
    Ok(Outcome::Clean)
}

pub async fn reset_operator_epoch(connection: &Connection) -> Result<Outcome, Failure> {
    let reset = super::admin(connection)?.reset_operator_epoch().await?;
    if connection.json {
        render::json(&reset)?;
    } else {
        render::line(&match reset.forgotten {
            0 => "No operator epoch was stored".to_owned(),
            epoch => format!("Operator epoch {epoch} forgotten"),
        })?;
    }
    Ok(Outcome::Clean)
}

/// A hook that fails would only add an event to a pod that goes anyway.
pub async fn prestop(connection: &Connection) -> Result<Outcome, Failure> {
    let told = async {
        let client = super::admin(connection)?.with_timeout(PRESTOP_TIMEOUT);
        client.pre_stop().await.map_err(Failure::from)
    };
    match told.await {
        Ok(status) => print(connection, &status)?,
        Err(failure) => {
            failure.report(connection.json);
        }
    }
    Ok(Outcome::Clean)
}

fn print(connection: &Connection, status: &DrainStatus) -> Result<(), Failure> {
    if connection.json {
        render::json(status)
    } else {
        render::line(&page(status))
    }
}

fn page(status: &DrainStatus) -> String {
    let DrainStatus {
        phase,
        token,
        expires_at,
        lagging,
        lagging_total,
        reason,
        message,
    } = status;
    let mut rows = vec![("phase", format!("{phase:?}"))];
    if let Some(token) = token {
        rows.push(("token", token.clone()));
    }
    if let Some(expires_at) = expires_at {
        let now = jiff::Timestamp::now();
        rows.push(("expires at", render::moment(expires_at, now)));
    }
    if let Some(reason) = reason {
        rows.push(("reason", format!("{reason:?}")));
    }
    if let Some(message) = message {
        rows.push(("message", message.clone()));
    }
    rows.push(("streams waiting", lagging_total.to_string()));
    let mut page = render::pairs(rows);
    if !lagging.is_empty() {
        let columns = [
            Column::Text("STREAM"),
            Column::Number("ACKNOWLEDGED"),
            Column::Number("SEALED AND UPLOADED"),
        ];
        let rows = lagging.iter().map(|stream| {
            vec![
                stream.stream.clone(),
                stream.acked.to_string(),
                stream.sealed_uploaded.to_string(),
            ]
        });
        page += &format!("\n\n{}", render::table(&columns, rows));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use aof2_admin_api::LaggingStream;

    #[test]
    fn a_running_drain_names_the_streams_that_it_waits_for() {
        let status = DrainStatus {
            phase: DrainPhase::Closing,
            lagging: vec![LaggingStream {
                stream: "orders-0-a".into(),
                acked: 10,
                sealed_uploaded: 7,
            }],
            lagging_total: 1,
            ..DrainStatus::default()
        };
        assert_eq!(
            page(&status),
            "phase            Closing\n\
             streams waiting  1\n\
             \n\
             STREAM      ACKNOWLEDGED  SEALED AND UPLOADED\n\
             orders-0-a            10                    7"
        );
    }
}
