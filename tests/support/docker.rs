//! dockerd, played: it calls the driver as the real one does, in its order and with its bodies, and does
//! with an interface what libnetwork does.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::daemon::{Daemon, Options};
use super::eventually::BOUND;
use super::netns::Netns;
use super::world::World;

/// Docker's name for a network or an endpoint, told by one letter.
pub(crate) fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dockerd<'w> {
    world: &'w World,
    socket: PathBuf,
}

/// A container on one endpoint.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) network: String,
    pub(crate) endpoint: String,
    pub(crate) netns: Netns,
    /// What Join said.
    pub(crate) joined: Value,
    pub(crate) ifname: String,
}

impl<'w> Dockerd<'w> {
    /// The daemon, started with Docker's door, and a dockerd that has just found it.
    pub(crate) fn start(world: &'w World) -> (Daemon, Self) {
        let dockerd = Self::beside(world);
        let daemon = dockerd.daemon();
        dockerd.activate();
        (daemon, dockerd)
    }

    /// A dockerd that has not found the driver yet.
    pub(crate) fn beside(world: &'w World) -> Self {
        Self { world, socket: world.paths().root.join("quantum.sock") }
    }

    /// What the daemon is started with.
    pub(crate) fn flag(&self) -> String {
        format!("--docker-socket {}", self.socket.display())
    }

