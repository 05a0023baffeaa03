//! Order for each attachment: a DEL that meets an ADD of its own key waits for it and wins over it,
//! whether the ADD's caller is still there or not.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::daemon_http::sample;
use crate::spec_del::fill_and_empty;
use crate::support::conf::{network, with};
use crate::support::eventually::eventually;
use crate::support::inventory::{Inventory, veths};
use crate::support::plugin::{Call, feed};
use crate::support::wire::{Answer, Client};

#[test]
fn a_del_sent_while_its_add_runs_wins() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("order", "order0", "10.11.0.0/28");
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&conf)).succeeded();
    let before = Inventory::of(&world.host);
    let mut won = 0;
    // More often than the pool has addresses: none may be lost.
    for _ in 0..20 {
        let container = world.container();
        let mut add = Client::connect(&world.paths().socket).expect("connected");
        let mut del = Client::connect(&world.paths().socket).expect("connected");
        add.call(&Call::add("c1", &container).conf(&conf), &world.host, Some(&container));
        del.call(&Call::del("c1", &container).conf(&conf), &world.host, Some(&container));
        let reply = del.reply();
        assert_eq!((reply.exit, reply.stdout.as_str()), (0, ""), "DEL succeeds");
        let reply = add.reply();
        if reply.exit == 0 && container.link("eth0").is_some() {
            // Two connections have no order: the daemon may hear the DEL first. Then it found
            // nothing, and the ADD came after it.
            world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        } else {
            won += 1;
        }
        // Made and taken away, or given up: either way nothing of it is there.
        assert!(container.link("eth0").is_none(), "after both: {reply:?}");
        before.assert_same(&Inventory::of(&world.host), "the host after ADD and DEL");
    }
    assert!(won > 0, "not one of the DELs met its ADD");
    world.call(Call::del("warm", &warm).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 13);
}

#[test]
fn an_add_whose_caller_hung_up_leaves_nothing_after_a_del() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("hungup", "hungup0", "10.12.0.0/29");
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&conf)).succeeded();
    let before = Inventory::of(&world.host);
    for n in 0..20 {
        let container = world.container();
        let mut add = Client::connect(&world.paths().socket).expect("connected");
        add.call(&Call::add("c1", &container).conf(&conf), &world.host, Some(&container));
        if n % 2 == 0 {
            // Late enough that some of it was done, now and then.
            std::thread::sleep(Duration::from_micros(200 * n));
        }
        drop(add);
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        assert!(container.link("eth0").is_none(), "after the DEL");
        before.assert_same(&Inventory::of(&world.host), "the host after the DEL");
    }
    world.call(Call::del("warm", &warm).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn a_plugin_that_is_killed_leaves_nothing_after_a_del() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("killed", "killed0", "10.13.0.0/29");
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&conf)).succeeded();
    let before = Inventory::of(&world.host);
    let mut unfinished = 0;
    for n in 0..20 {
        let container = world.container();
        let call = Call::add("c1", &container).conf(&conf);
        let mut command = world.plugin_command(&world.host);
        call.dress(&mut command);
        let mut child = command.spawn().expect("the plugin");
        feed(child.stdin.take(), call.input());
        // The runtime's patience ends at another moment each time.
        std::thread::sleep(Duration::from_micros(150 * n));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, Signal::SIGKILL).expect("killed");
        let output = child.wait_with_output().expect("its end");
        unfinished += usize::from(output.status.code() != Some(0));
        world.call(Call::del("c1", &container).conf(&conf)).succeeded();
        assert!(container.link("eth0").is_none(), "after the DEL");
        before.assert_same(&Inventory::of(&world.host), "the host after the DEL");
    }
    assert!(unfinished > 0, "no plugin was killed before it was done");
    world.call(Call::del("warm", &warm).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn an_abandoned_add_alone_is_taken_back() {
    let world = world!();
    let daemon = world.daemon();
    let conf = network("alone", "alone0", "10.14.0.0/29");
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&conf)).succeeded();
    let before = Inventory::of(&world.host);
    // The runtime never comes back: neither DEL nor ADD. What was not answered must not stay, since
    // nobody knows of it; it would cost an address until somebody calls GC.
    for n in 0..8 {
        let container = world.container();
        let mut add = Client::connect(&world.paths().socket).expect("connected");
        let name = format!("c{n}");
        add.call(&Call::add(&name, &container).conf(&conf), &world.host, Some(&container));
        drop(add);
        let adds = f64::from(n + 2);
        eventually("the ADD to end", || {
            let (_, metrics) = daemon.get("/metrics");
            (sample(&metrics, "cni_operations_total", &["=\"ADD\""]) >= adds).then_some(())
        });
        eventually("the ADD to be taken back", || container.link("eth0").is_none().then_some(()));
    }
    before.assert_same(&Inventory::of(&world.host), "the host after ADDs that nobody waited for");
    world.call(Call::del("warm", &warm).conf(&conf)).succeeded();
    fill_and_empty(&world, &conf, 5);
}

#[test]
fn adds_of_one_key_sent_together_make_one_attachment() {
    let world = world!();
    let _daemon = world.daemon();
    let conf = network("same", "same0", "10.15.0.0/24");
    let container = world.container();
    let mut clients: Vec<Client> =
        (0..8).map(|_| Client::connect(&world.paths().socket).expect("connected")).collect();
    for client in &mut clients {
        client.call(&Call::add("c1", &container).conf(&conf), &world.host, Some(&container));
    }
    let answers: Vec<Answer> = clients.iter_mut().map(Client::answer).collect();
    let made = answers.iter().filter(|a| matches!(a, Answer::Reply(r) if r.exit == 0)).count();
    assert_eq!(made, 1, "{answers:?}");
    for answer in &answers {
        let Answer::Reply(reply) = answer else { panic!("{answer:?}") };
        assert!(reply.exit == 0 || reply.stdout.contains("101"), "{reply:?}");
    }
    assert_eq!(veths(&world.host).len(), 1);
}

#[test]
fn a_bad_definition_fails_nobody_elses_add() {
    let world = world!();
    let _daemon = world.daemon();
    let good = network("both", "both0", "10.16.0.0/24");
    let warm = world.container();
    world.call(Call::add("warm", &warm).conf(&good)).succeeded();
    world.host.ip("link add taken0 type veth peer name taken1");
    let bad = with(&good, json!({ "bridge": "taken0" }));
    for n in 0..5 {
        let (one, two) = (world.container(), world.container());
        let mut first = Client::connect(&world.paths().socket).expect("connected");
        let mut second = Client::connect(&world.paths().socket).expect("connected");
        let name = format!("bad{n}");
        first.call(&Call::add(&name, &one).conf(&bad), &world.host, Some(&one));
        let name = format!("good{n}");
        second.call(&Call::add(&name, &two).conf(&good), &world.host, Some(&two));
        assert_eq!(first.reply().exit, 1, "taken0 is no bridge");
        let reply = second.reply();
        assert_eq!(reply.exit, 0, "the network as it was is still there: {reply:?}");
    }
}
