//! Reading a document value by value, so that every complaint can say which field it is about, and so
//! that a rule with a field we do not know can be told from one that is wrong. A derived reader gives
//! neither: it stops at the first surprise and has forgotten the way to it.

use serde_json::{Map, Value};

use super::PolicyError;

/// The longest value that an error repeats, in bytes.
const LONGEST_SHOWN: usize = 120;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    document: &'a str,
    path: String,
    value: &'a Value,
}

/// The fields of an object, and which of them have been asked for.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    node: Node<'a>,
    map: &'a Map<String, Value>,
    asked: Vec<&'static str>,
}

impl<'a> Node<'a> {
    /// The document itself. `document` is what errors call it.
    pub(super) fn root(document: &'a str, value: &'a Value) -> Self {
        Self { document, path: String::new(), value }
    }

    /// Its fields.
    pub(super) fn fields(&self) -> Result<Fields<'a>, PolicyError> {
        match self.value {
            Value::Object(map) => Ok(Fields { node: self.clone(), map, asked: Vec::new() }),
            _ => Err(self.invalid("is not an object")),
        }
    }

    /// Its elements.
    pub(super) fn elements(&self) -> Result<Vec<Node<'a>>, PolicyError> {
        let Value::Array(list) = self.value else {
            return Err(self.invalid("is not a list"));
        };
        let at = |(n, value)| Node {
            document: self.document,
            path: format!("{}[{n}]", self.path),
            value,
        };
        Ok(list.iter().enumerate().map(at).collect())
    }

    /// Its fields, whatever their names.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Node<'a>)>, PolicyError> {
        let fields = self.fields()?;
        let at = |(key, value): (&'a String, &'a Value)| (key.as_str(), fields.at(key, value));
        Ok(fields.map.iter().map(at).collect())
    }

    /// Its text.
    pub(super) fn text(&self) -> Result<&'a str, PolicyError> {
        self.value.as_str().ok_or_else(|| self.invalid("is not a string"))
    }

    /// Its number, from `least` to `most`.
    pub(super) fn number(
        &self,
        least: u16,
        most: u16,
        rule: &'static str,
    ) -> Result<u16, PolicyError> {
        let number = self.value.as_u64().and_then(|n| u16::try_from(n).ok());
        number.filter(|n| (least..=most).contains(n)).ok_or_else(|| self.invalid(rule))
    }

    /// It is a string and not, say, a number.
    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    /// The value itself.
    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// Where it stands, as errors name it.
    pub(super) fn path(&self) -> &str {
        if self.path.is_empty() { "the document" } else { &self.path }
    }

    /// The error that it breaks `rule`.
    pub(super) fn invalid(&self, rule: &'static str) -> PolicyError {
        PolicyError::Invalid {
            document: self.document.to_owned(),
            field: self.path().to_owned(),
            value: shown(self.value),
            rule,
        }
    }
}

impl<'a> Fields<'a> {
    /// A field; none if it is absent or `null`, which Kubernetes takes for the same.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.push(key);
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some(self.at(key, value))
    }

    /// A field that must be there.
    pub(super) fn need(&mut self, key: &'static str) -> Result<Node<'a>, PolicyError> {
        self.get(key).ok_or_else(|| PolicyError::Missing {
            document: self.node.document.to_owned(),
            field: self.named(key),
        })
    }

    /// The elements of a field; none if it is absent.
    pub(super) fn list(&mut self, key: &'static str) -> Result<Vec<Node<'a>>, PolicyError> {
        self.get(key).map_or_else(|| Ok(Vec::new()), |node| node.elements())
    }

    /// Fields that are known and say nothing to us.
    pub(super) fn skip(&mut self, keys: &[&'static str]) {
        self.asked.extend_from_slice(keys);
    }

    /// A field that nobody asked for. An empty object has none.
    pub(super) fn unknown(&self) -> Option<Node<'a>> {
        let is_new = |key: &str| !self.asked.contains(&key);
        self.map.iter().find(|(key, _)| is_new(key)).map(|(key, value)| self.at(key, value))
    }

    /// Refuses fields that nobody asked for.
    pub(super) fn end(&self) -> Result<(), PolicyError> {
        let Some(node) = self.unknown() else { return Ok(()) };
        Err(PolicyError::Unknown {
            document: node.document.to_owned(),
            value: shown(node.value),
            field: node.path,
        })
    }

    fn at(&self, key: &str, value: &'a Value) -> Node<'a> {
        Node { document: self.node.document, path: self.named(key), value }
    }

    fn named(&self, key: &str) -> String {
        if self.node.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.node.path) }
    }
}

/// A value for an error: as JSON, and not longer than a line.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > LONGEST_SHOWN {
        let mut end = LONGEST_SHOWN;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
