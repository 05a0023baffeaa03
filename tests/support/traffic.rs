//! Real traffic between namespaces: echo servers, and clients that ask them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::eventually::eventually;
use super::netns::Netns;

/// The port of every echo server.
pub(crate) const PORT: u16 = 7007;
/// How long an answer may take that is expected to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer is waited for that is expected not to come.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);
/// How often the threads here look whether they are to end.
const TICK: Duration = Duration::from_millis(50);

/// Sends back what it gets, by UDP and TCP, until it is dropped.
#[derive(Debug)]
pub(crate) struct Echo {
    seen: Arc<Mutex<Vec<IpAddr>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A socket whose address may still be another's for a moment: a process that some other test starts has all
/// descriptors of this one until it runs its program, those that were closed meanwhile, too.
pub(crate) fn bound<S>(what: &str, bind: impl Fn() -> io::Result<S>) -> S {
    eventually(what, || match bind() {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => None,
        other => Some(other.expect(what)),
    })
}

impl Echo {
    /// Serves on `address` in `netns`.
    pub(crate) fn serve(netns: &Netns, address: &str) -> Self {
        let at = socket_address(address);
        let (udp, tcp) = netns.run(|| {
            (
                bound("a UDP socket", || UdpSocket::bind(at)),
                bound("a listener", || TcpListener::bind(at)),
            )
        });
        udp.set_read_timeout(Some(TICK)).expect("a bound");
        tcp.set_nonblocking(true).expect("non-blocking");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let on_udp = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((n, peer)) = udp.recv_from(&mut buffer) {
                        seen.lock().expect("unpoisoned").push(peer.ip());
                        let _ = udp.send_to(&buffer[..n], peer);
                    }
                }
            }
        };
        let on_tcp = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        Ok((stream, peer)) => {
                            seen.lock().expect("unpoisoned").push(peer.ip());
                            echo(stream);
                        }
                        Err(_) => std::thread::sleep(TICK / 10),
                    }
                }
            }
        };
        let threads = vec![std::thread::spawn(on_udp), std::thread::spawn(on_tcp)];
        Self { seen, stop, threads }
    }

    /// Who asked so far, as this end saw it.
    pub(crate) fn seen(&self) -> Vec<IpAddr> {
        self.seen.lock().expect("unpoisoned").clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut buffer = [0; 2048];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 || stream.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}

fn socket_address(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), PORT)
}

/// Asks the echo server at `to` by UDP until it answers; true if it did within the time.
pub(crate) fn udp_answers(from: &Netns, to: &str, within: Duration) -> bool {
    let Some(socket) = udp_client(from, to) else { return false };
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if ask(&socket, b"a question", TICK) {
            return true;
        }
    }
    false
}

/// Asks the echo server at `to` by TCP; true if it answered within the time.
pub(crate) fn tcp_answers(from: &Netns, to: &str, within: Duration) -> bool {
    let at = socket_address(to);
    let connected = from.run(|| TcpStream::connect_timeout(&at, within));
    let Ok(mut stream) = connected else { return false };
    stream.set_read_timeout(Some(within)).expect("a bound");
    let mut buffer = [0; 10];
    stream.write_all(b"a question").is_ok()
        && stream.read_exact(&mut buffer).is_ok()
        && buffer == *b"a question"
}

/// A socket in `from` that talks to `to`; nothing if there is no route.
fn udp_client(from: &Netns, to: &str) -> Option<UdpSocket> {
    let at = socket_address(to);
    from.run(|| {
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("a UDP socket");
        socket.connect(at).ok().map(|()| socket)
    })
}

/// One question; true if its answer comes in time. Late answers to earlier ones are passed over.
fn ask(socket: &UdpSocket, question: &[u8], within: Duration) -> bool {
    let deadline = Instant::now() + within;
    if socket.send(question).is_err() {
        std::thread::sleep(within / 10);
        return false;
    }
    let mut buffer = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        socket.set_read_timeout(Some(left)).expect("a bound");
        match socket.recv(&mut buffer) {
            Ok(n) if &buffer[..n] == question => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// A conversation that goes on while other things happen: one numbered question after the other,
/// each of which must be answered within a second.
#[derive(Debug)]
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    thread: JoinHandle<u32>,
}

impl Steady {
    /// Begins to ask the echo server at `to`; returns after the first answer.
    #[track_caller]
    pub(crate) fn start(from: &Netns, to: &str) -> Self {
        assert!(udp_answers(from, to, PATIENCE), "no first answer from {to}");
        let socket = udp_client(from, to).expect("a route");
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU32::new(0));
        let thread = std::thread::spawn({
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            move || {
                let mut lost = 0;
                for number in 0_u32.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    if ask(&socket, &number.to_be_bytes(), Duration::from_secs(1)) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        lost += 1;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                lost
            }
        });
        Self { stop, answered, thread }
    }

    /// How many questions were answered so far.
    pub(crate) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends the conversation: every question must have been answered, and some were asked since
    /// `start`.
    #[track_caller]
    pub(crate) fn was_undisturbed(self) {
        let answered = Arc::clone(&self.answered);
        let lost = self.lost();
        let answered = answered.load(Ordering::Relaxed);
        assert!(answered > 0, "no question was asked meanwhile");
        assert_eq!(lost, 0, "questions without an answer ({answered} had one)");
    }

    /// Ends the conversation; how many questions were not answered.
    pub(crate) fn lost(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the conversation")
    }
}
