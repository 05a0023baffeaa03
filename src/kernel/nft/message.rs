//! Requests and answers in netlink's form.

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR,
    Nla,
};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
    SetElementMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use nix::errno::Errno;

use super::NftError;
use super::listing::{LIST_ELEM, element};
use super::sets::{Family, Field, Set, SetElement, TABLE};
use super::transaction::Step;
use crate::kernel::netfilter::{
    Message, NFNETLINK_V0, NetfilterSocket, append, attribute, attributes, messages,
};

// include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NEW_ELEMENTS: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12; // NFT_MSG_NEWSETELEM
const NFT_MSG_DESTROYSETELEM: u8 = 30;
const NFGENMSG: usize = 4;
const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;
pub(super) const VERDICT_CODE: u16 = 1;
pub(super) const VERDICT_CHAIN: u16 = 2;
pub(super) const NFT_GOTO: i32 = -4;

// include/uapi/linux/netlink.h
const NLMSG_HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The length of an error number.
const CODE: usize = 4;

/// What is done with an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Also if it is there already.
    Add,
    /// An error if it is not there.
    Delete,
    /// Also if it is not there. Linux 6.3 and later.
    Destroy,
    /// Is it there?
    Get,
}

/// One transaction: every change in a message of its own, numbered from `number` + 1, so that a refusal
/// names its element; and behind them these steps. Only the last is acknowledged: refusals come without
/// being asked for.
pub(super) fn batch(changes: &[(Verb, &SetElement)], steps: &[Step], number: u32) -> Vec<u8> {
    let control = |message| {
        let header =
            NetfilterHeader::new(NetfilterProtoFamily::Unspec, NFNETLINK_V0, NFNL_SUBSYS_NFTABLES);
        NetfilterMessage::new(header, message)
    };
    let mut bytes = Vec::with_capacity(64 + 96 * changes.len() + 256 * steps.len());
    let end = number + 1 + (changes.len() + steps.len()) as u32;
    append(&mut bytes, control(ControlMessage::BatchBegin), number, 0);
    for (number, (verb, element)) in (number + 1..).zip(changes) {
        let ack = if number + 1 == end { NLM_F_ACK } else { 0 };
        let create = if *verb == Verb::Add { NLM_F_CREATE } else { 0 };
        append(&mut bytes, request(*verb, element), number, ack | create);
    }
    let first = number + 1 + changes.len() as u32;
    for (number, step) in (first..).zip(steps) {
        step.append_to(&mut bytes, number, number + 1 == end);
    }
    append(&mut bytes, control(ControlMessage::BatchEnd), end, 0);
    bytes
}

/// Asks for one element.
pub(super) fn get(element: &SetElement, number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, request(Verb::Get, element), number, NLM_F_ACK);
    bytes
}

/// Asks for all elements of a set.
pub(super) fn dump(set: &Set, name: &str, number: u32) -> Vec<u8> {
    let attributes = vec![SetElementList::Table(TABLE.into()), SetElementList::Set(name.into())];
    let message = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let mut bytes = Vec::new();
    append(&mut bytes, of_table(set.family, message), number, NLM_F_DUMP);
    bytes
}

/// An element of a list: its key and, if it is of a map and that is wanted, its value.
pub(super) fn one(element: &SetElement, with_value: bool) -> ListAttribute<SetElementAttribute> {
    let mut parts = vec![SetElementAttribute::Key(DataAttribute::Value(element.key.clone()))];
    if with_value && !element.value.is_empty() {
        parts.push(SetElementAttribute::Data(match element.set.value {
            [Field::Goto] => DataAttribute::Verdict(vec![
                VerdictAttribute::Code(Verdict::Goto),
                VerdictAttribute::Chain(String::from_utf8_lossy(&element.value).into_owned()),
            ]),
            _ => DataAttribute::Value(element.value.clone()),
        }));
    }
    ListAttribute::Element(parts)
}

