//! `quantumctl policy …`: what the daemon is asked, and how it ends. Files are read here: the daemon
//! opens none that somebody names to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::ExitCode;

use quantum_cni::policy::{read_traffic, write_traffic};
use quantum_config::ask::{
    Applied, Ask, Delete, Denied, Explain, Explanation, Label, Labelled, Matrix, OfMatrix, Shown,
    Simulation,
};
use quantum_config::wire::Control;
use structopt::StructOpt;

use crate::ask::{AskError, ask_policy};
use crate::{render, table};

const ENDS: &str = "FROM and TO are namespace/name, network/container/ifname, an address (of an endpoint \
    or of anybody else), host, or host@ADDRESS. PORT is 80 or 80/tcp, 53/udp, 7/sctp, icmp, \
    icmp:8 for a type, icmpv6, or proto:47 for another protocol by its number.\n\nExits with 0 \
    if the connection is allowed, 1 if it is denied, 2 if that is not known.";

#[derive(Debug, StructOpt)]
pub(crate) enum Command {
    /// Takes in the documents of a file, all of them or none
    Apply {
        /// YAML or JSON; - is standard input
        file: String,
    },
    /// Takes out a document that came by apply
    Delete {
        /// Namespace, NetworkPolicy, ClusterNetworkPolicy, NodePolicy
        kind: String,
        /// [NAMESPACE/]NAME
        name: String,
    },
    /// Changes labels of an endpoint: key=value sets one, key- takes it back
    Label {
        /// namespace/name, network/container/ifname, or an address
        endpoint: String,
        /// key=value or key-
        #[structopt(required = true)]
        labels: Vec<String>,
    },
    /// Why a connection is allowed or denied
    #[structopt(after_help = ENDS)]
    Explain {
        /// Who begins it
        from: String,
        /// Whom it is for
        to: String,
        /// What is spoken
        port: String,
        /// It is sent to a port that the host publishes, which leads to TO
        #[structopt(long)]
        published: bool,
        /// The answer as JSON
        #[structopt(long)]
        json: bool,
    },
    /// What would change if the documents of a file were applied
    Simulate {
        /// YAML or JSON; - is standard input
        file: String,
        /// The answer as JSON
        #[structopt(long)]
        json: bool,
    },
    /// Networks, policies and endpoints, as they are in force
    Show {
        /// The answer as JSON
        #[structopt(long)]
        json: bool,
    },
    /// Who may speak to whom
    Matrix {
        /// What is spoken, as explain has it
        #[structopt(default_value = "80/tcp")]
        port: String,
        /// The answer as JSON
        #[structopt(long)]
        json: bool,
    },
    /// What was denied of late, and by which rule
    Denied {
        /// The answer as JSON
        #[structopt(long)]
        json: bool,
    },
}

/// The text to print and how to end.
pub(crate) fn run(command: &Command) -> Result<(String, ExitCode), AskError> {
    let asked = question(command)?;
    match command {
        Command::Apply { .. } | Command::Delete { .. } => {
            let (_, answer) = ask_policy::<Applied>(&asked)?;
            Ok((render::applied(&answer), ExitCode::SUCCESS))
        }
        Command::Label { .. } => {
            let (_, answer) = ask_policy::<Labelled>(&asked)?;
            Ok((render::labelled(&answer), ExitCode::SUCCESS))
        }
        Command::Explain { json, .. } => {
            let (text, answer) = ask_policy::<Explanation>(&asked)?;
            let code = if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            Ok((if *json { text } else { render::explanation(&answer) }, code))
        }
        Command::Simulate { json, .. } => {
            let (text, answer) = ask_policy::<Simulation>(&asked)?;
            Ok((if *json { text } else { render::simulation(&answer) }, ExitCode::SUCCESS))
        }
        Command::Show { json } => {
            let (text, answer) = ask_policy::<Shown>(&asked)?;
            Ok((if *json { text } else { table::shown(&answer) }, ExitCode::SUCCESS))
        }
        Command::Matrix { json, .. } => {
            let (text, answer) = ask_policy::<Matrix>(&asked)?;
            Ok((if *json { text } else { table::matrix(&answer) }, ExitCode::SUCCESS))
        }
        Command::Denied { json } => {
            let (text, answer) = ask_policy::<Denied>(&asked)?;
            Ok((if *json { text } else { table::denied(&answer) }, ExitCode::SUCCESS))
        }
    }
}

