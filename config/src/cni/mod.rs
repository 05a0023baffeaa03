//! The CNI protocol: what a runtime says to a plugin and what it hears back. The rules come from the
//! CNI specification 1.1.0 and, where it is silent, from what libcni and the reference plugins do.

#[cfg(feature = "netconf")]
mod addressing;
#[cfg(feature = "netconf")]
mod amendment;
#[cfg(feature = "netconf")]
mod asked;
#[cfg(feature = "netconf")]
mod bandwidth;
#[cfg(feature = "netconf")]
mod bounds;
#[cfg(feature = "netconf")]
mod definition;
mod delegate;
mod env;
mod error;
#[cfg(feature = "netconf")]
pub(crate) mod gojson;
#[cfg(feature = "netconf")]
mod identity;
#[cfg(feature = "netconf")]
mod ipam_result;
#[cfg(feature = "netconf")]
mod lender;
#[cfg(feature = "netconf")]
mod mac;
#[cfg(feature = "netconf")]
mod netconf;
#[cfg(feature = "netconf")]
mod pair;
mod peek;
#[cfg(feature = "netconf")]
mod port;
#[cfg(feature = "netconf")]
mod ports;
#[cfg(feature = "netconf")]
mod posture;
#[cfg(feature = "netconf")]
mod previous;
#[cfg(feature = "netconf")]
mod ranges;
#[cfg(feature = "netconf")]
mod resolv;
#[cfg(feature = "netconf")]
mod result;
mod role;
#[cfg(feature = "netconf")]
mod route;
#[cfg(feature = "netconf")]
mod tuning;
mod version;

#[cfg(feature = "netconf")]
pub use addressing::{Addressing, Holder, Pools, Reservation, StaticAddress};
#[cfg(feature = "netconf")]
pub use amendment::Amendment;
#[cfg(feature = "netconf")]
pub use asked::{Meant, Wanted};
#[cfg(feature = "netconf")]
pub use bandwidth::{Rate, Shaping};
#[cfg(feature = "netconf")]
pub use definition::Definition;
pub use delegate::{delegate, handed_on};
pub use env::{Command, Environment};
pub use error::{CniError, Code, has_code};
#[cfg(feature = "netconf")]
pub use identity::{
    IFNAME_LABEL, Identity, Label, LabelSource, MODE_LABEL, NETWORK_LABEL, NamedPort,
    operators_label, operators_removal,
};
#[cfg(feature = "netconf")]
pub use ipam_result::IpamResult;
#[cfg(feature = "netconf")]
pub use netconf::{Call, Dns, NetConf, ValidAttachment};
pub use peek::{Peek, peek};
#[cfg(feature = "netconf")]
pub use port::{PortOptions, Vlans};
#[cfg(feature = "netconf")]
pub use ports::{Family, PortMapping, Transport};
#[cfg(feature = "netconf")]
pub use posture::{Enforcement, Genuine, Posture, Stance};
#[cfg(feature = "netconf")]
pub use previous::Previous;
#[cfg(feature = "netconf")]
pub use ranges::{Range, RangeSet};
#[cfg(feature = "netconf")]
pub use result::{CniResult, Interface, IpConfig};
pub use role::{DROP_INS, Meta, Role};
#[cfg(feature = "netconf")]
pub use route::Route;
#[cfg(feature = "netconf")]
pub use tuning::{Sysctl, Tuning};
pub use version::{SUPPORTED_VERSIONS, Version, about, version_document};
