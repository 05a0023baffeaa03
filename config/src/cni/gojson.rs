//! Reads JSON the way Go's `encoding/json` does. Every runtime is written in Go, and some depend on
//! it: containerd sends `HostPort` where the conventions say `hostPort`, and `null` for lists that
//! are empty. So: keys of a structure match without regard to case, `null` is the zero value, the
//! last of several equal keys wins, unknown keys are let pass. Keys of maps are left as they are.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Makes a `T` of `value`. Structures should carry `#[serde(default)]`, since a `null` member is
/// left out.
pub(crate) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Go(value))
}

struct Go(Value);

impl<'de> IntoDeserializer<'de, Error> for Go {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

/// The members of `map` that are `fields`, under the names that those have, without the nulls. There are no
/// more than fields, however many `map` has.
fn members(map: serde_json::Map<String, Value>, fields: &[&'static str]) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = Vec::new();
    for (key, value) in map {
        let same = || fields.iter().find(|f| f.eq_ignore_ascii_case(&key));
        let Some(name) = fields.iter().find(|f| **f == key).or_else(same) else { continue };
        // Go leaves a field as it was when it meets null, so a null does not undo an earlier key.
        if value.is_null() {
            continue;
        }
        found.retain(|(k, _)| k != name);
        found.push(((*name).to_owned(), value));
    }
    found
}

impl<'de> Deserializer<'de> for Go {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Go)))
            }
            Value::Object(map) => {
                visitor.visit_map(MapDeserializer::new(map.into_iter().map(|(k, v)| (k, Go(v)))))
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => {
                let members = members(map, fields).into_iter().map(|(k, v)| (k, Go(v)));
                visitor.visit_map(MapDeserializer::new(members))
            }
            other => other.deserialize_struct(_name, fields, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_nobody_reads_are_not_kept() {
        let map = (0..1000).map(|n| (format!("key{n}"), json!(n)));
        let map = map.chain([("HostPort".to_owned(), json!(1))]).collect();
        assert_eq!(members(map, &["hostPort"]), [("hostPort".to_owned(), json!(1))]);
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Mapping {
        host_port: u32,
        host_ip: String,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Outer {
        port_mappings: Vec<Mapping>,
        labels: HashMap<String, String>,
        raw: Option<Value>,
    }

    #[test]
    fn keys_of_structures_match_without_case_and_keys_of_maps_stay() {
        let read: Outer = from_value(json!({
            "PortMappings": [{"HostPort": 1, "hostIp": "x"}],
            "labels": {"Key": "V"},
            "raw": {"Any": [1]},
            "unknown": true
        }))
        .expect("readable");
        assert_eq!(read.port_mappings, [Mapping { host_port: 1, host_ip: "x".into() }]);
        assert_eq!(read.labels["Key"], "V");
        assert_eq!(read.raw, Some(json!({"Any": [1]})));
    }

    #[test]
    fn null_is_the_zero_value_and_the_last_key_wins() {
        let read: Outer =
            from_value(json!({"portMappings": null, "labels": null})).expect("readable");
        assert_eq!(read, Outer::default());
        let text = r#"{"hostPort": 1, "HOSTPORT": 2, "hostport": null}"#;
        let read: Mapping =
            from_value(serde_json::from_str(text).expect("json")).expect("readable");
        assert_eq!(read.host_port, 2);
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        assert!(from_value::<Mapping>(json!({"hostPort": "1"})).is_err());
        assert!(from_value::<Mapping>(json!("x")).is_err());
    }
}
