//! `quantum-cnid`, the daemon: a graph of actors, one for each thing that owns state. `wiring` is the
//! graph, `ranks` says who may ask whom, `lifecycle` is the order of start and stop; each actor has a
//! folder of its name, and `messages` a file for each mailbox.
#![forbid(unsafe_code)]

mod board;
mod cache;
mod caller;
mod docker;
mod drain;
mod driver;
mod earlier;
mod folders;
mod gauges;
mod http;
mod lanes;
mod lifecycle;
mod logging;
mod manager;
mod messages;
mod meters;
mod metrics;
mod network;
mod options;
mod policy;
mod policy_dir;
mod pool;
mod publisher;
mod ranks;
mod reclaim;
mod recovery;
mod session;
mod signals;
mod supervisor;
mod wiring;

use std::io::Write;
use std::process::ExitCode;

use structopt::StructOpt;

use crate::options::Options;

fn main() -> ExitCode {
    quantum_cni::kernel::memory::keep_little();
    quantum_cni::store::folder::make_files_private();
    let options = Options::from_args();
    if options.graph {
        return print(&ranks::graph());
    }
    if options.list_crash_points {
        return print(&quantum_cni::kernel::fault::POINTS.join("\n"));
    }
    let settings = match options.settings() {
        Ok(settings) => settings,
        Err(error) => return fail(&error.to_string()),
    };
    let (log, written) = logging::logger(&settings);
    // One thread for every actor that holds state: a message costs half a microsecond there.
    let system = actix_rt::System::new();
    let outcome = system.block_on(lifecycle::run(settings, log));
    written.wait();
    // Not by coming back: every thread would be waited for, also one that hangs in the kernel or at a disk.
    std::process::exit(match outcome {
        Ok(()) => 0,
        Err(error) => {
            let _ = fail(&error.to_string());
            1
        }
    })
}

fn print(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    ExitCode::SUCCESS
}

fn fail(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "quantum-cnid: {why}");
    ExitCode::FAILURE
}
