//! Requests: a CNI call, or an operator's question.

use super::fields::{Writer, byte, number, read, text};
use super::{Header, Kind, MAX_BODY, Tag, WireError};
use crate::cni::Environment;

/// What a descriptor is that travels with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Descriptor {
    /// The network namespace the plugin itself runs in: the host, as the runtime sees it.
    Host = 1,
    /// The container's network namespace.
    Container = 2,
}

/// A CNI call as the plugin received it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Names this request in the logs.
    pub request_id: String,
    /// Milliseconds the plugin will wait for the answer.
    pub deadline_ms: u64,
    /// The CNI variables.
    pub env: Environment,
    /// Standard input, as it came.
    pub stdin: Vec<u8>,
    /// `TRACEPARENT`, or empty.
    pub traceparent: String,
    /// What the descriptors are, in their order.
    pub descriptors: Vec<Descriptor>,
    /// Tombstones only: when and in which boot it was written.
    pub written: Option<(u64, String)>,
    /// The reference plugin by whose name the plugin was called; empty if by its own.
    pub called_as: String,
    /// ADD with delegated addresses: what the IPAM plugin printed. Absent until it was run, which is
    /// not the same as that it printed nothing.
    pub ipam_result: Option<Vec<u8>>,
}

/// An operator's question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// What is asked: `status`.
    pub question: String,
    /// What it is about, if the question needs more than its name.
    pub body: Vec<u8>,
}

/// Either kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// From the plugin.
    Call(Box<Call>),
    /// From an operator's tool.
    Control(Control),
}

impl Call {
    /// The whole frame. Fails if the body were too long to be accepted.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let roles: Vec<u8> = self.descriptors.iter().map(|d| *d as u8).collect();
        let mut body = Writer::default()
            .put_text(Tag::RequestId, &self.request_id)
            .put(Tag::DeadlineMs, &self.deadline_ms.to_le_bytes())
            .put_text(Tag::Command, &self.env.command)
            .put_text(Tag::Container, &self.env.container)
            .put_text(Tag::Ifname, &self.env.ifname)
            .put_text(Tag::Netns, &self.env.netns)
            .put_text(Tag::Args, &self.env.args)
            .put_text(Tag::Path, &self.env.path)
            .put_text(Tag::Traceparent, &self.traceparent)
            .put_text(Tag::CalledAs, &self.called_as)
            .put(Tag::NetnsOverride, &[u8::from(self.env.netns_override)])
            .put(Tag::Descriptors, &roles)
            .put(Tag::Stdin, &self.stdin);
        if let Some((at, boot)) = &self.written {
            body = body.put(Tag::WrittenMs, &at.to_le_bytes()).put_text(Tag::BootId, boot);
        }
        if let Some(printed) = &self.ipam_result {
            body = body.put(Tag::IpamResult, printed);
        }
        frame(Kind::Call, self.descriptors.len(), &body.finish())
    }
}

impl Control {
    /// How long a body may be that goes with this question.
    pub fn room(question: &str) -> usize {
        let control = Self { question: question.to_owned(), body: Vec::new() };
        let besides = control.fields().put(Tag::Body, &[]).finish().len();
        (MAX_BODY as usize).saturating_sub(besides)
    }

    fn fields(&self) -> Writer {
        Writer::default().put_text(Tag::Question, &self.question)
    }

    /// The whole frame. Fails if the body were too long to be accepted.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut fields = self.fields();
        if !self.body.is_empty() {
            fields = fields.put(Tag::Body, &self.body);
        }
        frame(Kind::Control, 0, &fields.finish())
    }
}

impl Request {
    /// Reads the body that `header` announced.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        match header.kind {
            Kind::Call => call(header, body).map(|c| Self::Call(Box::new(c))),
            Kind::Control => {
                let mut control = Control::default();
                read(body, |tag, value| {
                    match tag {
                        t if t == Tag::Question as u16 => {
                            control.question = text(Tag::Question, value)?;
                        }
                        t if t == Tag::Body as u16 => control.body = value.to_vec(),
                        _ => {}
                    }
                    Ok(())
                })?;
                Ok(Self::Control(control))
            }
            other => Err(WireError::UnknownKind(other as u8)),
        }
    }
}

fn call(header: &Header, body: &[u8]) -> Result<Call, WireError> {
    let mut call = Call::default();
    let (mut written, mut boot) = (None, String::new());
    let env = &mut call.env;
    read(body, |tag, value| {
        match tag {
            t if t == Tag::RequestId as u16 => call.request_id = text(Tag::RequestId, value)?,
            t if t == Tag::DeadlineMs as u16 => call.deadline_ms = number(Tag::DeadlineMs, value)?,
            t if t == Tag::Command as u16 => env.command = text(Tag::Command, value)?,
            t if t == Tag::Container as u16 => env.container = text(Tag::Container, value)?,
            t if t == Tag::Ifname as u16 => env.ifname = text(Tag::Ifname, value)?,
            t if t == Tag::Netns as u16 => env.netns = text(Tag::Netns, value)?,
            t if t == Tag::Args as u16 => env.args = text(Tag::Args, value)?,
            t if t == Tag::Path as u16 => env.path = text(Tag::Path, value)?,
            t if t == Tag::Traceparent as u16 => call.traceparent = text(Tag::Traceparent, value)?,
            t if t == Tag::NetnsOverride as u16 => {
                env.netns_override = byte(Tag::NetnsOverride, value)? != 0;
            }
            t if t == Tag::Stdin as u16 => call.stdin = value.to_vec(),
            t if t == Tag::Descriptors as u16 => call.descriptors = roles(value)?,
            t if t == Tag::WrittenMs as u16 => written = Some(number(Tag::WrittenMs, value)?),
            t if t == Tag::IpamResult as u16 => call.ipam_result = Some(value.to_vec()),
            t if t == Tag::CalledAs as u16 => call.called_as = text(Tag::CalledAs, value)?,
            t if t == Tag::BootId as u16 => boot = text(Tag::BootId, value)?,
            _ => {} // of a newer peer
        }
        Ok(())
    })?;
    call.written = written.map(|at| (at, boot));
    if call.descriptors.len() != usize::from(header.descriptors) {
        return Err(WireError::Descriptors(header.descriptors));
    }
    Ok(call)
}

