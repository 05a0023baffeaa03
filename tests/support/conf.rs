//! Network configurations.

use serde_json::{Value, json};

/// The module document's own example: network `quantum-bridge` on the bridge `quantum0`,
/// 172.20.0.0/16.
pub(crate) fn example() -> Value {
    serde_json::from_str(include_str!("../../config/samples/net.d/10-quantum-bridge.conf"))
        .expect("the sample")
}

/// A network of its own bridge, with gateway and a default route, on `subnet`.
pub(crate) fn network(name: &str, bridge: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": name,
        "type": "quantum-cni",
        "bridge": bridge,
        "isGateway": true,
        "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "subnet": subnet,
            "routes": [{ "dst": "0.0.0.0/0" }]
        }
    })
}

/// `base` with the members of `changes` in place of its own; null takes a member away, objects are
/// changed member by member.
pub(crate) fn with(base: &Value, changes: Value) -> Value {
    let (Value::Object(base), Value::Object(changes)) = (base, &changes) else { return changes };
    let mut merged = base.clone();
    for (key, change) in changes {
        if change.is_null() {
            merged.shift_remove(key);
        } else {
            let old = merged.get(key).cloned().unwrap_or_default();
            merged.insert(key.clone(), with(&old, change.clone()));
        }
    }
    Value::Object(merged)
}

/// `base` for another version of the protocol.
pub(crate) fn at(base: &Value, version: &str) -> Value {
    with(base, json!({ "cniVersion": version }))
}
