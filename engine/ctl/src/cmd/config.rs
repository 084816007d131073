//! `config check`, which asks nobody, and `config validate`, `schema` and `show`, which ask the engine.

use std::fmt::Write;
use std::path::Path;

use aof2_admin_api::TerminationReason;
use aof2_admin_api::client::ConfigMode;
use aof2_admin_api::report::{ConfigVerdict, Reload, RetentionLimits};
use aof2_node::config::{self, ConfigErrors, Mode};
use serde::Serialize;

use crate::cli::{ConfigOwner, ConfigVerb, Connection};
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

#[derive(Serialize)]
struct Verdict {
    valid: bool,
    errors: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    file: String,
    /// From 1; 0 where the file as a whole is meant.
    line: usize,
    column: usize,
    key: String,
    reason: TerminationReason,
    message: String,
}

pub async fn run(connection: &Connection, verb: ConfigVerb) -> Result<Outcome, Failure> {
    match verb {
        ConfigVerb::Check { file, mode } => check(connection, &file, mode),
        ConfigVerb::Validate { file, mode } => validate(connection, &file, mode).await,
        ConfigVerb::Schema => {
            render::json(&super::admin(connection)?.config_schema().await?)?;
            Ok(Outcome::Clean)
        }
        ConfigVerb::Show => {
            let text = super::admin(connection)?.config().await?;
            render::line(text.trim_end())?;
            Ok(Outcome::Clean)
        }
    }
}

async fn validate(
    connection: &Connection,
    file: &Path,
    owner: ConfigOwner,
) -> Result<Outcome, Failure> {
    let name = file.display().to_string();
    let mode = match owner {
        ConfigOwner::User => ConfigMode::User,
        ConfigOwner::Pod => ConfigMode::Pod,
        ConfigOwner::StandAlone => {
            return Err(Failure::Usage(
                "an engine validates only user and pod files; use --mode user or pod, or `config check`"
                    .to_owned(),
            ));
        }
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(ConfigErrors::unreadable(&name, &error).to_string()))?;
    let verdict = super::admin(connection)?
        .config_validate(&text, mode)
        .await?;
    if connection.json {
        render::json(&verdict)?;
    } else {
        render::line(&verdict_page(&name, &verdict))?;
    }
    Ok(if verdict.valid {
        Outcome::Clean
    } else {
        Outcome::Negative
    })
}

fn verdict_page(name: &str, verdict: &ConfigVerdict) -> String {
    let ConfigVerdict {
        valid,
        errors,
        changes,
        shortened_retention,
    } = verdict;
    if !valid {
        return errors.join("\n");
    }
    if changes.is_empty() {
        return format!("{name}: valid, no changes");
    }
    let columns = [
        Column::Text("KEY"),
        Column::Text("FROM"),
        Column::Text("TO"),
        Column::Text("TAKES EFFECT"),
    ];
    let rows = changes.iter().map(|change| {
        let takes_effect = match change.reload {
            Reload::Hot => "at once",
            Reload::Restart => "with a restart",
            Reload::Unknown => "unknown",
        };
        vec![
            change.key.clone(),
            change.from.clone(),
            change.to.clone(),
            takes_effect.to_owned(),
        ]
    });
    let mut page = format!("{name}: valid\n\n{}", render::table(&columns, rows));
    let shortened = shortened_retention.as_deref().unwrap_or_default();
    if !shortened.is_empty() {
        let columns = [
            Column::Text("STREAMS"),
            Column::Text("KEPT"),
            Column::Text("THEN"),
        ];
        let rows = shortened
            .iter()
            .map(|it| vec![it.streams.clone(), kept(&it.from), kept(&it.to)]);
        let _ = write!(
            page,
            "\nThese streams are kept for less. What is older or more is deleted:\n\n{}",
            render::table(&columns, rows)
        );
    }
    page
}

fn kept(limits: &RetentionLimits) -> String {
    let bytes = limits.max_bytes.map(render::bytes);
    match (&limits.max_age, bytes) {
        (None, None) => "everything".to_owned(),
        (Some(age), None) => age.clone(),
        (None, Some(bytes)) => bytes,
        (Some(age), Some(bytes)) => format!("{age}, {bytes} at most"),
    }
}

fn check(connection: &Connection, file: &Path, owner: ConfigOwner) -> Result<Outcome, Failure> {
    let name = file.display().to_string();
    let mode = match owner {
        ConfigOwner::User => Mode::User,
        ConfigOwner::Pod => Mode::Pod,
        ConfigOwner::StandAlone => Mode::StandAlone,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(ConfigErrors::unreadable(&name, &error).to_string()))?;
    let errors = match config::parse(&name, &text, mode) {
        Ok(_) => Vec::new(),
        Err(ConfigErrors(errors)) => errors,
    };
    let verdict = Verdict {
        valid: errors.is_empty(),
        errors: errors
            .into_iter()
            .map(|error| Finding {
                message: error.to_string(),
                reason: error.problem.reason(),
                file: error.file,
                line: error.line,
                column: error.column,
                key: error.key,
            })
            .collect(),
    };
    if connection.json {
        render::json(&verdict)?;
    } else if verdict.valid {
        render::line(&format!("{name}: valid"))?;
    } else {
        for finding in &verdict.errors {
            render::line(&finding.message)?;
        }
    }
    Ok(if verdict.valid {
        Outcome::Clean
    } else {
        Outcome::Negative
    })
}
