//! The links of ours on the host, and its forwarding: what somebody did to them is undone, less often where
//! somebody does it again and again, and what cannot be undone is reported.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quantum_cni::attach::{BridgeWanted, Families, Fights, Harm, PortWanted, Record, Trouble};
use quantum_cni::kernel::forwarding::{Change, Forwarding};
use quantum_cni::kernel::route::{Host, put_settings_back};
use quantum_cni::kernel::watch::LinksHeard;
use quantum_cni::kernel::{KernelError, fault};
use quantum_config::ids::IfName;
use slog::{Logger, info, warn};

use super::{Lanes, forwarding};
use crate::meters::Meters;

/// How long forwarding that was turned off may come back by itself: files of `/etc/sysctl.d` are read one
/// after the other, and a later one may turn it on again.
const GRACE: Duration = Duration::from_millis(200);

/// What is remembered from look to look.
#[derive(Debug)]
pub(super) struct Care {
    began: Instant,
    meters: Meters,
    log: Logger,
    fights: RefCell<Fights<Thing>>,
    /// Not all was well at the last look.
    is_unwell: Cell<bool>,
    /// What the host has to forward for containers.
    held: Cell<Families>,
}

/// Something that is put right: the bridge that it is about, and its name in words.
type Thing = (Option<IfName>, String);

/// What a look came to.
#[derive(Debug, Default)]
pub(super) struct Cared {
    /// Bridges that their networks have to put right.
    pub(super) bridges: BTreeSet<IfName>,
    /// What is not as it should be, and stays so for now.
    pub(super) troubles: Vec<Trouble>,
    /// How long nothing was done but to wait.
    pub(super) waited: Duration,
}

impl Care {
    pub(super) fn new(meters: Meters, log: Logger) -> Self {
        let (fights, is_unwell, held) = Default::default();
        Self { began: Instant::now(), meters, log, fights, is_unwell, held }
    }

    /// What the host has to forward for containers, as far as is known.
    pub(super) fn held(&self) -> Families {
        self.held.get()
    }

    /// Looks at all links of ours and at forwarding, if something was heard of them or `all` is to be looked at.
    pub(super) async fn look(&self, lanes: &Lanes, heard: &LinksHeard, all: bool) -> Cared {
        let all = all || self.is_unwell.get();
        let mut cared = Cared::default();
        let is_off = heard.link_off || heard.off != Families::default();
        if (all || heard.harmed || is_off)
            && let Err(error) = self.links(lanes, heard.off, all, &mut cared).await
        {
            let why = format!("it is not known how the links of containers are: {error}");
            cared.troubles.push(Trouble { bridge: None, why });
        }
        for ((bridge, what), times) in self.fights.borrow_mut().fought(self.began.elapsed()) {
            let why = format!(
                "somebody undoes again and again what is put right: {what}, {times} times within a minute; it is done every ten seconds now. Find out who does it (the log says what was done), and have them leave it alone"
            );
            cared.troubles.push(Trouble { bridge: bridge.clone(), why });
        }
        self.is_unwell.set(!cared.troubles.is_empty() || !cared.bridges.is_empty());
        cared
    }

    async fn links(
        &self,
        lanes: &Lanes,
        was_off: Families,
        all: bool,
        cared: &mut Cared,
    ) -> Result<(), KernelError> {
        let bridges = lanes.book.with(|links| links.bridges());
        let seen = lanes.inspect(move |host: &mut Host| host.seen(&bridges)).await??;
        let (harms, intruders, gateways) = lanes
            .book
            .with(|links| (links.harms(&seen), links.intruders(&seen), links.gateways(&seen)));
        cared.troubles.extend(intruders);
        let held = gateways.iter().fold(Families::default(), |all, (_, of)| all.and(*of));
        self.held.set(held);
        let of_bridge = |harm: &Harm| match harm {
            Harm::Bridge(bridge, _) => Some(bridge.clone()),
            Harm::Port(..) => None,
        };
        let before = lanes.harmed(&harms.iter().filter_map(of_bridge).collect());
        for harm in harms {
            match harm {
                Harm::Port(port, bridge, wrongs) => {
                    let what = format!("port {} of {}", port.name, port.bridge);
                    if !self.may_mend((Some(port.bridge.clone()), what)) {
                        continue;
                    }
                    if let Err(error) = self.replug(lanes, &port, bridge, &wrongs).await {
                        let why = format!(
                            "port {} is {}, and cannot be put right: {error}",
                            port.name,
                            wrongs.join(", ")
                        );
                        cared.troubles.push(Trouble { bridge: Some(port.bridge), why });
                    }
                }
                Harm::Bridge(bridge, wrongs) => {
                    let what = format!("bridge {bridge}");
                    if let Some(why) = before.get(&bridge) {
                        let why = format!(
                            "bridge {bridge} is {}, which its containers suffer from, and is not put right yet: {why}",
                            wrongs.join(", ")
                        );
                        cared.troubles.push(Trouble { bridge: Some(bridge.clone()), why });
                    }
                    if self.may_mend((Some(bridge.clone()), what)) {
                        cared.bridges.insert(bridge);
                    }
                }
            }
        }
        if all {
            // The kernel tells nobody of most settings.
            for bridge in lanes.book.with(|links| links.used(&seen)) {
                self.settings(lanes, bridge, cared).await?;
            }
        }
        self.forwarding(lanes, gateways, was_off, cared).await
    }

