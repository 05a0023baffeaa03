//! Values of settings, read as what they should be. An error says what they are.

use toml::Value;

/// A value as it stood in the file.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::String(text) => format!("{text:?}"),
        other => format!("a value of type {}", other.type_str()),
    }
}

pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{} is neither true nor false", shown(value)))
}

pub(super) fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{} is not a string", shown(value)))
}

pub(super) fn strings(value: &Value) -> Result<Vec<&str>, String> {
    let list = value.as_array();
    let list = list.ok_or_else(|| format!("{} is not a list of strings", shown(value)))?;
    list.iter().map(string).collect()
}

pub(super) fn path(value: &Value) -> Result<String, String> {
    let text = string(value)?;
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not an absolute path"))
    }
}
