//! The steps of a case: calls, and looks at what came of them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pattern::matches;
use crate::site::{HOST, Site};
use crate::support::conf::{at, with};
use crate::support::inventory::veths;
use crate::support::ping::ping;
use crate::support::plugin::{Call, Outcome};
use crate::support::traffic::{Echo, PATIENCE, SILENCE, udp_answers};

/// What a step may say, by what it begins with.
const KEYS: &[(&str, &[&str])] = &[
    (
        "call",
        &[
            "of",
            "netns",
            "ifname",
            "env",
            "with",
            "null",
            "stdin",
            "prev",
            "fails",
            "gives",
            "exits",
            "within_ms",
            "open_stdin",
        ],
    ),
    ("look", &["in", "is", "command", "name"]),
    ("run", &["in"]),
    ("needs", &["in"]),
    ("remember", &[]),
    ("unchanged", &[]),
    ("ports", &[]),
    ("ping", &["from", "silent"]),
    ("ask", &["from", "at", "silent"]),
    ("burst", &["with"]),
];

/// Why a case does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something did not hold.
    Differs(String),
    /// This machine does not have what the case needs.
    Lacks,
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Differs(reason)
    }
}

/// Takes one step; the error says what did not hold.
pub(crate) fn take(site: &mut Site, step: &Value) -> Result<(), Stop> {
    if let Some(line) = step["needs"].as_str() {
        let (program, args) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = site.netns(place(step)).command(program);
        let ran = command.args(args.split(' ')).stderr(Stdio::null()).status();
        return if ran.is_ok_and(|status| status.success()) { Ok(()) } else { Err(Stop::Lacks) };
    }
    holds(site, step).map_err(Stop::from)
}

fn holds(site: &mut Site, step: &Value) -> Result<(), String> {
    let kind = kind_of(step)?;
    let subject = &step[kind];
    match kind {
        "call" => call(site, step),
        "look" => look(site, step),
        "run" => {
            let line = filled(site, text(subject));
            let (program, args) = line.split_once(' ').unwrap_or((&line, ""));
            site.netns(place(step)).output(program, args);
            Ok(())
        }
        "remember" => {
            site.remember();
            Ok(())
        }
        "unchanged" => site.is_unchanged(),
        "ports" => matches(subject, &json!(veths(&site.world.host).len()), &mut site.names)
            .map_err(|e| format!("interfaces of containers on the host: {e}")),
        "ping" => {
            let to = filled(site, text(subject));
            let (silent, within) = patience(step);
            let answers = ping(site.netns(text(&step["from"])), &to, within);
            expect(answers != silent, &format!("an answer of {to}: {answers}"))
        }
        "ask" => ask(site, step),
        _ => burst(site, step),
    }
}

/// What kind of step it is; one with a word that nobody reads would test nothing.
fn kind_of(step: &Value) -> Result<&'static str, String> {
    let object = step.as_object().ok_or("a step is an object")?;
    let found = KEYS.iter().find(|(kind, _)| object.contains_key(*kind));
    let (kind, keys) = found.ok_or_else(|| format!("{step} is no step"))?;
    let odd = object.keys().find(|k| k != kind && !keys.contains(&k.as_str()));
    odd.map_or(Ok(*kind), |odd| Err(format!("a step {kind:?} has no {odd:?}")))
}

