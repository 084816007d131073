//! `[[report.price]]`: what the bucket costs, for the storage report.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::check;
use super::error::Problem;
use super::nearest::is_near;
use super::retention::Found;
use super::value::{Kind, Value};

pub const KEY: &str = "report.price";

/// Storage classes by the names of S3, and of Google's storage behind the same API. A class that a store made up itself has no price.
pub const CLASSES: [&str; 14] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "REDUCED_REDUNDANCY",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
    "SNOW",
    "NEARLINE",
    "COLDLINE",
    "ARCHIVE",
];

/// Of a GiB for a month.
const MAX_PRICE: f64 = 1e6;
const NANOS: f64 = 1e9;

const CLASS: Kind = Kind::Text { max_bytes: 64 };

/// What a storage class costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub class: String,
    /// Billionths of the user's currency.
    pub nanos_per_gib_month: u64,
}

impl Price {
    pub fn per_gib_month(&self) -> f64 {
        self.nanos_per_gib_month as f64 / NANOS
    }
}

pub fn read(at: usize, value: &DeValue<'_>) -> Result<Vec<Price>, Vec<Found>> {
    let wrong = |at: usize, found: &DeValue<'_>| {
        let problem = Problem::WrongType {
            expected: Kind::Prices.expectation(),
            found: found.type_str().to_string(),
        };
        vec![(at, KEY.to_string(), problem)]
    };
    let DeValue::Array(entries) = value else {
        return Err(wrong(at, value));
    };
    let mut prices: Vec<Price> = Vec::new();
    let mut problems = Vec::new();
    for entry in entries {
        let at = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            problems.extend(wrong(at, entry.get_ref()));
            continue;
        };
        match price(at, table) {
            Ok(price) if prices.iter().any(|other| other.class == price.class) => {
                let message = format!(
                    "`{KEY}.class` = \"{}\" has two prices; remove one of them",
                    price.class
                );
                problems.push(found(at, "class", Problem::Conflict { message }));
            }
            Ok(price) => prices.push(price),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok(prices)
    } else {
        Err(problems)
    }
}

fn price(at: usize, table: &DeTable<'_>) -> Result<Price, Vec<Found>> {
    let (mut class, mut nanos) = (None, None);
    let mut problems = Vec::new();
    for (name, value) in table {
        let read = match name.get_ref().as_ref() {
            "class" => class_of(value).map(|found| class = Some(found)),
            "per_gib_month" => nanos_of(value).map(|found| nanos = Some(found)),
            other => Err(unknown(other)),
        };
        let place = match &read {
            Err(Problem::UnknownKey { .. }) => name.span().start,
            Ok(()) | Err(_) => value.span().start,
        };
        let problem = read.err();
        problems.extend(problem.map(|problem| found(place, name.get_ref(), problem)));
    }
    let mut require = |name: &str, why: &str| {
        if !table.keys().any(|given| given.get_ref() == name) {
            let why = why.to_string();
            problems.push(found(at, name, Problem::Missing { why }));
        }
    };
    require(
        "class",
        "a price names its storage class, such as `class = \"STANDARD\"`",
    );
    require(
        "per_gib_month",
        "a class has a price for a GiB and a month, such as `per_gib_month = 0.023`",
    );
    match (class, nanos) {
        (Some(class), Some(nanos_per_gib_month)) if problems.is_empty() => Ok(Price {
            class,
            nanos_per_gib_month,
        }),
        _ => Err(problems),
    }
}

fn class_of(value: &Spanned<DeValue<'_>>) -> Result<String, Problem> {
    let given = check(CLASS, value.get_ref())?.to_string();
    if CLASSES.contains(&given.as_str()) {
        return Ok(given);
    }
    let upper = given.to_uppercase();
    let same = CLASSES.iter().find(|class| **class == upper);
    let nearest = same.or_else(|| CLASSES.iter().find(|class| is_near(&upper, class)));
    let remedy = match nearest {
        Some(nearest) => format!("the nearest one is \"{nearest}\""),
        None => format!("use one of {}", CLASSES.join(", ")),
    };
    let message = format!("`{KEY}.class` = \"{given}\" is no storage class of a bucket; {remedy}");
    Err(Problem::Conflict { message })
}

