//! Holds a container's traffic to its limits: a token bucket (`tbf`) at the port for what it
//! receives, and for what it sends a link of the kind `ifb`, the *shaper*, with a bucket of its own.
//!
//! ```text
//! to the container      bridge ──► port [bucket] ──► container
//! from the container    container ──► port ──(every frame)──► shaper [bucket] ──► port ──► bridge
//! ```
//!
//! The kernel hands frames that leave the shaper back to the port they came in by, behind the place
//! where they were taken from.

use std::collections::HashMap;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, Nla, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{
    TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute, TcFilterU32Option,
    TcHandle, TcMessage, TcOption,
};
use nix::libc;
use quantum_config::ids::{IfName, LinkIndex};

use super::batch::first_error;
use super::{Batch, Cause, RouteSocket, Step, StepError, look};
use crate::attach::{Bucket, BucketSeen, LinkPlan, ShapePlan, Shaper, naming};
use crate::kernel::netfilter::written;

// linux/pkt_sched.h, linux/pkt_cls.h, linux/rtnetlink.h, linux/tc_act/tc_mirred.h, linux/if_ether.h
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: i32 = 1;
const TC_ACT_STOLEN: i32 = 4;
const ETH_P_ALL: u16 = 3;

/// The handle of the buckets.
const BUCKET: TcHandle = TcHandle { major: 1, minor: 0 };
/// The one that the kernel wants for what comes in.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// The priority of our filter; nobody else has one here.
const PRIORITY: u32 = 1;

/// A port that is to be held to limits.
pub(super) struct Limited<'a> {
    pub(super) host: &'a IfName,
    pub(super) index: LinkIndex,
    pub(super) mtu: Option<u32>,
    pub(super) alias: &'a str,
    pub(super) shape: &'a ShapePlan,
}

impl<'a> From<&'a LinkPlan> for Limited<'a> {
    fn from(link: &'a LinkPlan) -> Self {
        let LinkPlan { host, index, mtu, alias, shape, .. } = link;
        Self { host, index: *index, mtu: *mtu, alias, shape }
    }
}

/// Makes the shaper of a port. It is a message by itself: if its index is taken, what is done to that
/// index would be done to somebody else's link.
pub(super) fn create(
    host: &mut RouteSocket,
    link: &Limited<'_>,
    shaper: &Shaper,
) -> Result<(), StepError> {
    let mut batch = Batch::new();
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    batch.push(Step::CreateShaper, shaper.name.as_str(), flags, create_shaper(link, shaper));
    first_error(host.send(batch)).map_err(|error| match error.errno {
        libc::EEXIST | libc::EBUSY => {
            let is_taken = matches!(look::link_by_name(host, &shaper.name), Ok(Some(_)));
            error.because(Some(if is_taken { Cause::HostNameTaken } else { Cause::IndexTaken }))
        }
        _ => error,
    })
}

/// The steps that hold a port, and its shaper, to their limits; none if there are no limits.
pub(super) fn limit(batch: &mut Batch, link: &Limited<'_>) {
    let new = NLM_F_CREATE | NLM_F_EXCL;
    let port = link.host.as_str();
    if let Some(bucket) = &link.shape.ingress {
        batch.push(Step::Limit, port, new, add_bucket(link.index, bucket));
    }
    if let Some(shaper) = &link.shape.egress {
        let name = shaper.name.as_str();
        batch.push(Step::SetShaper, name, 0, set_alias(shaper.index, link.alias));
        batch.push(Step::Limit, name, new, add_bucket(shaper.index, &shaper.bucket));
        // The bucket is there before anything is led to it.
        batch.push(Step::Redirect, port, new, take_what_comes_in(link.index));
        batch.push(Step::Redirect, port, new, redirect(link.index, shaper.index));
    }
}

/// The bucket of every link that has one. The kernel cannot be asked for that of one link: where there
/// is none it does not answer at all.
pub(in crate::kernel) fn buckets(
    socket: &mut RouteSocket,
) -> Result<HashMap<LinkIndex, BucketSeen>, StepError> {
    let question = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    let found = socket.list("limits", &question)?;
    let read = |found: &RouteNetlinkMessage| match found {
        RouteNetlinkMessage::NewQueueDiscipline(found) if found.header.parent == TcHandle::ROOT => {
            Some((LinkIndex(found.header.index.cast_unsigned()), read_bucket(found)?))
        }
        _ => None,
    };
    Ok(found.iter().filter_map(read).collect())
}

