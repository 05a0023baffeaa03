//! Questions of an operator's tool, answered from the board.

use quantum_config::ask::Ask;
use quantum_config::cni::{CniError, Code};
use quantum_config::wire::{Control, Reply};

use super::{House, refuse};
use crate::messages::ask;
use crate::messages::policy::Answer;

/// Answers a question with a JSON document.
pub(super) async fn serve(house: &House, question: &Control) -> Reply {
    match question.question.as_str() {
        policy if policy.starts_with("policy.") => match about_policy(house, question).await {
            Ok(stdout) => Reply { stdout, ..Reply::default() },
            Err(error) => refuse(&error, None),
        },
        "status" => match serde_json::to_string(&*house.board.borrow()) {
            Ok(stdout) => Reply { stdout, ..Reply::default() },
            Err(e) => refuse(&CniError::new(Code::Internal, e.to_string()), None),
        },
        other => {
            let error =
                CniError::new(Code::UnsupportedField, format!("question={other:?} is not known"))
                    .with_details("known is \"status\"; quantumctl may be newer than quantum-cnid");
            refuse(&error, None)
        }
    }
}

async fn about_policy(house: &House, question: &Control) -> Result<String, CniError> {
    let asked =
        Ask::read(question).map_err(|e| CniError::new(Code::UnsupportedField, e.to_string()))?;
    ask(&house.answer, Answer(asked)).await?
}
