//! Live connections of TCP and UDP, of which both ends are at hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::netns::Netns;
use super::traffic::{PATIENCE, SILENCE};

/// How long one byte by TCP is waited for at a time.
const TICK: Duration = Duration::from_millis(20);

/// A connection, and in which way it is used.
#[derive(Debug)]
pub(crate) struct Line {
    ends: Ends,
    /// Only the server speaks, once it stands.
    pushes: bool,
    name: String,
}

#[derive(Debug)]
enum Ends {
    Tcp(TcpStream, TcpStream),
    Udp(UdpSocket, UdpSocket),
}

/// Which way a byte goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Asked,
    Answered,
}

impl Line {
    /// Four connections from a client to who serves at `bind` and is reached by `to`, at that port and the
    /// next: by TCP and UDP, and each once for questions and answers and once for what a server sends by
    /// itself.
    #[track_caller]
    pub(crate) fn four(
        from: &Netns,
        at: &Netns,
        (bind, to): (&str, &str),
        (own, port): (u16, u16),
    ) -> Vec<Self> {
        let address = |text: &str, port| SocketAddr::new(text.parse().expect("an address"), port);
        let mut lines = Vec::new();
        for (n, pushes) in [(0, false), (1, true)] {
            let (bind, to) = (address(bind, own + n), address(to, port + n));
            for ends in [Ends::tcp(from, at, bind, to), Ends::udp(from, at, bind, to)] {
                let name = format!("{to} by {}, pushing: {pushes}", ends.word());
                lines.push(Self { ends, pushes, name });
            }
        }
        lines
    }

    fn ways(&self) -> &'static [Way] {
        if self.pushes { &[Way::Answered] } else { &[Way::Asked, Way::Answered] }
    }
}

/// One message over each, in every way that it is used; each must come without being sent again.
#[track_caller]
pub(crate) fn all_cross(lines: &[Line], when: &str) {
    for line in lines {
        for way in line.ways() {
            assert!(line.ends.send(*way), "{}, {way:?}, {when}: sent", line.name);
            let came = line.ends.comes(*way, PATIENCE);
            assert!(came, "{}, {way:?}, {when}: does not come", line.name);
        }
    }
}

/// Nothing that either end sends comes to the other.
#[track_caller]
pub(crate) fn none_crosses(lines: &[Line], when: &str) {
    let all = || lines.iter().flat_map(|line| [(line, Way::Asked), (line, Way::Answered)]);
    for (line, way) in all() {
        line.ends.send(way);
    }
    std::thread::sleep(SILENCE);
    for (line, way) in all() {
        assert!(!line.ends.comes(way, Duration::ZERO), "{}, {way:?}, {when}: comes", line.name);
    }
}

/// After [`none_crosses`]: what was held up by TCP comes by its own repetition, what UDP lost is lost; from
/// then on all of them are as before.
#[track_caller]
pub(crate) fn all_resume(lines: &[Line], when: &str) {
    for line in lines {
        if let Ends::Tcp(..) = line.ends {
            for way in [Way::Asked, Way::Answered] {
                let came = line.ends.comes(way, 2 * PATIENCE);
                assert!(came, "{}, {way:?}, {when}: what was held up", line.name);
            }
        }
    }
    all_cross(lines, when);
}

impl Ends {
    fn word(&self) -> &'static str {
        match self {
            Self::Tcp(..) => "TCP",
            Self::Udp(..) => "UDP",
        }
    }

    #[track_caller]
    fn tcp(from: &Netns, at: &Netns, bind: SocketAddr, to: SocketAddr) -> Self {
        let listener = at.run(|| TcpListener::bind(bind).expect("a listener"));
        let client = from.run(|| TcpStream::connect_timeout(&to, PATIENCE).expect("a connection"));
        let (server, _) = listener.accept().expect("a connection");
        for end in [&client, &server] {
            end.set_nodelay(true).expect("at once");
            end.set_read_timeout(Some(TICK)).expect("a bound");
        }
        Self::Tcp(client, server)
    }

    #[track_caller]
    fn udp(from: &Netns, at: &Netns, bind: SocketAddr, to: SocketAddr) -> Self {
        let server = at.run(|| UdpSocket::bind(bind).expect("a socket"));
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = from.run(|| {
            let client = UdpSocket::bind(any).expect("a socket");
            client.connect(to).expect("a route");
            client
        });
        server.set_read_timeout(Some(PATIENCE)).expect("a bound");
        client.send(b"x").expect("sent");
        let (_, peer) = server.recv_from(&mut [0; 8]).expect("the first message");
        at.run(|| server.connect(peer).expect("a route"));
        for end in [&client, &server] {
            end.set_read_timeout(Some(TICK)).expect("a bound");
        }
        let ends = Self::Udp(client, server);
        assert!(ends.send(Way::Answered) && ends.comes(Way::Answered, PATIENCE), "an answer");
        ends
    }

    /// True if the kernel took it.
    fn send(&self, way: Way) -> bool {
        match (self, way) {
            (Self::Tcp(end, _), Way::Asked) | (Self::Tcp(_, end), Way::Answered) => {
                (&*end).write_all(b"x").is_ok()
            }
            (Self::Udp(end, _), Way::Asked) | (Self::Udp(_, end), Way::Answered) => {
                end.send(b"x").is_ok()
            }
        }
    }

    /// Whether a message comes in time. It is one byte, so that none is taken for two.
    fn comes(&self, way: Way, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let read = match (self, way) {
                (Self::Tcp(_, end), Way::Asked) | (Self::Tcp(end, _), Way::Answered) => {
                    (&*end).read(&mut [0])
                }
                (Self::Udp(_, end), Way::Asked) | (Self::Udp(end, _), Way::Answered) => {
                    end.recv(&mut [0])
                }
            };
            match read {
                Ok(n) => return n == 1,
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {}
                Err(_) => return false,
            }
        }
    }
}
