//! The parts of a chain that attach nothing themselves, called by the names of the reference plugins:
//! those that change what ours attached, and the container's loopback.
//!
//! | verb   | after ours                                                    | loopback       |
//! |--------|---------------------------------------------------------------|----------------|
//! | ADD    | the attachment becomes what is asked; `prevResult` is handed on | `lo` comes up  |
//! | CHECK  | the attachment is looked at, if it is one of ours             | nothing        |
//! | DEL, GC | nothing: what they asked for goes with the attachment        | nothing        |
//! | STATUS | nothing: that the daemon answers is enough                    | nothing        |

use std::sync::Arc;

use quantum_cni::attach::Class;
use quantum_cni::errors;
use quantum_cni::kernel::netns::Netns;
use quantum_config::cni::{
    CniError, CniResult, Code, Command, Interface, IpConfig, Meta, Previous,
};
use quantum_config::ids::{AttachmentKey, Mac};
use slog::warn;

use super::House;
use super::call::Checked;
use super::verbs::{self, Done};
use crate::messages::ask;
use crate::messages::driver::Loopback;
use crate::messages::network::Amend;
use crate::reclaim::insist;

/// Carries out the call of a plugin that comes after the one that attaches.
pub(super) async fn after(house: &House, call: Checked, part: Meta) -> Result<Done, CniError> {
    match call.command {
        Command::Add => amend(house, call, part).await,
        Command::Check => match verbs::check(house, call).await {
            // Another plugin's attachment, which is its own to look at.
            Err(error) if error.code == Code::UnknownContainer => Ok(Done::default()),
            checked => checked,
        },
        _ => Ok(Done { is_routine: true, ..Done::default() }),
    }
}

async fn amend(house: &House, mut call: Checked, part: Meta) -> Result<Done, CniError> {
    let Some(previous) = call.conf.previous()? else {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            format!("{} is a plugin for a chain, and there is no prevResult", call.call.called_as),
        )
        .with_details("put it behind the plugin that attaches, in \"plugins\" of a conflist"));
    };
    let amendment = call.conf.amendment(part, &call.call.env)?;
    let named = call.conf.network.as_str();
    amendment.tuning.check_allowed(named, &house.sysctls)?;
    let key = verbs::key(&call)?;
    if let Some(chain) = &amendment.admin_chain {
        tell_of(house, &key, chain);
    }
    let mac = amendment.mac.map(|mac| (&key.ifname, mac));
    let done = Done {
        stdout: previous.handed_on(call.conf.version, mac),
        ips: previous.result().ips.iter().map(|ip| ip.address.ip()).collect(),
        ..Done::default()
    };
    if amendment.is_nothing() {
        return Ok(done);
    }
    let netns = container(&mut call)?;
    let admitted = verbs::admit(house, &call, &key.network, Class::Look, None).await?;
    let Some(network) = &admitted.network else { return Err(errors::not_ours(&key)) };
    let caller = call.caller.clone();
    let request = Amend { key: key.clone(), netns, amendment, caller };
    insist(&house.reclaim, &network.amend, request).await?;
    Ok(done)
}

/// What an administrator says in a chain of iptables does not hold for our networks. Nomad writes one into each
/// of its configurations, so it is no reason to refuse it, and said once for a network.
fn tell_of(house: &House, key: &AttachmentKey, chain: &str) {
    if house.admin_chains.borrow_mut().insert((key.network.clone(), chain.to_owned())) {
        warn!(house.log, "iptablesAdminChainName is not consulted: what that chain accepts, drops or rejects makes no \
            difference for this network; say what is allowed by network policies";
            "network_name" => key.network.as_str(), "chain" => chain);
    }
}

/// Carries out a call of the plugin `loopback`.
pub(super) async fn loopback(house: &House, mut call: Checked) -> Result<Done, CniError> {
    if call.command != Command::Add {
        return Ok(Done { is_routine: true, ..Done::default() });
    }
    let previous = call.conf.previous()?;
    let sandbox = call.call.env.netns.clone();
    let netns = container(&mut call)?;
    ask(&house.loopback, Loopback(netns)).await?.map_err(errors::kernel)?;
    let stdout = match previous {
        Some(previous) => previous.handed_on(call.conf.version, None),
        None => lo(sandbox)?.render(call.conf.version, &Previous::default())?,
    };
    Ok(Done { stdout, ..Done::default() })
}

fn container(call: &mut Checked) -> Result<Arc<Netns>, CniError> {
    let netns = call.namespaces.container.take().map(Arc::new);
    netns.ok_or_else(|| CniError::new(Code::Internal, "ADD without a namespace"))
}

/// What every loopback is.
fn lo(sandbox: String) -> Result<CniResult, CniError> {
    let address = |text: &str| {
        let address = text.parse().map_err(|e| CniError::new(Code::Internal, format!("{e}")))?;
        Ok::<_, CniError>(IpConfig { interface: Some(0), address, gateway: None })
    };
    Ok(CniResult {
        interfaces: vec![Interface {
            name: "lo".to_owned(),
            mac: Some(Mac([0; 6])),
            mtu: None,
            sandbox,
        }],
        ips: vec![address("127.0.0.1/8")?, address("::1/128")?],
        ..CniResult::default()
    })
}