fn roles(value: &[u8]) -> Result<Vec<Descriptor>, WireError> {
    value
        .iter()
        .map(|role| {
            [Descriptor::Host, Descriptor::Container]
                .into_iter()
                .find(|d| *d as u8 == *role)
                .ok_or(WireError::Field(Tag::Descriptors))
        })
        .collect()
}

pub(super) fn frame(kind: Kind, descriptors: usize, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let descriptors = u8::try_from(descriptors).map_err(|_| WireError::Descriptors(u8::MAX))?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if length > MAX_BODY {
        return Err(WireError::Oversized(length));
    }
    let mut bytes = Header::new(kind, descriptors, length).encode().to_vec();
    bytes.extend_from_slice(body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::HEADER;

    fn decode(bytes: &[u8]) -> Result<Request, WireError> {
        let (head, body) = bytes.split_first_chunk::<HEADER>().ok_or(WireError::Truncated)?;
        Request::decode(&Header::decode(head)?, body)
    }

    fn sample() -> Call {
        Call {
            request_id: "r1".into(),
            deadline_ms: 60_000,
            env: Environment {
                command: "ADD".into(),
                container: "c".into(),
                netns: "/ns".into(),
                ifname: "eth0".into(),
                args: "A=1".into(),
                path: "/bin".into(),
                netns_override: true,
            },
            stdin: b"{}".to_vec(),
            traceparent: "00-x".into(),
            descriptors: vec![Descriptor::Host, Descriptor::Container],
            written: Some((7, "boot".into())),
            ipam_result: Some(Vec::new()),
            called_as: "portmap".into(),
        }
    }

    #[test]
    fn a_call_survives_the_wire() {
        let bytes = sample().encode().expect("encoded");
        assert_eq!(decode(&bytes), Ok(Request::Call(Box::new(sample()))));
    }

    #[test]
    fn a_question_survives_the_wire() {
        let status = Control { question: "status".into(), ..Control::default() };
        let apply = Control { question: "policy.apply".into(), body: b"kind: x\xff".to_vec() };
        for control in [status, apply] {
            assert_eq!(decode(&control.encode().expect("encoded")), Ok(Request::Control(control)));
        }
        let long = Control { question: String::new(), body: vec![b' '; MAX_BODY as usize] };
        assert!(matches!(long.encode(), Err(WireError::Oversized(_))));
    }

    #[test]
    fn a_body_that_fills_its_room_is_sent_and_a_longer_one_is_not() {
        let question = "policy.apply".to_owned();
        let body = vec![b' '; Control::room(&question)];
        let mut control = Control { question, body };
        assert!(control.encode().is_ok());
        control.body.push(b' ');
        assert_eq!(control.encode(), Err(WireError::Oversized(MAX_BODY + 1)));
    }

    #[test]
    fn a_question_without_a_body_is_what_it_was_before_there_were_any() {
        let control = Control { question: "status".into(), ..Control::default() };
        let old = [&[64, 0, 6, 0, 0, 0][..], b"status"].concat();
        assert_eq!(control.encode().expect("encoded")[HEADER..], old);
    }

    #[test]
    fn unknown_fields_of_a_newer_peer_are_let_pass() {
        let mut bytes = sample().encode().expect("encoded");
        bytes.extend_from_slice(&[0xfe, 0xff, 3, 0, 0, 0, 1, 2, 3]);
        assert_eq!(decode(&bytes), Ok(Request::Call(Box::new(sample()))));
    }

    #[test]
    fn every_way_to_cut_a_call_off_is_noticed_or_harmless() {
        let bytes = sample().encode().expect("encoded");
        for end in 0..HEADER {
            assert_eq!(decode(&bytes[..end]), Err(WireError::Truncated));
        }
        for end in HEADER..bytes.len() {
            // Cut between two fields the rest is well formed; the length in the header tells.
            if let Ok(Request::Call(call)) = decode(&bytes[..end]) {
                assert_ne!(*call, sample(), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_body_that_is_too_long_is_not_sent() {
        let call = Call { stdin: vec![b' '; MAX_BODY as usize], ..sample() };
        assert!(matches!(call.encode(), Err(WireError::Oversized(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let mut framed = Header::new(Kind::Call, 0, 0).encode().to_vec();
            framed.extend_from_slice(&bytes);
            let _ = decode(&framed);
        }
    }
}
