//! The floor: what the kernel asks for the same steps, with no plugin, no daemon and no
//! bookkeeping.
//!
//! ADD cannot be cheaper than one exec of a static program and the two datagrams that make the
//! interface and set it up; DEL not cheaper than one exec and one deletion.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::driver::run_process;
use crate::failure::{Doing, Failure, Result};
use crate::netlink::{
    Route, Veth, address, bridge, default_route, delete, delete_group, regroup, up, veth,
};
use crate::report::Phase;
use crate::world::{Container, IFNAME, LOOPBACK, Visitor, as_handed_over, remove_link, visiting};

const NAME: &str = "floor";
const BRIDGE: &str = "floor0";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 19, 0, 1);
const PREFIX: u8 = 16;
/// Interface indexes are chosen; those that the kernel chooses begin at 1 and stay far below.
const BRIDGE_INDEX: u32 = 1_000_000;
const FIRST_INDEX: u32 = BRIDGE_INDEX + 1;
const INDEX_INSIDE: u32 = 1000;
/// The group links live in, and the one they are moved to, to be deleted together.
const GROUP: u32 = 0x666c_6f6f;
const SCRATCH_GROUP: u32 = 0x7363_7261;
/// As many bytes as a small network configuration.
const INPUT: [u8; 512] = [b' '; 512];

/// Collects samples over several runs, so that the floor can be measured before and after what it
/// is compared with.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    exec: Vec<Duration>,
    add: Vec<Duration>,
    singly: Vec<Duration>,
    grouped: Vec<Duration>,
    grouped_wall: Duration,
}

impl Floor {
    /// Runs every step once for each container.
    pub(crate) fn run(
        &mut self,
        noop: Option<&Path>,
        containers: &[Container],
        limit: Duration,
    ) -> Result<()> {
        eprintln!("floor: {} times each step", containers.len());
        if let Some(noop) = noop {
            for _ in containers {
                self.exec.push(exec(noop, limit)?);
            }
        }
        let mut host = Route::open()?;
        host.commit([bridge(BRIDGE, BRIDGE_INDEX), address(BRIDGE_INDEX, GATEWAY, PREFIX)])?;
        visiting(|visitor| {
            self.add_all(visitor, &mut host, containers)?;
            for index in indexes(containers) {
                let started = Instant::now();
                host.commit([delete(index)])?;
                self.singly.push(started.elapsed());
            }
            as_handed_over(visitor, containers)?;

            self.add_all(visitor, &mut host, containers)?;
            let moves = indexes(containers).map(|index| regroup(index, SCRATCH_GROUP));
            let started = Instant::now();
            host.commit(moves.chain([delete_group(SCRATCH_GROUP)]))?;
            let all = started.elapsed();
            self.grouped_wall += all;
            self.grouped.extend(containers.iter().map(|_| all));
            as_handed_over(visitor, containers)
        })?;
        remove_link(BRIDGE)
    }

    fn add_all(
        &mut self,
        visitor: &Visitor,
        host: &mut Route,
        containers: &[Container],
    ) -> Result<()> {
        for (container, index) in containers.iter().zip(indexes(containers)) {
            let started = Instant::now();
            add(visitor, host, container, index)
                .doing(|| format!("attaching {} by raw netlink", container.id))?;
            self.add.push(started.elapsed());
        }
        Ok(())
    }

    /// The phases measured: exec, add, delete singly, delete grouped.
    pub(crate) fn phases(self) -> Phases {
        let sequential = |what: &str, samples: Vec<Duration>| {
            let wall = samples.iter().sum();
            Phase::new(NAME, what, samples, 0, wall)
        };
        Phases {
            exec: sequential("exec of nothing", self.exec),
            add: sequential("netlink add", self.add),
            singly: sequential("netlink delete, singly", self.singly),
            grouped: Phase::new(
                NAME,
                "netlink delete, grouped",
                self.grouped,
                0,
                self.grouped_wall,
            ),
        }
    }
}

/// The floor's phases.
#[derive(Debug)]
pub(crate) struct Phases {
    exec: Phase,
    add: Phase,
    singly: Phase,
    grouped: Phase,
}

impl Phases {
    /// In the order of the report.
    pub(crate) fn list(&self) -> [Phase; 4] {
        [self.exec.clone(), self.add.clone(), self.singly.clone(), self.grouped.clone()]
    }

    /// The median of an ADD that is nothing but kernel, in seconds.
    pub(crate) fn add(&self) -> Option<f64> {
        Some(self.exec.p50()? + self.add.p50()?)
    }

    /// The median of a DEL that is nothing but kernel, in seconds.
    pub(crate) fn del(&self) -> Option<f64> {
        Some(self.exec.p50()? + self.singly.p50()?)
    }
}

fn indexes(containers: &[Container]) -> impl Iterator<Item = u32> {
    containers.iter().map(|container| FIRST_INDEX + u32::from(container.number))
}

fn exec(noop: &Path, limit: Duration) -> Result<Duration> {
    let mut command = Command::new(noop);
    let started = Instant::now();
    let finished = run_process(&mut command, &INPUT, limit)?;
    let took = started.elapsed();
    if finished.status.success() {
        return Ok(took);
    }
    Err(Failure::new(format!("running {}", noop.display()), finished.status)
        .with_remedy("--noop takes a program that does nothing and succeeds"))
}

fn add(visitor: &Visitor, host: &mut Route, container: &Container, index: u32) -> Result<()> {
    let [high, low] = container.number.to_be_bytes();
    let pair = Veth {
        name: &format!("floor{}", container.number + 1),
        index,
        bridge: Some(BRIDGE_INDEX),
        group: GROUP,
        peer_name: IFNAME,
        peer_index: INDEX_INSIDE,
        peer_mac: [0x02, 0, 0, 1, high, low],
        netns: container.netns.as_fd(),
    };
    host.commit([veth(&pair)])?;
    visitor.route_in(&container.netns)?.commit([
        up(LOOPBACK),
        address(INDEX_INSIDE, Ipv4Addr::new(172, 19, 1 + high, low), PREFIX),
        up(INDEX_INSIDE),
        default_route(INDEX_INSIDE, GATEWAY),
    ])
}
