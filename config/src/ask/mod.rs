//! What an operator asks about policy, and what is answered: the bodies of Control requests and of their
//! replies. Both sides go by these types, so that neither can misread the other.
//!
//! | question          | body                                   | answer        |
//! |-------------------|----------------------------------------|---------------|
//! | `policy.apply`    | documents, YAML or JSON, as they are   | [`Applied`]   |
//! | `policy.delete`   | [`Delete`]                             | [`Applied`]   |
//! | `policy.label`    | [`Label`]                              | [`Labelled`]  |
//! | `policy.explain`  | [`Explain`]                            | [`Explanation`] |
//! | `policy.simulate` | documents, as for `policy.apply`       | [`Simulation`] |
//! | `policy.show`     |                                        | [`Shown`]     |
//! | `policy.matrix`   | [`OfMatrix`]                           | [`Matrix`]    |
//! | `policy.denied`   |                                        | [`Denied`]    |
//!
//! Bodies and answers but documents are JSON. A field that a side does not know is let pass, and one that
//! it misses has its default, so that releases may differ by one.

mod answer;
mod change;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::answer::{
    Case, Cell, Decided, Denied, DeniedFlow, Explanation, Group, Labelled, Matrix, Party, Shown,
    ShownEndpoint, ShownLabel, ShownNamespace, ShownNetwork, ShownPolicy,
};
pub use self::change::{Applied, Became, Changed, DroppedFlow, Outcome, Shift, Simulation};
use crate::wire::Control;

/// A question about policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Takes these documents in, all of them or none.
    Apply(String),
    /// Takes a document out that came by `apply`.
    Delete(Delete),
    /// Changes labels of an endpoint.
    Label(Label),
    /// Why a connection is allowed or denied.
    Explain(Explain),
    /// What would change if these documents were applied.
    Simulate(String),
    /// What is in force.
    Show,
    /// Who may speak to whom.
    Matrix(OfMatrix),
    /// What was denied of late.
    Denied,
}

/// Every question, as a request names it.
pub const QUESTIONS: [&str; 8] = [
    "policy.apply",
    "policy.delete",
    "policy.label",
    "policy.explain",
    "policy.simulate",
    "policy.show",
    "policy.matrix",
    "policy.denied",
];

/// Which document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// Its kind, as the document has it.
    pub kind: String,
    /// Its namespace, if its kind has one and it is not `default`.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Which labels of whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Label {
    /// The endpoint: `namespace/name`, `network/container/ifname` or one of its addresses.
    pub endpoint: String,
    /// These it gets.
    pub set: BTreeMap<String, String>,
    /// These it loses, whoever gave them, until they are given again.
    pub remove: BTreeSet<String>,
}

/// Which connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explain {
    /// Who begins it: as [`Label::endpoint`], or any address, `host`, or `host@ADDRESS`.
    pub from: String,
    /// Whom it is for, likewise.
    pub to: String,
    /// What is spoken, as `tcp/80` or `icmp`.
    pub traffic: String,
    /// It is sent to a port that the host publishes, and has been translated to `to`.
    pub published: bool,
}

/// Which matrix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OfMatrix {
    /// What is spoken, as [`Explain::traffic`].
    pub traffic: String,
}

/// Why a question is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AskError {
    /// There is no such question.
    #[error("question={0:?} is not known; quantumctl may be newer than quantum-cnid")]
    Unknown(String),
    /// The body is not what the question needs.
    #[error("the body of question={question:?} cannot be read: {why}")]
    Body {
        /// The question.
        question: String,
        /// Why.
        why: String,
    },
}

