//! Files of policy that will not do: what they said last holds, or what they could be about is denied.

use std::os::unix::fs::symlink;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon_status::quantumctl;
use crate::network_isolation::{Attached, dual};
use crate::policy_live::{network_policy, pod, reach, serve};
use crate::support::ctl::{apply, quantumctl_with, told};
use crate::support::daemon::Daemon;
use crate::support::eventually::eventually;
use crate::support::world::World;

/// A NetworkPolicy as somebody mistypes it.
const MISTYPED: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
    metadata: {name: db, namespace: shop}\n\
    spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress], ingres: [{}]}\n";

fn write(world: &World, file: &str, text: &str) {
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(file), text).expect("written");
}

/// Lets one container in to db.
fn from(app: &str) -> Value {
    let peer = json!([{ "podSelector": { "matchLabels": { "app": app } } }]);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "db" } },
        "ingress": [{ "from": peer }] });
    network_policy("db", spec)
}

fn names(world: &World, conf: &Value) -> [Attached; 3] {
    ["web", "other", "db"].map(|name| pod(world, name, conf))
}

/// The status and `policy show` name the file.
#[track_caller]
fn is_reported(world: &World, daemon: &Daemon, file: &str, field: &str) {
    for args in ["policy show", "policy show --json"] {
        eventually(&format!("{args} to name {file}"), || {
            let text = told(world, args, "");
            (text.contains(file) && text.contains(field)).then_some(())
        });
    }
    for args in ["status", "status -o json"] {
        let status = quantumctl(world, args);
        let text = String::from_utf8(status.stdout).expect("text");
        assert!(text.contains(file) && text.contains(field), "{args}: {text}");
    }
    let page = daemon.get("/readyz").1;
    assert!(page.contains(file) && page.contains(field), "{page}");
}

#[test]
fn what_a_file_said_last_holds_while_it_will_not_do() {
    let world = world!();
    write(&world, "10-db.yaml", &from("web").to_string());
    let daemon = world.daemon();
    let [web, other, db] = names(&world, &dual("last", 201, json!({})));
    let _db = serve(&db);
    let holds = |when: &str| {
        reach(&web.netns, &db.addresses, true, when);
        reach(&other.netns, &db.addresses, false, when);
    };
    holds("as it was written");
    write(&world, "10-db.yaml", MISTYPED);
    daemon.reload();
    is_reported(&world, &daemon, "10-db.yaml", "ingres");
    holds("mistyped");
    // What hinders one file hinders no other.
    let deny = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [] });
    write(&world, "20-web.json", &network_policy("web", deny).to_string());
    let _web = serve(&web);
    reach(&other.netns, &web.addresses, true, "before the reload");
    daemon.reload();
    eventually("the other file to be read", || {
        let explained = quantumctl_with(&world, "policy explain shop/other shop/web 7007/tcp", "");
        (explained.status.code() == Some(1)).then_some(())
    });
    reach(&other.netns, &web.addresses, false, "after the reload");
    holds("mistyped, after another reload");
    daemon.kill();
    let daemon = world.daemon();
    is_reported(&world, &daemon, "10-db.yaml", "ingres");
    holds("mistyped, with the next daemon");
    reach(&other.netns, &web.addresses, false, "with the next daemon");
    write(&world, "10-db.yaml", &from("other").to_string());
    daemon.reload();
    eventually("the file to be read", || {
        (!told(&world, "policy show", "").contains("10-db.yaml: ")).then_some(())
    });
    eventually("what it says now to hold", || {
        let explained = quantumctl_with(&world, "policy explain shop/other shop/db 7007/tcp", "");
        (explained.status.code() == Some(0)).then_some(())
    });
    reach(&other.netns, &db.addresses, true, "mended");
    reach(&web.netns, &db.addresses, false, "mended");
}

