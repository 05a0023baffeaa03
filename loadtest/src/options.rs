//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use structopt::StructOpt;

/// Drives bursts of ADD and DEL through CNI plugins exactly as a runtime does, checks every result,
/// and measures them beside the kernel floor of the same steps.
#[derive(Debug, StructOpt)]
#[structopt(name = "quantum-loadtest")]
pub(crate) enum Options {
    /// Measures a plugin, the peers and the kernel floor, side by side, in private namespaces.
    ///
    /// The exit code says whether every call succeeded, every address was distinct and nothing was
    /// left behind. It never depends on timing: the figures are printed with what was asked of
    /// them.
    Bench(Bench),
}

/// What `bench` is to measure.
#[derive(Debug, StructOpt)]
pub(crate) struct Bench {
    /// The plugin under test
    #[structopt(long, value_name = "PATH", parse(from_os_str))]
    pub(crate) plugin: PathBuf,

    /// The daemon behind the plugin: started before and stopped after. Without it the plugin is
    /// taken to work alone, as the reference plugins do
    #[structopt(long, value_name = "PATH", parse(from_os_str))]
    pub(crate) daemon: Option<PathBuf>,

    /// A static program that does nothing, for the floor [default: quantum-noop beside this
    /// program]
    #[structopt(long, value_name = "PATH", parse(from_os_str))]
    pub(crate) noop: Option<PathBuf>,

    /// How many containers are attached and detached
    #[structopt(long, value_name = "N", default_value = "200")]
    pub(crate) count: NonZeroUsize,

    /// How many calls of a burst run at the same time [default: all of them]
    #[structopt(long, value_name = "N")]
    pub(crate) concurrency: Option<NonZeroUsize>,

    /// How many attachments are held while the daemon's memory is read; 0 to leave that out
    #[structopt(long, value_name = "N", default_value = "500")]
    pub(crate) hold: usize,

    /// How many times the daemon is replaced while containers come and go; 0 to leave that out
    #[structopt(long, value_name = "N", default_value = "20")]
    pub(crate) restarts: usize,

    /// The folder of the reference plugins; left out when it has no `bridge`
    #[structopt(long, value_name = "DIR", default_value = "/usr/lib/cni", parse(from_os_str))]
    pub(crate) peer_dir: PathBuf,

    /// How many containers the peers attach and detach; 0 to leave them out
    #[structopt(long, value_name = "N", default_value = "30")]
    pub(crate) peer_count: usize,

    /// How many containers are attached and detached with the data plane's features on and off, in
    /// turns; 0 to leave that out
    #[structopt(long, value_name = "N", default_value = "60")]
    pub(crate) turns: usize,

    /// With how many endpoints the throughput of one stream is measured beside that with 10; 0 to
    /// leave throughput out
    #[structopt(long, value_name = "N", default_value = "1000")]
    pub(crate) endpoints: usize,

    /// How many policies there are while what they cost is measured beside `--endpoints`; 0 to leave
    /// that out
    #[structopt(long, value_name = "N", default_value = "500")]
    pub(crate) policies: usize,

    /// Only what policies cost is measured
    #[structopt(long)]
    pub(crate) only_policy: bool,

    /// Measures bursts of the chain bridge + portmap + firewall too
    #[structopt(long)]
    pub(crate) chain: bool,

    /// After how many seconds a call is killed and counted as lost
    #[structopt(long, value_name = "SECONDS", default_value = "60")]
    call_limit: u64,

    /// Where to put the sockets, leases and state of the run; removed at the end
    /// [default: the system's folder for temporary files]
    #[structopt(long, value_name = "DIR", parse(from_os_str))]
    pub(crate) work_dir: Option<PathBuf>,

    /// Also writes everything as JSON
    #[structopt(long, value_name = "FILE", parse(from_os_str))]
    pub(crate) json: Option<PathBuf>,
}

impl Bench {
    /// After how long a call is killed and counted as lost.
    pub(crate) fn call_limit(&self) -> Duration {
        Duration::from_secs(self.call_limit)
    }

    /// How many calls of a burst of `count` run at the same time.
    pub(crate) fn at_once(&self, count: usize) -> usize {
        self.concurrency.map_or(count, |n| n.get().min(count))
    }
}
