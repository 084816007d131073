//! From text to checked values, keeping the place of each for messages.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Problem};
use super::keys::{self, KEYS, KeySpec, Owner};
use super::retention::Found;
use super::value::{Kind, Value, parse_duration};
use super::{MAX_FILE_BYTES, Mode, nearest, price, retention};

/// Checked values of a file, by key. Every value is of its key's type and range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    file: String,
    given: BTreeMap<&'static str, (Value, Place)>,
}

/// Line and column, both from 1; 0 where a value comes from elsewhere than the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Values {
    /// No file: defaults only.
    pub fn none() -> Self {
        Values {
            file: "flags".to_string(),
            given: BTreeMap::new(),
        }
    }

    /// The value in force: the file's, or the default; `None` where there is neither.
    pub fn get(&self, key: &str) -> Option<Value> {
        match self.given.get(key) {
            Some((value, _)) => Some(value.clone()),
            None => keys::find(key).and_then(KeySpec::default_value),
        }
    }

    pub fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// Sets a value from outside the file, such as a flag.
    pub fn set(&mut self, spec: &'static KeySpec, value: Value) {
        self.given.insert(spec.key, (value, Place::default()));
    }

    /// Takes over whether and how `other` gives a key.
    pub fn copy(&mut self, spec: &'static KeySpec, other: &Values) {
        match other.given.get(spec.key) {
            Some(given) => self.given.insert(spec.key, given.clone()),
            None => self.given.remove(spec.key),
        };
    }

    pub fn error(&self, key: &str, problem: Problem) -> ConfigError {
        let place = self
            .given
            .get(key)
            .map(|(_, place)| *place)
            .unwrap_or_default();
        ConfigError {
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            key: key.to_string(),
            problem,
        }
    }
}

pub fn read(file: &str, text: &str, mode: Mode) -> Result<Values, ConfigErrors> {
    let mut reader = Reader {
        text,
        mode,
        values: Values {
            file: file.to_string(),
            given: BTreeMap::new(),
        },
        errors: Vec::new(),
    };
    if text.len() > MAX_FILE_BYTES {
        reader.refuse(None, "", Problem::TooLarge { bytes: text.len() });
        return Err(ConfigErrors(reader.errors));
    }
    let (root, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        for error in syntax {
            let at = error.span().map(|span| span.start);
            reader.refuse(
                at,
                "",
                Problem::Syntax {
                    message: error.message().to_string(),
                },
            );
        }
        return Err(ConfigErrors(reader.errors));
    }
    for (name, value) in root.get_ref() {
        reader.table(name, value);
    }
    if mode == Mode::Pod {
        reader.require_identity();
    }
    reader.finish()
}

