//! What is ours in the kernel, and what of it nobody knows any more.

use std::collections::HashSet;
use std::net::IpAddr;

use actix::{AsyncContext, Context, Handler, ResponseFuture};
use quantum_cni::attach::{Record, Traces, elements, naming, recover};
use quantum_cni::kernel::KernelError;
use quantum_cni::kernel::nft::Table;
use quantum_cni::kernel::route::{Host, OwnedLink};
use quantum_config::ids::{IfName, NetworkName};

use super::apply::unfilter;
use super::watch::Watch;
use super::{Driver, Lanes};
use crate::messages::driver::{Scan, Scanned, Scope, Sweep, Swept};

impl Handler<Scan> for Driver {
    type Result = ResponseFuture<Result<Scanned, KernelError>>;

    fn handle(&mut self, _: Scan, _: &mut Context<Self>) -> Self::Result {
        let lanes = self.lanes.clone();
        Box::pin(async move {
            let links = links(&lanes).await?;
            let elements = lanes.netfilter(Table::list).await??;
            Ok(Scanned { links, elements })
        })
    }
}

impl Handler<Sweep> for Driver {
    type Result = ResponseFuture<Result<Swept, KernelError>>;

    fn handle(&mut self, request: Sweep, ctx: &mut Context<Self>) -> Self::Result {
        let (lanes, own) = (self.lanes.clone(), ctx.address());
        let of_networks = match &request.scope {
            // Before the first of them is prepared: it must not take away what another needs.
            Scope::Host { networks, .. } => self.stances.begin(networks),
            Scope::Network(_) => Vec::new(),
        };
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
            let remove = |l: &OwnedLink| {
                lanes.remove(vec![(l.name.clone(), l.index)], addresses_of(l), Vec::new())
            };
            let going: Vec<_> = unknown.iter().map(remove).collect();
            // One that cannot be removed does not stop the others, nor the daemon.
            let mut failed = Vec::new();
            lanes.book.with(|links| unknown.iter().for_each(|l| links.detached(&l.name, l.index)));
            for gone in going {
                failed.extend(gone.await.err().map(|e| e.to_string()));
            }
            let mut unruled = None;
            match scope {
                Scope::Host { mut elements, networks: _, rules, ports } => {
                    lanes
                        .book
                        .with(|links| ports.into_iter().for_each(|port| links.attached(port)));
                    elements.extend(of_networks);
                    let reconcile = move |table: &mut Table| table.reconcile(elements, rules);
                    let done = lanes.netfilter(reconcile).await?;
                    // DELs are served all the same; an ADD tries again, and says why it cannot.
                    unruled = done.err().map(|e| e.to_string());
                    // Not before: until now nobody knew what our sets are to hold.
                    own.do_send(Watch);
                }
                Scope::Network(_) => {
                    let traces = Traces::read(&lanes.netfilter(Table::list).await??);
                    let lost = unknown.iter().filter_map(|link| record_of(link, &traces));
                    let going = lost.flat_map(|record| elements(&record)).collect();
                    unfilter(&lanes, going).await?;
                }
            }
            Ok(Swept { removed: unknown, missing, failed, unruled })
        })
    }
}

/// What was to become of a link that no record speaks of.
fn record_of(link: &OwnedLink, traces: &Traces) -> Option<Record> {
    recover(link.name.clone(), link.index, &link.alias, link.bridge.clone()?, &[], traces)
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
