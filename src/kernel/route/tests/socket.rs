//! What a socket does when answers are lost, and what its owner does then.

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::Bridge;
use crate::kernel::route::{Batch, RouteSocket, Step, message};
use crate::kernel::testing::{in_private_netns, new_netns};

/// Sends so many requests over a socket with so small a queue that answers are lost.
fn overrun(socket: &mut RouteSocket) {
    setsockopt(socket, sockopt::RcvBuf, &1).unwrap(); // the kernel makes it its minimum
    let mut batch = Batch::new();
    for i in 0..100 {
        batch.push(Step::LoopbackUp, i.to_string(), 0, message::link_up(message::LOOPBACK));
    }
    let outcomes = socket.send(batch);
    assert_eq!(outcomes.len(), 100, "every step has an outcome");
    let lost = outcomes.last().unwrap().as_ref().unwrap_err();
    assert_eq!((lost.errno, lost.object.as_str()), (libc::ENOBUFS, "99"));
}

#[test]
fn a_lost_answer_spends_the_socket() {
    in_private_netns(|| {
        let mut socket = RouteSocket::open().unwrap();
        overrun(&mut socket);
        assert!(socket.is_spent());
        let mut batch = Batch::new();
        batch.push(Step::LoopbackUp, "lo", 0, message::link_up(message::LOOPBACK));
        assert_eq!(socket.send(batch).pop().unwrap().unwrap_err().errno, libc::EBADF);
    });
}

#[test]
fn the_host_opens_another_one() {
    in_private_netns(|| {
        let mut bridge = Bridge::new();
        overrun(bridge.host.socket().unwrap());
        bridge.attach(7, &new_netns()).unwrap();
    });
}
