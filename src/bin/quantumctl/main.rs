//! `quantumctl`, the operator's command line: asks the daemon over its socket, which it finds as the
//! plugin does.
#![forbid(unsafe_code)]

mod ask;
mod status;

use std::io::Write;
use std::process::ExitCode;

use structopt::StructOpt;

/// Asks the daemon of quantum-cni
#[derive(Debug, StructOpt)]
#[structopt(name = "quantumctl")]
enum Command {
    /// How the daemon and its networks are
    Status(status::Options),
}

fn main() -> ExitCode {
    let outcome = match Command::from_args() {
        Command::Status(options) => status::run(&options),
    };
    match outcome {
        Ok((text, code)) => {
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            code
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "quantumctl: {error}");
            ExitCode::FAILURE
        }
    }
}
