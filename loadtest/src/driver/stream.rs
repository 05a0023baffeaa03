//! One TCP stream between two containers: for a bounded time and a bounded number of bytes, or a byte at
//! a time, there and back.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpCongestion;

use crate::failure::{Doing, Failure, Result};
use crate::world::{Netns, Visitor};

/// What is written and read at a time.
const CHUNK: usize = 256 * 1024;
/// Sends as fast as it is received. What else a machine may have chosen, BBR above all, paces what it
/// sends, and would be what is measured. Every kernel has it.
const CONGESTION: &str = "reno";
/// How long one end waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a stream ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

/// Opens a stream from one container to an address of another, fills it for the slice, and returns how
/// many bytes arrived per second. Opening is not in the time.
pub(crate) fn per_second(
    visitor: &Visitor,
    (from, to): (&Netns, &Netns),
    address: IpAddr,
    slice: Slice,
) -> Result<f64> {
    let (sender, receiver) = open(visitor, from, to, address)?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(sender, slice));
        let received = receive(receiver);
        let sent = sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (arrived, took) = received?;
        if arrived != sent {
            let why = format!("{sent} bytes were sent and {arrived} arrived");
            return Err(Failure::new(format!("streaming to {address}"), why));
        }
        Ok(arrived as f64 / took.as_secs_f64())
    })
}

/// Opens a stream: both its ends, which stay where they are.
pub(crate) fn open(
    visitor: &Visitor,
    from: &Netns,
    to: &Netns,
    address: IpAddr,
) -> Result<(TcpStream, TcpStream)> {
    let listener = visitor.inside(to, || {
        TcpListener::bind((address, 0)).doing(|| format!("listening at {address}"))
    })?;
    let target: SocketAddr = listener.local_addr().doing(|| "reading a socket's address")?;
    let sender = visitor.inside(from, || {
        TcpStream::connect_timeout(&target, PATIENCE).doing(|| format!("connecting to {target}"))
    })?;
    // It is connected, so it is there to be accepted.
    let (receiver, _) = listener.accept().doing(|| format!("accepting at {target}"))?;
    setsockopt(&sender, TcpCongestion, &OsString::from(CONGESTION))
        .doing(|| format!("choosing {CONGESTION} for a stream"))?;
    sender.set_write_timeout(Some(PATIENCE)).doing(|| "setting up a stream")?;
    receiver.set_read_timeout(Some(PATIENCE)).doing(|| "setting up a stream")?;
    Ok((sender, receiver))
}

/// How long a byte takes there and back, at the median of `times` of them. One thread has both ends, so
/// that nobody is woken: what is measured is the way of a packet and its acknowledgement.
pub(crate) fn round_trip(
    (here, there): (&mut TcpStream, &mut TcpStream),
    times: usize,
) -> Result<Duration> {
    let mut took = Vec::with_capacity(times);
    for end in [&mut *here, &mut *there] {
        end.set_nodelay(true).doing(|| "setting up a stream")?;
        end.set_read_timeout(Some(PATIENCE)).doing(|| "setting up a stream")?;
    }
    for _ in 0..times {
        let started = Instant::now();
        let mut byte = [1];
        here.write_all(&byte).doing(|| "writing to a stream")?;
        there.read_exact(&mut byte).doing(|| "reading from a stream")?;
        there.write_all(&byte).doing(|| "writing to a stream")?;
        here.read_exact(&mut byte).doing(|| "reading from a stream")?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took.get(times / 2).copied().unwrap_or_default())
}

/// Writes until the slice is over. Dropping the stream ends it.
fn send(mut stream: TcpStream, slice: Slice) -> Result<u64> {
    let chunk = vec![0; CHUNK];
    let (deadline, mut sent) = (Instant::now() + slice.time, 0);
    while sent < slice.bytes && Instant::now() < deadline {
        sent += stream.write(&chunk).doing(|| "writing to a stream")? as u64;
    }
    Ok(sent)
}

/// Reads to the end: how much, and in which time.
fn receive(mut stream: TcpStream) -> Result<(u64, Duration)> {
    let mut chunk = vec![0; CHUNK];
    let (started, mut arrived) = (Instant::now(), 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok((arrived, started.elapsed())),
            Ok(length) => arrived += length as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::new("reading from a stream", error)),
        }
    }
}
