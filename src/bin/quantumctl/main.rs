//! `quantumctl`, the operator's command line: asks the daemon over its socket, which it finds as the
//! plugin does.
#![forbid(unsafe_code)]

mod ask;
mod conflist;
mod install;
mod policy;
mod put;
mod render;
mod status;
mod table;

use std::io::Write;
use std::process::ExitCode;

use quantum_cni::printable::printable_lines;
use structopt::StructOpt;
use structopt::clap::ErrorKind;

/// What is wrong with the command line or the answer, where 1 is an answer: as grep has it.
const TROUBLE: u8 = 2;

/// Asks the daemon of quantum-cni
#[derive(Debug, StructOpt)]
#[structopt(name = "quantumctl")]
enum Command {
    /// How the daemon and its networks are
    Status(status::Options),
    /// Who may speak to whom, why, and what to change about it
    Policy(policy::Command),
    /// Puts the plugin, links in the places of the reference plugins, and a conflist in place
    Install(install::Install),
    /// Takes them away, the conflist first
    Uninstall(install::Uninstall),
}

fn main() -> ExitCode {
    let command = match Command::from_args_safe() {
        Ok(command) => command,
        Err(error)
            if matches!(error.kind, ErrorKind::HelpDisplayed | ErrorKind::VersionDisplayed) =>
        {
            let _ = writeln!(std::io::stdout(), "{}", error.message);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", error.message);
            return ExitCode::from(TROUBLE);
        }
    };
    let asked = |outcome: Result<_, ask::AskError>| outcome.map_err(|error| error.to_string());
    let put = |outcome: Result<_, install::InstallError>| outcome.map_err(|e| e.to_string());
    let (outcome, trouble) = match command {
        Command::Status(options) => (asked(status::run(&options)), ExitCode::FAILURE),
        Command::Policy(command) => (asked(policy::run(&command)), ExitCode::from(TROUBLE)),
        Command::Install(options) => (put(install::install(&options)), ExitCode::FAILURE),
        Command::Uninstall(options) => (put(install::uninstall(&options)), ExitCode::FAILURE),
    };
    match outcome {
        Ok((text, code)) => {
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            code
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "quantumctl: {}", printable_lines(&error));
            trouble
        }
    }
}
