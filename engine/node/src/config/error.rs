//! What can be wrong with a configuration file. Each message names the file, the place, the value and what to write instead.

use std::fmt;

use aof2_admin_api::revision::Altered;
use aof2_admin_api::schema::Instead;
use aof2_admin_api::{Termination, TerminationReason};

use super::MAX_FILE_BYTES;

/// One thing that is wrong, and where. Lines and columns count from 1; 0 where the problem has no place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Dotted key; empty where the file as a whole is meant.
    pub key: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Unreadable { cause: String },
    TooLarge { bytes: usize },
    Syntax { message: String },
    Altered(Altered),
    UnknownKey { nearest: Option<&'static str> },
    UnknownTable { nearest: Option<&'static str> },
    OperatorOwned { instead: Instead },
    WrongType { expected: String, found: String },
    OutOfRange { value: String, allowed: String },
    Missing { why: String },
    Conflict { message: String },
}

impl Problem {
    /// Stable word for machines: the termination message and `--json`.
    pub fn reason(&self) -> TerminationReason {
        match self {
            Problem::Unreadable { .. } => TerminationReason::ConfigUnreadable,
            Problem::TooLarge { .. } => TerminationReason::ConfigTooLarge,
            Problem::Syntax { .. } => TerminationReason::ConfigSyntax,
            Problem::Altered(_) => TerminationReason::ConfigAltered,
            Problem::UnknownKey { .. } | Problem::UnknownTable { .. } => {
                TerminationReason::UnknownKey
            }
            Problem::OperatorOwned { .. } => TerminationReason::OperatorOwnedKey,
            Problem::WrongType { .. } => TerminationReason::WrongType,
            Problem::OutOfRange { .. } => TerminationReason::OutOfRange,
            Problem::Missing { .. } => TerminationReason::MissingKey,
            Problem::Conflict { .. } => TerminationReason::ConflictingKeys,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            file,
            line,
            column,
            key,
            problem,
        } = self;
        write!(f, "{file}")?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        match problem {
            Problem::Unreadable { cause } => write!(f, "cannot be read: {cause}"),
            Problem::TooLarge { bytes } => write!(
                f,
                "has {bytes} bytes, limit {MAX_FILE_BYTES}; remove comments"
            ),
            Problem::Syntax { message } => write!(f, "is not valid TOML: {message}"),
            Problem::Altered(Altered::Text) => f.write_str(
                "differs from the sum in its first line; restore the file that the operator wrote",
            ),
            Problem::Altered(Altered::Keys { said, found }) => write!(
                f,
                "`{key}` = {said} is not the config in this file, which is {found}; restore the file that the operator wrote"
            ),
            Problem::UnknownKey {
                nearest: Some(nearest),
            } => {
                write!(
                    f,
                    "unknown key `{key}`; the nearest known key is `{nearest}`"
                )
            }
            Problem::UnknownKey { nearest: None } => {
                write!(
                    f,
                    "unknown key `{key}`; `aof2-engine config schema` lists the known ones"
                )
            }
            Problem::UnknownTable {
                nearest: Some(nearest),
            } => {
                write!(
                    f,
                    "unknown table `[{key}]`; the nearest known table is `[{nearest}]`"
                )
            }
            Problem::UnknownTable { nearest: None } => {
                write!(
                    f,
                    "unknown table `[{key}]`; `aof2-engine config schema` lists the known ones"
                )
            }
            Problem::OperatorOwned { instead } => {
                write!(f, "`{key}` belongs to the operator; {instead}")
            }
            Problem::WrongType { expected, found } => {
                write!(f, "`{key}` must be {expected}; found {found}")
            }
            Problem::OutOfRange { value, allowed } => {
                write!(f, "`{key}` = {value} is out of range; allowed: {allowed}")
            }
            Problem::Missing { why } => write!(f, "`{key}` is missing: {why}"),
            Problem::Conflict { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Everything that is wrong with a file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    pub fn unreadable(file: &str, cause: &std::io::Error) -> Self {
        ConfigErrors(vec![ConfigError {
            file: file.to_string(),
            line: 0,
            column: 0,
            key: String::new(),
            problem: Problem::Unreadable {
                cause: cause.to_string(),
            },
        }])
    }

    pub fn messages(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// For the container's termination message: the first error's reason and key, and the text of all.
    pub fn termination(&self) -> Termination {
        let first = self.0.first();
        Termination {
            key: first.map(|error| error.key.clone()).unwrap_or_default(),
            message: self.to_string(),
            reason: first.map_or(TerminationReason::ConfigSyntax, |error| {
                error.problem.reason()
            }),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages().join("; "))
    }
}

impl std::error::Error for ConfigErrors {}