/// The link to which all is led that comes in by a link; none if nothing is.
pub(in crate::kernel) fn led_to(
    socket: &mut RouteSocket,
    index: LinkIndex,
) -> Result<Option<LinkIndex>, StepError> {
    let question = RouteNetlinkMessage::GetTrafficFilter(message(index, INGRESS));
    let found = match socket.list("filters", &question) {
        Err(error) if error.is_absent() || error.errno == libc::EINVAL => return Ok(None),
        other => other?,
    };
    Ok(found.iter().find_map(|filter| match filter {
        RouteNetlinkMessage::NewTrafficFilter(filter) => read_redirect(filter),
        _ => None,
    }))
}

fn create_shaper(link: &Limited<'_>, shaper: &Shaper) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = shaper.index.0;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(shaper.name.as_str().to_owned()),
        LinkAttribute::Group(naming::GROUP),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    message.attributes.extend(link.mtu.map(LinkAttribute::Mtu));
    RouteNetlinkMessage::NewLink(message)
}

fn set_alias(index: LinkIndex, alias: &str) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index.0;
    message.attributes = vec![LinkAttribute::IfAlias(alias.to_owned())];
    RouteNetlinkMessage::SetLink(message)
}

/// `struct tc_tbf_qopt` has the burst as a time, in which a large one has no room; the attribute has
/// it in bytes, and counts. No table of times is needed for a link that is Ethernet.
fn add_bucket(index: LinkIndex, bucket: &Bucket) -> RouteNetlinkMessage {
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let mut parms = vec![0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]; // … and overhead, align, mpu
    parms.extend(rate.to_ne_bytes());
    parms.extend([0; 12]); // no peak rate
    parms.extend(bucket.limit.to_ne_bytes());
    parms.extend([0; 8]); // buffer and MTU as times
    let mut options = written(TCA_TBF_PARMS, &parms);
    if bucket.rate > u64::from(u32::MAX) {
        options.extend(written(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes()));
    }
    options.extend(written(TCA_TBF_BURST, &bucket.burst.to_ne_bytes()));
    let mut message = message(index, TcHandle::ROOT);
    message.header.handle = BUCKET;
    message.attributes = of_kind("tbf", options);
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// The place where filters see what comes in, before the bridge does.
fn take_what_comes_in(index: LinkIndex) -> RouteNetlinkMessage {
    let mut message = message(index, TcHandle::INGRESS);
    message.header.handle = INGRESS;
    message.attributes = vec![TcAttribute::Kind("ingress".to_owned())];
    RouteNetlinkMessage::NewQueueDiscipline(message)
}

/// Leads every frame that comes in to another link: a selector of one key that is true of all (its
/// mask is empty), and one action.
fn redirect(from: LinkIndex, to: LinkIndex) -> RouteNetlinkMessage {
    let mut selector = vec![TC_U32_TERMINAL, 0, 1];
    selector.resize(16 + 16, 0);
    let mut mirred = vec![0; 8]; // any index of the action, no capabilities
    mirred.extend(TC_ACT_STOLEN.to_ne_bytes());
    mirred.extend([0; 8]);
    mirred.extend(TCA_EGRESS_REDIR.to_ne_bytes());
    mirred.extend(to.0.to_ne_bytes());
    let mut action = written(TCA_ACT_KIND, b"mirred\0");
    action.extend(written(TCA_ACT_OPTIONS, &written(TCA_MIRRED_PARMS, &mirred)));
    let mut options = written(TCA_U32_SEL, &selector);
    options.extend(written(TCA_U32_ACT, &written(1, &action)));

    let mut message = message(from, INGRESS);
    message.header.info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
    message.attributes = of_kind("u32", options);
    RouteNetlinkMessage::NewTrafficFilter(message)
}

pub(super) fn read_bucket(found: &TcMessage) -> Option<BucketSeen> {
    let is_bucket = |a: &TcAttribute| matches!(a, TcAttribute::Kind(kind) if kind == "tbf");
    found.attributes.iter().find(|a| is_bucket(a))?;
    let options = found.attributes.iter().find_map(|a| match a {
        TcAttribute::Options(options) => options.first(),
        _ => None,
    })?;
    let TcOption::Other(options) = options else { return None };
    let mut bytes = vec![0; options.value_len()];
    options.emit_value(&mut bytes);
    let mut seen = None;
    let mut rate64 = None;
    for option in NlasIterator::new(&bytes).filter_map(Result::ok) {
        match option.kind() {
            TCA_TBF_PARMS => {
                let number = |at: usize| {
                    let bytes = option.value().get(at..)?.first_chunk::<4>()?;
                    Some(u32::from_ne_bytes(*bytes))
                };
                seen = Some(BucketSeen { rate: number(8)?.into(), limit: number(24)? });
            }
            TCA_TBF_RATE64 => {
                rate64 = option.value().first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
            }
            _ => {}
        }
    }
    seen.map(|seen| BucketSeen { rate: rate64.unwrap_or(seen.rate), ..seen })
}

pub(super) fn read_redirect(filter: &TcMessage) -> Option<LinkIndex> {
    let options = filter.attributes.iter().find_map(|a| match a {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let actions = options.iter().find_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    })?;
    let attributes = actions.iter().flat_map(|action| &action.attributes);
    attributes.into_iter().find_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(parms)) => {
                Some(LinkIndex(parms.ifindex))
            }
            _ => None,
        }),
        _ => None,
    })
}