#[test]
fn what_a_file_could_be_about_is_denied_if_it_was_never_good() {
    let world = world!();
    write(&world, "10-db.yaml", MISTYPED);
    let deny = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [
        { "from": [{ "podSelector": { "matchLabels": { "app": "other" } } }] }] });
    write(&world, "20-web.json", &network_policy("web", deny).to_string());
    let daemon = world.daemon();
    let [web, other, db] = names(&world, &dual("cold", 202, json!({})));
    let (_web, _other, _db) = (serve(&web), serve(&other), serve(&db));
    is_reported(&world, &daemon, "10-db.yaml", "ingres");
    reach(&web.netns, &db.addresses, false, "whom it could be about");
    reach(&web.netns, &other.addresses, true, "whom it is not about");
    reach(&other.netns, &web.addresses, true, "whom a good file is about");
    reach(&db.netns, &other.addresses, true, "the direction it does not speak of");
    let explained = quantumctl_with(&world, "policy explain shop/web shop/db 7007/tcp", "");
    assert_eq!(explained.status.code(), Some(1), "{explained:?}");
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("10-db.yaml") && text.contains("ingres"), "{text}");
    // A text that is none could be about everybody.
    write(&world, "10-db.yaml", "{ this: [is no");
    daemon.reload();
    eventually("the file to be read", || {
        let explained = quantumctl_with(&world, "policy explain shop/web shop/other 7007/tcp", "");
        (explained.status.code() == Some(1)).then_some(())
    });
    reach(&web.netns, &other.addresses, false, "anybody");
    std::fs::remove_file(world.paths().root.join("policy.d/10-db.yaml")).expect("removed");
    daemon.reload();
    eventually("the file to be forgotten", || {
        let explained = quantumctl_with(&world, "policy explain shop/web shop/db 7007/tcp", "");
        (explained.status.code() == Some(0)).then_some(())
    });
    reach(&web.netns, &db.addresses, true, "without the file");
}

#[test]
fn a_peer_that_came_after_us_is_nobody_to_accept_and_everybody_to_deny() {
    let world = world!();
    let _daemon = world.daemon();
    let [web, _other, db] = names(&world, &dual("newer", 203, json!({})));
    let (_web, _db) = (serve(&web), serve(&db));
    let cluster = |tier: &str, action: &str| {
        let peers = json!([{ "namespaces": {} }, { "workloadIdentities": ["spiffe://x/y"] }]);
        json!({ "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": { "name": "newer" }, "spec": { "tier": tier, "priority": 5,
                "subject": { "pods": { "namespaceSelector": {},
                    "podSelector": { "matchLabels": { "app": "db" } } } },
                "ingress": [{ "action": action, "from": peers }] } })
    };
    reach(&web.netns, &db.addresses, true, "before");
    for action in ["Deny", "Pass"] {
        apply(&world, &cluster("Admin", action));
        reach(&web.netns, &db.addresses, false, action);
        reach(&db.netns, &web.addresses, true, "who is no subject");
    }
    // It accepts nobody: what comes behind it decides.
    apply(&world, &cluster("Admin", "Accept"));
    reach(&web.netns, &db.addresses, true, "nothing else denies");
    let deny = json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [] });
    apply(&world, &network_policy("deny", deny));
    reach(&web.netns, &db.addresses, false, "a NetworkPolicy denies");
}

#[test]
fn what_is_renamed_into_policy_dir_is_read_without_being_told() {
    let world = world!();
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    let daemon = world.daemon();
    let [web, other, db] = names(&world, &dual("moved", 205, json!({})));
    let _db = serve(&db);
    reach(&web.netns, &db.addresses, true, "without a policy");
    let may = |who: &str, can: bool| {
        let command = format!("policy explain shop/{who} shop/db 7007/tcp");
        eventually(&format!("{who} to be {can}"), || {
            let explained = quantumctl_with(&world, &command, "");
            (explained.status.code() == Some(i32::from(!can))).then_some(())
        });
    };
    // As `mv` does it.
    write(&world, "10-db.new", &from("other").to_string());
    std::fs::rename(folder.join("10-db.new"), folder.join("10-db.yaml")).expect("renamed");
    may("web", false);
    reach(&web.netns, &db.addresses, false, "moved in");
    reach(&other.netns, &db.addresses, true, "moved in");
    std::fs::rename(folder.join("10-db.yaml"), folder.join("10-db.old")).expect("renamed");
    daemon.reload();
    may("web", true);

    // As Kubernetes changes a ConfigMap: the files are links by way of one that is renamed.
    let version = |number: u32, app: &str| {
        let files = folder.join(format!("..{number}"));
        std::fs::create_dir(&files).expect("a folder");
        std::fs::write(files.join("db.yaml"), from(app).to_string()).expect("written");
        symlink(format!("..{number}"), folder.join("..data_tmp")).expect("linked");
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("renamed");
    };
    version(1, "other");
    symlink("..data/db.yaml", folder.join("db.yaml")).expect("linked");
    may("web", false);
    version(2, "web");
    may("web", true);
    may("other", false);
    reach(&web.netns, &db.addresses, true, "the second version");
    reach(&other.netns, &db.addresses, false, "the second version");
    version(3, "nobody");
    std::fs::remove_file(folder.join("db.yaml")).expect("removed");
    may("other", true);
}

