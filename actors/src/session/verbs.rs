//! The verbs: what each asks of whom.

use std::net::IpAddr;
use std::sync::Arc;

use quantum_cni::attach::{Class, Target};
use quantum_config::cni::{CniError, CniResult, Code, Command};
use quantum_config::ids::AttachmentKey;

use super::House;
use super::call::Checked;
use crate::messages::ask;
use crate::messages::manager::{Admit, Admitted, Died};
use crate::messages::network::{Attach, Check, Collect, Detach};

/// What a verb came to.
#[derive(Default)]
pub(super) struct Done {
    /// What the plugin prints.
    pub(super) stdout: String,
    /// The addresses concerned, for the log.
    pub(super) ips: Vec<IpAddr>,
    /// Not worth a record at every time: STATUS is asked every few seconds.
    pub(super) is_routine: bool,
}

impl Done {
    /// The addresses as the log has them.
    pub(super) fn addresses(&self) -> String {
        self.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Carries a checked call out.
pub(super) async fn carry_out(house: &House, call: Checked) -> Result<Done, CniError> {
    match call.command {
        Command::Add => attach(house, call).await,
        Command::Del => detach(house, call).await,
        Command::Check => check(house, call).await,
        Command::Gc => collect(house, call).await,
        Command::Status => {
            status(house, &call)?;
            Ok(Done { is_routine: true, ..Done::default() })
        }
        // The plugin answers it by itself.
        Command::Version => Ok(Done {
            stdout: quantum_config::cni::version_document(),
            is_routine: true,
            ..Done::default()
        }),
    }
}

async fn attach(house: &House, call: Checked) -> Result<Done, CniError> {
    let version = call.conf.version;
    let definition =
        if call.conf.is_thin() { None } else { Some(Arc::new(call.conf.definition()?)) };
    let key = key(&call)?;
    let admitted = admit(house, &call, Class::Setup, definition).await?;
    let (Some(netns), Some(definition)) = (call.namespaces.container, admitted.definition) else {
        return Err(CniError::new(Code::Internal, "ADD without a namespace or a definition"));
    };
    let request = Attach {
        target: Target { key, netns: netns.id(), sandbox: call.call.env.netns.clone() },
        netns: Arc::new(netns),
        definition,
        caller: call.caller.clone(),
    };
    let result: CniResult =
        alive(house, &admitted.permit.network, ask(&admitted.network.attach, request).await)??;
    let ips = result.ips.iter().map(|ip| ip.address.ip()).collect();
    Ok(Done { stdout: result.render(version)?, ips, is_routine: false })
}

async fn detach(house: &House, call: Checked) -> Result<Done, CniError> {
    let key = key(&call)?;
    let admitted = admit(house, &call, Class::Teardown, None).await?;
    let request = Detach { key, made_before: None };
    let detached =
        alive(house, &admitted.permit.network, ask(&admitted.network.detach, request).await)??;
    Ok(Done { ips: detached.addresses, ..Done::default() })
}

async fn check(house: &House, call: Checked) -> Result<Done, CniError> {
    let key = key(&call)?;
    let Some(prev_result) = &call.conf.conf.prev_result else {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            "CHECK needs prevResult, and there is none",
        )
        .with_details("a runtime hands over the result of ADD"));
    };
    let prev_result = CniResult::from_prev_result(prev_result)?;
    let admitted = admit(house, &call, Class::Look, None).await?;
    let Some(netns) = call.namespaces.container else {
        return Err(CniError::new(Code::Internal, "CHECK without a namespace"));
    };
    let request = Check { key, netns: Arc::new(netns), prev_result };
    alive(house, &admitted.permit.network, ask(&admitted.network.check, request).await)??;
    Ok(Done::default())
}

async fn collect(house: &House, call: Checked) -> Result<Done, CniError> {
    let Some(valid) = call.conf.conf.valid_attachments.clone() else {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            "GC needs cni.dev/valid-attachments, and there is none",
        )
        .with_details("a list, or null if none is valid: an absent one is not taken for that"));
    };
    let admitted = admit(house, &call, Class::Teardown, None).await?;
    let request = Collect { valid };
    alive(house, &admitted.permit.network, ask(&admitted.network.collect, request).await)??;
    Ok(Done::default())
}

/// From the board, without asking anybody: a runtime's health check waits for it.
fn status(house: &House, call: &Checked) -> Result<(), CniError> {
    let board = house.board.borrow();
    if call.conf.is_thin() {
        if !board.defined.contains_key(&call.conf.network) {
            return Err(CniError::new(
                Code::NotReady,
                format!("network {:?} is not defined in config_dir", call.conf.network.as_str()),
            ));
        }
    } else {
        call.conf.definition()?;
    }
    board.status(&call.conf.network)
}

fn key(call: &Checked) -> Result<AttachmentKey, CniError> {
    Ok(AttachmentKey {
        network: call.conf.network.clone(),
        container: call.call.env.container_id()?,
        ifname: call.call.env.interface()?,
    })
}

async fn admit(
    house: &House,
    call: &Checked,
    class: Class,
    definition: Option<Arc<quantum_config::cni::Definition>>,
) -> Result<Admitted, CniError> {
    let network = call.conf.network.clone();
    ask(&house.admit, Admit { network, class, definition, caller: call.caller.clone() }).await?
}

/// Tells the Manager of a network whose mailbox is closed, so that it is rebuilt.
fn alive<T>(
    house: &House,
    network: &quantum_config::ids::NetworkName,
    answer: Result<T, CniError>,
) -> Result<T, CniError> {
    if answer.is_err() {
        house.died.do_send(Died(network.clone()));
    }
    answer
}
