//! Delegation to an IPAM plugin that is not built in (CNI specification, section 4). The daemon says
//! which and when; we run it, since only here do `CNI_PATH` and the environment mean what the runtime
//! means, and the daemon runs nothing that a request names.
//!
//! ```text
//!   ADD                  daemon: whose are the addresses? ─► delegate ADD ─► daemon: attach with these
//!                                                            └─ whatever fails from here on: delegate DEL
//!   DEL, CHECK, STATUS   daemon, then delegate
//!   GC                   daemon, then delegate, whatever the daemon says
//! ```
//!
//! A DEL takes the interface away before the address, so that nobody gets the address of an interface
//! that is still there. Both halves may be repeated, and what fails is told, so that the runtime does.

use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use quantum_config::cni::{CniError, Code, Command, handed_on, peek};
use quantum_config::ids::PluginName;
use quantum_config::wire::{Call, Reply};

/// The most that a delegate may print. A result is a few hundred bytes.
const LONGEST: u64 = 256 << 10;
/// How much of what is no CNI document is shown.
const SHOWN: usize = 200;

/// Does the delegate's part of a call that the daemon has answered. `again` asks the daemon once more,
/// with the delegate's result.
pub(crate) fn finish(
    answer: Reply,
    call: &Call,
    command: Command,
    again: impl FnOnce(&Call) -> Result<Reply, CniError>,
) -> Result<Reply, CniError> {
    let found = Delegate::find(&answer.delegate, call, command);
    match command {
        Command::Add => {
            let delegate = found?;
            let outcome = delegate.run(Command::Add).and_then(|printed| match printed {
                Ended::Well(printed) => again(&Call { ipam_result: Some(printed), ..call.clone() }),
                Ended::Refusing(reply) => Ok(reply),
            });
            if !matches!(&outcome, Ok(reply) if reply.exit == 0) {
                // It releases what it may have leased. The runtime's own DEL gets here once more.
                aside(delegate.run(Command::Del));
            }
            outcome
        }
        // A GC, of which the daemon could not do all: the rest is cleaned up, and its error told.
        _ if answer.exit != 0 => {
            aside(found.and_then(|delegate| delegate.run(command)));
            Ok(answer)
        }
        _ => match found?.run(command)? {
            Ended::Well(_) => Ok(Reply { delegate: String::new(), ..answer }),
            Ended::Refusing(reply) => Ok(reply),
        },
    }
}

/// How a delegate ended.
enum Ended {
    /// With success, having printed this.
    Well(Vec<u8>),
    /// With an error, which is ours to hand on.
    Refusing(Reply),
}

/// A delegate that was found.
struct Delegate<'a> {
    name: PluginName,
    program: PathBuf,
    /// Our own standard input, for each of its runs.
    stdin: &'a [u8],
    /// `cniVersion` of the configuration.
    version: String,
}

impl<'a> Delegate<'a> {
    /// Looks for it as runtimes look for plugins: the first regular file of that name.
    fn find(name: &str, call: &'a Call, command: Command) -> Result<Self, CniError> {
        let name = PluginName::new(name)
            .map_err(|e| CniError::new(Code::InvalidNetworkConfig, format!("ipam.type: {e}")))?;
        let path = std::env::var_os("CNI_PATH").unwrap_or_default();
        if path.is_empty() {
            return Err(CniError::new(
                Code::InvalidEnvironment,
                "required env variables [CNI_PATH] missing",
            )
            .with_details(format!("the IPAM plugin {:?} is looked for there", name.as_str())));
        }
        // An empty entry would be whatever folder we happen to be in.
        let folders = std::env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
        let found = folders.map(|folder| folder.join(name.as_str())).find_map(|file| {
            let is = file.metadata().ok().filter(Metadata::is_file)?;
            Some((file, is))
        });
        let Some((program, is)) = found else {
            let code = match command {
                Command::Status => Code::NotReady,
                _ => Code::InvalidNetworkConfig,
            };
            return Err(CniError::new(
                code,
                format!("there is no IPAM plugin {:?} in CNI_PATH", name.as_str()),
            )
            .with_details(format!(
                "CNI_PATH is {path:?}; install it there, or correct ipam.type"
            )));
        };
        let same = |own: Metadata| (own.dev(), own.ino()) == (is.dev(), is.ino());
        if std::fs::metadata("/proc/self/exe").is_ok_and(same) {
            return Err(CniError::new(
                Code::InvalidNetworkConfig,
                format!("ipam.type={:?} is this plugin itself, which is no IPAM", name.as_str()),
            ));
        }
        Ok(Self { name, program, stdin: &call.stdin, version: peek(&call.stdin).version })
    }

    /// Runs it with our environment, but for the verb, and our input. What it says on standard error
    /// is for whom ours is.
    fn run(&self, command: Command) -> Result<Ended, CniError> {
        let failed = |doing: &str, e: std::io::Error| {
            CniError::new(Code::Io, format!("{doing} the IPAM plugin {}", self.program.display()))
                .with_details(e.to_string())
        };
        let mut child = std::process::Command::new(&self.program)
            .env("CNI_COMMAND", command.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed("starting", e))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut printed = Vec::new();
        let read = std::thread::scope(|scope| {
            // Beside the reading: it may print before it has read everything, or read nothing.
            scope.spawn(|| stdin.map(|mut pipe| pipe.write_all(self.stdin)));
            // One that prints more finds nobody reading, and ends by it.
            stdout.map_or(Ok(0), |pipe| pipe.take(LONGEST + 1).read_to_end(&mut printed))
        });
        let status = child.wait().map_err(|e| failed("waiting for", e))?;
        read.map_err(|e| failed("reading what was printed by", e))?;
        if printed.len() as u64 > LONGEST {
            return Err(self.astray(command, format!("it printed more than {LONGEST} bytes")));
        }
        if status.success() {
            return Ok(Ended::Well(printed));
        }
        match handed_on(&printed, &self.version) {
            Some(stdout) => Ok(Ended::Refusing(Reply { exit: 1, stdout, ..Reply::default() })),
            None => {
                let text = String::from_utf8_lossy(&printed);
                let shown: String = text.chars().take(SHOWN).collect();
                let ended = ended(status);
                Err(self.astray(command, format!("it {ended} and printed no CNI error: {shown:?}")))
            }
        }
    }

    fn astray(&self, command: Command, details: String) -> CniError {
        let name = self.name.as_str();
        CniError::new(Code::Internal, format!("the IPAM plugin {name:?} failed at {command}"))
            .with_details(format!("{details}; it is {}", self.program.display()))
    }
}

/// Tells on standard error of what failed beside the error that is printed.
fn aside(outcome: Result<Ended, CniError>) {
    let about = match outcome {
        Ok(Ended::Well(_)) => return,
        Ok(Ended::Refusing(reply)) => reply.stdout,
        Err(error) => error.to_string(),
    };
    let _ = writeln!(std::io::stderr(), "quantum-cni: besides, of the IPAM plugin: {about}");
}

fn ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("was ended by signal {signal}"),
        None => format!("ended with status {}", status.code().unwrap_or_default()),
    }
}
