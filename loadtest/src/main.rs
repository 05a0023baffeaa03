//! `quantum-loadtest`: drives bursts of ADD and DEL through CNI plugins exactly as a runtime does,
//! beside the peers and the kernel floor, and says which of the promised figures were reached.

mod daemon;
mod driver;
mod failure;
mod netlink;
mod options;
mod report;
mod scenario;
mod world;

use std::fs;
use std::process::ExitCode;

use structopt::StructOpt;

use crate::failure::{Doing, Result};
use crate::options::{Bench, Options};

fn main() -> ExitCode {
    let Options::Bench(options) = Options::from_args();
    match bench(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("quantum-loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// True when every check held.
fn bench(options: &Bench) -> Result<bool> {
    // Before anything else, while there is one thread only.
    world::isolation::enter()?;
    let report = scenario::bench(options)?;
    print!("{report}");
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report.to_json()))
            .doing(|| format!("writing {}", path.display()))?;
    }
    Ok(report.sound())
}
