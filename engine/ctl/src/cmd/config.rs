//! `config check` and `config show`.

use std::path::Path;

use aof2_node::config::{self, ConfigErrors, Mode};
use serde::Serialize;

use crate::cli::{ConfigOwner, ConfigVerb, Connection};
use crate::exit::{Failure, Outcome};
use crate::render;

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
    reason: &'static str,
    message: String,
}

pub async fn run(connection: &Connection, verb: ConfigVerb) -> Result<Outcome, Failure> {
    match verb {
        ConfigVerb::Check { file, mode } => check(connection, &file, mode),
        ConfigVerb::Show => {
            let text = super::admin(connection)?.config().await?;
            render::line(text.trim_end())?;
            Ok(Outcome::Clean)
        }
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
