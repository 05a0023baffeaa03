//! Questions of an operator's tool. How the daemon is, is answered from the board; what is about policy, by
//! Policy. Who has changed policy, and who was refused, is logged.

use quantum_cni::access::{self, Asked, Right};
use quantum_cni::kernel::peer::Credentials;
use quantum_config::ask::{Applied, Ask, AskError, QUESTIONS};
use quantum_config::cni::{CniError, Code};
use quantum_config::wire::{Control, Reply};
use slog::{Logger, info, o, warn};

use super::{House, forbid, refuse};
use crate::messages::ask;
use crate::messages::policy::Answer;

/// The one question that is not about policy.
const STATUS: &str = "status";

/// The most documents of a change that are named in its record.
const NAMED: usize = 20;

/// What is asked.
enum Question {
    Status,
    Policy(Ask),
    Unknown(CniError),
}

/// Answers a question with a JSON document.
pub(super) async fn serve(house: &House, peer: &Credentials, control: &Control) -> Reply {
    match answer(house, peer, read(control)).await {
        Ok(stdout) => Reply { stdout, ..Reply::default() },
        Err(error) => refuse(&error, None),
    }
}

fn read(control: &Control) -> Question {
    if control.question == STATUS {
        return Question::Status;
    }
    match Ask::read(control) {
        Ok(ask) => Question::Policy(ask),
        Err(error) => {
            let unknown = CniError::new(Code::UnsupportedField, error.to_string());
            Question::Unknown(match error {
                AskError::Unknown(_) => {
                    unknown.with_details(format!("known are {STATUS}, {}", QUESTIONS.join(", ")))
                }
                AskError::Body { .. } => unknown,
            })
        }
    }
}

async fn answer(house: &House, peer: &Credentials, question: Question) -> Result<String, CniError> {
    let asked = match &question {
        Question::Status => Asked::Status,
        Question::Policy(ask) => Asked::Policy(ask),
        Question::Unknown(_) => Asked::Unknown,
    };
    let changes = asked.needs() == Right::Change;
    access::decide(peer, house.reader_group, asked)
        .inspect_err(|forbidden| forbid(house, forbidden))?;
    match question {
        Question::Status => serde_json::to_string(&*house.board.borrow())
            .map_err(|e| CniError::new(Code::Internal, e.to_string())),
        Question::Policy(asked) if changes => {
            let log = logger(house, peer, &asked);
            let answered = ask(&house.answer, Answer(asked)).await?;
            report(&log, &answered);
            answered
        }
        Question::Policy(asked) => ask(&house.answer, Answer(asked)).await?,
        Question::Unknown(error) => Err(error),
    }
}

/// Who changes what, on every record of the change.
fn logger(house: &House, peer: &Credentials, asked: &Ask) -> Logger {
    let subject = match asked {
        Ask::Delete(asked) => {
            let namespace = asked.namespace.as_deref().unwrap_or("default");
            format!("{} {namespace}/{}", asked.kind, asked.name)
        }
        Ask::Label(asked) => {
            let set = asked.set.iter().map(|(key, value)| format!(" {key}={value}"));
            let removed = asked.remove.iter().map(|key| format!(" {key}-"));
            asked.endpoint.clone() + &set.chain(removed).collect::<String>()
        }
        // What it changes, the answer says.
        _ => String::new(),
    };
    house.log.new(o!(
        "request" => asked.question(), "of" => subject, "uid" => peer.uid, "pid" => peer.pid,
    ))
}

fn report(log: &Logger, answered: &Result<String, CniError>) {
    let answer = match answered {
        Ok(answer) => answer,
        Err(error) => return warn!(log, "policy has not been changed"; "error" => %error),
    };
    let applied: Applied = serde_json::from_str(answer).unwrap_or_default();
    let documents = applied.documents.iter().take(NAMED).map(|d| d.document.as_str());
    let documents = documents.collect::<Vec<_>>().join(", ");
    let left_out = applied.documents.len().saturating_sub(NAMED);
    info!(log, "changed policy"; "documents" => documents, "documents_left_out" => left_out);
}
