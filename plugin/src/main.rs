//! `quantum-cni`, the plugin that runtimes exec: a pure proxy. It checks the environment, opens the
//! namespaces, hands everything to the daemon and prints what the daemon answers. It parses no
//! configuration, holds no state and touches no network; where the daemon does not answer, a DEL
//! becomes a tombstone and everything else an error that says so.
#![forbid(unsafe_code)]

mod exchange;
mod namespaces;
mod tombstone;

use std::io::{Read, Write};
use std::process::ExitCode;

use quantum_config::cni::{self, CniError, Code, Command, Environment};
use quantum_config::wire::{self, Reply};

fn main() -> ExitCode {
    let env = Environment::from_vars(|name| std::env::var_os(name));
    if env.command.is_empty() {
        // Somebody ran us by hand; runtimes look for our version here, too.
        let text = cni::about("quantum-cni", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(std::io::stderr(), "{text}");
        return ExitCode::SUCCESS;
    }
    let mut stdin = Vec::new();
    let reply = serve(env, &mut stdin).unwrap_or_else(|error| {
        let version = cni::peek(&stdin).version;
        Reply { exit: 1, stdout: error.to_json(Some(&version)) }
    });
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(reply.stdout.as_bytes()).and_then(|()| stdout.flush());
    // A result that could not be printed was not delivered: the runtime must not take it for one.
    if printed.is_err() { ExitCode::FAILURE } else { ExitCode::from(reply.exit) }
}

fn serve(env: Environment, stdin: &mut Vec<u8>) -> Result<Reply, CniError> {
    let command = env.validate()?;
    if command == Command::Version {
        // Never touches stdin: a caller may leave it open for ever.
        return Ok(Reply { exit: 0, stdout: cni::version_document() });
    }
    read_stdin(stdin)?;
    let namespaces = namespaces::open(&env, command)?;
    let call = wire::Call {
        request_id: request_id(),
        deadline_ms: exchange::patience(command).as_millis() as u64,
        env,
        stdin: std::mem::take(stdin),
        traceparent: std::env::var("TRACEPARENT").unwrap_or_default(),
        descriptors: namespaces.roles(),
        written: None,
    };
    let answer = exchange::exchange(&call, &namespaces, command);
    let result = match answer {
        Ok(reply) => Ok(reply),
        Err(failure) if command == Command::Del && failure.is_no_answer() => {
            tombstone::write(&call, &failure).map(|()| Reply::default())
        }
        Err(failure) => Err(failure.into_error(command)),
    };
    *stdin = call.stdin;
    result
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
