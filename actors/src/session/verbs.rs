//! The verbs: what each asks of whom.

use std::borrow::Cow;
use std::future::ready;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use quantum_cni::attach::{Class, NetnsId, Target};
use quantum_cni::kernel::clock::boottime_ms;
use quantum_cni::kernel::netns::Netns;
use quantum_config::cni::{CniError, CniResult, Code, Command, Role};
use quantum_config::ids::{AttachmentKey, NetworkName};

use super::call::Checked;
use super::renamed::elsewhere;
use super::{House, chain, lend};
use crate::messages::ask;
use crate::messages::manager::{Admit, Admitted};
use crate::messages::network::{
    Attach, Check, Collect, Detach, Detached, MayAttach, NetworkMailbox, Only,
};
use crate::reclaim::insist;

/// How often a DEL is handed to a network whose actor dies under it.
const TRIES: u32 = 3;

/// A call that is carried out.
pub(super) type Work<'a> = Pin<Box<dyn Future<Output = Result<Done, CniError>> + 'a>>;

/// What takes an attachment back whose result could not be delivered. Nobody knows of it, so nobody
/// would ever remove it.
pub(super) struct Undo {
    network: NetworkMailbox,
    request: Detach,
}

impl Undo {
    pub(super) fn new(network: NetworkMailbox, request: Detach) -> Self {
        Self { network, request }
    }

    /// Takes it back. One that was made later under the same key is left alone.
    pub(super) async fn run(self) -> Result<(), CniError> {
        ask(&self.network.detach, self.request).await?.map(|_| ())
    }
}

/// What a verb came to.
#[derive(Default)]
pub(super) struct Done {
    /// What the plugin prints.
    pub(super) stdout: String,
    /// The addresses concerned, for the log.
    pub(super) ips: Vec<IpAddr>,
    /// Name servers that are not in the result, since no container can ask them.
    pub(super) unreachable: Vec<String>,
    /// What takes it back if nobody hears of it.
    pub(super) undo: Option<Undo>,
    /// Nothing was done yet: the plugin runs the IPAM plugin and calls again.
    pub(super) waits_for_addresses: bool,
    /// Not worth a record at every time: STATUS is asked every few seconds.
    pub(super) is_routine: bool,
}

