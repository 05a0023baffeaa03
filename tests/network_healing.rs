//! What others break, the daemon puts right by itself, within a second; what others' rules do to
//! containers it reports.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon_http::sample;
use crate::daemon_status::quantumctl;
use crate::support::conf::{at, network, with};
use crate::support::daemon::{Daemon, Options};
use crate::support::eventually::eventually;
use crate::support::netns::Netns;
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::{Echo, PATIENCE, PORT, SILENCE, Steady, tcp_answers, udp_answers};
use crate::support::world::{HOST, OUTSIDE, World};

/// The call of a container that publishes the port of the echo servers.
fn published(conf: &Value) -> Value {
    let mapping = json!([{ "hostPort": PORT, "containerPort": PORT, "protocol": "tcp" }]);
    with(
        conf,
        json!({
            "capabilities": { "portMappings": true },
            "runtimeConfig": { "portMappings": mapping },
        }),
    )
}

/// All rules and elements of the host, in no order.
fn rules(world: &World) -> Vec<String> {
    let text = world.host.output("nft", "-s list ruleset");
    // Whose the tables are is no rule: without a daemon they belong to nobody.
    let text = text.replace("# progname quantum-cnid", "");
    let of_table = |line: &&str| ["flags", "flags owner"].contains(&line.trim());
    let words = text.lines().filter(|line| !of_table(line)).flat_map(str::split_whitespace);
    // The mark of what was judged is another one after every repair.
    let words = words.filter(|word| !word.starts_with("0x5a"));
    let mut words: Vec<String> = words.map(|word| word.trim_end_matches(',').to_owned()).collect();
    words.sort();
    words
}

/// Does it, and waits until `is_right` again: how long that took is printed.
#[track_caller]
fn mended(harm: &str, harms: impl FnOnce(), mut is_right: impl FnMut() -> bool) {
    harms();
    let began = Instant::now();
    eventually(&format!("the repair of: {harm}"), || is_right().then_some(()));
    println!("{harm}: repaired after {:?}", began.elapsed());
}

fn repairs(daemon: &Daemon, what: &str) -> f64 {
    sample(&daemon.get("/metrics").1, "cni_repairs_total", &[&format!("=\"{what}\"")])
}

/// `delete rule` for the last rule of a chain.
fn delete_last_rule(host: &Netns, chain: &str) {
    let text = host.output("nft", &format!("-a list chain {chain}"));
    let handle = text.rsplit_once("# handle ").expect("a rule").1.lines().next().expect("one");
    host.output("nft", &format!("delete rule {chain} handle {handle}"));
}

#[test]
fn rules_that_are_taken_away_come_back_within_a_second() {
    let world = world!();
    let daemon = world.daemon_without_own_tables();
    let conf = network("heal", "heal0", "10.91.0.0/24");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&published(&conf))).succeeded();
    let own = crate::spec_add::address(&result);
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let _inside = Echo::serve(&container, &own);
    assert!(tcp_answers(&world.outside, HOST, PATIENCE), "the published port");
    let steady = Steady::start(&container, OUTSIDE);
    let before = rules(&world);
    let nft = |command: &str| _ = world.host.output("nft", command);
    let mut harmed = 0;
    for (number, harm) in [
        "flush ruleset",
        "delete table inet quantum",
        "delete table bridge quantum",
        "flush chain inet quantum published",
        "flush chain bridge quantum packet4",
        "flush set inet quantum masq4",
        "flush map inet quantum port4",
        "insert rule inet quantum forward drop",
        "add element bridge quantum loose { qcffffffffff }",
        "add element inet quantum direct { healed0 }",
        "add element inet quantum unmasq4 { 192.0.2.0/24 }",
        "add element inet quantum inward { healed0 . lo }",
        "add table inet quantum { flags dormant; }",
        "delete the last rule",
    ]
    .into_iter()
    .enumerate()
    {
        let harms = || match harm {
            "delete the last rule" => delete_last_rule(&world.host, "inet quantum across"),
            command => nft(command),
        };
        mended(harm, harms, || rules(&world) == before);
        harmed += 1;
        assert!(tcp_answers(&world.outside, HOST, PATIENCE), "the published port after: {harm}");
        let answered = steady.answered();
        eventually("the conversation to go on", || (steady.answered() > answered).then_some(()));
        eventually("the count of it", || {
            (repairs(&daemon, "rules") >= number as f64 + 1.0).then_some(())
        });
    }
    assert!(udp_answers(&container, OUTSIDE, PATIENCE), "a new connection");
    // A table without its elements is closed, so what is under way just then is lost.
    let lost = steady.lost();
    println!("{lost} questions of the conversation were lost");
    assert!(lost <= 2 * harmed, "{lost}");
    let log = daemon.log();
    let told = log.iter().find(|r| r.to_string().contains("are put right")).expect("a record");
    assert!(told.to_string().contains("nft ("), "who did it: {told}");
    world.call(Call::del("c1", &container).conf(&conf)).succeeded();
}

