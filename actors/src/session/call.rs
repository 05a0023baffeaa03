//! A CNI call: checked once more, carried out, counted, logged. The plugin has checked the
//! environment already; who connects need not be our plugin.

use std::time::{Duration, Instant};

use quantum_cni::kernel::netns::Netns;
use quantum_cni::kernel::peer::{Credentials, Sent};
use quantum_config::cni::{self, CniError, Code, Command};
use quantum_config::ids::PluginName;
use quantum_config::wire::{Call, Descriptor, Reply};
use slog::{Logger, debug, error, info, o, warn};

use super::conf::{self, Conf};
use super::memory::Room;
use super::verbs::{self, Done, Undo, Work};
use super::{Connection, House, refuse};
use crate::caller::Caller;

/// How long a caller waits who does not say it.
const UNSAID: Duration = Duration::from_secs(60);

/// The namespaces of a call.
pub(super) struct Namespaces {
    pub(super) container: Option<Netns>,
}

/// A call whose form is right.
pub(super) struct Checked {
    pub(super) command: Command,
    pub(super) call: Call,
    pub(super) conf: cni::Call,
    pub(super) namespaces: Namespaces,
    pub(super) caller: Caller,
    /// The IPAM plugin that has its part in the call.
    pub(super) delegate: Option<PluginName>,
}

/// Serves a call; whatever happens, there is an answer. If it is not heard, what was made is taken
/// back.
pub(super) async fn serve(
    house: &House,
    connection: &mut Connection,
    mut call: Call,
    since: Instant,
    room: Room,
) {
    let begun = Instant::now();
    let Conf { seen, all } = conf::read(house, connection.peer().uid, &mut call, room).await;
    let log = logger(house, connection.peer(), &call, seen.name);
    let command = call.env.command.clone();
    debug!(log, "request"; "traceparent" => call.traceparent.clone());
    let patience = match call.deadline_ms {
        0 => UNSAID,
        said => Duration::from_millis(said),
    };
    let caller = Caller::new(patience.saturating_sub(since.elapsed()));
    let (outcome, delegate) = match check(house, call, all, connection.take_sent(), caller.clone())
    {
        Ok(checked) => {
            let delegate = checked.delegate.clone();
            let work = verbs::carry_out(house, checked);
            (watched(connection, &caller, work).await, delegate)
        }
        Err(error) => (Err(error), None),
    };
    // An ADD that has no addresses yet comes again.
    if !matches!(&outcome, Ok(done) if done.waits_for_addresses) {
        house.meters.operation(&command, begun.elapsed(), outcome.as_ref().err().map(|e| e.code));
    }
    report(&log, connection.peer().uid == 0, begun.elapsed(), &outcome);
    let (mut reply, undo) = answer(outcome, &command, delegate, &seen.version);
    reply.stopping = caller.is_turned_away();
    let heard = !caller.has_left() && connection.deliver(&reply.encode(), &log).await;
    if let (false, Some(undo)) = (heard, undo) {
        info!(log, "taking back what nobody heard of");
        if let Err(e) = undo.run().await {
            error!(log, "could not take it back"; "error" => %e);
        }
    }
}

/// The answer to an outcome, and what takes it back.
fn answer(
    outcome: Result<Done, CniError>,
    command: &str,
    delegate: Option<PluginName>,
    version: &str,
) -> (Reply, Option<Undo>) {
    let name = delegate.map(String::from).unwrap_or_default();
    match outcome {
        Ok(done) if done.waits_for_addresses => {
            // For a plugin that does not know what to do, and must not take it for success.
            let error = CniError::new(
                Code::UnsupportedField,
                format!("ipam.type={name:?} is not supported"),
            )
            .with_details("the plugin is older than quantum-cnid: install both of the same");
            (Reply { delegate: name, ..refuse(&error, Some(version)) }, None)
        }
        Ok(done) => {
            // What an ADD was to be told by the delegate has been told.
            let delegate = if command == Command::Add.as_str() { String::new() } else { name };
            let stdout = done.stdout;
            (Reply { stdout, delegate, ..Reply::default() }, done.undo)
        }
        // Whatever of a GC fails, the rest is cleaned up.
        Err(error) if command == Command::Gc.as_str() => {
            (Reply { delegate: name, ..refuse(&error, Some(version)) }, None)
        }
        Err(error) => (refuse(&error, Some(version)), None),
    }
}

