//! Listing chains, rules and sets of any table, also of others. What is read is their attributes as the
//! kernel has them: nobody's rules are unknown to us then, and none make us fail.

use nix::errno::Errno;

use super::NftError;
use crate::kernel::netfilter::{
    Message, NLMSG_HEADER, NetfilterSocket, attribute, attributes, messages, written,
};

// include/uapi/linux/netfilter/nf_tables.h
pub(super) const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENTS: u16 = 13;
/// The table, in the messages of chains, rules, sets and elements.
pub(super) const TABLE: u16 = 1;
/// The set, in those of elements.
const SET: u16 = 2;
// include/uapi/linux/netlink.h
pub(super) const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
const DUMP_INTR: u16 = 0x10;

/// How often a listing is repeated that somebody's change has torn.
const TRIES: usize = 8;

/// Families as the kernel numbers them.
pub(super) mod family {
    pub(in super::super) const ANY: u8 = 0;
    pub(in super::super) const INET: u8 = 1;
    pub(in super::super) const IPV4: u8 = 2;
    pub(in super::super) const BRIDGE: u8 = 7;
    pub(in super::super) const IPV6: u8 = 10;
}

/// Attributes of a table.
pub(super) mod table {
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const FLAGS: u16 = 2;
}

/// Attributes of a chain.
pub(super) mod chain {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 3;
    pub(in super::super) const HOOK: u16 = 4;
    pub(in super::super) const POLICY: u16 = 5;
    pub(in super::super) const TYPE: u16 = 7;
    pub(in super::super) const FLAGS: u16 = 10;
}

/// Attributes of a set.
pub(super) mod set {
    pub(in super::super) const NAME: u16 = 2;
}

/// Attributes of a rule.
pub(super) mod rule {
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const EXPRESSIONS: u16 = 4;
}

/// Attributes of a list of elements, and of an element.
pub(super) mod element {
    pub(in super::super) const LIST: u16 = 3;
    pub(in super::super) const KEY: u16 = 1;
    pub(in super::super) const DATA: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
}

/// An element of a list, whatever it is a list of.
pub(super) const LIST_ELEM: u16 = 1;

/// An object that was listed.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) family: u8,
    bytes: Vec<u8>,
}

impl Object {
    pub(super) fn attributes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        attributes(&self.bytes)
    }

    /// The value of an attribute; empty if there is none.
    pub(super) fn get(&self, wanted: u16) -> &[u8] {
        attribute(&self.bytes, wanted).unwrap_or_default()
    }

    /// The same as a name.
    pub(super) fn name(&self, wanted: u16) -> String {
        text(self.get(wanted))
    }
}

/// A name as the kernel writes it.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// All tables of a family.
pub(super) fn tables(socket: &mut NetfilterSocket, family: u8) -> Result<Vec<Object>, NftError> {
    list(socket, GET_TABLE, family, &[])
}

/// The base chains and chains of all tables of a family.
pub(super) fn chains(socket: &mut NetfilterSocket, family: u8) -> Result<Vec<Object>, NftError> {
    list(socket, GET_CHAIN, family, &[])
}

/// Those of a table; none if there is no such table.
pub(super) fn chains_of(
    socket: &mut NetfilterSocket,
    family: u8,
    table: &str,
) -> Result<Vec<Object>, NftError> {
    let mut found = chains(socket, family)?;
    found.retain(|one| one.family == family && one.name(chain::TABLE) == table);
    Ok(found)
}

/// The rules of a table, chain by chain in their order; none if there is no such table.
pub(super) fn rules(
    socket: &mut NetfilterSocket,
    family: u8,
    table: &str,
) -> Result<Vec<Object>, NftError> {
    list(socket, GET_RULE, family, &[(TABLE, table)])
}

/// The rules of a chain, in their order; none if there is no such chain.
pub(super) fn rules_of(
    socket: &mut NetfilterSocket,
    family: u8,
    (table, chain): (&str, &str),
) -> Result<Vec<Object>, NftError> {
    list(socket, GET_RULE, family, &[(TABLE, table), (rule::CHAIN, chain)])
}

/// The sets of a table, its anonymous ones among them.
pub(super) fn sets(
    socket: &mut NetfilterSocket,
    family: u8,
    table: &str,
) -> Result<Vec<Object>, NftError> {
    list(socket, GET_SET, family, &[(TABLE, table)])
}

/// The elements of a set, in lists.
pub(super) fn elements(
    socket: &mut NetfilterSocket,
    family: u8,
    table: &str,
    set: &str,
) -> Result<Vec<Object>, NftError> {
    list(socket, GET_ELEMENTS, family, &[(TABLE, table), (SET, set)])
}

fn list(
    socket: &mut NetfilterSocket,
    get: u16,
    family: u8,
    of: &[(u16, &str)],
) -> Result<Vec<Object>, NftError> {
    let doing = || {
        let what = match get {
            GET_TABLE => "tables",
            GET_CHAIN => "chains",
            GET_RULE => "rules",
            GET_SET => "sets",
            _ => "elements",
        };
        let of: Vec<&str> = of.iter().map(|(_, name)| *name).collect();
        format!(
            "list the {what} of {}",
            if of.is_empty() { "all tables".into() } else { of.join(" ") }
        )
    };
    for _ in 0..TRIES {
        let number = socket.numbers(1);
        let mut listing = Listing::default();
        socket.ask(&request(get, family, of, number), |datagram| {
            listing.read(datagram);
            Ok::<_, NftError>(())
        })?;
        match listing.errno {
            // The kernel does not know the family, or the table went away meanwhile.
            Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => return Ok(Vec::new()),
            Some(Errno::EINTR) => {}
            Some(errno) => {
                return Err(NftError::Kernel { doing: doing(), errno, explanation: None });
            }
            None if listing.is_torn || !listing.is_done => {}
            None => return Ok(listing.objects),
        }
    }
    Err(NftError::NoAnswer { doing: doing() })
}

fn request(get: u16, family: u8, of: &[(u16, &str)], number: u32) -> Vec<u8> {
    request_of(SUBSYSTEM | get, REQUEST_DUMP, family, of, number)
}

/// A message with names in it.
pub(super) fn request_of(
    kind: u16,
    flags: u16,
    family: u8,
    of: &[(u16, &str)],
    number: u32,
) -> Vec<u8> {
    let mut bytes = vec![0; NLMSG_HEADER];
    bytes.extend([family, 0, 0, 0]);
    for (kind, name) in of {
        bytes.extend(written(*kind, &[name.as_bytes(), &[0]].concat()));
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..12].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// A listing as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) objects: Vec<Object>,
    is_torn: bool,
    is_done: bool,
    errno: Option<Errno>,
}

impl Listing {
    pub(super) fn read(&mut self, datagram: &[u8]) {
        for Message { kind, flags, body, .. } in messages(datagram) {
            self.is_torn |= flags & DUMP_INTR != 0;
            match kind {
                DONE | ERROR => {
                    self.is_done = true;
                    let code = body.first_chunk::<4>().map_or(0, |c| i32::from_ne_bytes(*c));
                    self.errno = (code < 0).then(|| Errno::from_raw(code.saturating_neg()));
                }
                _ => {
                    if let Some((head, rest)) = body.split_first_chunk::<4>() {
                        self.objects.push(Object { family: head[0], bytes: rest.to_vec() });
                    }
                }
            }
        }
    }
}
