//! Probes: frames made by hand of which it is known where they may arrive, and what became of them.
//!
//! ```text
//!   all probes of one sender ──► fence ──► which marks came where ──► what is wrong, one line each
//! ```
//!
//! The fence is a question of ARP to the host and its answer. It is sent from the processor that the probes
//! were sent from, whose queue all links share, so that it comes behind them; as often as a probe may take
//! longer ways than the question.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{MsgFlags, recv};

use crate::support::eventually::eventually;
use crate::support::forged::Side;
use crate::support::frames::{Mac, Wire, link_local, mark};
use crate::support::netns::Netns;
use crate::support::probe::Pinned;
use crate::walls_town::Place;

/// How often the fence goes round.
const FENCES: usize = 4;
/// After so many probes a fence goes round and what came is taken in, before queues are full.
const BATCH: usize = 100;

/// Whether a probe arrives somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Must,
    May,
    Never,
}

impl Expect {
    /// What is allowed arrives, and nothing else.
    pub(crate) fn exactly(allowed: bool) -> Self {
        if allowed { Self::Must } else { Self::Never }
    }
}

/// What is sent as one, and where it may come: for each of the watches in their order.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    /// What it is an example of: of what is wrong, one line for each kind is printed.
    pub(crate) kind: String,
    pub(crate) what: String,
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) expect: Vec<Expect>,
}

/// Where arrivals are looked for.
#[derive(Debug)]
pub(crate) struct Watch {
    name: String,
    by: By,
    /// The marks that came, each with what it came in first.
    came: HashMap<u16, Vec<u8>>,
    /// What came without a mark, as it is.
    plain: HashSet<Vec<u8>>,
}

#[derive(Debug)]
enum By {
    /// A link, and the host on it: what it says of a packet that it could not deliver is not that packet.
    Link(Wire, Side),
    /// A bridge of the host, and who sends: the same goes for what others there say.
    Bridge(Wire, Mac),
    Sockets(Vec<OwnedFd>),
}

impl Watch {
    fn new(name: &str, by: By) -> Self {
        Self { name: name.to_owned(), by, came: HashMap::new(), plain: HashSet::new() }
    }

    /// Everything that comes in by the link.
    pub(crate) fn link(place: &Place<'_>) -> Self {
        Self::new(place.name, By::Link(place.watch(), place.gateway))
    }

    /// What a bridge gives to the host, when this one sends.
    pub(crate) fn bridge(host: &Netns, name: &str, sender: &Place<'_>) -> Self {
        let by = By::Bridge(Wire::arriving(host, name), sender.me.mac);
        Self::new(&format!("the host's {name}"), by)
    }

    /// What the host gives to its processes, of these protocols of both families.
    pub(crate) fn sockets(netns: &Netns, name: &str, protocols: &[u8]) -> Self {
        let open = |family| {
            move |protocol: &u8| {
                let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                // SAFETY: no memory is handed over.
                let fd = unsafe { libc::socket(family, kind, libc::c_int::from(*protocol)) };
                assert!(fd >= 0, "protocol {protocol}: {}", std::io::Error::last_os_error());
                // SAFETY: the descriptor was made here, and is nobody else's.
                unsafe { OwnedFd::from_raw_fd(fd) }
            }
        };
        let sockets = netns.run(|| {
            let four = protocols.iter().filter(|p| **p != 58).map(open(libc::AF_INET));
            let six = protocols.iter().filter(|p| **p != 1).map(open(libc::AF_INET6));
            four.chain(six).collect()
        });
        Self::new(name, By::Sockets(sockets))
    }

    /// What ordinary sockets receive.
    pub(crate) fn of(name: &str, sockets: Vec<UdpSocket>) -> Self {
        let nonblocking = |socket: &UdpSocket| socket.set_nonblocking(true).expect("non-blocking");
        sockets.iter().for_each(nonblocking);
        Self::new(name, By::Sockets(sockets.into_iter().map(OwnedFd::from).collect()))
    }

    /// Takes in what came.
    pub(crate) fn take(&mut self) {
        let mut buffer = [0; 65536];
        let begin = &mark(0)[..4];
        let mut scan = |bytes: &[u8]| {
            let mut marked = false;
            for window in bytes.windows(6).filter(|w| &w[..4] == begin) {
                let number = u16::from_be_bytes([window[4], window[5]]);
                self.came.entry(number).or_insert_with(|| bytes.to_vec());
                marked = true;
            }
            if !marked {
                self.plain.insert(bytes.to_vec());
            }
        };
        match &self.by {
            By::Link(wire, host) => {
                while let Some(frame) = wire.next(&mut buffer) {
                    if !(is_error(frame) && is_from(*host, frame)) {
                        scan(frame);
                    }
                }
            }
            By::Bridge(wire, sender) => {
                while let Some(frame) = wire.next(&mut buffer) {
                    if !is_error(frame) || frame[6..12] == *sender {
                        scan(frame);
                    }
                }
            }
            By::Sockets(sockets) => {
                for socket in sockets {
                    while let Ok(n) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                        scan(&buffer[..n]);
                    }
                }
            }
        }
    }

    /// Whether a probe came: by its mark, or as it was sent.
    fn has(&self, number: u16, probe: &Probe) -> bool {
        self.came.contains_key(&number)
            || probe.frames.iter().any(|frame| self.plain.contains(frame))
    }
}

