//! `quantum-cni`, the plugin that runtimes exec: a pure proxy. It checks the environment, opens the
//! namespaces, hands everything to the daemon and prints what the daemon answers. It parses no
//! configuration, holds no state and touches no network; where the daemon does not answer, a DEL
//! becomes a tombstone and everything else an error that says so. Where addresses come from another
//! IPAM plugin, it runs that one.
#![forbid(unsafe_code)]

mod delegate;
mod exchange;
mod namespaces;
mod tombstone;

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use quantum_config::cni::{self, CniError, Code, Command, Environment, Role, has_code};
use quantum_config::wire::{self, Reply};

/// The release of the reference plugins whose `firewall` is served: `ingressPolicy` began with it.
const SERVED_RELEASE: &str = "1.1.0";

fn main() -> ExitCode {
    let env = Environment::from_vars(|name| std::env::var_os(name));
    let name = called_as();
    if env.command.is_empty() {
        // Somebody ran us by hand; runtimes look for our version here, too.
        let text = about(&name);
        let _ = writeln!(std::io::stderr(), "{text}");
        return ExitCode::SUCCESS;
    }
    let mut stdin = Vec::new();
    let reply = serve(env, name, &mut stdin).unwrap_or_else(|error| {
        let version = cni::peek(&stdin).version;
        Reply { exit: 1, stdout: error.to_json(Some(&version)), ..Reply::default() }
    });
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(reply.stdout.as_bytes()).and_then(|()| stdout.flush());
    // A result that could not be printed was not delivered: the runtime must not take it for one.
    if printed.is_err() { ExitCode::FAILURE } else { ExitCode::from(reply.exit) }
}

fn serve(env: Environment, called_as: String, stdin: &mut Vec<u8>) -> Result<Reply, CniError> {
    let command = env.validate()?;
    if command == Command::Version {
        // Never touches stdin: a caller may leave it open for ever.
        return Ok(Reply { stdout: cni::version_document(), ..Reply::default() });
    }
    read_stdin(stdin)?;
    let namespaces = namespaces::open(&env, command)?;
    let call = wire::Call {
        request_id: request_id(),
        deadline_ms: 0, // said when it is sent
        env,
        stdin: std::mem::take(stdin),
        traceparent: std::env::var("TRACEPARENT").unwrap_or_default(),
        descriptors: namespaces.roles(),
        written: None,
        ipam_result: None,
        called_as,
    };
    let ask = |call: &wire::Call| match exchange::exchange(call, &namespaces, command) {
        Err(failure) if command == Command::Del && failure.is_no_answer() => {
            written_down(call, &failure.into_error(command))
        }
        // It could not be carried out now. Once written down it is: whoever sent it need not come again.
        Ok(answer) if command == Command::Del && has_code(&answer.stdout, Code::TryAgainLater) => {
            let why = CniError::new(Code::TryAgainLater, "the daemon could not carry it out now");
            Ok(written_down(call, &why).unwrap_or(answer))
        }
        answer => answer.map_err(|failure| failure.into_error(command)),
    };
    let mut result = ask(&call);
    if let Ok(answer) = &mut result
        && !answer.delegate.is_empty()
    {
        result = delegate::finish(std::mem::take(answer), &call, command, ask);
    }
    *stdin = call.stdin;
    result
}

/// The reference plugin that we were called as, by a link in its place; empty if by our own name.
fn called_as() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if cni::DROP_INS.iter().any(|(known, _)| *known == name) { name } else { String::new() }
}

/// Who we are. nerdctl reads the version of `firewall` here to find out whether it knows
/// `ingressPolicy`, so it is that of the reference plugin whose keys are served, and ours behind it.
fn about(called_as: &str) -> String {
    let release = env!("CARGO_PKG_VERSION");
    match called_as {
        "" => cni::about("quantum-cni", release),
        name => cni::about(name, &format!("{SERVED_RELEASE}+quantum-cni.{release}")),
    }
}

/// Writes a DEL down that was not carried out, if it is to do anything; gives its answer.
fn written_down(call: &wire::Call, why: &CniError) -> Result<Reply, CniError> {
    if Role::of(&call.called_as).leaves_nothing() {
        return Ok(Reply::default());
    }
    tombstone::write(call, why).map(|()| unanswered(call))
}

/// The answer to a DEL that was written down. The daemon will carry out its own part; that of an IPAM
/// plugin is done now, since only we can run it.
fn unanswered(call: &wire::Call) -> Reply {
    let delegate = cni::delegate(&cni::peek(&call.stdin).ipam).ok().flatten();
    Reply { delegate: delegate.map(String::from).unwrap_or_default(), ..Reply::default() }
}

fn read_stdin(stdin: &mut Vec<u8>) -> Result<(), CniError> {
    let limit = u64::from(wire::MAX_BODY);
    let failed = |details: String| {
        CniError::new(Code::Io, "reading the network configuration from stdin")
            .with_details(details)
    };
    std::io::stdin().take(limit).read_to_end(stdin).map_err(|e| failed(e.to_string()))?;
    if stdin.len() as u64 == limit {
        return Err(failed(format!("it is longer than the {limit} bytes allowed")));
    }
    Ok(())
}

/// Names this call in the daemon's log: process and time are enough to be unique on one host.
fn request_id() -> String {
    let now = tombstone::boottime().as_nanos();
    format!("{:x}-{now:x}", std::process::id())
}
