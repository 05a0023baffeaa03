//! The networks that are measured: ours, and the peers' that do the same.

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

/// The peer at its cheapest: no masquerade, no firewall, no port maps.
pub(crate) fn bridge(folder: &Path, work: &WorkDir, limit: Duration) -> Result<Subject> {
    let plugins = vec![bridge_plugin(folder, "peer0", "172.21.0.0/16", false, work)?];
    Ok(subject("bridge + host-local".to_owned(), "peer-bridge", "peer0", plugins, limit))
}

/// The peers that together do what we do.
pub(crate) fn chain(folder: &Path, work: &WorkDir, limit: Duration) -> Result<Subject> {
    let portmap =
        json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true });
    let firewall = json!({ "type": "firewall" });
    let plugins = vec![
        bridge_plugin(folder, "chain0", "172.22.0.0/16", true, work)?,
        Plugin { binary: folder.join("portmap"), conf: object(portmap)?, maps_ports: true },
        Plugin { binary: folder.join("firewall"), conf: object(firewall)?, maps_ports: false },
    ];
    Ok(subject(
        "bridge, masq + portmap + firewall".to_owned(),
        "peer-chain",
        "chain0",
        plugins,
        limit,
    ))
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
