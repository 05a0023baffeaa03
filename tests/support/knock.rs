//! Who knocks all the time, so that whatever is open for a moment is found open.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use super::eventually::eventually;
use super::netns::Netns;

/// Sends datagrams to some addresses as fast as it can, until it is dropped.
#[derive(Debug)]
pub(crate) struct Knocks {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Knocks {
    /// Begins, whether or not there is a way there yet.
    pub(crate) fn begin(from: &Netns, to: &[String], port: u16) -> Self {
        let to: Vec<SocketAddr> = to.iter().map(|text| at(text, port)).collect();
        let sockets: Vec<UdpSocket> =
            to.iter().map(|to| from.run(|| UdpSocket::bind(any(to)).expect("a socket"))).collect();
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let thread = std::thread::spawn({
            let (stop, taken) = (stop.clone(), taken.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for (socket, to) in sockets.iter().zip(&to) {
                        if socket.send_to(b"knock", to).is_ok() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    std::thread::yield_now();
                }
            }
        });
        Self { stop, taken, thread: Some(thread) }
    }

    /// Waits until the kernel has taken so many more.
    #[track_caller]
    pub(crate) fn more(&self, number: u32) {
        let before = self.taken.load(Ordering::Relaxed);
        let enough = || self.taken.load(Ordering::Relaxed).wrapping_sub(before) >= number;
        eventually("somebody to go on knocking", || enough().then_some(()));
    }
}

impl Drop for Knocks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Listens for them at one port of a namespace, whatever addresses it has or gets.
#[derive(Debug)]
pub(crate) struct Ear(UdpSocket);

impl Ear {
    pub(crate) fn at(netns: &Netns, port: u16) -> Self {
        // A socket of IPv6 hears IPv4 as well.
        let socket = netns.run(|| UdpSocket::bind(("::", port)).expect("a socket"));
        socket.set_nonblocking(true).expect("non-blocking");
        Self(socket)
    }

    /// Who was heard so far.
    pub(crate) fn heard(&self) -> Vec<IpAddr> {
        let mut heard = Vec::new();
        let mut buffer = [0; 16];
        loop {
            match self.0.recv_from(&mut buffer) {
                Ok((_, from)) => heard.push(from.ip().to_canonical()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("listening: {error}"),
            }
        }
    }
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().expect("an address"), port)
}

fn any(of: &SocketAddr) -> SocketAddr {
    at(if of.is_ipv4() { "0.0.0.0" } else { "::" }, 0)
}
