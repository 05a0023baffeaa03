//! Label selectors, as `podSelector`, `namespaceSelector` and the peers of a ClusterNetworkPolicy have
//! them. An empty one matches everything; that one is absent is for its owner to interpret.

use std::collections::BTreeSet;
use std::fmt;

use super::PolicyError;
use super::node::Node;
use crate::labels::{Labels, is_label_key, is_label_value};

/// A label selector: all its requirements must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// What a selector asks of one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Whether `labels` meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.is_met(labels.get(&requirement.key)))
    }

    /// It matches everything, whatever the labels.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// It asks for one label only.
    pub(super) fn of_label(key: &str, value: &str) -> Self {
        let test = Test::In(BTreeSet::from([value.to_owned()]));
        Self { requirements: vec![Requirement { key: key.to_owned(), test }] }
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, PolicyError> {
        let mut fields = node.fields()?;
        let mut requirements = Vec::new();
        if let Some(labels) = fields.get("matchLabels") {
            for (key, value) in labels.entries()? {
                let key = checked_key(key, &value)?;
                let test = Test::In(BTreeSet::from([checked_value(&value)?]));
                requirements.push(Requirement { key, test });
            }
        }
        for expression in fields.list("matchExpressions")? {
            requirements.push(Requirement::read(&expression)?);
        }
        fields.end()?;
        Ok(Self { requirements })
    }
}

/// In the form in which `kubectl` writes it. Two that are written alike ask for the same, in whichever
/// order their requirements stand.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written: BTreeSet<String> =
            self.requirements.iter().map(Requirement::written).collect();
        for (n, requirement) in written.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl Requirement {
    fn written(&self) -> String {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| {
            values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        };
        match &self.test {
            Test::In(values) => format!("{key} in ({})", list(values)),
            Test::NotIn(values) => format!("{key} notin ({})", list(values)),
            Test::Exists => key.clone(),
            Test::DoesNotExist => format!("!{key}"),
        }
    }

    /// The negative tests are met by what lacks the label.
    fn is_met(&self, value: Option<&String>) -> bool {
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }

    fn read(node: &Node<'_>) -> Result<Self, PolicyError> {
        let mut fields = node.fields()?;
        let key = fields.need("key")?;
        let key = checked_key(key.text()?, &key)?;
        let operator = fields.need("operator")?;
        let listed = fields.list("values")?;
        fields.end()?;
        let values: BTreeSet<String> =
            listed.iter().map(checked_value).collect::<Result<_, _>>()?;
        let (test, has_values) = match operator.text()? {
            "In" => (Test::In(values), true),
            "NotIn" => (Test::NotIn(values), true),
            "Exists" => (Test::Exists, false),
            "DoesNotExist" => (Test::DoesNotExist, false),
            _ => return Err(operator.invalid("is not In, NotIn, Exists or DoesNotExist")),
        };
        match (has_values, listed.is_empty()) {
            (true, true) => Err(operator.invalid("needs values")),
            (false, false) => Err(operator.invalid("goes without values")),
            _ => Ok(Self { key, test }),
        }
    }
}

/// The labels of an object.
pub(super) fn read_labels(node: &Node<'_>) -> Result<Labels, PolicyError> {
    let entries = node.entries()?;
    let read =
        |(key, value): (&str, Node<'_>)| Ok((checked_key(key, &value)?, checked_value(&value)?));
    entries.into_iter().map(read).collect()
}

fn checked_key(key: &str, node: &Node<'_>) -> Result<String, PolicyError> {
    match is_label_key(key) {
        true => Ok(key.to_owned()),
        false => Err(node.invalid("has a key that is not a label's")),
    }
}

fn checked_value(node: &Node<'_>) -> Result<String, PolicyError> {
    let text = node.text()?;
    if is_label_value(text) {
        Ok(text.to_owned())
    } else {
        Err(node.invalid("is not a label's value: up to 63 letters, digits, '-', '_' and '.'"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selector(value: &Value) -> Result<Selector, PolicyError> {
        Selector::read(&Node::root("test", value))
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn expression(operator: &str, values: &Value) -> Selector {
        let value =
            json!({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]});
        selector(&value).expect("valid")
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        for value in [json!({}), json!({"matchLabels": {}, "matchExpressions": null})] {
            let all = selector(&value).expect("valid");
            assert!(all.is_everything() && all.matches(&labels(&[])));
            assert!(all.matches(&labels(&[("a", "b")])));
        }
    }

    #[test]
    fn alike_are_written_alike() {
        let a = selector(&json!({"matchLabels": {"b": "2", "a": "1"}})).expect("valid");
        let b = selector(&json!({"matchExpressions": [
            {"key": "a", "operator": "In", "values": ["1"]},
            {"key": "b", "operator": "In", "values": ["2"]},
        ]}));
        assert_eq!(a.to_string(), "a in (1),b in (2)");
        assert_eq!(b.expect("valid").to_string(), a.to_string());
        let none = expression("DoesNotExist", &json!([])).to_string();
        let not = expression("NotIn", &json!(["y", "x"])).to_string();
        assert_eq!((none.as_str(), not.as_str()), ("!k", "k notin (x,y)"));
    }

    #[test]
    fn every_requirement_must_be_met() {
        let both = selector(&json!({
            "matchLabels": {"a": "1"},
            "matchExpressions": [{"key": "b", "operator": "Exists"}],
        }));
        let both = both.expect("valid");
        assert!(both.matches(&labels(&[("a", "1"), ("b", "")])));
        assert!(!both.matches(&labels(&[("a", "1")])));
        assert!(!both.matches(&labels(&[("a", "2"), ("b", "")])));
    }

    #[test]
    fn negative_operators_match_what_lacks_the_label() {
        let (none, x, y) = (labels(&[]), labels(&[("k", "x")]), labels(&[("k", "y")]));
        for (operator, values, expected) in [
            ("In", json!(["x"]), [false, true, false]),
            ("NotIn", json!(["x"]), [true, false, true]),
            ("Exists", json!([]), [false, true, true]),
            ("DoesNotExist", json!([]), [true, false, false]),
        ] {
            let selector = expression(operator, &values);
            let found = [&none, &x, &y].map(|labels| selector.matches(labels));
            assert_eq!(found, expected, "{operator}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (value, named) in [
            (json!({"matchlabels": {}}), "matchlabels={} is not a known field"),
            (json!({"matchLabels": {"a": 1}}), "matchLabels.a=1 is not a string"),
            (json!({"matchLabels": {"-a": "1"}}), "key that is not a label's"),
            (json!({"matchLabels": {"a": "b c"}}), "matchLabels.a=\"b c\" is not a label's value"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}),
                "matchExpressions[0].operator=\"in\" is not In",
            ),
            (json!({"matchExpressions": [{"key": "a", "operator": "In"}]}), "needs values"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "goes without values",
            ),
            (json!({"matchExpressions": [{"operator": "Exists"}]}), "[0].key is missing"),
        ] {
            let error = selector(&value).expect_err("invalid").to_string();
            assert!(error.starts_with("test: ") && error.contains(named), "{error}");
        }
    }
}
