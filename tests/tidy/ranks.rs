//! Who of the actors may ask whom: the table `actors/src/ranks.rs` against what each actor's folder
//! imports. A request goes from a lower rank to a higher one only, so that no two actors can wait
//! for each other.

use std::collections::BTreeSet;

use crate::sources::{Source, below, root};

/// One line of the table.
#[derive(Debug)]
struct Rank {
    actor: String,
    rank: u8,
    asks: Vec<String>,
    tells: Vec<String>,
}

/// An actor that may ask everybody how he is, and is asked by none that has a rank.
const UNRANKED: &str = "metrics";

/// The table, read from its source.
fn table() -> Vec<Rank> {
    let text = std::fs::read_to_string(root().join("actors/src/ranks.rs")).expect("the table");
    let body = text.split("RANKS: &[Rank] = &[").nth(1).expect("the table").split("];").next();
    let flat: String = body.expect("its end").split_whitespace().collect();
    let entries = flat.split("Rank{").skip(1).map(|entry| {
        let after = |key: &str| entry.split(&format!("{key}:")).nth(1).expect(key);
        let list = |key: &str| {
            let inside = after(key).strip_prefix("&[").expect("a list").split(']').next();
            let names = inside.expect("its end").split(',').map(|n| n.trim_matches('"').to_owned());
            names.filter(|n| !n.is_empty()).collect::<Vec<_>>()
        };
        Rank {
            actor: after("actor").split('"').nth(1).expect("a name").to_owned(),
            rank: after("rank").split(',').next().and_then(|n| n.parse().ok()).expect("a number"),
            asks: list("asks"),
            tells: list("tells"),
        }
    });
    entries.collect()
}

/// The modules that `code` imports from `prefix` (`crate::messages::`), whether one by one or in
/// braces.
fn imports(code: &str, prefix: &str) -> BTreeSet<String> {
    let flat: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for (at, _) in flat.match_indices(prefix) {
        let rest = &flat[at + prefix.len()..];
        let items =
            if let Some(inside) = rest.strip_prefix('{') { top_level(inside) } else { vec![rest] };
        for item in items {
            let name = item.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
            found.extend(name.filter(|n| !n.is_empty()).map(str::to_owned));
        }
    }
    found
}

/// The items of a brace group, up to its end; commas of inner groups do not count.
fn top_level(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut items) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&text[from..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    items
}

fn folder(source: &Source) -> Option<&str> {
    source.path.strip_prefix("actors/src/")?.split_once('/').map(|(folder, _)| folder)
}

#[test]
fn requests_go_up_and_events_go_down() {
    let table = table();
    assert!(table.len() >= 6, "{table:?}");
    let rank_of = |name: &String| {
        let found = table.iter().find(|r| r.actor == *name).map(|r| r.rank);
        found.unwrap_or_else(|| panic!("{name} is not in the table"))
    };
    for rank in &table {
        for to in &rank.asks {
            assert!(rank_of(to) > rank.rank, "{} must not ask {to}: {table:?}", rank.actor);
        }
        for to in &rank.tells {
            assert!(rank_of(to) < rank.rank, "{} asks {to} and calls it telling", rank.actor);
        }
    }
}

#[test]
fn every_actor_is_in_the_table() {
    let table = table();
    let mut actors = BTreeSet::new();
    for source in below(&["actors/src"]) {
        let code = source.code();
        if code.contains("impl Actor for") || code.contains("impl actix::Actor for") {
            actors.insert(folder(&source).unwrap_or(&source.path).to_owned());
        }
    }
    actors.remove(UNRANKED);
    let known: BTreeSet<String> = table.iter().map(|r| r.actor.clone()).collect();
    assert_eq!(actors, known, "the actors there are, and those of the table");
}

#[test]
fn folders_import_what_the_table_allows() {
    let table = table();
    let names: Vec<&str> = table.iter().map(|r| r.actor.as_str()).chain([UNRANKED]).collect();
    let mut edges = 0;
    let mut offences = Vec::new();
    for source in below(&["actors/src"]) {
        let Some(rank) = table.iter().find(|r| folder(&source) == Some(&r.actor)) else { continue };
        let code = source.code();
        let mailboxes = imports(&code, "crate::messages::").into_iter().map(|to| (to, true));
        let insides = imports(&code, "crate::").into_iter().map(|to| (to, false));
        for (to, is_mailbox) in mailboxes.chain(insides) {
            if to == rank.actor || !names.contains(&to.as_str()) {
                continue;
            }
            edges += 1;
            // Whoever starts an actor imports the actor itself: only those it may ask.
            let allowed = rank.asks.contains(&to) || (is_mailbox && rank.tells.contains(&to));
            if !allowed {
                let what = if is_mailbox { "the mailbox of" } else { "the inside of" };
                offences.push(format!("{} imports {what} {to}", source.path));
            }
        }
    }
    assert!(edges >= 6, "the actors do talk to each other: {edges}");
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn nobody_waits_for_an_event() {
    let table = table();
    let mut offences = Vec::new();
    let mut seen = 0;
    for source in below(&["actors/src"]) {
        let Some(rank) = table.iter().find(|r| folder(&source) == Some(&r.actor)) else { continue };
        let code = source.code();
        for to in &rank.tells {
            for name in named(&code, to) {
                seen += 1;
                let flat: String = code.split_whitespace().collect();
                for waits in [".send(", "ask("] {
                    let waited = flat.match_indices(waits).any(|(at, _)| {
                        let call = flat[at..].chars().take(80).collect::<String>();
                        call.split(';').next().is_some_and(|c| c.contains(&format!("{name}{{")))
                    });
                    if waited {
                        offences.push(format!("{} waits for {to}::{name}", source.path));
                    }
                }
            }
        }
    }
    assert!(seen > 0, "somebody tells events");
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

/// The messages that `code` imports from the mailbox `actor`.
fn named(code: &str, actor: &str) -> BTreeSet<String> {
    imports(code, &format!("crate::messages::{actor}::"))
}

#[test]
fn messages_import_no_actor() {
    let names: Vec<String> = table().into_iter().map(|r| r.actor).collect();
    for source in below(&["actors/src/messages"]) {
        let inside = imports(&source.code(), "crate::");
        let actors: Vec<&String> = names.iter().filter(|n| inside.contains(*n)).collect();
        assert!(actors.is_empty(), "{} imports {actors:?}", source.path);
    }
}

#[test]
fn imports_are_found_in_all_their_forms() {
    let code = "use crate::messages::{ask, cache::{Lookup, Forget}, Drain};\n\
                use crate::messages::pool::Lease; let x: crate::messages::driver::Apply;";
    let found = imports(code, "crate::messages::");
    let expected = ["Drain", "ask", "cache", "driver", "pool"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}