fn question(command: &Command) -> Result<Ask, AskError> {
    let traffic = |port: &str| {
        read_traffic(port).map(write_traffic).map_err(|error| AskError::Question(error.to_string()))
    };
    Ok(match command {
        Command::Apply { file } => documents(file, Ask::Apply)?,
        Command::Simulate { file, .. } => documents(file, Ask::Simulate)?,
        Command::Delete { kind, name } => {
            let (namespace, name) = match name.split_once('/') {
                Some((namespace, name)) => (Some(namespace.to_owned()), name),
                None => (None, name.as_str()),
            };
            Ask::Delete(Delete { kind: kind.clone(), namespace, name: name.to_owned() })
        }
        Command::Label { endpoint, labels } => Ask::Label(label(endpoint, labels)?),
        Command::Explain { from, to, port, published, .. } => Ask::Explain(Explain {
            from: from.clone(),
            to: to.clone(),
            traffic: traffic(port)?,
            published: *published,
        }),
        Command::Matrix { port, .. } => Ask::Matrix(OfMatrix { traffic: traffic(port)? }),
        Command::Show { .. } => Ask::Show,
        Command::Denied { .. } => Ask::Denied,
    })
}

/// A question that is documents, if they go into one.
fn documents(file: &str, ask: fn(String) -> Ask) -> Result<Ask, AskError> {
    let text = read(file)?;
    let length = text.len();
    let asked = ask(text);
    let room = Control::room(asked.question());
    if length <= room {
        return Ok(asked);
    }
    let called = if file == "-" { "standard input" } else { file };
    let instead = match asked {
        Ask::Simulate(_) => "simulate fewer documents at a time",
        _ => {
            "apply its documents in several parts, or put them into policy_dir, where each file may \
             have 2 MiB"
        }
    };
    let why = format!(
        "{called} has {length} bytes, and quantumctl can give the daemon at most {room} at once: {instead}"
    );
    Err(AskError::Question(why))
}

fn read(file: &str) -> Result<String, AskError> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut opened| opened.read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(AskError::Question(format!("cannot read {file}: {error}"))),
    }
}

fn label(endpoint: &str, words: &[String]) -> Result<Label, AskError> {
    let (mut set, mut remove) = (BTreeMap::new(), BTreeSet::new());
    for word in words {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => {
                set.insert(key.to_owned(), value.to_owned());
            }
            (None, Some(key)) if !key.is_empty() => {
                remove.insert(key.to_owned());
            }
            _ => {
                let why = format!(
                    "{word:?} is neither key=value, which sets a label, nor key-, which takes it back"
                );
                return Err(AskError::Question(why));
            }
        }
    }
    if let Some(key) = remove.iter().find(|key| set.contains_key(*key)) {
        return Err(AskError::Question(format!("{key:?} is both set and taken back")));
    }
    Ok(Label { endpoint: endpoint.to_owned(), set, remove })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Ask, String> {
        let words = std::iter::once("policy").chain(line.split_whitespace());
        let command = Command::from_iter_safe(words).map_err(|error| error.message)?;
        question(&command).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_a_question() {
        let explain = |traffic: &str, published| {
            let (from, to) = ("default/web".to_owned(), "n/c/eth0".to_owned());
            Ask::Explain(Explain { from, to, traffic: traffic.into(), published })
        };
        let delete = |kind: &str, namespace: Option<&str>, name: &str| {
            let namespace = namespace.map(str::to_owned);
            Ask::Delete(Delete { kind: kind.into(), namespace, name: name.into() })
        };
        for (line, expected) in [
            ("explain default/web n/c/eth0 80", explain("tcp/80", false)),
            ("explain --published default/web n/c/eth0 53/UDP", explain("udp/53", true)),
            ("explain default/web n/c/eth0 icmp:8 --json", explain("icmp:8", false)),
            ("delete NetworkPolicy x/db", delete("NetworkPolicy", Some("x"), "db")),
            ("delete Namespace x", delete("Namespace", None, "x")),
            ("matrix", Ask::Matrix(OfMatrix { traffic: "tcp/80".into() })),
            ("matrix icmp", Ask::Matrix(OfMatrix { traffic: "icmp".into() })),
            ("show", Ask::Show),
            ("denied --json", Ask::Denied),
            (
                "label default/web app=db tier= old-",
                Ask::Label(Label {
                    endpoint: "default/web".into(),
                    set: [("app".into(), "db".into()), ("tier".into(), String::new())].into(),
                    remove: ["old".into()].into(),
                }),
            ),
        ] {
            assert_eq!(asked(line), Ok(expected), "{line}");
        }
        for bad in [
            "explain a/b c/d 80/gre",
            "explain a/b c/d",
            "label a/b",
            "label a/b key",
            "label a/b =v",
            "label a/b k=v k-",
            "apply /nonexistent/file",
            "nonsense",
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }
}