impl Ask {
    /// What it is called in a request.
    pub fn question(&self) -> &'static str {
        match self {
            Self::Apply(_) => "policy.apply",
            Self::Delete(_) => "policy.delete",
            Self::Label(_) => "policy.label",
            Self::Explain(_) => "policy.explain",
            Self::Simulate(_) => "policy.simulate",
            Self::Show => "policy.show",
            Self::Matrix(_) => "policy.matrix",
            Self::Denied => "policy.denied",
        }
    }

    /// It as a request.
    pub fn control(&self) -> Result<Control, AskError> {
        let body = match self {
            Self::Apply(documents) | Self::Simulate(documents) => {
                Ok(documents.clone().into_bytes())
            }
            Self::Delete(asked) => serde_json::to_vec(asked),
            Self::Label(asked) => serde_json::to_vec(asked),
            Self::Explain(asked) => serde_json::to_vec(asked),
            Self::Matrix(asked) => serde_json::to_vec(asked),
            Self::Show | Self::Denied => Ok(Vec::new()),
        };
        let question = self.question().to_owned();
        match body {
            Ok(body) => Ok(Control { question, body }),
            Err(error) => Err(AskError::Body { question, why: error.to_string() }),
        }
    }

    /// The question of a request; an error also if it is not about policy.
    pub fn read(control: &Control) -> Result<Self, AskError> {
        match control.question.as_str() {
            "policy.apply" => documents(control).map(Self::Apply),
            "policy.delete" => json(control).map(Self::Delete),
            "policy.label" => json(control).map(Self::Label),
            "policy.explain" => json(control).map(Self::Explain),
            "policy.simulate" => documents(control).map(Self::Simulate),
            "policy.show" => Ok(Self::Show),
            "policy.matrix" => json(control).map(Self::Matrix),
            "policy.denied" => Ok(Self::Denied),
            other => Err(AskError::Unknown(other.to_owned())),
        }
    }
}

fn json<T: DeserializeOwned>(control: &Control) -> Result<T, AskError> {
    let body: &[u8] = if control.body.is_empty() { b"{}" } else { &control.body };
    serde_json::from_slice(body).map_err(|error| unreadable(control, &error.to_string()))
}

fn documents(control: &Control) -> Result<String, AskError> {
    String::from_utf8(control.body.clone()).map_err(|error| unreadable(control, &error.to_string()))
}

fn unreadable(control: &Control, why: &str) -> AskError {
    AskError::Body { question: control.question.clone(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_survives() {
        let endpoint = "default/web".to_owned();
        let all = [
            Ask::Apply("kind: Namespace\n".into()),
            Ask::Delete(Delete { kind: "NetworkPolicy".into(), namespace: None, name: "n".into() }),
            Ask::Label(Label {
                endpoint: endpoint.clone(),
                set: BTreeMap::from([("a".into(), "b".into())]),
                remove: BTreeSet::from(["c".into()]),
            }),
            Ask::Explain(Explain {
                from: endpoint,
                to: "host".into(),
                traffic: "tcp/80".into(),
                published: true,
            }),
            Ask::Simulate(String::new()),
            Ask::Show,
            Ask::Matrix(OfMatrix { traffic: "icmp".into() }),
            Ask::Denied,
        ];
        assert!(all.iter().map(Ask::question).eq(QUESTIONS), "and is listed");
        for ask in all {
            assert_eq!(Ask::read(&ask.control().expect("a request")), Ok(ask));
        }
    }

    #[test]
    fn what_is_missing_or_new_in_a_body_is_no_error() {
        let control = |question: &str, body: &[u8]| Control {
            question: question.into(),
            body: body.to_vec(),
        };
        let newer = control("policy.explain", br#"{"from": "a/b", "zone": 7}"#);
        let Ok(Ask::Explain(asked)) = Ask::read(&newer) else { panic!("read") };
        assert_eq!((asked.from.as_str(), asked.published), ("a/b", false));
        let none = Ask::Matrix(OfMatrix::default());
        assert_eq!(Ask::read(&control("policy.matrix", b"")), Ok(none));
        for bad in [control("policy.explain", b"{"), control("policy.apply", &[0xff])] {
            assert!(matches!(Ask::read(&bad), Err(AskError::Body { .. })), "{bad:?}");
        }
        assert_eq!(Ask::read(&control("status", b"")), Err(AskError::Unknown("status".into())));
    }
}