/// Integers too: `per_gib_month = 1`.
fn nanos_of(value: &Spanned<DeValue<'_>>) -> Result<u64, Problem> {
    let number = match value.get_ref() {
        DeValue::Float(number) => number.to_string(),
        DeValue::Integer(number) => number.to_string(),
        other => {
            let found = match other {
                DeValue::String(text) => format!("string \"{text}\""),
                DeValue::Boolean(value) => format!("boolean {value}"),
                other => other.type_str().to_string(),
            };
            let expected = "a number, such as 0.023".to_string();
            return Err(Problem::WrongType { expected, found });
        }
    };
    let price = number.parse::<f64>().ok();
    let price = price.filter(|price| (0.0..=MAX_PRICE).contains(price));
    let nanos = price.map(|price| (price, (price * NANOS).round()));
    match nanos {
        // One that is not zero stays so.
        Some((price, nanos)) if price == 0.0 || nanos >= 1.0 => Ok(nanos as u64),
        Some(_) | None => Err(Problem::OutOfRange {
            value: number,
            allowed: "0, or 0.000000001 to 1000000".to_string(),
        }),
    }
}

fn unknown(name: &str) -> Problem {
    const KNOWN: [(&str, &str); 2] = [
        ("class", "report.price.class"),
        ("per_gib_month", "report.price.per_gib_month"),
    ];
    let nearest = KNOWN.into_iter().find(|(known, _)| is_near(name, known));
    Problem::UnknownKey {
        nearest: nearest.map(|(_, key)| key),
    }
}

fn found(at: usize, name: &str, problem: Problem) -> Found {
    (at, format!("{KEY}.{name}"), problem)
}

/// As a file has them.
pub fn pairs(price: &Price) -> Vec<String> {
    let Price {
        class,
        nanos_per_gib_month,
    } = price;
    let (whole, rest) = (
        nanos_per_gib_month / 1_000_000_000,
        nanos_per_gib_month % 1_000_000_000,
    );
    let digits = format!("{rest:09}");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    vec![
        format!("class = \"{class}\""),
        format!("per_gib_month = {whole}.{digits}"),
    ]
}