#[test]
fn rules_that_went_while_there_was_no_daemon_come_back_with_it() {
    let world = world!();
    let daemon = world.daemon();
    let conf = network("later", "later0", "10.92.0.0/24");
    let container = world.container();
    let result = world.call(Call::add("c1", &container).conf(&published(&conf))).succeeded();
    let _inside = Echo::serve(&container, &crate::spec_add::address(&result));
    assert!(tcp_answers(&world.outside, HOST, PATIENCE), "the published port");
    let before = rules(&world);
    assert!(daemon.terminate().success());
    world.host.output("nft", "flush ruleset");
    let _daemon = world.daemon();
    assert_eq!(rules(&world), before);
    assert!(tcp_answers(&world.outside, HOST, PATIENCE), "the published port");
}

#[test]
fn rules_outlive_a_daemon_that_is_killed() {
    let world = world!();
    let daemon = world.daemon();
    let conf = network("kept", "kept0", "10.93.0.0/24");
    let (container, other) = (world.container(), world.container());
    let result = world.call(Call::add("c1", &container).conf(&published(&conf))).succeeded();
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let _inside = Echo::serve(&container, &crate::spec_add::address(&result));
    assert!(tcp_answers(&world.outside, HOST, PATIENCE), "the published port");
    let steady = Steady::start(&container, OUTSIDE);
    let before = rules(&world);
    daemon.kill();
    assert_eq!(rules(&world), before, "without a daemon");
    assert!(tcp_answers(&world.outside, HOST, PATIENCE), "without a daemon");
    let daemon = std::thread::scope(|scope| {
        let add = scope.spawn(|| world.call(Call::add("c2", &other).conf(&conf)));
        let daemon = world.daemon();
        add.join().expect("the call").succeeded();
        daemon
    });
    world.call(Call::del("c2", &other).conf(&conf)).succeeded();
    assert_eq!(rules(&world), before, "with the next one");
    assert!(tcp_answers(&world.outside, HOST, PATIENCE), "with the next one");
    assert_eq!(repairs(&daemon, "rules"), 0.0, "nothing had to be repaired");
    steady.was_undisturbed();
}

#[test]
fn somebody_who_never_stops_committing_fails_no_add() {
    let world = world!();
    let daemon = world.daemon_without_own_tables();
    let conf = network("busy", "busy0", "10.94.0.0/24");
    let container = world.container();
    world.host.output("nft", "add table inet other");
    world.host.output("nft", "add set inet other some { type ipv4_addr ; }");
    let mut nft = world.host.command("nft");
    let mut nft = nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("nft");
    let mut stdin = nft.stdin.take().expect("stdin");
    let done = AtomicBool::new(false);
    let (commits, slowest, adds) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (began, mut commits) = (Instant::now(), 0_u32);
            while began.elapsed() < Duration::from_secs(2) {
                let [_, a, b, c] = commits.to_be_bytes();
                writeln!(stdin, "add element inet other some {{ 10.{a}.{b}.{c} }}")
                    .expect("written");
                commits += 1;
            }
            drop(stdin);
            assert!(nft.wait().expect("nft").success());
            done.store(true, Ordering::Relaxed);
            commits
        });
        let (mut slowest, mut adds) = (Duration::ZERO, 0);
        while !done.load(Ordering::Relaxed) {
            let add = world.call(Call::add("c1", &container).conf(&conf));
            add.succeeded();
            slowest = slowest.max(add.took);
            world.call(Call::del("c1", &container).conf(&conf)).succeeded();
            adds += 1;
            if adds == 5 {
                let before = repairs(&daemon, "rules");
                let harms = || _ = world.host.output("nft", "flush chain inet quantum across");
                mended("a flush meanwhile", harms, || repairs(&daemon, "rules") > before);
            }
        }
        let commits = writer.join().expect("the writer");
        (commits, slowest, adds)
    });
    println!("{commits} commits; {adds} ADDs, the slowest {slowest:?}");
    assert!(adds > 0 && commits > 0, "{adds} ADDs, {commits} commits");
    assert!(!world.host.output("nft", "list chain inet quantum across").contains("{ }"));
}

fn status(world: &World, conf: &Value) -> Outcome {
    world.call(Call::new("STATUS").conf(&at(conf, "1.1.0")))
}

