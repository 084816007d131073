//! The effective configuration as a file that reads back to the same settings.

use super::keys::KEYS;
use super::settings::Settings;
use super::value::Value;

impl Settings {
    /// Every key in force, defaults included, as TOML.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for spec in KEYS {
            let Some(value) = self.value(spec.key) else {
                continue;
            };
            if let Some(tables) = value.tables() {
                for pairs in tables {
                    out.push_str(&format!("\n[[{}]]\n{}\n", spec.key, pairs.join("\n")));
                }
                table = spec.key;
                continue;
            }
            if spec.table() != table {
                table = spec.table();
                if !out.is_empty() {
                    out.push('\n');
                }
                out.push_str(&format!("[{table}]\n"));
            }
            let literal = match value {
                Value::Integer(number) => number.to_string(),
                Value::Switch(switch) => switch.to_string(),
                Value::Duration(_) | Value::Text(_) | Value::Rules(_) | Value::Prices(_) => {
                    toml::Value::String(value.to_string()).to_string()
                }
            };
            out.push_str(&format!("{} = {literal}\n", spec.name()));
        }
        out
    }
}
