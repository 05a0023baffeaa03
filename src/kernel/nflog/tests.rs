//! Records of real packets, in a network namespace of the test's own. Every address is one of its `lo`: what
//! the rules see is the same as between containers.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use quantum_config::policy::Direction;

use super::{Denials, GROUP, Heard, Losses, NflogError, answer, is_missing};
use crate::kernel::testing::{in_namespace, ip_batch};
use crate::policy::Denial;

/// More than any record takes to come, and no more than a test may take.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn an_error_may_have_any_number() {
    let body = [&i32::MIN.to_ne_bytes()[..], &[0; 8], &9_u32.to_ne_bytes()].concat();
    assert!(matches!(answer(&body), Some((9, Some(_)))));
}

fn lo_with_addresses() {
    ip_batch(
        "link set lo up\n\
         address add 10.9.0.2/32 dev lo\n\
         address add 10.9.0.3/32 dev lo\n\
         address add 10.9.0.9/32 dev lo\n\
         address add fd09::2/128 dev lo nodad\n\
         address add fd09::3/128 dev lo nodad\n",
    );
}

/// A table with chains, read by `nft`.
fn rules(chains: &str) {
    let nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
    let mut nft = nft.unwrap();
    let text = format!("table inet test {{\n{chains}\n}}\n");
    // Dropped, and so closed, at the end of the statement.
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

/// A chain that sees what `lo` sends, with these rules; LOG is one that logs to our group.
fn out(lines: &str) {
    let lines = lines.replace("LOG", "log group 20821 snaplen 128 prefix");
    rules(&format!("chain out {{\ntype filter hook output priority 0;\n{lines}\n}}"));
}

fn send(from: &str, to: &str) {
    // That it is refused is what is to be seen.
    let _ = UdpSocket::bind(from).unwrap().send_to(b"x", to);
}

/// So many denials, with what was lost until they came.
#[track_caller]
fn hear(denials: &mut Denials, count: usize) -> Heard {
    let began = Instant::now();
    let mut all = Heard::default();
    while all.denials.len() < count {
        assert!(began.elapsed() < SOON, "only {all:?}");
        let heard = denials.next(SOON).unwrap();
        all.denials.extend(heard.denials);
        all.lost += heard.lost;
    }
    assert_eq!(all.denials.len(), count, "{all:?}");
    all
}

fn flow(denial: &Denial) -> String {
    format!("{} {} {}", denial.from, denial.to, denial.spoken)
}

#[test]
fn a_denied_packet_is_heard_soon_with_its_side_and_mode() {
    in_namespace(&["ip", "nft"], || {
        lo_with_addresses();
        out("udp dport 52 LOG \"somebody \"
             udp dport 53 LOG \"quantum egress \" drop
             udp dport 54 LOG \"quantum audit ingress \"");
        let mut denials = Denials::open(GROUP).unwrap();
        let began = Instant::now();
        send("10.9.0.2:1000", "10.9.0.3:52");
        send("10.9.0.2:1000", "10.9.0.3:53");
        let heard = hear(&mut denials, 1);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let denial = heard.denials[0];
        assert_eq!(flow(&denial), "10.9.0.2 10.9.0.3 udp 53");
        assert_eq!((denial.direction, denial.audit), (Direction::Egress, false));
        // The first link of a namespace is its `lo`.
        assert_eq!((denial.in_index, denial.out_index), (None, Some(1)));
        send("[fd09::2]:1000", "[fd09::3]:54");
        let denial = hear(&mut denials, 1).denials[0];
        assert_eq!(flow(&denial), "fd09::2 fd09::3 udp 54");
        assert_eq!((denial.direction, denial.audit), (Direction::Ingress, true));
        assert_eq!(heard.lost, 0);
    });
}

#[test]
fn a_reply_says_who_began_and_a_translated_packet_whom_it_is_for() {
    in_namespace(&["ip", "nft"], || {
        lo_with_addresses();
        rules(
            "chain nat {
                type nat hook output priority -100;
                ip daddr 10.9.0.9 udp dport 8053 dnat ip to 10.9.0.3:53
            }
            chain out {
                type filter hook output priority 0;
                ct direction reply log group 20821 prefix \"quantum ingress reply \" drop
                ct status dnat log group 20821 prefix \"quantum egress \"
            }",
        );
        let mut denials = Denials::open(GROUP).unwrap();
        let server = UdpSocket::bind("10.9.0.3:53").unwrap();
        server.set_read_timeout(Some(SOON)).unwrap();
        send("10.9.0.2:1000", "10.9.0.9:8053");
        let (_, client) = server.recv_from(&mut [0; 8]).unwrap();
        let _ = server.send_to(b"y", client);
        let heard = hear(&mut denials, 2);
        for (denial, direction) in heard.denials.iter().zip([Direction::Egress, Direction::Ingress])
        {
            assert_eq!(flow(denial), "10.9.0.2 10.9.0.3 udp 53");
            assert_eq!(denial.direction, direction);
        }
    });
}