/// What a message about elements of a set of ours consists of.
pub(super) fn of_set(
    name: &str,
    elements: Vec<ListAttribute<SetElementAttribute>>,
) -> Vec<SetElementList> {
    vec![
        SetElementList::Table(TABLE.into()),
        SetElementList::Set(name.into()),
        SetElementList::Elements(elements),
    ]
}

fn request(verb: Verb, element: &SetElement) -> NetfilterMessage {
    // To ask for an element or to remove it takes its key alone.
    let attributes = of_set(element.set_name(), vec![one(element, verb == Verb::Add)]);
    of_table(
        element.set.family,
        match verb {
            Verb::Add => NfTablesMessage::NewSetElement(SetElementMessage { attributes }),
            Verb::Delete => NfTablesMessage::DeleteSetElement(SetElementMessage { attributes }),
            Verb::Get => NfTablesMessage::GetSetElement(SetElementMessage { attributes }),
            // The crate does not know it yet.
            Verb::Destroy => NfTablesMessage::Other {
                message_type: NFT_MSG_DESTROYSETELEM,
                attributes: attributes.iter().map(untyped).collect(),
            },
        },
    )
}

fn untyped(attribute: &SetElementList) -> DefaultNla {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    DefaultNla::new(attribute.kind(), value)
}

fn of_table(family: Family, message: NfTablesMessage) -> NetfilterMessage {
    let family = match family {
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Bridge => NetfilterProtoFamily::Bridge,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, NFNETLINK_V0, 0), message)
}

/// What the kernel answered to one request, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The elements that were asked for: keys and, in a map, values.
    pub(super) elements: Vec<(Vec<u8>, Vec<u8>)>,
    /// The set changed while it was being listed.
    pub(super) torn: bool,
    /// The number of the last message that was carried out.
    pub(super) done: Option<u32>,
    /// The first refusal. It counts even beside successes: those elements were fine, and the
    /// transaction as a whole was not.
    pub(super) refused: Option<Refused>,
}

/// Asks and makes of the answer an error or a success. `last` is the number that is acknowledged, `doing`
/// names what the message of a number does.
pub(super) fn ask(
    socket: &mut NetfilterSocket,
    request: &[u8],
    last: u32,
    doing: &dyn Fn(u32) -> String,
) -> Result<Answer, NftError> {
    let mut answer = Answer::default();
    socket.ask(request, |datagram| {
        let read = answer.read(datagram);
        read.map_err(|source| NftError::Decode { doing: doing(last), source })
    })?;
    match answer.refused {
        Some(Refused { number, errno, explanation }) => {
            Err(NftError::Kernel { doing: doing(number), errno, explanation })
        }
        None if answer.done == Some(last) => Ok(answer),
        None => Err(NftError::NoAnswer { doing: doing(last) }),
    }
}

/// A message that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) number: u32,
    pub(super) errno: Errno,
    pub(super) explanation: Option<String>,
}

