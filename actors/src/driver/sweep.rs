//! What is ours in the kernel, and what of it nobody knows any more.

use std::collections::HashSet;
use std::net::IpAddr;

use actix::{Context, Handler, ResponseFuture};
use quantum_cni::attach::{Element, naming};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::nft::{NftError, Table, skeleton};
use quantum_cni::kernel::route::{Host, OwnedLink};
use quantum_config::ids::{IfName, NetworkName};

use super::apply::unfilter;
use super::{Driver, Lanes};
use crate::messages::driver::{Scan, Scanned, Scope, Sweep, Swept};

impl Handler<Scan> for Driver {
    type Result = ResponseFuture<Result<Scanned, KernelError>>;

    fn handle(&mut self, _: Scan, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let links = links(&lanes).await?;
            let elements = match lanes.netfilter(Table::list).await? {
                Err(NftError::SkeletonLost { .. }) => Vec::new(),
                listed => listed?,
            };
            Ok(Scanned { links, elements })
        })
    }
}

impl Handler<Sweep> for Driver {
    type Result = ResponseFuture<Result<Swept, KernelError>>;

    fn handle(&mut self, request: Sweep, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let Sweep { hosts, scope } = request;
            let mut ours = links(&lanes).await?;
            if let Scope::Network(network) = &scope {
                ours.retain(|link| network_of(link).as_ref() == Some(network));
            }
            let (known, unknown): (Vec<_>, Vec<_>) =
                ours.into_iter().partition(|link| link.host().is_some_and(|h| hosts.contains(&h)));
            let there: HashSet<IfName> = known.into_iter().map(|link| link.name).collect();
            let missing = hosts.difference(&there).cloned().collect();
            // All of them are put into the queue before the first is waited for.
            let remove =
                |l: &OwnedLink| lanes.remove(vec![(l.name.clone(), l.index)], addresses_of(l));
            let going: Vec<_> = unknown.iter().map(remove).collect();
            // One that cannot be removed does not stop the others, nor the daemon.
            let mut failed = Vec::new();
            for gone in going {
                failed.extend(gone.await.err().map(|e| e.to_string()));
            }
            match scope {
                Scope::Host(elements) => {
                    lanes.netfilter(move |table| reconcile(table, &elements)).await??;
                }
                Scope::Network(_) => {
                    let mut going = match lanes.netfilter(Table::list).await? {
                        // There may be guards all the same: they are in a table of their own.
                        Err(NftError::SkeletonLost { .. }) => {
                            lanes.netfilter(Table::guards).await??
                        }
                        listed => listed?,
                    };
                    going.retain(|element| unknown.iter().any(|link| is_of(element, link)));
                    unfilter(&lanes, going).await?;
                }
            }
            Ok(Swept { removed: unknown, missing, failed })
        })
    }
}

/// Whether an element is what a link has, by its name and its alias.
fn is_of(element: &Element, link: &OwnedLink) -> bool {
    match element {
        Element::Guard { port, .. } => link.name == *port,
        Element::Masquerade { address, bridge } => {
            let is_home = link.bridge.as_ref().is_some_and(|b| naming::is_home(bridge, b));
            is_home && addresses_of(link).iter().any(|(_, own)| own == address)
        }
    }
}

/// The addresses of a link's container, by its alias, each with the link it is reached over.
fn addresses_of(link: &OwnedLink) -> Vec<(IfName, IpAddr)> {
    let addresses = naming::read_alias(&link.alias).map(|alias| alias.addresses);
    let over = link.bridge.as_ref().unwrap_or(&link.name);
    addresses.unwrap_or_default().iter().map(|a| (over.clone(), a.ip())).collect()
}

fn network_of(link: &OwnedLink) -> Option<NetworkName> {
    naming::read_alias(&link.alias)?.key.map(|key| key.network)
}

async fn links(lanes: &Lanes) -> Result<Vec<OwnedLink>, KernelError> {
    let owned = lanes.inspect(|host: &mut Host| host.scan()).await?;
    Ok(owned?)
}

/// Brings our sets to what the records say, by difference: what stays is not touched. If our tables
/// are not there and nobody needs them, nothing is made.
fn reconcile(table: &mut Table, wanted: &[Element]) -> Result<(), NftError> {
    let present = match table.list() {
        Err(NftError::SkeletonLost { .. }) if wanted.is_empty() => return Ok(()),
        Err(NftError::SkeletonLost { .. }) => {
            skeleton::apply_for(wanted)?;
            table.guards()?
        }
        other => other?,
    };
    let all = wanted;
    let (present, wanted): (HashSet<&Element>, HashSet<&Element>) =
        (present.iter().collect(), wanted.iter().collect());
    let of = |some: &HashSet<&Element>, others: &HashSet<&Element>| -> Vec<Element> {
        some.difference(others).map(|element| (*element).clone()).collect()
    };
    table.remove(&of(&present, &wanted))?;
    let lacking = of(&wanted, &present);
    match table.add(&lacking) {
        // One of the two tables was there.
        Err(NftError::SkeletonLost { .. }) => {
            skeleton::apply_for(all)?;
            table.add(&lacking)
        }
        added => added,
    }
}
