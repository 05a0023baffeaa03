//! Patterns: JSON that says what other JSON must look like.
//!
//! | pattern | matches |
//! |---|---|
//! | an object | an object whose members match; it may have more |
//! | `null` | what is not there |
//! | a list | a list of as many, one by one |
//! | `{"some": [...]}` | a list where each of these matches a member |
//! | `{"none": [...]}` | a list where none of these matches a member |
//! | `"*"` | anything that is there |
//! | `"~text"` | a text that contains it |
//! | `"$name"` | anything the first time, the same every time after |
//! | `"!$name"` | anything but that |
//! | everything else | itself |

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What names stand for so far.
pub(crate) type Names = BTreeMap<String, Value>;

/// Says where `value` differs from `pattern`.
pub(crate) fn matches(pattern: &Value, value: &Value, names: &mut Names) -> Result<(), String> {
    let differs = || Err(format!("{value} is not {pattern}"));
    match pattern {
        Value::Null if value.is_null() => Ok(()),
        Value::String(text) => text_matches(text, value, names),
        Value::Array(patterns) => {
            let Some(list) = value.as_array().filter(|l| l.len() == patterns.len()) else {
                return differs();
            };
            patterns.iter().zip(list).try_for_each(|(p, v)| matches(p, v, names))
        }
        Value::Object(members) => {
            if let Some(wanted) = members.get("some") {
                return each_is_there(wanted, value, names, true);
            }
            if let Some(unwanted) = members.get("none") {
                return each_is_there(unwanted, value, names, false);
            }
            if !value.is_object() {
                return differs();
            }
            members.iter().try_for_each(|(key, p)| {
                matches(p, value.get(key).unwrap_or(&Value::Null), names)
                    .map_err(|e| format!("{key}: {e}"))
            })
        }
        other if other == value => Ok(()),
        _ => differs(),
    }
}

fn text_matches(text: &str, value: &Value, names: &mut Names) -> Result<(), String> {
    let holds = if text == "*" {
        !value.is_null()
    } else if let Some(part) = text.strip_prefix('~') {
        value.as_str().is_some_and(|v| v.contains(part))
    } else if let Some(name) = text.strip_prefix("!$") {
        !value.is_null() && names.get(name) != Some(value)
    } else if let Some(name) = text.strip_prefix('$') {
        !value.is_null() && names.entry(name.to_owned()).or_insert_with(|| value.clone()) == value
    } else {
        value == text
    };
    if holds {
        return Ok(());
    }
    let known = text.trim_start_matches(['!', '$']);
    let known = names.get(known).map(|v| format!(", which is {v}")).unwrap_or_default();
    Err(format!("{value} is not {text:?}{known}"))
}

fn each_is_there(
    patterns: &Value,
    value: &Value,
    names: &mut Names,
    there: bool,
) -> Result<(), String> {
    let Some(list) = value.as_array() else { return Err(format!("{value} is no list")) };
    for pattern in patterns.as_array().into_iter().flatten() {
        // Names of a member that does not match are not kept.
        let found = list.iter().find_map(|member| {
            let mut tried = names.clone();
            matches(pattern, member, &mut tried).ok().map(|()| tried)
        });
        match found {
            Some(tried) if there => *names = tried,
            Some(_) => return Err(format!("{value} has {pattern}")),
            None if there => return Err(format!("{value} has no {pattern}")),
            None => {}
        }
    }
    Ok(())
}

/// Patterns that match too much would make every case pass: they are tried out first.
pub(crate) fn is_sound() {
    let value = json!({ "a": 1, "list": [{ "x": "one" }, { "x": "two" }], "mac": "m" });
    let mut names = Names::new();
    for (pattern, expected) in [
        (json!({ "a": 1 }), true),
        (json!({ "a": 2 }), false),
        (json!({ "b": null }), true),
        (json!({ "a": null }), false),
        (json!({ "b": "*" }), false),
        (json!({ "list": [{ "x": "one" }] }), false),
        (json!({ "list": { "some": [{ "x": "two" }] } }), true),
        (json!({ "list": { "some": [{ "x": "three" }] } }), false),
        (json!({ "list": { "none": [{ "x": "two" }] } }), false),
        (json!({ "list": { "none": [{ "x": "three" }] } }), true),
        (json!({ "mac": "~n" }), false),
        (json!({ "mac": "$m", "list": [{ "x": "$x" }, { "x": "!$x" }] }), true),
        (json!({ "mac": "!$m" }), false),
        (json!({ "list": [{ "x": "$m" }, "*"] }), false),
    ] {
        let found = matches(&pattern, &value, &mut names);
        assert_eq!(found.is_ok(), expected, "{pattern}: {found:?}");
    }
}
