//! Containers that ask each other, all of them everything at once, and what of it came through.
//!
//! A question is a datagram of UDP, a connection of TCP or an INIT of SCTP. What comes is seen where it is
//! given to the container's link, so nothing that leaks is missed because nobody answers it.
//!
//! ```text
//!   ask ──► all that may come was answered (patience) ──► fence ──► look at what came
//! ```
//!
//! The fence is a question of ARP to the gateway from every link, and its answer: no policy judges it, and
//! it goes the way that the questions went, behind them. They keep their order because all of them are
//! sent from one processor, whose queue both ends of a link share.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;

use super::frames::{Ends, Wire, ends};
use super::node::{Node, PORTS, Protocol};
use super::ports::{INIT, INIT_ACK};
use super::traffic::PATIENCE;

/// How long an answer is waited for before the question is repeated.
const AGAIN: Duration = Duration::from_millis(250);
/// How often the fence goes round: a question that waits for its neighbour's address is behind the first.
const FENCES: usize = 3;
const SYN_ACK: u8 = 0x12;

#[derive(Debug)]
struct Question {
    name: String,
    from: usize,
    protocol: Protocol,
    ends: (SocketAddr, SocketAddr),
    may: bool,
    arrived: bool,
    answered: bool,
}

/// What the containers of a round ask by; connections are broken off with it.
#[derive(Debug)]
struct Mouth {
    udp: UdpSocket,
    _tcp: Vec<TcpStream>,
}

#[derive(Debug)]
struct Round<'n> {
    nodes: &'n [Node],
    questions: Vec<Question>,
    by_ends: HashMap<Ends, usize>,
    mouths: Vec<Mouth>,
}

/// What is asked: by these protocols, at these addresses of the containers, and which port UDP and SCTP speak
/// from: one of before means connections that the kernel remembers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'p> {
    pub(crate) protocols: &'p [Protocol],
    pub(crate) address: usize,
    pub(crate) own_port: u16,
}

/// Everybody asks everybody else. How many questions those were, and what was wrong: which of `denied`
/// (as `x/a>y/b:TCP/80`) came all the same, and which others were not answered.
pub(crate) fn ask(nodes: &[Node], way: Way<'_>, denied: &BTreeSet<String>) -> (usize, Vec<String>) {
    let _here = Pinned::here();
    let mut round = Round { nodes, questions: vec![], by_ends: HashMap::new(), mouths: vec![] };
    // What is late of the round before is not taken for this one's.
    round.hear();
    round.fence();
    round.hear();
    for from in 0..nodes.len() {
        round.begin(from, way, denied);
        round.hear();
    }
    round.wait();
    for _ in 0..FENCES {
        round.fence();
    }
    round.hear();
    (round.questions.len(), round.wrongs())
}

