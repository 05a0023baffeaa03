//! The answer: what the plugin is to print, how it is to end, and whether somebody else has a part in
//! it.

use super::fields::{Writer, byte, read, text};
use super::request::frame;
use super::{Header, Kind, Tag, WireError};

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The exit status of the plugin: 0 success, 1 an error.
    pub exit: u8,
    /// One JSON document, or nothing.
    pub stdout: String,
    /// The IPAM plugin that is to be run as well; empty if there is none. Who does not know of
    /// delegation and asked for an ADD finds an error in the other two.
    pub delegate: String,
    /// The daemon is stopping and has not begun with the call: the next daemon can be sent it as it is.
    pub stopping: bool,
}

impl Reply {
    /// The whole frame. An answer too long to be accepted is replaced by its failure: the sender
    /// waits and must hear something.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default()
            .put(Tag::Exit, &[self.exit])
            .put_text(Tag::Stdout, &self.stdout)
            .put_text(Tag::Delegate, &self.delegate);
        if self.stopping {
            body = body.put(Tag::Stopping, &[1]);
        }
        frame(Kind::Reply, 0, &body.finish())
            .unwrap_or_else(|_| Header::new(Kind::Reply, 0, 0).encode().to_vec())
    }

    /// The frame that tells a peer the versions spoken here, for want of a common one.
    pub fn refusal() -> Vec<u8> {
        Header::new(Kind::Refusal, 0, 0).encode().to_vec()
    }

    /// Reads the body that `header` announced.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        match header.kind {
            Kind::Reply => {}
            Kind::Refusal => {
                return Err(WireError::NoCommonVersion(header.oldest, header.newest));
            }
            other => return Err(WireError::UnknownKind(other as u8)),
        }
        let (mut exit, mut stdout, mut delegate) = (None, String::new(), String::new());
        let mut stopping = false;
        read(body, |tag, value| {
            match tag {
                t if t == Tag::Exit as u16 => exit = Some(byte(Tag::Exit, value)?),
                t if t == Tag::Stdout as u16 => stdout = text(Tag::Stdout, value)?,
                t if t == Tag::Delegate as u16 => delegate = text(Tag::Delegate, value)?,
                t if t == Tag::Stopping as u16 => stopping = byte(Tag::Stopping, value)? != 0,
                _ => {}
            }
            Ok(())
        })?;
        let exit = exit.ok_or(WireError::Field(Tag::Exit))?;
        Ok(Self { exit, stdout, delegate, stopping })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{HEADER, MAX_BODY};

    fn decode(bytes: &[u8]) -> Result<Reply, WireError> {
        let (head, body) = bytes.split_first_chunk::<HEADER>().ok_or(WireError::Truncated)?;
        Reply::decode(&Header::decode(head)?, body)
    }

    #[test]
    fn a_reply_survives_the_wire() {
        for stopping in [false, true] {
            let (stdout, delegate) = ("{\"code\":7}".into(), "dhcp".into());
            let reply = Reply { exit: 1, stdout, delegate, stopping };
            assert_eq!(decode(&reply.encode()), Ok(reply));
        }
        assert_eq!(decode(&Reply::default().encode()), Ok(Reply::default()));
    }

    #[test]
    fn a_reply_without_exit_status_is_not_success() {
        let bytes = Header::new(Kind::Reply, 0, 0).encode();
        assert_eq!(decode(&bytes), Err(WireError::Field(Tag::Exit)));
        let long = Reply { stdout: "x".repeat(MAX_BODY as usize), ..Reply::default() };
        assert_eq!(decode(&long.encode()), Err(WireError::Field(Tag::Exit)));
    }

    #[test]
    fn a_refusal_says_which_versions_there_are() {
        assert!(matches!(decode(&Reply::refusal()), Err(WireError::NoCommonVersion(1, 1))));
    }
}