fn call(site: &mut Site, step: &Value) -> Result<(), String> {
    let command = text(&step["call"]);
    let container = step["of"].as_str().unwrap_or("c1").to_owned();
    let ifname = step["ifname"].as_str().unwrap_or("eth0").to_owned();
    let mut call = if matches!(command, "GC" | "STATUS" | "VERSION") {
        Call::new(command)
    } else {
        let netns = step["netns"].as_str().unwrap_or(&container).to_owned();
        Call::attachment(command, &container, site.netns(&netns)).ifname(&ifname)
    };
    for (name, value) in step["env"].as_object().into_iter().flatten() {
        call = match value.as_str() {
            Some(value) => call.var(name, value),
            None => call.without(name),
        };
    }
    let conf = conf_of(site, step, &(container.clone(), ifname.clone()));
    let call = match step["stdin"].as_str() {
        Some(raw) => call.stdin(raw),
        None => call.conf(&conf),
    };
    let outcome = if step["open_stdin"] == true {
        with_open_stdin(site, &call)?
    } else {
        site.world.call(call)
    };
    if let Some(bound) = step["within_ms"].as_u64() {
        let took = outcome.took;
        expect(took < Duration::from_millis(bound), &format!("{command} took {took:?}"))?;
    }
    if !step["exits"].is_null() {
        let shown = json!({
            "code": outcome.code, "stdout": outcome.stdout, "stderr": outcome.stderr,
        });
        return matches(&step["exits"], &shown, &mut site.names);
    }
    if !step["fails"].is_null() {
        return failed(site, step, &outcome);
    }
    let context = |e: String| format!("{command}: {e}");
    let result = succeeded(command, &outcome).map_err(context)?;
    given(site, &step["gives"], &result).map_err(context)?;
    site.results.insert((container, ifname), result);
    Ok(())
}

/// The configuration of a step: the case's, with its own changes, at the run's version.
fn conf_of(site: &Site, step: &Value, attachment: &(String, String)) -> Value {
    let mut conf = at(&site.conf, &site.version);
    if !step["with"].is_null() {
        conf = with(&conf, step["with"].clone());
    }
    for key in step["null"].as_array().into_iter().flatten() {
        conf[text(key)] = Value::Null;
    }
    match &step["prev"] {
        Value::Bool(true) => {
            conf["prevResult"] = site.results.get(attachment).cloned().unwrap_or_default();
        }
        Value::Null => {}
        given => conf["prevResult"] = given.clone(),
    }
    conf
}

fn succeeded(command: &str, outcome: &Outcome) -> Result<Value, String> {
    let said = format!("{} {}", outcome.stdout.trim(), outcome.stderr.trim());
    expect(outcome.code == Some(0), &format!("exit status {:?}: {said}", outcome.code))?;
    if matches!(command, "ADD" | "VERSION") {
        return serde_json::from_str(&outcome.stdout).map_err(|e| format!("{e}: {said}"));
    }
    expect(outcome.stdout.trim().is_empty(), &format!("printed {said}"))?;
    Ok(Value::Null)
}

fn failed(site: &mut Site, step: &Value, outcome: &Outcome) -> Result<(), String> {
    let said = outcome.stdout.trim();
    expect(outcome.code != Some(0), &format!("succeeded instead of failing: {said}"))?;
    let error: Value = serde_json::from_str(said).map_err(|e| format!("{e}: {said}"))?;
    expect(error["code"].is_u64() && error["msg"].is_string(), &format!("no error: {said}"))?;
    let whole = format!("{}: {}", text(&error["msg"]), text(&error["details"]));
    for word in step["fails"]["says"].as_array().into_iter().flatten() {
        expect(whole.contains(text(word)), &format!("{whole:?} does not say {word}"))?;
    }
    let mut rest = step["fails"].clone();
    if let Some(object) = rest.as_object_mut() {
        object.shift_remove("says");
    }
    matches(&rest, &error, &mut site.names)
}

/// `gives` is a pattern, or a list of patterns each for some versions: from, to, result.
fn given(site: &mut Site, gives: &Value, result: &Value) -> Result<(), String> {
    let Some(list) = gives.as_array() else {
        return if gives.is_null() { Ok(()) } else { matches(gives, result, &mut site.names) };
    };
    for one in list {
        let (from, to) = (one["from"].as_str().unwrap_or("0"), one["to"].as_str().unwrap_or("9"));
        if (from..=to).contains(&site.version.as_str()) {
            matches(&one["result"], result, &mut site.names)?;
        }
    }
    Ok(())
}

