//! Records and networks for the tests.

use std::net::IpAddr;
use std::path::Path;

use quantum_config::cni::{
    Call, CniResult, Definition, Dns, Environment, Identity, Interface, IpConfig, PortOptions,
    Posture, Route, Shaping, Tuning,
};
use quantum_config::ids::{AttachmentKey, LinkIndex, Mac, NetworkName};

use super::{Life, Opening, Place, Store, StoreError};
use crate::attach::{Assigned, LinksSeen, NetnsId, Record};
use crate::ipam::KnownState;

/// A store's place: all of it in one directory.
pub(super) fn place(dir: &Path, boot: &str) -> Place {
    let life = Life { boot: boot.into(), host: NetnsId { dev: 4, ino: 4_026_531_840 } };
    Place { state_dir: dir.to_owned(), runtime_dir: dir.join("run"), life }
}

/// Opens the store of a directory where no link of ours is there.
pub(super) fn open(dir: &Path, boot: &str) -> Result<(Store, Opening), StoreError> {
    Store::open(&place(dir, boot), LinksSeen::default())
}

/// The same, and all is learned that it may lack, as a start does it.
pub(super) fn start(dir: &Path, boot: &str) -> Result<(Store, Opening), StoreError> {
    let (mut store, opening) = open(dir, boot)?;
    if !opening.knows_all() {
        store.adopt(Vec::new())?;
    }
    Ok((store, opening))
}

/// A copy of a store as it is: what a daemon killed now would leave.
pub(super) fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for folder in ["", "run", "run/attachments"] {
        std::fs::create_dir_all(copy.path().join(folder)).expect("made");
        let files = std::fs::read_dir(dir.join(folder)).expect("files");
        for file in files.map(|file| file.expect("a file").path()).filter(|file| file.is_file()) {
            let name = file.file_name().expect("a name");
            std::fs::copy(&file, copy.path().join(folder).join(name)).expect("a copy");
        }
    }
    copy
}

pub(super) fn key(name: &str) -> AttachmentKey {
    format!("n/{name}/eth0").parse().expect("a key")
}

pub(super) fn network() -> NetworkName {
    NetworkName::new("n").expect("a name")
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A record as complete as those of life.
pub(super) fn record(name: &str, addresses: &[&str]) -> Record {
    let host = quantum_config::ids::IfName::new("q0123456789abc").expect("a name");
    let mac = Mac::from_seed(7);
    let assigned = |(set, text): (usize, &&str)| Assigned {
        set,
        address: text.parse().expect("an address"),
        gateway: Some(ip("10.0.0.1")),
    };
    let addresses: Vec<Assigned> = addresses.iter().enumerate().map(assigned).collect();
    let ips = addresses.iter().map(|a| IpConfig {
        interface: Some(1),
        address: a.address,
        gateway: a.gateway,
    });
    let interface = |name: &str, sandbox: &str| Interface {
        name: name.into(),
        mac: Some(mac),
        mtu: Some(1500),
        sandbox: sandbox.into(),
    };
    let sandbox = "/var/run/netns/cni-0c7b1f5e-6f0e-4a39-9f4f-0c6a4f0c2a11";
    let routes = vec![Route::new("0.0.0.0/0".parse().expect("dst"), None)];
    Record {
        key: key(name),
        identity: identity(),
        netns: NetnsId { dev: 4, ino: 4_026_532_999 },
        sandbox: sandbox.into(),
        index: LinkIndex(12),
        mac,
        host_mac: mac,
        bridge: host.clone(),
        gateway: true,
        vlan_gateway: None,
        hairpin: true,
        promisc: false,
        port: PortOptions::default(),
        posture: Posture::default(),
        ports: Vec::new(),
        mtu: None,
        shaping: Shaping::default(),
        tuning: Tuning::default(),
        routes: routes.clone(),
        masquerade: true,
        result: CniResult {
            interfaces: vec![interface(host.as_str(), ""), interface("eth0", sandbox)],
            ips: ips.collect(),
            routes,
            dns: Dns::default(),
        },
        host,
        addresses,
        handed: false,
        delegated: false,
        host_netns: None,
        created: 1000,
    }
}

/// Everything that an identity can hold, as a pod's has it.
fn identity() -> Identity {
    let text = r#"{"name":"n","policy":{"labels":{"zone":"inner"}},
        "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{
            "policy.quantum/labels":"app=db","policy.quantum/named-ports":"sql=5432"}}}"#;
    let args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0;K8S_POD_UID=u-1".to_owned();
    let env = Environment { args, ..Environment::default() };
    Call::parse(text.as_bytes())
        .and_then(|call| call.identity(&call.definition()?, &env))
        .expect("an identity")
}

pub(super) fn definition(name: &str) -> Definition {
    let text = include_str!("../../config/samples/net.d/10-quantum-bridge.conf");
    let mut definition =
        Call::parse(text.as_bytes()).and_then(|c| c.definition()).expect("a definition");
    definition.name = NetworkName::new(name).expect("a name");
    definition
}

/// What is known of the addresses of [`network`], as text.
pub(super) fn known(store: &Store) -> Vec<String> {
    let known = store.known(&network()).expect("known");
    known
        .iter()
        .map(|k| match &k.state {
            KnownState::Held(owner) => format!("{} {}", k.address, owner.container),
            KnownState::Released(at_ms) => format!("{} at {at_ms}", k.address),
        })
        .collect()
}
