//! The networks that are measured: ours, and the peers' that do the same.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::driver::{Plugin, Subject};
use crate::failure::{Doing, Failure, Result};
use crate::options::Bench;
use crate::world::WorkDir;

/// The module document's example network, with the plugin under test as its type.
///
/// Beside the example there is only `ipam.dataDir`: nothing may read the leases of this machine.
pub(crate) fn ours(options: &Bench, work: &WorkDir) -> Result<Subject> {
    let binary = options
        .plugin
        .canonicalize()
        .doing(|| format!("looking for the plugin {}", options.plugin.display()))
        .map_err(|e| e.with_remedy("build it, or name another with --plugin"))?;
    let kind =
        binary.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let conf = json!({
        "type": kind,
        "bridge": "quantum0",
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": host_local("172.20.0.0/16", work),
        "dns": {
            "nameservers": ["172.20.0.1"],
            "domain": "quantum.local",
            "search": ["quantum.local"],
        },
    });
    let plugins = vec![Plugin { binary, conf: object(conf)?, maps_ports: false }];
    Ok(subject(kind, "quantum-bridge", "quantum0", plugins, options.call_limit()))
}

/// The plugin under test with all of its data plane on: masquerade, isolation, anti-spoofing and a
/// published port for each container.
pub(crate) fn everything_on(options: &Bench, work: &WorkDir) -> Result<Subject> {
    let conf = json!({
        "bridge": "quantum1",
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": host_local("172.23.0.0/16", work),
        "policy": { "posture": "isolated", "antiSpoof": true },
        "capabilities": { "portMappings": true },
    });
    variant(options, "everything on", "quantum-on", "quantum1", conf, true)
}

/// The same with none of it: a bridge and addresses.
pub(crate) fn nothing_on(options: &Bench, work: &WorkDir) -> Result<Subject> {
    let conf = json!({
        "bridge": "quantum2",
        "isGateway": true,
        "ipMasq": false,
        "hairpinMode": true,
        "ipam": host_local("172.24.0.0/16", work),
        "policy": { "posture": "open", "antiSpoof": false, "enforcement": "none" },
    });
    variant(options, "nothing on", "quantum-off", "quantum2", conf, false)
}

fn variant(
    options: &Bench,
    what: &str,
    network: &str,
    bridge: &str,
    conf: Value,
    maps_ports: bool,
) -> Result<Subject> {
    let binary =
        options.plugin.canonicalize().doing(|| format!("opening {}", options.plugin.display()))?;
    let kind =
        binary.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut conf = object(conf)?;
    conf.insert("type".to_owned(), kind.as_str().into());
    let plugins = vec![Plugin { binary, conf, maps_ports }];
    Ok(subject(format!("{kind}, {what}"), network, bridge, plugins, options.call_limit()))
}

/// A network as most have it, whose containers policies are about.
pub(crate) fn policed(options: &Bench, work: &WorkDir) -> Result<Subject> {
    let conf = json!({
        "bridge": "quantum3",
        "isGateway": true,
        "ipMasq": true,
        "ipam": host_local("172.26.0.0/16", work),
    });
    variant(options, "policed", "quantum-policed", "quantum3", conf, false)
}

/// The peer at its cheapest: no masquerade, no firewall, no port maps.
pub(crate) fn bridge(folder: &Path, work: &WorkDir, limit: Duration) -> Result<Subject> {
    let plugins = vec![bridge_plugin(folder, "peer0", "172.21.0.0/16", false, work)?];
    Ok(subject("bridge + host-local".to_owned(), "peer-bridge", "peer0", plugins, limit))
}

/// What the chain of peers writes its rules with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Iptables,
    Nftables,
}

impl Backend {
    pub(crate) const ALL: [Self; 2] = [Self::Iptables, Self::Nftables];

    /// As the peers' keys have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// Why the chain cannot be measured with it. A portmap that does not know the key for nftables
    /// takes iptables without a word, so it is looked at whether the name of its table is in it.
    pub(crate) fn missing(self, folder: &Path) -> Option<String> {
        const TABLE: &[u8] = b"cni_hostport";
        let portmap = folder.join("portmap");
        let code = match fs::read(&portmap) {
            Ok(code) => code,
            Err(why) => return Some(format!("reading {}: {why}", portmap.display())),
        };
        let knows = || code.windows(TABLE.len()).any(|window| window == TABLE);
        (self == Self::Nftables && !knows())
            .then(|| format!("{} is older than 1.6 and has no such backend", portmap.display()))
    }
}

/// The peers that together do what we do.
pub(crate) fn chain(
    folder: &Path,
    work: &WorkDir,
    limit: Duration,
    backend: Backend,
) -> Result<Subject> {
    let (bridge, subnet) = match backend {
        Backend::Iptables => ("chain0", "172.22.0.0/16"),
        Backend::Nftables => ("chain1", "172.25.0.0/16"),
    };
    let mut portmap =
        json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true });
    let mut first = bridge_plugin(folder, bridge, subnet, true, work)?;
    if backend == Backend::Nftables {
        // A peer that is too old for a key does not read it.
        portmap["backend"] = backend.as_str().into();
        first.conf.insert("ipMasqBackend".to_owned(), backend.as_str().into());
    }
    let firewall = json!({ "type": "firewall" });
    let plugins = vec![
        first,
        Plugin { binary: folder.join("portmap"), conf: object(portmap)?, maps_ports: true },
        Plugin { binary: folder.join("firewall"), conf: object(firewall)?, maps_ports: false },
    ];
    let name = format!("masq + portmap + firewall, {}", backend.as_str());
    Ok(subject(name, &format!("peer-chain-{}", backend.as_str()), bridge, plugins, limit))
}

fn bridge_plugin(
    folder: &Path,
    bridge: &str,
    subnet: &str,
    masquerade: bool,
    work: &WorkDir,
) -> Result<Plugin> {
    let conf = json!({
        "type": "bridge",
        "bridge": bridge,
        "isGateway": true,
        "ipMasq": masquerade,
        "hairpinMode": true,
        "ipam": host_local(subnet, work),
    });
    Ok(Plugin { binary: folder.join("bridge"), conf: object(conf)?, maps_ports: false })
}

fn host_local(subnet: &str, work: &WorkDir) -> Value {
    json!({
        "type": "host-local",
        "subnet": subnet,
        "routes": [{ "dst": "0.0.0.0/0" }],
        "dataDir": work.join("leases"),
    })
}

fn subject(
    name: String,
    network: &str,
    bridge: &str,
    plugins: Vec<Plugin>,
    limit: Duration,
) -> Subject {
    Subject {
        name,
        network: network.to_owned(),
        bridge: bridge.to_owned(),
        plugins,
        in_a_namespace: 0,
        variables: Vec::new(),
        limit,
    }
}

fn object(conf: Value) -> Result<Map<String, Value>> {
    match conf {
        Value::Object(map) => Ok(map),
        other => {
            Err(Failure::new("writing a network configuration", format!("{other} is no object")))
        }
    }
}