#[test]
fn what_is_lost_is_counted_and_what_comes_later_is_heard() {
    in_namespace(&["ip", "nft"], || {
        lo_with_addresses();
        out("udp dport 53 LOG \"quantum egress \" drop");
        let mut denials = Denials::open(GROUP).unwrap();
        // As little as the kernel gives.
        setsockopt(&denials.socket, sockopt::RcvBuf, &0).unwrap();
        let sender = UdpSocket::bind("10.9.0.2:1000").unwrap();
        for _ in 0..500 {
            let _ = sender.send_to(b"x", "10.9.0.3:53");
        }
        // The socket says first that it has run over.
        denials.receive(|_, _| panic!("nothing was asked")).unwrap();
        assert_eq!(denials.heard.lost, 1, "that some were is known before it is known how many");
        let mut all = Heard::default();
        // The kernel gathers for 50 ms.
        for _ in 0..5 {
            let heard = denials.next(Duration::from_millis(100)).unwrap();
            all.denials.extend(heard.denials);
            all.lost += heard.lost;
        }
        let _ = sender.send_to(b"x", "10.9.0.3:53");
        let last = hear(&mut denials, 1);
        let (came, lost) = (all.denials.len() as u64 + 1, all.lost + last.lost);
        assert!(lost > 100, "only {lost} were lost");
        assert_eq!(came + lost, 501);
    });
}

#[test]
fn an_overrun_is_counted_once() {
    let mut losses = Losses::default();
    assert_eq!([0, 1].map(|n| losses.numbered(n)), [0, 0]);
    assert_eq!(losses.overrun(), 1, "said before it is known how much");
    assert_eq!(losses.numbered(2), 0, "what had come before");
    assert_eq!(losses.numbered(13), 9, "ten, of which one is counted");
    assert_eq!(losses.numbered(15), 1);
    let mut losses = Losses { next: u32::MAX, said: 0 };
    assert_eq!([u32::MAX, 0, 2].map(|n| losses.numbered(n)), [0, 0, 1]);
}

#[test]
fn a_group_has_one_listener() {
    in_namespace(&["nft"], || {
        assert!(!is_missing(GROUP));
        let first = Denials::open(GROUP).unwrap();
        let second = Denials::open(GROUP);
        assert!(matches!(second, Err(NflogError::Taken { group: GROUP, .. })), "{second:?}");
        assert!(!is_missing(GROUP), "it is somebody else's");
        Denials::open(GROUP + 1).unwrap();
        drop(first);
        Denials::open(GROUP).unwrap();
    });
}

#[test]
fn the_thread_hears_until_it_is_dropped() {
    in_namespace(&["ip", "nft"], || {
        lo_with_addresses();
        out("udp dport 53 LOG \"quantum egress \" drop");
        let (tell, told) = channel();
        let denials = Denials::open(GROUP).unwrap();
        let hearing = denials.start(move |heard| tell.send(heard.unwrap()).unwrap()).unwrap();
        for _ in 0..2 {
            send("10.9.0.2:1000", "10.9.0.3:53");
            let heard = told.recv_timeout(SOON).unwrap();
            assert_eq!(flow(&heard.denials[0]), "10.9.0.2 10.9.0.3 udp 53");
        }
        drop(hearing);
        assert!(told.recv().is_err(), "the thread has gone");
        Denials::open(GROUP).unwrap();
    });
}
