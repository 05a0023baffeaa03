//! Where a case takes place: a world, its daemon, containers by name, and what is known so far.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cases::Run;
use crate::pattern::Names;
use crate::support::daemon::Daemon;
use crate::support::inventory::Inventory;
use crate::support::netns::Netns;
use crate::support::world::World;

/// The name of the host's namespace; every other name is a container's.
pub(crate) const HOST: &str = "host";

/// See the module.
#[derive(Debug)]
pub(crate) struct Site {
    containers: BTreeMap<String, Netns>,
    /// What names in patterns stand for.
    pub(crate) names: Names,
    /// The results of ADD, by container and interface.
    pub(crate) results: BTreeMap<(String, String), Value>,
    remembered: BTreeMap<String, Inventory>,
    pub(crate) conf: Value,
    pub(crate) version: String,
    _daemon: Daemon,
    pub(crate) world: World,
}

impl Site {
    pub(crate) fn new(run: &Run) -> Result<Self, String> {
        let world = World::new()?;
        Ok(Self {
            containers: BTreeMap::new(),
            names: Names::new(),
            results: BTreeMap::new(),
            remembered: BTreeMap::new(),
            conf: run.conf.clone(),
            version: run.version.clone(),
            _daemon: world.daemon(),
            world,
        })
    }

    /// The namespace of that name; a container's is made when it is first spoken of.
    pub(crate) fn netns(&mut self, name: &str) -> &Netns {
        if name == HOST {
            return &self.world.host;
        }
        if !self.containers.contains_key(name) {
            self.containers.insert(name.to_owned(), self.world.container());
        }
        &self.containers[name]
    }

    /// Keeps in mind what there is on the host and in every container.
    pub(crate) fn remember(&mut self) {
        self.remembered = self.inventories();
    }

    /// Says whether it is all the same as it was then.
    pub(crate) fn is_unchanged(&self) -> Result<(), String> {
        let now = self.inventories();
        for (name, before) in &self.remembered {
            if let Some(now) = now.get(name).filter(|now| *now != before) {
                // The inventory says what came and went, as a panic.
                before.assert_same(now, name);
            }
        }
        Ok(())
    }

    fn inventories(&self) -> BTreeMap<String, Inventory> {
        let containers = self.containers.iter().map(|(name, netns)| (name.as_str(), netns));
        let all = containers.chain([(HOST, &self.world.host)]);
        all.map(|(name, netns)| (name.to_owned(), Inventory::of(netns))).collect()
    }
}
