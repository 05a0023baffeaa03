//! A network configuration, as any caller may send it: reading it never panics, and what was read
//! means the same after it was written down.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantum_config::cni::{
    Call, CniError, CniResult, Definition, Environment, Identity, Interface, IpConfig, LabelSource,
    PortMapping, Previous, Route, SUPPORTED_VERSIONS, Version, peek,
};
use serde_json::{Value, json};

fuzz_target!(|stdin: &[u8]| {
    let seen = peek(stdin);
    let call = match Call::parse(stdin) {
        Ok(call) => call,
        Err(error) => {
            is_an_error_object(&error, &seen.version);
            if let Ok(call) = Call::parse_for_del(stdin) {
                assert_eq!(call.network.as_str(), seen.name, "DEL goes by the name that is seen");
            }
            return;
        }
    };
    let for_del = Call::parse_for_del(stdin);
    assert_eq!(for_del.as_ref(), Ok(&call), "what can be read is read the same for a DEL");
    let previous = match call.previous() {
        Ok(previous) => previous.unwrap_or_default(),
        Err(error) => return is_an_error_object(&error, &seen.version),
    };
    result_survives(previous.result());
    match call.ports() {
        Ok(ports) => {
            for (at, port) in ports.iter().enumerate() {
                let is_other = |other: &PortMapping| {
                    other.meets(port) && other.container_port != port.container_port
                };
                assert!(!ports[at + 1..].iter().any(is_other), "a port leads to one place");
            }
        }
        Err(error) => is_an_error_object(&error, &seen.version),
    }
    match call.definition() {
        Ok(definition) => {
            definition_survives(&definition);
            match call.identity(&definition, &Environment::default()) {
                Ok(identity) => identity_survives(&identity),
                Err(error) => is_an_error_object(&error, &seen.version),
            }
            // The same bytes as what an IPAM plugin prints.
            match call.ipam_result(stdin) {
                Ok(said) => {
                    assert!(!said.addresses.is_empty(), "a result has an address");
                    definition_survives(&definition.assigned(said));
                }
                Err(error) => is_an_error_object(&error, &seen.version),
            }
            let ours = result_of(&definition);
            result_survives(&ours);
            follows(&ours, &previous, call.version);
        }
        Err(error) => is_an_error_object(&error, &seen.version),
    }
});

/// What is printed is one JSON object with the members an error has.
fn is_an_error_object(error: &CniError, version: &str) {
    let text = error.to_json(Some(version));
    let object: Value = serde_json::from_str(&text).expect("an error is JSON");
    assert_eq!(object["code"], error.code.number());
    assert_eq!(object["msg"], error.msg.as_str());
    assert!(!error.msg.is_empty(), "an error says something");
}

/// A definition comes back from the store as it went in.
fn definition_survives(definition: &Definition) {
    let text = serde_json::to_string(definition).expect("a definition can be stored");
    let back: Definition = serde_json::from_str(&text).expect("a stored definition can be read");
    assert_eq!(back, *definition);
}

/// As a record keeps it; and who may not forge a label has not.
fn identity_survives(identity: &Identity) {
    let text = serde_json::to_string(identity).expect("an identity can be stored");
    assert_eq!(serde_json::from_str::<Identity>(&text).expect("and read"), *identity);
    let is_reserved =
        |key: &str| ["cni.quantum/", "policy.quantum/"].iter().any(|p| key.starts_with(p));
    for (key, label) in identity.labels.iter().filter(|(key, _)| is_reserved(key)) {
        assert_eq!(label.source, LabelSource::Network, "{key} is reserved");
        assert!(key.starts_with("policy.quantum/"), "{key} is the daemon's");
    }
}

/// The result an ADD to this network would have: its first address of each set.
fn result_of(definition: &Definition) -> CniResult {
    let eth0 = Interface {
        name: "eth0".into(),
        mac: None,
        mtu: definition.mtu,
        sandbox: "/run/netns/c".into(),
    };
    let ips = definition.sets().iter().filter_map(|set| {
        let range = set.0.first()?;
        let address = range.subnet;
        Some(IpConfig { interface: Some(0), address, gateway: Some(range.gateway) })
    });
    CniResult {
        interfaces: vec![eth0],
        ips: ips.collect(),
        routes: definition.routes.clone(),
        dns: definition.dns.clone(),
    }
}

/// Every version has its form of a result, and since 0.3.0 that form can be read again.
fn result_survives(result: &CniResult) {
    for version in SUPPORTED_VERSIONS {
        let Ok(text) = result.render(version, &Previous::default()) else {
            assert!(version < Version::V0_3_0, "{version} has a form for everything");
            continue;
        };
        let value: Value = serde_json::from_str(&text).expect("a result is JSON");
        assert_eq!(value["cniVersion"], version.as_str());
        if version < Version::V0_3_0 {
            continue;
        }
        let back = as_prev_result(&value, version);
        let back = back.result();
        assert_eq!((&back.ips, &back.dns), (&result.ips, &result.dns));
        let told = |routes: &[Route]| routes.iter().map(|r| (r.dst, r.gw)).collect::<Vec<_>>();
        assert_eq!(told(&back.routes), told(&result.routes));
        if version == Version::V1_1_0 {
            // A route had no other keys before.
            assert_eq!((&back.interfaces, &back.routes), (&result.interfaces, &result.routes));
        }
    }
}

/// A result behind that of the plugins before us can be read by the plugins behind us.
fn follows(ours: &CniResult, previous: &Previous, version: Version) {
    let Ok(text) = ours.render(version, previous) else {
        return assert!(version < Version::V0_3_0, "{version} has a form for everything");
    };
    let value: Value = serde_json::from_str(&text).expect("a result is JSON");
    let back = as_prev_result(&value, version);
    if version >= Version::V0_3_0 {
        let before = previous.result().ips.len();
        assert_eq!(back.result().ips.len(), before + ours.ips.len());
    }
}

/// What was printed, as the next plugin of a chain reads it.
fn as_prev_result(printed: &Value, version: Version) -> Previous {
    let conf = json!({ "cniVersion": version.as_str(), "name": "n", "prevResult": printed });
    let call = Call::parse(conf.to_string().as_bytes()).expect("a configuration");
    call.previous().expect("what was printed can be read").unwrap_or_default()
}
