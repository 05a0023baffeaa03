//! Addresses, where our IPAM driver is asked for them. A pool is one of the book's, or the pool of a network
//! of `config_dir`, whose addresses CNI's containers have, too.

use std::net::IpAddr;
use std::sync::Arc;

use actix::Recipient;
use ipnetwork::IpNetwork;
use quantum_cni::attach::{Assigned, Class, naming};
use quantum_cni::docker::{Asked, PoolError};
use quantum_cni::kernel::fault;
use quantum_config::cni::{CniError, Code, Definition, Range, Wanted};
use quantum_config::docker::{ReleaseAddress, ReleasePool, RequestAddress, RequestPool};
use quantum_config::ids::{AttachmentKey, ContainerId, IfName, NetworkName};
use serde_json::{Value, json};

use super::{Desk, Done, Refused, abandoned, nothing};
use crate::messages::ask;
use crate::messages::manager::{Admitted, Reclaim};
use crate::messages::network::{Open, Reserve, Unreserve};
use crate::reclaim::insist;

/// How the names of pools begin that are those of a network of `config_dir`.
const JOINED: &str = "network/";

pub(super) async fn request_pool(desk: &Desk, body: &[u8]) -> Done {
    let request = RequestPool::read(body)?;
    let parse = |what: &str, text: &str| -> Result<Option<IpNetwork>, String> {
        let bad = |_| format!("{what} {text:?} is not a subnet");
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(bad) }
    };
    let (subnet, part) = (parse("pool", &request.pool)?, parse("range", &request.sub_pool)?);
    if let Some(name) = request.options.get("network").and_then(Value::as_str) {
        let joined = Joined::find(desk, name, request.v6).await?;
        let own = joined.range.subnet;
        if part.is_some() || subnet.is_some_and(|subnet| subnet != own) {
            return Err(Refused::Because(format!(
                "network {name} has the subnet {own} in config_dir; leave out --subnet and --ip-range"
            )));
        }
        let id = format!("{JOINED}{name}/{}", if request.v6 { 6 } else { 4 });
        let gateway = IpNetwork::new(joined.range.gateway, own.prefix());
        let data = gateway.map(|gateway| json!({"com.docker.network.gateway": gateway}));
        return Ok(json!({
            "PoolID": id,
            "Pool": own,
            "Data": data.unwrap_or_else(|_| nothing()),
        }));
    }
    let asked = Asked { subnet, part, v6: request.v6 };
    let (id, subnet) = desk.book.borrow_mut().request_pool(&asked).map_err(|e| e.to_string())?;
    desk.save().await?;
    Ok(json!({"PoolID": id, "Pool": subnet, "Data": {}}))
}

pub(super) async fn release_pool(desk: &Desk, body: &[u8]) -> Done {
    let request = ReleasePool::read(body)?;
    if !request.pool_id.starts_with(JOINED) {
        desk.book.borrow_mut().pools().release(&request.pool_id);
        desk.save().await?;
    }
    Ok(nothing())
}

pub(super) async fn request_address(desk: &Desk, body: &[u8]) -> Done {
    let request = RequestAddress::read(body)?;
    let asked = match request.address.as_str() {
        "" => None,
        text => Some(address(text)?),
    };
    let given = match joined_pool(&request.pool_id) {
        Some((name, v6)) => {
            let joined = Joined::find(desk, name, v6).await?;
            let mut taken = joined.take(&request, asked).await;
            if let (Err(_), Some(ip)) = (&taken, asked) {
                let own = keeper(&joined.definition.name, &ip.to_string())?;
                if abandoned::free(desk, &own, &[ip]).await > 0 {
                    taken = joined.take(&request, asked).await;
                }
            }
            taken?
        }
        None => {
            let (gateway, mac) = (request.is_gateway(), request.mac());
            let take =
                || desk.book.borrow_mut().pools().take(&request.pool_id, asked, gateway, mac);
            let mut taken = take();
            if matches!(taken, Err(PoolError::Exhausted(_))) {
                let used = abandoned::addresses(desk).await;
                let is_used = |address: &IpAddr| used.contains(address);
                if desk.book.borrow_mut().pools().forget_unheard(&request.pool_id, is_used) {
                    taken = take();
                }
            }
            taken.map_err(|e| e.to_string())?
        }
    };
    if !request.pool_id.starts_with(JOINED) {
        desk.save().await?;
    }
    fault::reach("docker-address-kept").map_err(|e| e.to_string())?;
    Ok(json!({"Address": given, "Data": {}}))
}

pub(super) async fn release_address(desk: &Desk, body: &[u8]) -> Done {
    let request = ReleaseAddress::read(body)?;
    let ip = address(&request.address)?;
    match joined_pool(&request.pool_id) {
        Some((name, v6)) => {
            // A network that is defined no more has nothing that is kept.
            if let Ok(joined) = Joined::find(desk, name, v6).await {
                joined.give_back(&ip).await?;
            }
        }
        None => {
            desk.book.borrow_mut().pools().give_back(&request.pool_id, ip);
            desk.save().await?;
        }
    }
    Ok(nothing())
}