    async fn settings(
        &self,
        lanes: &Lanes,
        bridge: BridgeWanted,
        cared: &mut Cared,
    ) -> Result<(), KernelError> {
        let name = bridge.name.clone();
        match lanes.inspect(move |_| put_settings_back(&bridge)).await? {
            Ok(changed) if changed.is_empty() => {}
            Ok(changed) => {
                self.meters.repairs.with_label_values(&["link"]).inc();
                warn!(self.log, "settings of the bridge were changed and are put right";
                    "bridge" => name.as_str(), "settings" => changed.join(" "));
            }
            Err(error) => {
                let why = format!("a setting of bridge {name} is not as it should be: {error}");
                cared.troubles.push(Trouble { bridge: Some(name), why });
            }
        }
        Ok(())
    }

    async fn replug(
        &self,
        lanes: &Lanes,
        port: &PortWanted,
        bridge: quantum_config::ids::LinkIndex,
        wrongs: &[String],
    ) -> Result<(), KernelError> {
        fault::reach("mending")?;
        let wanted = port.clone();
        let is_mended = lanes.route(move |host: &mut Host| host.replug(&wanted, bridge)).await??;
        if is_mended {
            self.meters.repairs.with_label_values(&["link"]).inc();
            warn!(self.log, "a port of ours was changed and is put right";
                "interface" => port.name.as_str(), "bridge" => port.bridge.as_str(),
                "was" => wrongs.join(", "));
        }
        Ok(())
    }

    /// Turns on what somebody turned off, unless they turn it on themselves.
    async fn forwarding(
        &self,
        lanes: &Lanes,
        gateways: Vec<(IfName, Families)>,
        was_off: Families,
        cared: &mut Cared,
    ) -> Result<(), KernelError> {
        let needed = gateways.clone();
        let off = lanes.forwarding(move |_| Forwarding::off(&needed)).await?;
        let off = if off.is_empty() {
            off
        } else {
            tokio::time::sleep(GRACE).await;
            cared.waited += GRACE;
            let needed = gateways.clone();
            lanes.forwarding(move |_| Forwarding::off(&needed)).await?
        };
        if off.is_empty() {
            if was_off != Families::default() {
                forwarding::taken_over(lanes, was_off, &self.log).await?;
            }
            return Ok(());
        }
        let what = format!("forwarding ({})", off.join(", "));
        if !self.may_mend((None, what.clone())) {
            return Ok(());
        }
        fault::reach("mending")?;
        self.put_back(lanes, gateways, cared).await
    }

    /// The same for a container that comes, at once.
    pub(super) async fn forward_for(&self, lanes: &Lanes, record: &Record) {
        let gateways = vec![(record.home().clone(), record.forwards())];
        let mut cared = Cared::default();
        if let Err(error) = self.put_back(lanes, gateways, &mut cared).await {
            warn!(self.log, "the host's forwarding"; "error" => %error);
        }
        for trouble in cared.troubles {
            warn!(self.log, "the host's forwarding"; "error" => trouble.why);
        }
    }

    async fn put_back(
        &self,
        lanes: &Lanes,
        gateways: Vec<(IfName, Families)>,
        cared: &mut Cared,
    ) -> Result<(), KernelError> {
        for change in lanes.forwarding(move |f| f.put_back(&gateways)).await? {
            match change {
                Change::PutBack(_) => {
                    self.meters.repairs.with_label_values(&["forwarding"]).inc();
                    warn!(self.log, "the host's forwarding"; "change" => %change);
                }
                Change::Failed(why) => {
                    let why = format!(
                        "the host does not forward for containers, and {why}; have it turned on"
                    );
                    cared.troubles.push(Trouble { bridge: None, why });
                }
                other => info!(self.log, "the host's forwarding"; "change" => %other),
            }
        }
        Ok(())
    }

    fn may_mend(&self, thing: Thing) -> bool {
        self.fights.borrow_mut().may_mend(thing, self.began.elapsed())
    }
}
