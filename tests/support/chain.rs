//! A list of plugins, called as libcni calls it: one after the other on ADD, each with the result of
//! the one before; the other way about on DEL; and each plugin by the name that its `type` says, which
//! is that of a link to ours.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value};

use super::binaries;
use super::netns::Netns;
use super::plugin::{Call, Outcome};
use super::world::World;

/// A list of plugins, and what a runtime says to them.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    list: Value,
    /// All capabilities; each plugin is told those that it asks for.
    capabilities: Value,
    args: String,
    /// `CNI_NETNS_OVERRIDE` is set.
    overrides: bool,
}

impl Chain {
    /// The list of a file below `tests/data/conflists`, read by the caller.
    pub(crate) fn new(text: &str) -> Self {
        let list = serde_json::from_str(text).expect("a conflist");
        Self { list, capabilities: Value::Null, args: String::new(), overrides: false }
    }

    #[must_use]
    pub(crate) fn told(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }

    #[must_use]
    pub(crate) fn args(self, args: &str) -> Self {
        Self { args: args.to_owned(), ..self }
    }

    /// The host's own namespace is meant.
    #[must_use]
    pub(crate) fn overriding(self) -> Self {
        Self { overrides: true, ..self }
    }

    fn plugins(&self) -> &[Value] {
        self.list["plugins"].as_array().expect("plugins")
    }

    /// One plugin's configuration.
    fn conf(&self, plugin: &Value, previous: Option<&Value>) -> Value {
        let mut conf = plugin.clone();
        conf["name"] = self.list["name"].clone();
        conf["cniVersion"] = self.list["cniVersion"].clone();
        if let Some(previous) = previous {
            conf["prevResult"] = previous.clone();
        }
        let wanted = plugin["capabilities"].as_object().cloned().unwrap_or_default();
        let told: Map<String, Value> = self.capabilities.as_object().cloned().unwrap_or_default();
        let told: Map<String, Value> =
            told.into_iter().filter(|(name, _)| wanted.get(name) == Some(&true.into())).collect();
        if !told.is_empty() {
            conf["runtimeConfig"] = told.into();
        }
        conf
    }

    fn call(&self, world: &World, verb: &str, on: (&str, &Netns), conf: &Value) -> Outcome {
        let mut call = Call::attachment(verb, on.0, on.1).var("CNI_ARGS", &self.args).conf(conf);
        if self.overrides {
            call = call.var("CNI_NETNS_OVERRIDE", "1");
        }
        call.run(called_as(world, conf["type"].as_str().expect("a type")))
    }

    /// ADD: what each plugin answered, up to the first that failed.
    pub(crate) fn try_add(&self, world: &World, id: &str, netns: &Netns) -> Vec<Outcome> {
        let mut answers: Vec<Outcome> = Vec::new();
        let mut result = None;
        for plugin in self.plugins() {
            let conf = self.conf(plugin, result.as_ref());
            answers.push(self.call(world, "ADD", (id, netns), &conf));
            let last = answers.last().expect("an answer");
            if last.code != Some(0) {
                break;
            }
            result = Some(last.succeeded());
        }
        answers
    }

    /// ADD, of which every plugin succeeds: the last one's result.
    #[track_caller]
    pub(crate) fn add(&self, world: &World, id: &str, netns: &Netns) -> Value {
        let answers = self.try_add(world, id, netns);
        answers.iter().map(Outcome::succeeded).next_back().expect("plugins")
    }

    /// DEL, backwards.
    #[track_caller]
    pub(crate) fn del(&self, world: &World, id: &str, netns: &Netns, result: Option<&Value>) {
        for plugin in self.plugins().iter().rev() {
            self.call(world, "DEL", (id, netns), &self.conf(plugin, result)).succeeded();
        }
    }

    /// CHECK: what each plugin answered.
    pub(crate) fn check(
        &self,
        world: &World,
        id: &str,
        netns: &Netns,
        result: &Value,
    ) -> Vec<Outcome> {
        let each = self.plugins().iter().map(|plugin| self.conf(plugin, Some(result)));
        each.map(|conf| self.call(world, "CHECK", (id, netns), &conf)).collect()
    }
}

/// Our plugin by the name of another.
pub(crate) fn called_as(world: &World, name: &str) -> Command {
    let ours = world.plugin_command(&world.host);
    let mut command = world.host.command(link(world, name));
    command.env_clear();
    for (key, value) in ours.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command
}

fn link(world: &World, name: &str) -> PathBuf {
    let folder = world.paths().root.join("bin");
    let _ = std::fs::create_dir(&folder);
    let link = folder.join(name);
    let _ = symlink(binaries::plugin(), &link); // it may be there
    link
}