/// Waits for the work and tells it when the caller hangs up; the work itself ends in its own time.
async fn watched(
    connection: &mut Connection,
    caller: &Caller,
    mut work: Work<'_>,
) -> Result<Done, CniError> {
    tokio::select! {
        outcome = &mut work => return outcome,
        () = connection.hung_up() => caller.leave(),
    }
    work.await
}

fn check(
    house: &House,
    call: Call,
    conf: Result<cni::Call, CniError>,
    sent: Sent,
    caller: Caller,
) -> Result<Checked, CniError> {
    let command = call.env.validate()?;
    let namespaces = namespaces(house, command, &call, sent)?;
    let conf = conf?;
    conf.version.require(command)?;
    // A GC without a list is refused, and nobody is to take it for an empty one.
    let has_list = command != Command::Gc || conf.conf.valid_attachments.is_some();
    let delegate = conf.delegate().filter(|_| has_list);
    Ok(Checked { command, call, conf, namespaces, caller, delegate })
}

/// Checks the namespaces before anything is touched.
fn namespaces(
    house: &House,
    command: Command,
    call: &Call,
    mut sent: Sent,
) -> Result<Namespaces, CniError> {
    let mut container = None;
    for role in &call.descriptors {
        let Some(netns) = sent.next_netns() else { break };
        match role {
            Descriptor::Host => {
                let id = netns.map(|n| n.id()).map_err(|e| {
                    CniError::new(
                        Code::ForeignHost,
                        "the plugin's own network namespace is not one",
                    )
                    .with_details(e.to_string())
                })?;
                if id != house.host {
                    return Err(CniError::new(
                        Code::ForeignHost,
                        "the plugin runs in another network namespace than quantum-cnid",
                    )
                    .with_details(
                        "each host namespace needs a daemon of its own; QUANTUM_CNI_SOCKET tells the plugin which",
                    ));
                }
            }
            Descriptor::Container => match netns {
                Ok(netns) => container = Some(netns),
                // A DEL does not need it.
                Err(_) if command == Command::Del => {}
                Err(e) => {
                    return Err(invalid_netns(call, &e.to_string()));
                }
            },
        }
    }
    if matches!(command, Command::Add | Command::Check) {
        match &container {
            None => return Err(invalid_netns(call, "no descriptor of it was sent")),
            Some(netns) if netns.id() == house.host && !call.env.netns_override => {
                let why = "it is the host's own network namespace, and CNI_NETNS_OVERRIDE is not 1";
                return Err(invalid_netns(call, why));
            }
            Some(_) => {}
        }
    }
    Ok(Namespaces { container })
}

fn invalid_netns(call: &Call, why: &str) -> CniError {
    CniError::new(
        Code::InvalidNetns,
        format!("CNI_NETNS {:?} is not a container's network namespace", call.env.netns),
    )
    .with_details(why)
}

/// The module document's fields, and who asked, on every record of this call.
fn logger(house: &House, peer: &Credentials, call: &Call, network: String) -> Logger {
    house.log.new(o!(
        "container_id" => call.env.container.clone(),
        "network_name" => network,
        "command" => call.env.command.clone(),
        "interface" => call.env.ifname.clone(),
        "request_id" => call.request_id.clone(),
        "uid" => peer.uid,
        "pid" => peer.pid,
    ))
}

fn report(log: &Logger, is_root: bool, took: Duration, outcome: &Result<Done, CniError>) {
    let took = took.as_micros() as u64;
    if let Ok(Done { unreachable, .. }) = outcome
        && !unreachable.is_empty()
    {
        warn!(log, "name servers are left out of the result, as no container can ask them: link-local addresses with a \
            zone of the host's, and what is no address"; "nameservers" => unreachable.join(", "));
    }
    match outcome {
        Ok(done) if done.is_routine => debug!(log, "done"; "took_us" => took),
        Ok(done) => info!(log, "done"; "ip_address" => done.addresses(), "took_us" => took),
        // A STATUS that says no is an answer, and asked for every few seconds.
        Err(e) if matches!(e.code, Code::NotReady | Code::Degraded) => {
            debug!(log, "not ready"; "error" => %e, "code" => e.code.number(), "took_us" => took);
        }
        // Whoever may only read must not fill the log.
        Err(e) if !is_root => {
            debug!(log, "failed"; "error" => %e, "code" => e.code.number(), "took_us" => took);
        }
        Err(e) => {
            error!(log, "failed"; "error" => %e, "code" => e.code.number(), "took_us" => took);
        }
    }
}
