//! Nobody comes in by being early: who knocks all the time while a container is attached gets no packet
//! through that would not get through later.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::network_isolation::{attach, connect, dual};
use crate::support::eventually::eventually;
use crate::support::plugin::Call;
use crate::support::world::World;

const DOOR: u16 = 7118;
/// How many knocks come after the ADD at least.
const AFTER: u32 = 50;

/// How many knocks of the outside a container hears that listens since before its ADD.
fn heard(world: &World, name: &str, number: u8, policy: Value) -> usize {
    let conf = dual(name, number, json!({ "ipMasq": false, "policy": policy }));
    let first = attach(world, &format!("{name}1"), &conf);
    assert_eq!(first.addresses[0], format!("10.{number}.0.2"));
    let next = format!("10.{number}.0.3");

    let coming = world.container();
    let ear = coming.run(|| UdpSocket::bind(("0.0.0.0", DOOR)).expect("a socket"));
    ear.set_nonblocking(true).expect("non-blocking");
    let (stop, knocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let hand = world.outside.run(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
    let knocking = std::thread::spawn({
        let (stop, knocks, next) = (stop.clone(), knocks.clone(), next.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                // Refusals of earlier ones are told to the sender; that is no matter.
                let _ = hand.send_to(b"knock", (next.as_str(), DOOR));
                knocks.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    eventually("somebody to knock", || (knocks.load(Ordering::Relaxed) > 20).then_some(()));
    let id = format!("{name}2");
    let result = world.call(Call::add(&id, &coming).conf(&conf)).succeeded();
    assert!(result["ips"][0]["address"].as_str().is_some_and(|a| a.starts_with(&next)), "{result}");
    let attached = knocks.load(Ordering::Relaxed);
    let went_on = || (knocks.load(Ordering::Relaxed) > attached + AFTER).then_some(());
    eventually("somebody to go on knocking", went_on);
    stop.store(true, Ordering::Relaxed);
    knocking.join().expect("the one who knocks");
    let mut buffer = [0; 16];
    let mut heard = 0;
    loop {
        match ear.recv(&mut buffer) {
            Ok(_) => heard += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
            Err(error) => panic!("listening: {error}"),
        }
    }
}

#[test]
fn the_first_packet_is_judged_like_every_other() {
    let world = world!();
    let _daemon = world.daemon();
    connect(&world, &[118, 119]);
    assert_eq!(heard(&world, "shut", 118, json!({})), 0);
    // The same knocks are heard where that is said.
    assert!(heard(&world, "ajar", 119, json!({ "directAccess": true })) > 0);
}