/// Waits until the daemon has read its files as often as that.
#[track_caller]
fn has_read(daemon: &Daemon, times: usize) {
    eventually(&format!("{times} times of reading"), || {
        let log = daemon.log();
        let reads = log.iter().filter(|record| record["msg"] == "policy has changed").count();
        (reads >= times).then_some(())
    });
}

/// Whether somebody is denied what `from` is about.
#[track_caller]
fn is_denied(world: &World, who: &str, denied: bool) {
    let command = format!("policy explain shop/{who} shop/db 7007/tcp");
    eventually(&format!("{who}: denied is {denied}"), || {
        let explained = quantumctl_with(world, &command, "");
        (explained.status.code() == Some(i32::from(denied))).then_some(())
    });
}

#[test]
fn a_config_map_that_was_read_halfway_is_read_again() {
    let world = world!();
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    let daemon = world.daemon();
    let [..] = names(&world, &dual("halfway", 206, json!({})));
    let swap = |number: u32, text: Option<String>| {
        let files = folder.join(format!("..{number}"));
        std::fs::create_dir(&files).expect("a folder");
        if let Some(text) = text {
            std::fs::write(files.join("db.yaml"), text).expect("written");
        }
        symlink(format!("..{number}"), folder.join("..data_tmp")).expect("linked");
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("renamed");
    };
    // The kubelet makes the links of new files, and removes those of old ones, after the swap: it may be
    // stopped in between for as long as it takes to read them.
    swap(1, Some(from("other").to_string()));
    has_read(&daemon, 1);
    symlink("..data/db.yaml", folder.join("db.yaml")).expect("linked");
    is_denied(&world, "web", true);
    swap(2, None);
    is_reported(&world, &daemon, "db.yaml", "No such file");
    std::fs::remove_file(folder.join("db.yaml")).expect("removed");
    is_denied(&world, "web", false);
}

#[test]
fn what_is_renamed_is_read_although_the_folder_never_rests() {
    let world = world!();
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    let _daemon = world.daemon();
    let [..] = names(&world, &dual("restless", 207, json!({})));
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        let notes = folder.join("notes.txt");
        scope.spawn(move || {
            let pause = Duration::from_millis(20);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                std::fs::write(&notes, "somebody's").expect("written");
            }
        });
        let stop = stop; // whatever becomes of this
        write(&world, "10-db.new", &from("other").to_string());
        std::fs::rename(folder.join("10-db.new"), folder.join("10-db.yaml")).expect("renamed");
        is_denied(&world, "web", true);
        drop(stop);
    });
}

#[test]
fn another_folder_in_the_place_of_policy_dir_is_told_of_and_listened_to_after_sighup() {
    let world = world!();
    let folder = world.paths().root.join("policy.d");
    std::fs::create_dir_all(&folder).expect("a folder");
    let daemon = world.daemon();
    let [..] = names(&world, &dual("replaced", 208, json!({})));
    std::fs::remove_dir(&folder).expect("removed");
    eventually("the daemon to say that it does not hear", || {
        let log = daemon.log();
        let says = |text: &str| text.starts_with("what is renamed into policy_dir is not read");
        log.iter().any(|record| record["msg"].as_str().is_some_and(says)).then_some(())
    });
    std::fs::create_dir(&folder).expect("a folder");
    daemon.reload();
    has_read(&daemon, 1);
    write(&world, "10-db.new", &from("other").to_string());
    std::fs::rename(folder.join("10-db.new"), folder.join("10-db.yaml")).expect("renamed");
    is_denied(&world, "web", true);
}