    /// The daemon again.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(Options::default())
    }

    /// The same with other options.
    pub(crate) fn daemon_with(&self, options: Options) -> Daemon {
        self.world.daemon_with(options.args(&self.flag()))
    }

    /// dockerd is started: what it asks first.
    pub(crate) fn activate(&self) {
        let said = self.ok("Plugin.Activate", Value::Null);
        assert_eq!(said, json!({ "Implements": ["NetworkDriver", "IpamDriver"] }));
        self.ok("NetworkDriver.GetCapabilities", Value::Null);
        self.ok("IpamDriver.GetCapabilities", Value::Null);
    }

    /// One call: the status and what was said. A body of null is none.
    pub(crate) fn call(&self, method: &str, body: &Value) -> (u16, Value) {
        self.try_call(method, body).expect("an answer")
    }

    /// The same; nothing if the driver dies before it answers. dockerd would send it again without its body.
    pub(crate) fn try_call(&self, method: &str, body: &Value) -> Option<(u16, Value)> {
        let mut stream = UnixStream::connect(&self.socket).expect("the driver's socket");
        stream.set_read_timeout(Some(BOUND)).expect("a bound");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "POST /{method} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\
             Content-Length: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
            read => _ = read.expect("an answer in time"),
        }
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok());
        Some((status.expect("a status"), serde_json::from_str(body).expect(body)))
    }

    /// One that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, method: &str, body: Value) -> Value {
        let (status, said) = self.call(method, &body);
        let failed = said.get("Err").or(said.get("Error"));
        assert!(status == 200 && failed.is_none(), "{method} {body}: {status} {said}");
        said
    }

    /// One that must be refused, in the way of its driver; gives the words.
    #[track_caller]
    pub(crate) fn refused(&self, method: &str, body: Value) -> String {
        let (status, said) = self.call(method, &body);
        let key = if method.starts_with("Ipam") { "Error" } else { "Err" };
        assert_eq!(status, 200, "{method}: {said}");
        said[key].as_str().unwrap_or_else(|| panic!("{method} {body}: {said}")).to_owned()
    }

    /// `docker network create` with dockerd's own IPAM: 10.N.0.0/24.
    pub(crate) fn create_network(&self, letter: char, number: u8, options: Value) -> String {
        let id = id(letter);
        self.ok("NetworkDriver.CreateNetwork", network(&id, number, options));
        id
    }

    /// `docker run` up to what the container sees; `ports` as in `com.docker.network.portmap`.
    pub(crate) fn run(
        &self,
        network: &str,
        letter: char,
        address: &str,
        ports: &Value,
    ) -> Container {
        let netns = self.world.container();
        netns.ip("link set lo up");
        self.connect(network, letter, address, ports, netns, "eth0")
    }

    /// The same in a namespace that is there: `docker network connect`.
    pub(crate) fn connect(
        &self,
        network: &str,
        letter: char,
        address: &str,
        ports: &Value,
        netns: Netns,
        ifname: &str,
    ) -> Container {
        let endpoint = id(letter);
        let made = self.ok(
            "NetworkDriver.CreateEndpoint",
            create_endpoint(network, &endpoint, address, ports),
        );
        let mac = made["Interface"]["MacAddress"].as_str().expect("a hardware address").to_owned();
        let joined = self.ok(
            "NetworkDriver.Join",
            json!({"NetworkID": network, "EndpointID": endpoint, "SandboxKey": netns.text(),
                "Options": options(ports)}),
        );
        let source = joined["InterfaceName"]["SrcName"].as_str().expect("a link");
        assert_eq!(joined["InterfaceName"]["DstPrefix"], "eth");
        self.world.host.ip(&format!("link set {source} netns {}", netns.text()));
        netns.ip_batch(&format!(
            "link set {source} name {ifname}\nlink set {ifname} address {mac}\n\
             address add {address} dev {ifname}\nlink set {ifname} up\n"
        ));
        if let Some(gateway) = joined["Gateway"].as_str()
            && netns.ip_json("route show default").is_empty()
        {
            netns.ip(&format!("route add default via {gateway}"));
        }
        let (network, ifname) = (network.to_owned(), ifname.to_owned());
        Container { network, endpoint, netns, joined, ifname }
    }

    /// The container's ports, now that it runs.
    pub(crate) fn program(&self, container: &Container, ports: &Value) -> (u16, Value) {
        let body = json!({"NetworkID": container.network, "EndpointID": container.endpoint,
            "Options": options(ports)});
        self.call("NetworkDriver.ProgramExternalConnectivity", &body)
    }

    /// One call about it.
    #[track_caller]
    pub(crate) fn of(&self, method: &str, container: &Container) -> Value {
        let body = json!({"NetworkID": container.network, "EndpointID": container.endpoint});
        self.ok(&format!("NetworkDriver.{method}"), body)
    }

    /// `docker stop`: dockerd takes its interface back before it has the endpoint deleted.
    pub(crate) fn stop(&self, container: Container) {
        self.of("RevokeExternalConnectivity", &container);
        self.of("Leave", &container);
        let source = container.joined["InterfaceName"]["SrcName"].as_str().expect("a link");
        let host = self.world.host.text();
        let (netns, ifname) = (&container.netns, &container.ifname);
        netns.ip(&format!("link set {ifname} down"));
        netns.ip(&format!("link set {ifname} name {source}"));
        netns.ip(&format!("link set {source} netns {host}"));
        self.of("DeleteEndpoint", &container);
    }
}

/// What dockerd says when a network is created.
pub(crate) fn network(id: &str, number: u8, options: Value) -> Value {
    json!({"NetworkID": id,
        "Options": {"com.docker.network.enable_ipv6": false, "com.docker.network.generic": options},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Gateway": format!("10.{number}.0.1/24"),
            "Pool": format!("10.{number}.0.0/24")}],
        "IPv6Data": []})
}

/// What it says when a container is to be there.
pub(crate) fn create_endpoint(
    network: &str,
    endpoint: &str,
    address: &str,
    ports: &Value,
) -> Value {
    json!({"NetworkID": network, "EndpointID": endpoint,
        "Interface": {"Address": address, "AddressIPv6": "", "MacAddress": ""},
        "Options": options(ports)})
}

/// `-p HOST:CONTAINER/tcp`.
pub(crate) fn published(host: u16, container: u16) -> Value {
    json!([{"Proto": 6, "IP": "", "Port": container, "HostIP": "", "HostPort": host, "HostPortEnd": host}])
}

pub(crate) fn options(ports: &Value) -> Value {
    json!({"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": ports})
}