/// An address, with or without its prefix length.
fn address(text: &str) -> Result<IpAddr, String> {
    let ip = text.split_once('/').map_or(text, |(ip, _)| ip);
    ip.parse().map_err(|_| format!("{text:?} is not an address"))
}

fn joined_pool(id: &str) -> Option<(&str, bool)> {
    let (name, family) = id.strip_prefix(JOINED)?.rsplit_once('/')?;
    Some((name, family == "6"))
}

/// Who keeps an address until the endpoint that it is for is made.
pub(super) fn keeper(network: &NetworkName, address: &str) -> Result<AttachmentKey, CniError> {
    let ip = address.split_once('/').map_or(address, |(ip, _)| ip);
    let invalid = |e: quantum_config::ids::InvalidId| CniError::new(Code::Internal, e.to_string());
    Ok(AttachmentKey {
        network: network.clone(),
        container: ContainerId::new(format!("address-{}", ip.replace(':', ".")))
            .map_err(invalid)?,
        ifname: IfName::new(naming::HANDED).map_err(invalid)?,
    })
}

/// A network of `config_dir`, and its range of one family.
struct Joined {
    reclaim: Recipient<Reclaim>,
    admitted: Admitted,
    definition: Arc<Definition>,
    range: Range,
}

impl Joined {
    async fn find(desk: &Desk, name: &str, v6: bool) -> Result<Self, Refused> {
        let name = NetworkName::new(name).map_err(|e| e.to_string())?;
        let (admitted, _) = desk.admit(&name, Class::Setup, None).await?;
        let Some(definition) = admitted.definition.clone() else {
            return Err(Refused::Because(format!("network {name} is not defined in config_dir")));
        };
        let ranges = definition.sets().iter().flat_map(|set| &set.0);
        let range = ranges.into_iter().find(|range| range.subnet.is_ipv6() == v6).cloned();
        let Some(range) = range else {
            let family = if v6 { "IPv6" } else { "IPv4" };
            return Err(Refused::Because(format!("network {name} has no pool of {family}")));
        };
        Ok(Self { reclaim: desk.hands.reclaim.clone(), admitted, definition, range })
    }

    /// Keeps an address of the pool; that of the gateway is nobody's to take.
    async fn take(
        &self,
        request: &RequestAddress,
        asked: Option<IpAddr>,
    ) -> Result<IpNetwork, Refused> {
        let range = &self.range;
        let with_prefix = |ip: IpAddr| {
            IpNetwork::new(ip, range.subnet.prefix()).map_err(|e| Refused::Because(e.to_string()))
        };
        if request.is_gateway() {
            return match asked {
                Some(ip) if ip != range.gateway => Err(Refused::Because(format!(
                    "the gateway of network {} is {}",
                    self.definition.name, range.gateway
                ))),
                _ => with_prefix(range.gateway),
            };
        }
        let Some(mailbox) = &self.admitted.network else {
            return Err(Refused::Because(format!("network {} is not ready", self.definition.name)));
        };
        ask(&mailbox.open, Open(self.definition.clone())).await??;
        match asked {
            Some(ip) => {
                let keeper = keeper(&self.definition.name, &ip.to_string())?;
                let kept = self.keep(keeper, vec![ip]).await;
                // A dockerd that was started again says what is in use, without a hardware address: who
                // has it is attached already.
                if request.mac().is_some() {
                    kept?;
                }
                with_prefix(ip)
            }
            // Which it is, the pool says; then it is kept by its own name.
            None => {
                let mac = request.mac().unwrap_or_default().replace(':', "");
                let finder = keeper(&self.definition.name, &format!("of-{mac}"))?;
                let found = self.keep(finder.clone(), Vec::new()).await?;
                ask(&mailbox.unreserve, Unreserve(finder)).await?;
                let of_family = |a: &&Assigned| a.address.is_ipv4() == self.range.subnet.is_ipv4();
                let Some(found) = found.iter().find(of_family) else {
                    return Err(Refused::Because("the pool gave no address".to_owned()));
                };
                let ip = found.address.ip();
                self.keep(keeper(&self.definition.name, &ip.to_string())?, vec![ip]).await?;
                Ok(found.address)
            }
        }
    }

    /// Leases for one family only: the others' sets are left alone.
    async fn keep(
        &self,
        owner: AttachmentKey,
        requested: Vec<IpAddr>,
    ) -> Result<Vec<Assigned>, Refused> {
        let Some(mailbox) = &self.admitted.network else { return Ok(Vec::new()) };
        let wanted = Wanted::Leased { requested, reserved: Vec::new() };
        let reserve = Reserve { owner, definition: self.definition.clone(), wanted };
        match insist(&self.reclaim, &mailbox.reserve, reserve).await {
            // Kept already: asked twice.
            Err(error) if error.code == Code::Exists => Ok(Vec::new()),
            kept => Ok(kept?),
        }
    }

    async fn give_back(&self, ip: &IpAddr) -> Result<(), Refused> {
        if let Some(mailbox) = &self.admitted.network {
            let owner = keeper(&self.definition.name, &ip.to_string())?;
            ask(&mailbox.unreserve, Unreserve(owner)).await?;
        }
        Ok(())
    }
}
