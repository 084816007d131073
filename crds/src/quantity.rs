//! Amounts of bytes as Kubernetes writes them: a number, or a number with a unit.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes, in the spelling of the user, so that an object read and written again is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity(String);

const UNITS: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

const PATTERN: &str = r"^[0-9]{1,16}(\.[0-9]{1,3})?([kMGTP]|[KMGTP]i)?$";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an amount of bytes below 8Ei; write for example 20Gi or 500M")]
pub struct ParseQuantityError {
    value: String,
}

impl Quantity {
    /// The largest unit that divides `bytes`, so that `16Gi` comes back as `16Gi`.
    pub fn from_bytes(bytes: u64) -> Self {
        let binary = UNITS[..5]
            .iter()
            .rev()
            .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
        Self(match binary {
            Some((unit, factor)) => format!("{}{unit}", bytes / factor),
            None => bytes.to_string(),
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Rounded up, as Kubernetes rounds.
    pub fn bytes(&self) -> u64 {
        parse(&self.0).unwrap_or_default()
    }
}

fn parse(value: &str) -> Option<u64> {
    let number_end = value
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(number_end);
    let factor = match unit {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let thousandths: u128 = format!("{fraction:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let bytes =
        u128::from(whole) * u128::from(factor) + (thousandths * u128::from(factor)).div_ceil(1000);
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= i64::MAX as u64)
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match parse(value) {
            Some(_) => Ok(Self(value.to_owned())),
            None => Err(ParseQuantityError {
                value: value.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(u64),
            String(String),
        }
        match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(bytes) => bytes.to_string(),
            IntOrString::String(text) => text,
        }
        .parse()
        .map_err(de::Error::custom)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 24,
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_units() {
        for (value, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("20Gi", 20 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("1.0001k", 0),
            ("0.5", 1),
        ] {
            match value.parse::<Quantity>() {
                Ok(quantity) => assert_eq!(quantity.bytes(), bytes, "{value}"),
                Err(_) => assert_eq!(bytes, 0, "{value}"),
            }
        }
        assert_eq!(
            serde_json::from_str::<Quantity>("1048576").unwrap().bytes(),
            1 << 20
        );
    }

    #[test]
    fn refuses_other_units_signs_and_overflow() {
        for value in [
            "", "Gi", "-1", "1e9", "1Ei", "9999999P", "1.Gi", "1.0001Gi", "1 Gi", "100m",
        ] {
            let error = value.parse::<Quantity>().unwrap_err();
            assert!(
                error.to_string().contains("write for example 20Gi or 500M"),
                "{error}"
            );
        }
    }

    #[test]
    fn prints_bytes_in_the_largest_unit_that_divides_them() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1536, "1536"),
            (2048, "2Ki"),
            (16 << 30, "16Gi"),
            (3 << 29, "1536Mi"),
        ] {
            assert_eq!(Quantity::from_bytes(bytes).as_str(), text);
        }
    }
}
