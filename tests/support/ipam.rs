//! An IPAM plugin that is not built in, for our plugin to run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::plugin::{Call, Outcome};
use super::world::{World, names_in};

/// An IPAM plugin called `my-ipam`, in a `CNI_PATH` of its own.
#[derive(Debug)]
pub(crate) struct Ipam(pub(crate) PathBuf);

impl Ipam {
    pub(crate) fn new(world: &World) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/my-ipam.sh");
        let this = Self::of(world, &script);
        this.says(&result("1.0.0", "10.90.0.5"));
        this
    }

    /// A link, since a file that was just written may not be run yet.
    pub(crate) fn of(world: &World, program: &Path) -> Self {
        let folder = world.paths().root.join("ipam");
        fs::create_dir(&folder).expect("a folder");
        symlink(program, folder.join("my-ipam")).expect("a link");
        Self(folder)
    }

    pub(crate) fn says(&self, result: &Value) {
        self.put("result", &result.to_string());
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("written");
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).expect("removed");
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Its calls since this was last asked: verbs and containers.
    pub(crate) fn calls(&self) -> Vec<String> {
        let log = self.text("log");
        let _ = fs::remove_file(self.0.join("log"));
        log.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    pub(crate) fn leases(&self) -> Vec<String> {
        names_in(&self.0).into_iter().filter(|name| name.starts_with("lease.")).collect()
    }

    /// Calls our plugin where this one is to be found, behind a folder that is not there.
    pub(crate) fn call(&self, world: &World, call: Call) -> Outcome {
        world.call(call.var("CNI_PATH", &format!("/nowhere:{}", self.0.display())))
    }
}

/// A network with addresses of that plugin.
pub(crate) fn conf(name: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": name, "type": "quantum-cni", "bridge": format!("{name}0"),
        "isGateway": true, "ipMasq": true,
        // Keys of its own may be called as ours and be something else.
        "ipam": { "type": "my-ipam", "ranges": "all", "routes": { "some": 1 }, "resolvConf": "/x" }
    })
}

/// What an IPAM plugin prints that gives this address and one of the other family.
pub(crate) fn result(version: &str, address: &str) -> Value {
    json!({
        "cniVersion": version,
        "ips": [
            { "version": "4", "address": format!("{address}/24"), "gateway": "10.90.0.254" },
            { "version": "6", "address": "fd90::5/64" }
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "192.168.9.0/24", "gw": "10.90.0.9" }],
        "dns": { "nameservers": ["10.90.0.53"], "search": ["delegated"] }
    })
}
