//! Questions of an operator's tool, answered from the board.

use quantum_config::cni::{CniError, Code};
use quantum_config::wire::{Control, Reply};

use super::{House, refuse};

/// Answers a question with a JSON document.
pub(super) fn serve(house: &House, question: &Control) -> Reply {
    match question.question.as_str() {
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