struct Reader<'t> {
    text: &'t str,
    mode: Mode,
    values: Values,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    fn table(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let table = name.get_ref().as_ref();
        let at = name.span().start;
        if table == retention::KEY {
            let rules = retention::read(at, value.get_ref());
            return self.tables(retention::KEY, at, rules.map(Value::Rules));
        }
        let is_known = KEYS.iter().any(|spec| spec.table() == table);
        match value.get_ref() {
            DeValue::Table(entries) if is_known => {
                for (key, value) in entries {
                    self.key(
                        &format!("{table}.{}", key.get_ref()),
                        key.span().start,
                        value,
                    );
                }
            }
            DeValue::Table(_) => {
                self.refuse(
                    Some(at),
                    table,
                    Problem::UnknownTable {
                        nearest: nearest::nearest_table(table),
                    },
                );
            }
            found if is_known => {
                let found = found.type_str().to_string();
                self.refuse(
                    Some(at),
                    table,
                    Problem::WrongType {
                        expected: format!("a table, `[{table}]`"),
                        found,
                    },
                );
            }
            _ => self.refuse(
                Some(at),
                table,
                Problem::UnknownKey {
                    nearest: nearest::nearest_key(table),
                },
            ),
        }
    }

    fn tables(&mut self, key: &'static str, at: usize, read: Result<Value, Vec<Found>>) {
        match read {
            Ok(value) => {
                let given = (value, place_of(self.text, at));
                self.values.given.insert(key, given);
            }
            Err(problems) => {
                for (at, key, problem) in problems {
                    self.refuse(Some(at), &key, problem);
                }
            }
        }
    }

    fn key(&mut self, key: &str, key_at: usize, value: &Spanned<DeValue<'_>>) {
        let Some(spec) = keys::find(key) else {
            self.refuse(
                Some(key_at),
                key,
                Problem::UnknownKey {
                    nearest: nearest::nearest_key(key),
                },
            );
            return;
        };
        if let (Mode::User, Owner::Operator { instead }) = (self.mode, spec.owner) {
            self.refuse(Some(key_at), key, Problem::OperatorOwned { instead });
            return;
        }
        if spec.kind == Kind::Prices {
            let prices = price::read(key_at, value.get_ref());
            return self.tables(spec.key, key_at, prices.map(Value::Prices));
        }
        let at = value.span().start;
        match check(spec.kind, value.get_ref()) {
            Ok(checked) => {
                let place = place_of(self.text, at);
                self.values.given.insert(spec.key, (checked, place));
            }
            Err(problem) => self.refuse(Some(at), key, problem),
        }
    }

    fn require_identity(&mut self) {
        for spec in KEYS.iter().filter(|spec| spec.is_required_in_pod) {
            let is_refused_already = self.errors.iter().any(|error| error.key == spec.key);
            if !self.values.is_given(spec.key) && !is_refused_already {
                let why = "the operator writes it into every pod's file; without Kubernetes use `--data-dir`";
                self.refuse(
                    None,
                    spec.key,
                    Problem::Missing {
                        why: why.to_string(),
                    },
                );
            }
        }
    }

    fn refuse(&mut self, at: Option<usize>, key: &str, problem: Problem) {
        let place = at.map(|at| place_of(self.text, at)).unwrap_or_default();
        let file = self.values.file.clone();
        self.errors.push(ConfigError {
            file,
            line: place.line,
            column: place.column,
            key: key.to_string(),
            problem,
        });
    }

    fn finish(mut self) -> Result<Values, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(self.values);
        }
        self.errors
            .sort_by_key(|error| (error.line == 0, error.line, error.column));
        Err(ConfigErrors(self.errors))
    }
}

pub(super) fn check(kind: Kind, found: &DeValue<'_>) -> Result<Value, Problem> {
    let wrong_type = |found: String| Problem::WrongType {
        expected: kind.expectation(),
        found,
    };
    let out_of_range = |value: String| Problem::OutOfRange {
        value,
        allowed: kind.range(),
    };
    let value = match (kind, found) {
        (Kind::Bytes { .. } | Kind::Count { .. }, DeValue::Integer(number)) => {
            let value = u64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(value.map_err(|_| out_of_range(number.to_string()))?)
        }
        (Kind::Duration { .. }, DeValue::String(text)) => Value::Duration(
            parse_duration(text).ok_or_else(|| wrong_type(format!("string \"{text}\"")))?,
        ),
        (
            Kind::Text { .. } | Kind::Uuid | Kind::Path | Kind::Address | Kind::OneOf(_),
            DeValue::String(text),
        ) => Value::Text(text.to_string()),
        (Kind::Switch, DeValue::Boolean(value)) => Value::Switch(*value),
        (_, DeValue::String(text)) => return Err(wrong_type(format!("string \"{text}\""))),
        (_, DeValue::Integer(number)) => return Err(wrong_type(format!("integer {number}"))),
        (_, DeValue::Float(number)) => return Err(wrong_type(format!("float {number}"))),
        (_, DeValue::Boolean(value)) => return Err(wrong_type(format!("boolean {value}"))),
        (_, DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_)) => {
            return Err(wrong_type(found.type_str().to_string()));
        }
    };
    if kind.admits(&value) {
        return Ok(value);
    }
    Err(out_of_range(match value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Integer(_)
        | Value::Duration(_)
        | Value::Switch(_)
        | Value::Rules(_)
        | Value::Prices(_) => value.to_string(),
    }))
}

fn place_of(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