impl Done {
    /// The addresses as the log has them.
    pub(super) fn addresses(&self) -> String {
        self.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Carries a checked call out. Each verb is on its own in memory: hundreds of calls wait at a time, and none
/// needs room for all that others might do.
pub(super) fn carry_out(house: &House, call: Checked) -> Work<'_> {
    match Role::of(&call.call.called_as) {
        Role::Meta(part) => return Box::pin(chain::after(house, call, part)),
        Role::Loopback => return Box::pin(chain::loopback(house, call)),
        Role::Addresses => match call.command {
            Command::Add => return Box::pin(lend::add(house, call)),
            Command::Check => return Box::pin(lend::check(house, call)),
            _ => {}
        },
        Role::Main | Role::Pair => {}
    }
    match call.command {
        Command::Add => Box::pin(attach(house, call)),
        Command::Del => Box::pin(detach(house, call)),
        Command::Check => Box::pin(check(house, call)),
        Command::Gc => Box::pin(collect(house, call)),
        Command::Status => {
            let routine = |()| Done { is_routine: true, ..Done::default() };
            Box::pin(ready(status(house, &call).map(routine)))
        }
        // The plugin answers it by itself.
        Command::Version => Box::pin(ready(Ok(Done {
            stdout: quantum_config::cni::version_document(),
            is_routine: true,
            ..Done::default()
        }))),
    }
}

async fn attach(house: &House, call: Checked) -> Result<Done, CniError> {
    let version = call.conf.version;
    let previous = call.conf.previous()?.unwrap_or_default();
    let mut definition = if call.conf.is_thin() { None } else { Some(call.conf.definition()?) };
    let mut waits_for_addresses = false;
    if call.delegate.is_some() {
        match &call.call.ipam_result {
            None => waits_for_addresses = true,
            Some(printed) => {
                let said = call.conf.ipam_result(printed)?;
                definition = definition.map(|network| network.assigned(said));
            }
        }
    }
    let definition = definition.map(Arc::new);
    let key = key(&call)?;
    let mac = call.conf.requested_mac(&call.call.env)?;
    let ports = call.conf.ports()?;
    let admitted = admit(house, &call, &key.network, Class::Setup, definition).await?;
    let (Some(netns), Some(definition), Some(network)) =
        (call.namespaces.container, admitted.definition.clone(), &admitted.network)
    else {
        return Err(CniError::new(Code::Internal, "ADD without a namespace or a network"));
    };
    definition.tuning.check_allowed(definition.name.as_str(), &house.sysctls)?;
    let shaping = call.conf.shaping(&definition)?;
    let identity = call.conf.identity(&definition, &call.call.env)?;
    let target = Target {
        key: key.clone(),
        identity,
        netns: netns.id(),
        sandbox: call.call.env.netns.clone(),
        mac,
        shaping,
        ports,
        handed: false,
        delegated: call.delegate.is_some(),
        host_netns: house.host,
    };
    if waits_for_addresses {
        ask(&network.may_attach, MayAttach(target)).await??;
        return Ok(Done { waits_for_addresses, is_routine: true, ..Done::default() });
    }
    let meant = call.conf.meant(&definition, &call.call.env)?;
    let changed = match meant.network {
        Cow::Borrowed(_) => None,
        Cow::Owned(changed) => Some(Arc::new(changed)),
    };
    let request = Attach {
        target,
        netns: Arc::new(netns),
        wanted: meant.wanted,
        definition: changed.unwrap_or(definition),
        caller: call.caller.clone(),
    };
    let mut result: CniResult = insist(&house.reclaim, &network.attach, request).await?;
    let unreachable = result.dns.leave_out_unreachable();
    let ips = result.ips.iter().map(|ip| ip.address.ip()).collect();
    let request =
        Detach { key, made_before: Some(boottime_ms()), netns: None, only: Only::Leftover };
    let undo = Undo { network: network.clone(), request };
    match result.render(version, &previous) {
        Ok(stdout) => Ok(Done { stdout, ips, unreachable, undo: Some(undo), ..Done::default() }),
        Err(error) => {
            undo.run().await?;
            Err(error)
        }
    }
}

async fn detach(house: &House, call: Checked) -> Result<Done, CniError> {
    let key = key(&call)?;
    let mut done = detach_key(house, &call, &key, None).await?;
    if !done.found
        && let Some(other) = elsewhere(house, &key).await?
    {
        let netns = call.namespaces.container.as_ref().map(Netns::id);
        done = detach_key(house, &call, &other, netns).await?;
    }
    Ok(Done { ips: done.addresses, ..Done::default() })
}

/// A DEL must not fail because a network's actor just died: the one that is made anew serves it.
async fn detach_key(
    house: &House,
    call: &Checked,
    key: &AttachmentKey,
    netns: Option<NetnsId>,
) -> Result<Detached, CniError> {
    let mut tries = 0;
    loop {
        let admitted = admit(house, call, &key.network, Class::Teardown, None).await?;
        let Some(network) = &admitted.network else { return Ok(Detached::default()) };
        let request = Detach { key: key.clone(), made_before: None, netns, only: Only::Any };
        let answer = ask(&network.detach, request).await.and_then(|outcome| outcome);
        tries += 1;
        if network.is_alive() || answer.is_ok() || tries == TRIES {
            return answer;
        }
    }
}

pub(super) async fn check(house: &House, mut call: Checked) -> Result<Done, CniError> {
    let key = key(&call)?;
    let Some(previous) = call.conf.previous()? else {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            "CHECK needs prevResult, and there is none",
        )
        .with_details("a runtime hands over the result of ADD"));
    };
    let Some(netns) = call.namespaces.container.take().map(Arc::new) else {
        return Err(CniError::new(Code::Internal, "CHECK without a namespace"));
    };
    let request = |key| Check { key, netns: netns.clone(), prev_result: previous.result().clone() };
    let mut answer = check_key(house, &call, request(key.clone())).await;
    if matches!(&answer, Err(e) if e.code == Code::UnknownContainer)
        && let Some(other) = elsewhere(house, &key).await?
    {
        answer = check_key(house, &call, request(other)).await;
    }
    answer.map(|()| Done::default())
}

async fn check_key(house: &House, call: &Checked, request: Check) -> Result<(), CniError> {
    let admitted = admit(house, call, &request.key.network, Class::Look, None).await?;
    let Some(network) = &admitted.network else {
        return Err(CniError::new(
            Code::UnknownContainer,
            format!("attachment {} is not known", request.key),
        ));
    };
    ask(&network.check, request).await?
}

async fn collect(house: &House, call: Checked) -> Result<Done, CniError> {
    let Some(valid) = call.conf.conf.valid_attachments.clone() else {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            "GC needs cni.dev/valid-attachments, and there is none",
        )
        .with_details("a list, or null if none is valid: an absent one is not taken for that"));
    };
    let admitted = admit(house, &call, &call.conf.network, Class::Teardown, None).await?;
    let Some(network) = &admitted.network else { return Ok(Done::default()) };
    let request = Collect { valid };
    ask(&network.collect, request).await??;
    Ok(Done::default())
}

/// From the board, without asking anybody: a runtime's health check waits for it.
fn status(house: &House, call: &Checked) -> Result<(), CniError> {
    let board = house.board.borrow();
    let definition = if call.conf.is_thin() {
        if !board.defined.contains_key(&call.conf.network) {
            return Err(CniError::new(
                Code::NotReady,
                format!("network {:?} is not defined in config_dir", call.conf.network.as_str()),
            ));
        }
        None
    } else {
        Some(call.conf.definition()?)
    };
    board.status(&call.conf.network, definition.as_ref())
}

pub(super) fn key(call: &Checked) -> Result<AttachmentKey, CniError> {
    Ok(AttachmentKey {
        network: call.conf.network.clone(),
        container: call.call.env.container_id()?,
        ifname: call.call.env.interface()?,
    })
}

pub(super) async fn admit(
    house: &House,
    call: &Checked,
    network: &NetworkName,
    class: Class,
    definition: Option<Arc<quantum_config::cni::Definition>>,
) -> Result<Admitted, CniError> {
    let network = network.clone();
    ask(&house.admit, Admit { network, class, definition, caller: call.caller.clone() }).await?
}
