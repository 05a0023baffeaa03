//! Masquerading, seen by a server that real packets reach.
//!
//! ```text
//!   container ───── quantum0 | host | uplink ───── server
//!   10.1.0.2        10.1.0.1          10.2.0.1     10.2.0.2
//! ```

use std::net::{IpAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

use super::skeleton;
use super::tests::{home, masquerade, open};
use crate::kernel::testing::{in_namespace, run};

/// A namespace with a thread in it, which does as it is told.
struct Node {
    id: Pid,
    tasks: Sender<Box<dyn FnOnce() + Send>>,
}

impl Node {
    fn new() -> Self {
        let (tasks, inbox): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (tell, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            tell.send(gettid()).expect("told");
            inbox.iter().for_each(|task| task());
        });
        Self { id: told.recv().expect("a namespace"), tasks }
    }

    fn tell<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (tell, told) = channel();
        let task = Box::new(move || drop(tell.send(task())));
        self.tasks.send(task).expect("told");
        told
    }

    /// Connects it to this thread's namespace by a link that is called `host` here.
    fn connect(&self, host: &str, here: &str, address: &'static str) {
        run(&format!("ip link add {host} type veth peer name eth0 netns {}", self.id));
        run(&format!("ip address add {here}/24 dev {host}"));
        run(&format!("ip link set {host} up"));
        let inside = move || {
            run(&format!("ip address add {address}/24 dev eth0"));
            run("ip link set eth0 up");
        };
        self.tell(inside).recv().expect("connected");
    }
}

#[test]
fn traffic_that_leaves_its_network_is_masqueraded_and_no_other() {
    in_namespace(&["nft", "ip"], || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
        let (container, server) = (Node::new(), Node::new());
        container.connect("quantum0", "10.1.0.1", "10.1.0.2");
        server.connect("uplink", "10.2.0.1", "10.2.0.2");
        container.tell(|| run("ip route add default via 10.1.0.1")).recv().expect("a route");
        skeleton::apply("").expect("the skeleton");
        let mut table = open();

        // Who the server thinks it hears.
        let heard = || -> IpAddr {
            let listen = || {
                let socket = UdpSocket::bind("10.2.0.2:0").expect("a socket");
                socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
                socket
            };
            let socket = server.tell(listen).recv().expect("a socket");
            let to = socket.local_addr().expect("an address");
            let send = move || {
                let socket = UdpSocket::bind("10.1.0.2:0").expect("a socket");
                socket.send_to(b"who am i", to).expect("sent");
            };
            container.tell(send).recv().expect("sent");
            socket.recv_from(&mut [0; 16]).expect("something heard").1.ip()
        };
        assert_eq!(heard().to_string(), "10.1.0.2", "without elements");
        let away = [masquerade("10.1.0.2"), home("10.1.0.2", "quantum0")];
        table.add(&away).expect("added");
        assert_eq!(heard().to_string(), "10.2.0.1", "as it leaves its network");
        table.remove(&away).expect("removed");
        let own = [away[0].clone(), away[1].clone(), home("10.1.0.2", "uplink")];
        table.add(&own).expect("added");
        assert_eq!(heard().to_string(), "10.1.0.2", "as it leaves by its own bridge");
    });
}