#[test]
fn a_chain_of_others_that_drops_what_is_forwarded_is_reported() {
    let world = world!();
    let daemon = world.daemon();
    let conf = network("drop", "drop0", "10.95.0.0/24");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    status(&world, &conf).succeeded();
    let _outside = Echo::serve(&world.outside, OUTSIDE);
    let nft = |command: &str| _ = world.host.output("nft", command);
    let chain = "FORWARD { type filter hook forward priority 0 ; policy drop ; }";
    let is_limited = || status(&world, &conf).stdout.contains("51");
    for (table, ends) in [
        ("ip filter", "add rule ip filter FORWARD iifname drop0 accept"),
        ("inet firewall", "delete table inet firewall"),
        ("ip filter", "add chain ip filter FORWARD { policy accept ; }"),
    ] {
        nft(&format!("add table {table}"));
        mended(table, || nft(&format!("add chain {table} {chain}")), is_limited);
        assert!(!udp_answers(&container, OUTSIDE, SILENCE), "it does drop");
        let said = status(&world, &conf).failed_with(51);
        assert!(said.contains(&format!("{table} FORWARD")), "{said}");
        assert!(said.contains("drop0") && said.contains("iifname"), "the remedy: {said}");
        let (code, page) = daemon.get("/readyz");
        assert!(code == 503 && page.contains(&format!("{table} FORWARD")), "{code} {page}");
        for args in ["status", "status -o json"] {
            let output = quantumctl(&world, args);
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            assert!(
                !output.status.success() && text.contains(&format!("{table} FORWARD")),
                "{text}"
            );
        }
        mended(ends, || nft(ends), || !is_limited());
        status(&world, &conf).succeeded();
        assert_eq!(daemon.get("/readyz").0, 200);
        if ends.starts_with("add rule") {
            nft("delete table ip filter");
        }
    }
    // One that sees no packet of this network.
    nft("add table ip6 filter");
    nft(&format!("add chain ip6 filter {chain}"));
    nft("add table inet firewall");
    mended("both", || nft(&format!("add chain inet firewall {chain}")), is_limited);
    let said = status(&world, &conf).failed_with(51);
    assert!(!said.contains("ip6"), "{said}");
}

#[test]
fn a_gateways_address_comes_back() {
    let world = world!();
    let daemon = world.daemon();
    let conf = with(
        &network("robbed", "robbed0", "10.96.0.0/24"),
        json!({ "ipam": { "subnet": null, "ranges": [
            [{ "subnet": "10.96.0.0/24" }],
            [{ "subnet": "fd00:96::/64" }],
        ] } }),
    );
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    for (family, address, gateway) in
        [(4, "10.96.0.1/24", "10.96.0.1"), (6, "fd00:96::1/64", "fd00:96::1")]
    {
        let before = repairs(&daemon, "address");
        mended(
            address,
            || world.host.ip(&format!("address del {address} dev robbed0")),
            || world.host.addresses("robbed0", family) == [address],
        );
        let _host = Echo::serve(&world.host, gateway);
        assert!(udp_answers(&container, gateway, PATIENCE), "{gateway}");
        eventually("the count of it", || (repairs(&daemon, "address") > before).then_some(()));
    }
    // Somebody else's address is nobody's business.
    let before = repairs(&daemon, "address");
    world.host.ip("address add 10.97.0.1/24 dev robbed0");
    world.host.ip("address del 10.97.0.1/24 dev robbed0");
    mended(
        "the next one",
        || world.host.ip("address del 10.96.0.1/24 dev robbed0"),
        || world.host.addresses("robbed0", 4) == ["10.96.0.1/24"],
    );
    eventually("the count of it", || (repairs(&daemon, "address") > before).then_some(()));
    assert_eq!(repairs(&daemon, "address"), before + 1.0);
}

#[test]
fn a_start_without_rules_is_reported_until_they_are_there() {
    use std::os::unix::fs::PermissionsExt;
    let world = world!();
    let folder = world.paths().root.join("bin");
    std::fs::create_dir(&folder).expect("a folder");
    let (nft, allowed) = (folder.join("nft"), folder.join("allowed"));
    let script = format!(
        "#!/bin/sh\nPATH=/usr/sbin:/sbin:/usr/bin:/bin\n[ -e {} ] && exec nft \"$@\"\n\
         echo 'Error: Could not process rule: Operation not permitted' >&2\nexit 1\n",
        allowed.display()
    );
    std::fs::write(&nft, script).expect("written");
    std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let options = Options::default().var("PATH", folder.to_str().expect("UTF-8"));
    let mut daemon = Daemon::start(&world.host, world.paths(), options);
    assert!(daemon.serves_or_ended(), "it ended");
    let conf = network("unruled", "unruled0", "10.98.0.0/24");
    let said = status(&world, &conf).failed_with(51);
    assert!(said.contains("not permitted"), "{said}");
    let (code, page) = daemon.get("/readyz");
    assert!(code == 503 && page.contains("not permitted"), "{code} {page}");
    let container = world.container();
    world.call(Call::add("c1", &container).conf(&conf)).failed();
    std::fs::write(&allowed, "").expect("written");
    eventually("STATUS to be well", || (status(&world, &conf).code == Some(0)).then_some(()));
    world.call(Call::add("c1", &container).conf(&conf)).succeeded();
    assert_eq!(daemon.get("/readyz").0, 200);
}