fn message(index: LinkIndex, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(index.0.cast_signed());
    message.header.parent = parent;
    message
}

fn of_kind(kind: &str, options: Vec<u8>) -> Vec<TcAttribute> {
    vec![
        TcAttribute::Kind(kind.to_owned()),
        TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options)),
    ]
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkSerializable;

    use super::*;

    fn bytes(message: &RouteNetlinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn header(index: i32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(index.to_ne_bytes());
        [handle, parent, info].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes
    }

    #[test]
    fn a_bucket_as_the_kernel_reads_it() {
        let bucket = Bucket { rate: 1_000_000, burst: 100_000, limit: 125_000 };
        let sent = bytes(&add_bucket(LinkIndex(7), &bucket));
        let mut parms = vec![0, 1, 0, 0, 0, 0, 0, 0];
        parms.extend(1_000_000_u32.to_ne_bytes());
        parms.extend([0; 12]);
        parms.extend(125_000_u32.to_ne_bytes());
        parms.extend([0; 8]);
        assert_eq!(parms.len(), 36, "struct tc_tbf_qopt");
        let mut options = written(1, &parms);
        options.extend(written(6, &100_000_u32.to_ne_bytes()));
        let mut expected = header(7, 0x1_0000, 0xffff_ffff, 0);
        expected.extend(written(1, b"tbf\0"));
        expected.extend(written(2, &options));
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_rate_beyond_32_bits_has_an_attribute_of_its_own() {
        let bucket = Bucket { rate: 5 << 30, burst: 2000, limit: 2000 };
        let sent = bytes(&add_bucket(LinkIndex(7), &bucket));
        let rate = written(4, &(5_u64 << 30).to_ne_bytes());
        assert!(sent.windows(rate.len()).any(|window| window == rate));
        let small = Bucket { rate: u32::MAX.into(), ..bucket };
        assert_eq!(bytes(&add_bucket(LinkIndex(7), &small)).len(), sent.len() - rate.len());
    }

    #[test]
    fn a_redirect_is_a_key_that_is_true_of_all_and_one_action() {
        let sent = bytes(&redirect(LinkIndex(7), LinkIndex(9)));
        let protocol = u32::from(3_u16.to_be());
        let mut expected = header(7, 0, 0xffff_0000, 0x1_0000 | protocol);
        expected.extend(written(1, b"u32\0"));
        let mut selector = vec![1, 0, 1];
        selector.extend([0; 29]);
        let mut parms: Vec<u8> = Vec::new();
        for number in [0, 0, 4, 0, 0, 1, 9_i32] {
            parms.extend(number.to_ne_bytes());
        }
        let mut action = written(1, b"mirred\0");
        action.extend(written(2, &written(2, &parms)));
        let mut options = written(5, &selector);
        options.extend(written(7, &written(1, &action)));
        expected.extend(written(2, &options));
        assert_eq!(sent, expected);
    }
}
