//! The links of the host, with what tells whether the host learns by them from routers, or forwards to
//! somebody else.

use std::collections::HashSet;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use quantum_config::cni::Family;
use quantum_config::ids::{IfName, LinkIndex};

use super::{Host, StepError, look, message};
use crate::attach::HostLink;

impl Host {
    /// All links whose names we can say.
    pub fn host_links(&mut self) -> Result<Vec<HostLink>, StepError> {
        let advertised = self.advertised()?;
        let links = look::links(self.socket()?)?;
        let read = |link: look::Link| {
            let is_advertised = advertised.contains(&link.index);
            let name = IfName::new(link.name).ok()?;
            let look::Link { index, kind, master, .. } = link;
            Some(HostLink { index, name, kind, master, is_advertised })
        };
        Ok(links.into_iter().filter_map(read).collect())
    }

    /// Whether one of these links is there. The kernel answers when whoever deletes a link is done with it.
    pub fn has_any<'n>(
        &mut self,
        names: impl IntoIterator<Item = &'n IfName>,
    ) -> Result<bool, StepError> {
        for name in names {
            if look::link_by_name(self.socket()?, name)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a link has an address of a family that others can reach.
    pub fn is_reached(&mut self, link: LinkIndex, family: Family) -> Result<bool, StepError> {
        let is_one = |ip: IpAddr| match ip {
            IpAddr::V4(_) => family == Family::V4,
            IpAddr::V6(ip) => family == Family::V6 && !ip.is_unicast_link_local(),
        };
        Ok(look::addresses(self.socket()?, link)?.iter().any(|address| is_one(address.ip())))
    }

    /// The links over which there are routes by router advertisements.
    fn advertised(&mut self) -> Result<HashSet<LinkIndex>, StepError> {
        let question = message::list_advertised_routes();
        let found = self.socket()?.list("the routes by router advertisements", &question)?;
        let routes = found.iter().filter_map(|message| match message {
            // A kernel that does not filter gives all of them.
            RouteNetlinkMessage::NewRoute(route) if route.header.protocol == RouteProtocol::Ra => {
                Some(route)
            }
            _ => None,
        });
        Ok(routes.flat_map(look::hops).map(|hop| LinkIndex(hop.link)).collect())
    }
}