impl Answer {
    /// Reads one more datagram of the answer. What is neither an element nor the end of a request is passed
    /// over: the crate would read it, and of some rules it panics.
    pub(super) fn read(&mut self, mut datagram: &[u8]) -> Result<(), DecodeError> {
        while !datagram.is_empty() {
            let Some(message) = messages(datagram).next() else {
                return Err("a message that is cut off".into());
            };
            self.torn |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NEW_ELEMENTS => self.elements.extend(elements(message.body)),
                // An error repeats the header of its request before it explains.
                NLMSG_ERROR => self.take(&message, CODE + NLMSG_HEADER)?,
                NLMSG_DONE => self.take(&message, CODE)?,
                _ => {}
            }
            let length = (NLMSG_HEADER + message.body.len()).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    fn take(&mut self, message: &Message<'_>, explained: usize) -> Result<(), DecodeError> {
        let (number, body) = (message.number, message.body);
        let Some(code) = body.first_chunk::<CODE>().map(|code| i32::from_ne_bytes(*code)) else {
            return Err("an end without its error number".into());
        };
        if code == 0 {
            self.done = Some(number);
        } else {
            let extended = body.get(explained..).filter(|_| message.flags & NLM_F_ACK_TLVS != 0);
            let explanation = extended.and_then(explanation);
            let errno = Errno::from_raw(code.saturating_neg());
            self.refused.get_or_insert(Refused { number, errno, explanation });
        }
        Ok(())
    }
}

/// The elements in a message: keys and, in a map, values.
fn elements(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let list = body.get(NFGENMSG..).and_then(|body| attribute(body, element::LIST));
    let all = attributes(list.unwrap_or_default()).filter(|(kind, _)| *kind == LIST_ELEM);
    all.filter_map(|(_, one)| {
        let key = attribute(one, element::KEY).and_then(|key| attribute(key, DATA_VALUE))?;
        let data = attribute(one, element::DATA).unwrap_or_default();
        let value = match (attribute(data, DATA_VALUE), attribute(data, DATA_VERDICT)) {
            (Some(value), _) => value,
            (None, Some(verdict)) => chain(verdict),
            (None, None) => &[],
        };
        Some((key.to_vec(), value.to_vec()))
    })
}

/// The name of the chain that a verdict goes on with; empty, which no chain is called, if it does not.
pub(super) fn chain(verdict: &[u8]) -> &[u8] {
    let code = attribute(verdict, VERDICT_CODE).and_then(|code| code.first_chunk::<4>());
    if code.is_none_or(|code| i32::from_be_bytes(*code) != NFT_GOTO) {
        return &[];
    }
    let name = attribute(verdict, VERDICT_CHAIN).unwrap_or_default();
    name.strip_suffix(&[0]).unwrap_or(name)
}

fn explanation(extended: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(attribute(extended, NLMSGERR_ATTR_MSG)?);
    Some(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netfilter::written;

    /// An `NLMSG_ERROR` as the kernel sends it with `NETLINK_CAP_ACK`.
    fn error(number: u32, code: i32, attributes: &[u8]) -> Vec<u8> {
        let flags = if attributes.is_empty() { 0 } else { NLM_F_ACK_TLVS };
        let length = (NLMSG_HEADER + 4 + NLMSG_HEADER + attributes.len()) as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(2u16.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; NLMSG_HEADER]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn the_first_refusal_counts_and_is_explained() {
        let mut attributes = 9u16.to_ne_bytes().to_vec();
        attributes.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        attributes.extend(b"why?\0\0\0\0");
        let mut datagram = error(3, -(Errno::EPERM as i32), &attributes);
        datagram.extend(error(4, -(Errno::ENOENT as i32), &[]));
        datagram.extend(error(5, 0, &[]));
        let mut answer = Answer::default();
        answer.read(&datagram).expect("an answer");
        let refused = answer.refused.expect("a refusal");
        assert_eq!((refused.number, refused.errno), (3, Errno::EPERM));
        assert_eq!(refused.explanation.as_deref(), Some("why?"));
        assert_eq!(answer.done, Some(5));
    }

    #[test]
    fn a_rule_is_passed_over_whatever_is_in_it() {
        // An expression that compares with a value which is said to be longer than it is.
        let data = written(2, &written(3, &[0x14, 1, 0, 0]));
        let expression = written(LIST_ELEM, &[written(1, b"cmp\0"), data].concat());
        let body = [vec![1, 0, 0, 0], written(4, &expression)].concat();
        let mut rule = ((NLMSG_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        rule.extend((NFNL_SUBSYS_NFTABLES << 8 | 6).to_ne_bytes());
        rule.extend([0; 10]);
        rule.extend(body);
        let mut answer = Answer::default();
        answer.read(&[rule, error(7, i32::MIN, &[])].concat()).expect("an answer");
        assert_eq!(answer.refused.map(|refused| refused.number), Some(7));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(Answer::default().read(&[1, 2, 3]).is_err());
        assert!(Answer::default().read(&error(1, 0, &[])[..20]).is_err());
        // The end of a request without its error number.
        let mut short = error(1, 0, &[])[..16].to_vec();
        short[..4].copy_from_slice(&16_u32.to_ne_bytes());
        assert!(Answer::default().read(&short).is_err());
    }
}