/// Runs a call whose caller neither writes nor closes standard input.
fn with_open_stdin(site: &Site, call: &Call) -> Result<Outcome, String> {
    let mut command = site.world.plugin_command(&site.world.host);
    call.dress(&mut command);
    let started = std::time::Instant::now();
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let open = child.stdin.take();
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            return Err("waits for the end of its input".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    drop(open);
    Ok(Outcome::new(call.get("CNI_COMMAND"), &output, started.elapsed()))
}

/// `look` says at what: a link, the addresses of one, what a program prints as JSON, a sysctl.
fn look(site: &mut Site, step: &Value) -> Result<(), String> {
    let name = filled(site, step["name"].as_str().unwrap_or("eth0"));
    let command = filled(site, step["command"].as_str().unwrap_or_default());
    let (place, what) = (place(step).to_owned(), text(&step["look"]).to_owned());
    let netns = site.netns(&place);
    let found = match what.as_str() {
        "link" => netns.link(&name).unwrap_or_default(),
        "addresses" => {
            let both = [4, 6].map(|family| netns.addresses(&name, family));
            json!(both.concat())
        }
        "json" => {
            let (program, args) = command.split_once(' ').unwrap_or((&command, ""));
            let printed = netns.output(program, args);
            let printed = if printed.trim().is_empty() { "[]" } else { &printed };
            serde_json::from_str(printed).map_err(|e| format!("{command}: {e}"))?
        }
        "sysctl" => json!(netns.output("cat", &format!("/proc/sys/{name}")).trim()),
        other => return Err(format!("nobody can look at {other:?}")),
    };
    matches(&step["is"], &found, &mut site.names)
        .map_err(|e| format!("{what} {name} {command} in {place}: {e}"))
}

/// Asks an echo server at an address of `at`, from `from`.
fn ask(site: &mut Site, step: &Value) -> Result<(), String> {
    let to = filled(site, text(&step["ask"]));
    let (silent, within) = patience(step);
    let _echo = Echo::serve(site.netns(text(&step["at"])), &to);
    let answers = udp_answers(site.netns(text(&step["from"])), &to, within);
    expect(answers != silent, &format!("an answer of {to}: {answers}"))
}

/// So many ADDs at once, all with addresses of their own, then as many DELs at once.
fn burst(site: &mut Site, step: &Value) -> Result<(), String> {
    let count = step["burst"].as_u64().ok_or("how many?")?;
    let ids: Vec<String> = (0..count).map(|n| format!("burst{n}")).collect();
    for id in &ids {
        site.netns(id);
    }
    let conf = conf_of(site, step, &Default::default());
    let calls = |command: &str, site: &mut Site| {
        let one = |id: &String| {
            let call = Call::attachment(command, id, site.netns(id)).conf(&conf);
            (id.clone(), call)
        };
        ids.iter().map(one).collect::<Vec<_>>()
    };
    for command in ["ADD", "DEL"] {
        let calls = calls(command, site);
        let world = &site.world;
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let run = |(_, call): (String, Call)| scope.spawn(move || world.call(call));
            let started: Vec<_> = calls.into_iter().map(run).collect();
            started.into_iter().map(|thread| thread.join().expect("a call")).collect()
        });
        let mut addresses = BTreeSet::new();
        for outcome in &outcomes {
            let result = succeeded(command, outcome).map_err(|e| format!("{command}: {e}"))?;
            addresses.insert(result["ips"][0]["address"].to_string());
        }
        let distinct = if command == "ADD" { outcomes.len() } else { 1 };
        expect(addresses.len() == distinct, &format!("{} addresses", addresses.len()))?;
    }
    Ok(())
}

/// `$name` in a text is what the name stands for; of an address, without its prefix length.
fn filled(site: &Site, text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let (plain, name) = word.split_once('$').unwrap_or((word, ""));
        let known = site.names.get(name).and_then(Value::as_str);
        let known = known.map(|k| k.split('/').next().unwrap_or_default());
        known.map_or_else(|| word.to_owned(), |known| format!("{plain}{known}"))
    });
    words.collect::<Vec<_>>().join(" ")
}

fn patience(step: &Value) -> (bool, Duration) {
    let silent = step["silent"] == true;
    (silent, if silent { SILENCE } else { PATIENCE })
}

fn place(step: &Value) -> &str {
    step["in"].as_str().unwrap_or(HOST)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
