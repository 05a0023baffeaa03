//! Many requests in one datagram, one answer each.
//!
//! The kernel works through a datagram in order and acknowledges every message by its sequence
//! number. A batch is **not** a transaction: what follows a failed message is carried out all the
//! same. So the result is one outcome for each step, and never put two messages into one batch
//! where the second would do harm if the first had failed.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;

use super::{Step, StepError};

/// Requests that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    steps: Vec<(Step, String)>,
    messages: Vec<NetlinkMessage<RouteNetlinkMessage>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request: which step it is, on which object, the flags beyond `NLM_F_REQUEST` and
    /// `NLM_F_ACK`, and the message.
    pub fn push(
        &mut self,
        step: Step,
        object: impl Into<String>,
        flags: u16,
        message: RouteNetlinkMessage,
    ) {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.messages.push(message);
        self.steps.push((step, object.into()));
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The datagram. The messages are numbered from `first`.
    pub(super) fn encode(&mut self, first: u32) -> Vec<u8> {
        let mut datagram = Vec::new();
        for (message, sequence) in self.messages.iter_mut().zip(first..) {
            message.header.sequence_number = sequence;
            message.finalize();
            let start = datagram.len();
            // NLMSG_ALIGN: each message begins at a multiple of four.
            datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut datagram[start..]);
        }
        datagram
    }

    pub(super) fn answers(self) -> Answers {
        let count = self.steps.len();
        Answers { steps: self.steps, outcomes: vec![None; count], missing: count }
    }
}

/// The outcomes of a batch while its answers come in.
#[derive(Debug)]
pub(super) struct Answers {
    steps: Vec<(Step, String)>,
    outcomes: Vec<Option<Result<(), StepError>>>,
    missing: usize,
}

impl Answers {
    /// Every step has its outcome.
    pub(super) fn complete(&self) -> bool {
        self.missing == 0
    }

    /// Notes what the kernel answered to the `position`-th message: 0 or an error number.
    pub(super) fn note(&mut self, position: usize, errno: i32, detail: String) {
        let (Some(slot), Some((step, object))) =
            (self.outcomes.get_mut(position), self.steps.get(position))
        else {
            return; // an answer to something that was asked before this batch
        };
        if slot.is_none() {
            self.missing -= 1;
            *slot = Some(match errno {
                0 => Ok(()),
                errno => Err(StepError::new(*step, object.as_str(), errno, detail)),
            });
        }
    }

    /// The outcomes in the order of the steps; a step without an answer failed with `errno`.
    pub(super) fn close(mut self, errno: i32, detail: &str) -> Vec<Result<(), StepError>> {
        for position in 0..self.steps.len() {
            self.note(position, errno, detail.to_owned());
        }
        self.outcomes.into_iter().flatten().collect()
    }
}

/// The first failure of a batch, if any.
pub(super) fn first_error(outcomes: Vec<Result<(), StepError>>) -> Result<(), StepError> {
    outcomes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::*;

    fn batch_of(count: usize) -> Batch {
        let mut batch = Batch::new();
        for i in 0..count {
            let message = RouteNetlinkMessage::GetLink(Default::default());
            batch.push(Step::FindLink, i.to_string(), 0, message);
        }
        batch
    }

    #[test]
    fn answers_find_their_step_in_any_order() {
        let mut answers = batch_of(3).answers();
        answers.note(2, 0, String::new());
        answers.note(0, libc::EEXIST, "taken".into());
        answers.note(7, libc::EPERM, "of another batch".into());
        assert!(!answers.complete());
        let outcomes = answers.close(libc::ETIMEDOUT, "no answer");
        let expected =
            |object, errno, detail| Err(StepError::new(Step::FindLink, object, errno, detail));
        assert_eq!(
            outcomes,
            [
                expected("0", libc::EEXIST, "taken"),
                expected("1", libc::ETIMEDOUT, "no answer"),
                Ok(())
            ]
        );
    }

    #[test]
    fn an_answer_counts_once() {
        let mut answers = batch_of(2).answers();
        answers.note(0, 0, String::new());
        answers.note(0, libc::EPERM, String::new());
        assert!(!answers.complete());
        answers.note(1, 0, String::new());
        assert!(answers.complete());
        assert_eq!(answers.close(libc::EIO, ""), [Ok(()), Ok(())]);
    }

    #[test]
    fn messages_are_numbered_and_aligned() {
        let datagram = batch_of(2).encode(41);
        let second = datagram.len() / 2;
        assert_eq!(second % 4, 0);
        assert_eq!(datagram[8..12], 41u32.to_ne_bytes());
        assert_eq!(datagram[second + 8..second + 12], 42u32.to_ne_bytes());
    }
}