/// For whoever matches on a value.
pub fn of(value: Option<Value>) -> Vec<Price> {
    match value {
        Some(Value::Prices(prices)) => prices,
        Some(
            Value::Integer(_)
            | Value::Duration(_)
            | Value::Text(_)
            | Value::Switch(_)
            | Value::Rules(_),
        )
        | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Mode, parse};

    fn refusal(text: &str) -> String {
        parse("aof2.toml", text, Mode::User)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn prices_are_read_and_read_back_and_take_effect_without_a_restart() {
        let text = "[[report.price]]\nclass = \"STANDARD\"\nper_gib_month = 0.023\n\n[[report.price]]\nclass = \"GLACIER\"\nper_gib_month = 1\n\n[[report.price]]\nclass = \"SNOW\"\nper_gib_month = 0.0\n";
        let settings = parse("aof2.toml", text, Mode::User).expect("valid");
        let prices = &settings.report.prices;
        let nanos: Vec<u64> = prices.iter().map(|it| it.nanos_per_gib_month).collect();
        assert_eq!(nanos, [23_000_000, 1_000_000_000, 0]);
        assert_eq!(prices[0].per_gib_month(), 0.023);
        let again = parse("effective", &settings.to_toml(), Mode::StandAlone).expect("valid");
        assert_eq!(again.report, settings.report);
        let none = parse("aof2.toml", "", Mode::User).expect("valid");
        let changes = crate::config::changes(&none, &settings);
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (changes[0].key.as_str(), changes[0].to.as_str()),
            (
                "report.price",
                "[{class = \"STANDARD\", per_gib_month = 0.023}, {class = \"GLACIER\", per_gib_month = 1.0}, {class = \"SNOW\", per_gib_month = 0.0}]"
            )
        );
        let hot = none.with_hot_keys_of(&settings).expect("hot");
        assert_eq!(hot.report, settings.report);
    }

    #[test]
    fn a_bad_price_is_refused_with_key_value_and_remedy() {
        let price = |per_gib_month: &str| {
            format!("[[report.price]]\nclass = \"STANDARD\"\nper_gib_month = {per_gib_month}\n")
        };
        let range = "is out of range; allowed: 0, or 0.000000001 to 1000000";
        for (text, told) in [
            (
                "[[report.price]]\nclass = \"STANDRAD\"\nper_gib_month = 0.1\n".to_owned(),
                "aof2.toml:2:9: `report.price.class` = \"STANDRAD\" is no storage class of a bucket; the nearest one is \"STANDARD\"".to_owned(),
            ),
            (
                "[[report.price]]\nclass = \"standard_ia\"\nper_gib_month = 0.1\n".to_owned(),
                "aof2.toml:2:9: `report.price.class` = \"standard_ia\" is no storage class of a bucket; the nearest one is \"STANDARD_IA\"".to_owned(),
            ),
            (
                "[[report.price]]\nclass = \"tier0\"\nper_gib_month = 0.1\n".to_owned(),
                format!("aof2.toml:2:9: `report.price.class` = \"tier0\" is no storage class of a bucket; use one of {}", super::CLASSES.join(", ")),
            ),
            (
                format!("{}{}", price("0.1"), price("0.2")),
                "aof2.toml:4:1: `report.price.class` = \"STANDARD\" has two prices; remove one of them".to_owned(),
            ),
            (
                price("-0.1"),
                format!("aof2.toml:3:17: `report.price.per_gib_month` = -0.1 {range}"),
            ),
            (
                price("nan"),
                format!("aof2.toml:3:17: `report.price.per_gib_month` = nan {range}"),
            ),
            (
                price("inf"),
                format!("aof2.toml:3:17: `report.price.per_gib_month` = inf {range}"),
            ),
            (
                price("1e-12"),
                format!("aof2.toml:3:17: `report.price.per_gib_month` = 1e-12 {range}"),
            ),
            (
                price("-1"),
                format!("aof2.toml:3:17: `report.price.per_gib_month` = -1 {range}"),
            ),
            (
                price("\"0.023\""),
                "aof2.toml:3:17: `report.price.per_gib_month` must be a number, such as 0.023; found string \"0.023\"".to_owned(),
            ),
            (
                "[[report.price]]\nclass = \"STANDARD\"\nper_gb_month = 0.1\n".to_owned(),
                "aof2.toml:1:1: `report.price.per_gib_month` is missing: a class has a price for a GiB and a month, such as `per_gib_month = 0.023`; aof2.toml:3:1: unknown key `report.price.per_gb_month`; the nearest known key is `report.price.per_gib_month`".to_owned(),
            ),
            (
                "[[report.price]]\nper_gib_month = 0.1\n".to_owned(),
                "aof2.toml:1:1: `report.price.class` is missing: a price names its storage class, such as `class = \"STANDARD\"`".to_owned(),
            ),
            (
                "[report]\nprice = 0.023\n".to_owned(),
                "aof2.toml:2:1: `report.price` must be tables, each `[[report.price]]`; found float".to_owned(),
            ),
            (
                "[[report.prices]]\nclass = \"STANDARD\"\nper_gib_month = 0.1\n".to_owned(),
                "aof2.toml:1:10: unknown key `report.prices`; the nearest known key is `report.price`".to_owned(),
            ),
        ] {
            assert_eq!(refusal(&text), told, "{text}");
        }
    }
}