impl Round<'_> {
    fn begin(&mut self, from: usize, way: Way<'_>, denied: &BTreeSet<String>) {
        let node = &self.nodes[from];
        let own = node.addresses[way.address];
        let others = self.nodes.iter().filter(|other| other.name != node.name);
        let at = others.flat_map(|other| PORTS.map(|port| (other, port)));
        let at: Vec<_> =
            at.map(|(to, port)| (to, SocketAddr::new(to.addresses[way.address], port))).collect();
        let by_tcp = way.protocols.contains(&Protocol::Tcp);
        let (udp, tcp) = node.netns.run(|| {
            let udp = UdpSocket::bind((own, way.own_port)).expect("a socket");
            let streams = at.iter().filter(|_| by_tcp).map(|(_, to)| begin_to_connect(*to));
            (udp, streams.collect::<Vec<_>>())
        });
        let first = self.questions.len();
        for protocol in way.protocols {
            for (n, (to, address)) in at.iter().enumerate() {
                let me = match protocol {
                    Protocol::Tcp => tcp[n].local_addr().expect("an address"),
                    Protocol::Udp => udp.local_addr().expect("an address"),
                    Protocol::Sctp => SocketAddr::new(own, way.own_port),
                };
                let (sender, receiver, port) = (&node.name, &to.name, address.port());
                let name = format!("{sender}>{receiver}:{}/{port}", protocol.name());
                self.by_ends.insert((protocol.number(), me, *address), self.questions.len());
                self.questions.push(Question {
                    may: !denied.contains(&name),
                    name,
                    from,
                    protocol: *protocol,
                    ends: (me, *address),
                    arrived: false,
                    answered: false,
                });
            }
        }
        self.mouths.push(Mouth { udp, _tcp: tcp });
        for question in &self.questions[first..] {
            self.send(question);
        }
    }

    /// TCP repeats its questions itself.
    fn send(&self, question: &Question) {
        let (own, to) = question.ends;
        let sent = match question.protocol {
            Protocol::Tcp => true,
            Protocol::Udp => self.mouths[question.from].udp.send_to(b"a question", to).is_ok(),
            Protocol::Sctp => {
                let ports = (own.port(), to.port());
                self.nodes[question.from].sctp.send(to.ip(), ports, INIT)
            }
        };
        assert!(sent, "{} is sent", question.name);
    }

    /// Takes in what came, and answers it.
    fn hear(&mut self) {
        let mut buffer = [0; 2048];
        for node in self.nodes {
            for tap in &node.taps {
                while let Some(frame) = tap.next(&mut buffer) {
                    let Some(((protocol, from, to), kind)) = ends(&frame[14..]) else { continue };
                    // A bridge may hand what is for others to everybody.
                    if !node.addresses.contains(&to.ip()) {
                        continue;
                    }
                    if let Some(n) = self.by_ends.get(&(protocol, from, to)) {
                        self.questions[*n].arrived = true;
                        if self.questions[*n].protocol == Protocol::Sctp && kind == INIT {
                            node.sctp.send(from.ip(), (to.port(), from.port()), INIT_ACK);
                        }
                    } else if let Some(n) = self.by_ends.get(&(protocol, to, from)) {
                        let answers = match self.questions[*n].protocol {
                            Protocol::Tcp => kind == SYN_ACK,
                            Protocol::Udp => true,
                            Protocol::Sctp => kind == INIT_ACK,
                        };
                        self.questions[*n].answered |= answers;
                    }
                }
            }
            node.serve();
        }
    }

    /// Until all that may come was answered, or patience ends.
    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut again = Instant::now() + AGAIN;
        loop {
            self.hear();
            let missing = || self.questions.iter().filter(|q| q.may && !q.answered);
            if Instant::now() > deadline || missing().next().is_none() {
                return;
            }
            if Instant::now() > again {
                missing().for_each(|question| self.send(question));
                again = Instant::now() + AGAIN;
            }
            wait_for(self.nodes.iter().flat_map(|node| &node.taps));
        }
    }

    fn fence(&self) {
        for node in self.nodes {
            node.has_heard_the_gateway();
            node.ask_for_the_gateway();
        }
        for node in self.nodes {
            let deadline = Instant::now() + PATIENCE;
            let mut again = Instant::now() + AGAIN;
            while !node.has_heard_the_gateway() {
                assert!(Instant::now() < deadline, "{}: no answer of the gateway", node.name);
                if Instant::now() > again {
                    node.ask_for_the_gateway();
                    again = Instant::now() + AGAIN;
                }
                wait_for([&node.arp]);
            }
        }
    }

    fn wrongs(&self) -> Vec<String> {
        let wrong = |question: &Question| match question {
            Question { may: false, answered: true, .. } => Some("was answered"),
            Question { may: false, arrived: true, .. } => Some("arrived"),
            Question { may: true, arrived: false, .. } => Some("did not arrive"),
            Question { may: true, answered: false, .. } => Some("had no answer"),
            _ => None,
        };
        let each = self.questions.iter().filter_map(|q| wrong(q).map(|what| (&q.name, what)));
        each.map(|(name, what)| format!("{name} {what}")).collect()
    }
}

fn wait_for<'w>(wires: impl IntoIterator<Item = &'w Wire>) {
    let polled = wires.into_iter().map(|wire| PollFd::new(wire.fd(), PollFlags::POLLIN));
    // What answers by no tap is looked at after so long.
    let _ = poll(&mut polled.collect::<Vec<_>>(), PollTimeout::from(10_u8));
}

/// A connection that is under way and will be broken off without a word.
fn begin_to_connect(to: SocketAddr) -> TcpStream {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None).expect("a socket");
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&socket, sockopt::Linger, &at_once).expect("an option");
    let begun = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
    assert!(matches!(begun, Ok(()) | Err(Errno::EINPROGRESS)), "to {to}: {begun:?}");
    TcpStream::from(socket)
}

/// This thread stays on the processor it is on, until this is dropped.
pub(crate) struct Pinned(CpuSet);

impl Pinned {
    pub(crate) fn here() -> Self {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).expect("its processors");
        let mut one = CpuSet::new();
        one.set(sched_getcpu().expect("a processor")).expect("a small number");
        sched_setaffinity(this, &one).expect("pinned");
        Self(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}
