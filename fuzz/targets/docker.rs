//! A body of Docker's, as any of the messages: a network that is taken can be kept and used, and an error
//! says something.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantum_cni::docker::Book;
use quantum_config::cni::PortMapping;
use quantum_config::docker::{
    CreateEndpoint, CreateNetwork, DeleteNetwork, Interface, Join, Network, OfEndpoint, Options,
    ReleaseAddress, ReleasePool, RequestAddress, RequestPool, ports,
};

fuzz_target!(|body: &[u8]| {
    let mut interface = Interface::default();
    if let Some(asked) = read(CreateEndpoint::read(body)) {
        let _ = read(asked.ifname());
        published(&asked.options);
        interface = asked.interface;
    }
    if let Some(asked) = read(CreateNetwork::read(body)) {
        if let Some(network) = read(Network::new(&asked)) {
            is_kept(&asked.network_id, &network);
            is_used(&network, &interface);
            is_used(&network, &Interface::default());
        }
    }
    if let Some(asked) = read(RequestAddress::read(body)) {
        let _ = (asked.is_gateway(), asked.mac());
    }
    if let Some(of) = read(OfEndpoint::read(body)) {
        published(&of.options);
    }
    let _ = (read(Join::read(body)), read(DeleteNetwork::read(body)));
    let _ = (read(RequestPool::read(body)), read(ReleasePool::read(body)));
    let _ = read(ReleaseAddress::read(body));
});

fn read<T>(read: Result<T, String>) -> Option<T> {
    read.map_err(|why| assert!(!why.is_empty())).ok()
}

/// Each of these leads somewhere, and no packet to two places.
fn published(options: &Options) {
    for choice in 0..3 {
        let Some(Some(ports)) = read(ports(options, choice)) else { continue };
        for (at, port) in ports.iter().enumerate() {
            assert!(port.host_port > 0 && port.container_port > 0, "{port:?}");
            let is_other = |other: &PortMapping| {
                other.meets(port) && other.container_port != port.container_port
            };
            assert!(!ports[at + 1..].iter().any(is_other), "{port:?}");
        }
    }
}

fn is_kept(id: &str, network: &Network) {
    let mut book = Book::default();
    book.define(id, network.clone()).expect("nothing is in the way");
    let saved = book.to_saved().expect("a book can be saved");
    let mut back = Book::read(&saved).expect("and read");
    assert_eq!(back.network(id), Some(network));
    assert_eq!(back.remove(id).as_ref(), Some(network));
}

/// The network itself was checked when it was made; a container's addresses come later.
fn is_used(network: &Network, interface: &Interface) {
    let itself = network.itself();
    if interface.addresses().next().is_none() && interface.mac_address.is_empty() {
        let call = network.call(interface).expect("it was checked");
        assert_eq!(call.network, network.name);
    }
    for call in [itself, network.call(interface)].into_iter().flatten() {
        assert_eq!(call.network, network.name);
        if let Ok(definition) = call.definition() {
            assert_eq!(definition.name, network.name);
        }
    }
}
