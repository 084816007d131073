//! Quantities by their value: `1000m` and `1` ask for the same, so that another spelling is no other template.

use serde_json::Value;

/// Nano units in one.
const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [
    ("Ei", 60),
    ("Pi", 50),
    ("Ti", 40),
    ("Gi", 30),
    ("Mi", 20),
    ("Ki", 10),
];
const DECIMAL: [(&str, i32); 10] = [
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("", 0),
    ("m", -3),
    ("u", -6),
    ("n", -9),
];
/// Fields of a pod that hold quantities by name.
const MAPS: [&str; 3] = ["requests", "limits", "overhead"];
/// Fields of a pod that are quantities.
const FIELDS: [&str; 2] = ["sizeLimit", "divisor"];

/// Spells every quantity in a part of a pod in one way. What is none stays as it is: the API server judges it.
pub fn spell_alike(part: &mut Value) {
    match part {
        Value::Array(items) => items.iter_mut().for_each(spell_alike),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::Object(quantities) if MAPS.contains(&name.as_str()) => {
                        quantities.values_mut().for_each(spell);
                    }
                    Value::String(_) | Value::Number(_) if FIELDS.contains(&name.as_str()) => {
                        spell(value);
                    }
                    _ => spell_alike(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn spell(quantity: &mut Value) {
    if let Some(nano) = nano(quantity) {
        *quantity = Value::String(print(nano));
    }
}

/// In billionths; `None`: not a quantity, or not to be held in them.
pub fn nano(quantity: &Value) -> Option<i128> {
    match quantity {
        Value::String(text) => parse(text),
        Value::Number(number) => parse(&number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn parse(text: &str) -> Option<i128> {
    let end = text
        .find(|it: char| !it.is_ascii_digit() && !matches!(it, '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains(['.', '+', '-']) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    let (factor, exponent) = unit_of(unit)?;
    let exponent = exponent - scale + 9;
    let value = mantissa.checked_mul(factor)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    match exponent < 0 {
        false => value.checked_mul(power),
        true => (value % power == 0).then(|| value / power),
    }
}

/// A factor and a power of ten.
fn unit_of(unit: &str) -> Option<(i128, i32)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == unit) {
        return Some((1 << bits, 0));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == unit) {
        return Some((1, *exponent));
    }
    let exponent = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-30..=30).contains(&exponent).then_some((1, exponent))
}

/// The shortest, so that the usual spellings stay.
fn print(nano: i128) -> String {
    if nano == 0 {
        return "0".to_owned();
    }
    let binary = BINARY.iter().find_map(|(unit, bits)| {
        let factor = (1_i128 << bits) * NANO;
        (nano % factor == 0).then(|| format!("{}{unit}", nano / factor))
    });
    let decimal = DECIMAL.iter().find_map(|(unit, exponent)| {
        let factor = 10_i128.pow((exponent + 9).unsigned_abs());
        (nano % factor == 0).then(|| format!("{}{unit}", nano / factor))
    });
    let spellings = binary.into_iter().chain(decimal);
    let shortest = spellings.min_by_key(String::len);
    shortest.unwrap_or_else(|| format!("{nano}n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spelled(mut value: Value) -> Value {
        spell(&mut value);
        value
    }

    #[test]
    fn one_value_has_one_spelling_and_the_usual_ones_stay() {
        for (spellings, one) in [
            (
                vec![
                    json!("1000m"),
                    json!("1"),
                    json!(1),
                    json!("1.0"),
                    json!(1.0),
                    json!("1e0"),
                ],
                "1",
            ),
            (
                vec![json!("0.5"), json!(0.5), json!("500m"), json!(".5")],
                "500m",
            ),
            (
                vec![
                    json!("1Gi"),
                    json!("1024Mi"),
                    json!("1073741824"),
                    json!(1_073_741_824),
                ],
                "1Gi",
            ),
            (
                vec![json!("1G"), json!("1000M"), json!("1e9"), json!("1E9")],
                "1G",
            ),
            (vec![json!("1.5Gi"), json!("1536Mi")], "1536Mi"),
            (vec![json!("0"), json!("0m"), json!(0)], "0"),
            (vec![json!("100u"), json!("0.1m"), json!("100000n")], "100u"),
            (vec![json!("1E"), json!("1000P")], "1E"),
        ] {
            for spelling in spellings {
                assert_eq!(spelled(spelling.clone()), one, "{spelling}");
            }
        }
    }

    #[test]
    fn what_is_no_quantity_or_cannot_be_held_stays_as_it_is() {
        for text in [
            "",
            ".",
            "one",
            "1 Gi",
            "1.2.3",
            "1e",
            "1e99",
            "--1",
            "1-1",
            "1Zi",
            "0.0000000001",
            "99999999999999999999999999999999999999999999",
            "9999999999999999999999999999999Ei",
        ] {
            assert_eq!(spelled(json!(text)), text);
        }
        assert_eq!(spelled(json!({"a": 1})), json!({"a": 1}));
    }

    #[test]
    fn quantities_are_found_where_a_pod_has_them_and_nowhere_else() {
        let mut pod = json!({
            "containers": [{
                "args": ["1000m"],
                "env": [{"name": "limits", "value": "1000m"}, {"valueFrom": {"resourceFieldRef": {"divisor": "1000m"}}}],
                "resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": "1024Mi"}},
            }],
            "volumes": [{"emptyDir": {"sizeLimit": "1024Mi"}}],
            "overhead": {"cpu": 2.0},
        });
        spell_alike(&mut pod);
        let container = &pod["containers"][0];
        assert_eq!(container["args"][0], "1000m");
        assert_eq!(container["env"][0]["value"], "1000m");
        assert_eq!(
            container["env"][1]["valueFrom"]["resourceFieldRef"]["divisor"],
            "1"
        );
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})
        );
        assert_eq!(pod["volumes"][0]["emptyDir"]["sizeLimit"], "1Gi");
        assert_eq!(pod["overhead"]["cpu"], "2");
    }
}