/// Whether a frame is an error of ICMP, which has in it what it is about.
fn is_error(frame: &[u8]) -> bool {
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    match at(12, 14) {
        [0x08, 0x00] => at(23, 24) == [1] && matches!(at(34, 35), [3 | 4 | 5 | 11 | 12]),
        [0x86, 0xdd] => at(20, 21) == [58] && matches!(at(54, 55), [1..=4 | 137]),
        _ => false,
    }
}

/// Whether a frame is of this address.
fn is_from(side: Side, frame: &[u8]) -> bool {
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    match at(12, 14) {
        [0x08, 0x00] => at(26, 30) == side.v4.octets(),
        _ => [side.v6, link_local(side.mac)].iter().any(|own| at(22, 38) == own.octets()),
    }
}

/// The probes of one sender; each is made for its number.
#[derive(Debug, Default)]
pub(crate) struct Volley {
    pub(crate) probes: Vec<Probe>,
}

impl Volley {
    /// The number that the next probe has to carry.
    pub(crate) fn next(&self) -> u16 {
        u16::try_from(self.probes.len()).expect("fewer than 65536 probes")
    }

    pub(crate) fn add(
        &mut self,
        kind: impl Into<String>,
        what: impl Into<String>,
        frames: Vec<Vec<u8>>,
        expect: Vec<Expect>,
    ) {
        self.probes.push(Probe { kind: kind.into(), what: what.into(), frames, expect });
    }

    /// The same probes, of which something else is expected.
    pub(crate) fn instead(mut self, before: Expect, now: Expect) -> Self {
        let all = self.probes.iter_mut().flat_map(|probe| &mut probe.expect);
        all.filter(|expect| **expect == before).for_each(|expect| *expect = now);
        self
    }

    /// Sends all of it from one place, and notes what is wrong.
    pub(crate) fn fire(
        &self,
        wall: &str,
        from: &Place<'_>,
        watches: &mut [Watch],
        report: &mut Report,
    ) {
        let send = |n: usize| self.probes[n].frames.iter().for_each(|f| from.wire.send(f));
        self.fire_by(wall, &[from], watches, report, send);
    }

    /// The same where the probes are sent by something else; these go round as fences.
    pub(crate) fn fire_by(
        &self,
        wall: &str,
        fences: &[&Place<'_>],
        watches: &mut [Watch],
        report: &mut Report,
        send: impl Fn(usize),
    ) {
        let _here = Pinned::here();
        for n in 0..self.probes.len() {
            send(n);
            if n % BATCH == BATCH - 1 || n + 1 == self.probes.len() {
                fence(fences);
                watches.iter_mut().for_each(Watch::take);
            }
        }
        report.sent += self.probes.len();
        for (number, probe) in (0..).zip(&self.probes) {
            for (expect, watch) in probe.expect.iter().zip(watches.iter()) {
                let came = watch.has(number, probe);
                let what = match (expect, came) {
                    (Expect::Never, true) => "arrived at",
                    (Expect::Must, false) => "did not arrive at",
                    _ => continue,
                };
                let key = format!("{wall}: {} {what} {}", probe.kind, watch.name);
                let all = report.wrongs.entry(key).or_default();
                all.push(match watch.came.get(&number) {
                    Some(bytes) if all.is_empty() => format!("{}, as {}", probe.what, hex(bytes)),
                    _ => probe.what.clone(),
                });
            }
            let must = probe.expect.iter().filter(|e| **e == Expect::Must);
            report.controls += must.count();
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was sent, and what of it was wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sent: usize,
    /// How many arrivals were demanded.
    controls: usize,
    wrongs: BTreeMap<String, Vec<String>>,
}

impl Report {
    /// Notes something that is wrong and was seen in another way.
    pub(crate) fn note(&mut self, kind: String, what: String) {
        self.wrongs.entry(kind).or_default().push(what);
    }

    /// Fails if anything is wrong, with a line for each kind: how often, and the first of them.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert!(self.sent > 0 && self.controls > 0, "nothing was sent that has to arrive");
        let line = |(kind, all): (&String, &Vec<String>)| {
            format!("{kind}, {} times: {}", all.len(), all.first().map_or("", String::as_str))
        };
        let lines: Vec<String> = self.wrongs.iter().map(line).collect();
        let count: usize = self.wrongs.values().map(Vec::len).sum();
        assert!(count == 0, "{count} of {} probes are wrong:\n{}", self.sent, lines.join("\n"));
    }
}

/// Returns when what was sent from this processor before has gone all its way.
pub(crate) fn fence(places: &[&Place<'_>]) {
    for _ in 0..FENCES {
        for place in places {
            place.is_answered();
            place.ask();
            eventually("the host's answer to a question of ARP", || {
                if place.is_answered() {
                    return Some(());
                }
                place.ask();
                None
            });
        }
    }
}
