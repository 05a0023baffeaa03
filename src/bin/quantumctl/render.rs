//! Answers about policy for people: what was decided, what changed, and what would.

use std::fmt::Write;

use quantum_config::ask::{
    Applied, Became, Case, Decided, Explanation, Labelled, Outcome, Party, Simulation,
};

/// What became of documents, one a line.
pub(crate) fn applied(answer: &Applied) -> String {
    let mut text = String::new();
    for changed in &answer.documents {
        let outcome = match changed.outcome {
            Outcome::Created => "created",
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
            Outcome::Deleted => "deleted",
        };
        let _ = writeln!(text, "{:<10} {}", outcome, changed.document);
    }
    if text.is_empty() { "nothing to do".to_owned() } else { text }
}

/// An endpoint's labels, and who gave them.
pub(crate) fn labelled(answer: &Labelled) -> String {
    let mut text = format!("{}\n", answer.key);
    let width = answer.labels.iter().map(|(key, label)| key.len() + 1 + label.value.len()).max();
    for (key, label) in &answer.labels {
        let pair = format!("{key}={}", label.value);
        let line = format!("  {pair:<width$}  {}", label.source, width = width.unwrap_or(0));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for (key, label) in &answer.removed {
        let _ = writeln!(text, "  {key}-  taken away; {} says {:?}", label.source, label.value);
    }
    text
}

/// Why a connection is allowed or denied.
pub(crate) fn explanation(answer: &Explanation) -> String {
    answer.cases.iter().map(|case| one(answer, case)).collect()
}

fn one(answer: &Explanation, case: &Case) -> String {
    let published = if answer.published { ", through a published port" } else { "" };
    let head = format!(
        "{:<8} {} -> {} {}{published}\n",
        word(case.allowed, case.audited),
        end(&case.from),
        end(&case.to),
        answer.traffic,
    );
    head + &side("egress", &case.egress) + &side("ingress", &case.ingress)
}

fn side(direction: &str, decided: &Decided) -> String {
    format!("  {direction:<8} {:<8} {}\n", word(decided.allowed, decided.audited), decided.because)
}

/// What is denied and let through all the same has a word of its own.
fn word(allowed: bool, audited: bool) -> &'static str {
    match (allowed, audited) {
        (_, true) => "audited",
        (true, false) => "allowed",
        (false, false) => "denied",
    }
}

/// `default/web (10.1.0.5)`
pub(crate) fn end(party: &Party) -> String {
    match party.address {
        Some(address) => format!("{} ({address})", party.name),
        None => party.name.clone(),
    }
}

/// What would change.
pub(crate) fn simulation(answer: &Simulation) -> String {
    let mut text = format!(
        "{} connections would become denied, {} allowed\n{} of {} live connections would be dropped\n",
        answer.denied, answer.allowed, answer.flows_dropped, answer.flows
    );
    for shift in &answer.shifts {
        let (became, was) = match shift.became {
            Became::Denied => ("denied", "allowed"),
            Became::Allowed => ("allowed", "denied"),
        };
        let (one, other) =
            if shift.direction == "egress" { ("from", "to") } else { ("to", "from") };
        let network = match shift.group.network.as_str() {
            "" => String::new(),
            network => format!(" of network {network}"),
        };
        let published = if shift.published { ", through published ports" } else { "" };
        let _ = writeln!(
            text,
            "\n{became:<8} {one} {}{network}: {} connections{published}",
            shift.group.name, shift.connections
        );
        let others = and_more(shift.others.join(", "), shift.others_left_out);
        let _ = writeln!(text, "  {other:<8} {others}");
        let _ = writeln!(text, "  traffic  {}", shift.traffic.join(", "));
        let _ = writeln!(text, "  {was:<8} {} {}", shift.direction, shift.now);
        let _ = writeln!(text, "  {became:<8} {} {}", shift.direction, shift.then);
    }
    left_out(&mut text, answer.shifts_left_out, "changes");
    if !answer.dropped.is_empty() {
        text.push_str("\nlive connections that would be dropped:\n");
    }
    for flow in &answer.dropped {
        let sent_to = flow.sent_to.map(|to| format!(", sent to {to}")).unwrap_or_default();
        let (from, to) = (end(&flow.from), end(&flow.to));
        let _ = writeln!(text, "  {from} -> {to} {}{sent_to}\n    {}", flow.traffic, flow.because);
    }
    left_out(&mut text, answer.flows_dropped.saturating_sub(answer.dropped.len()), "of those");
    let _ = writeln!(
        text,
        "\nasked: {} endpoints in {} groups; {}",
        answer.endpoints,
        answer.groups,
        answer.traffic.join(", ")
    );
    left_out(&mut text, answer.traffic_left_out, "kinds of traffic, not asked about");
    left_out(&mut text, answer.groups_left_out, "groups, not asked about");
    left_out(&mut text, answer.strangers_left_out, "kinds of addresses elsewhere, not asked about");
    text
}

fn and_more(text: String, more: usize) -> String {
    if more == 0 { text } else { format!("{text} and {more} more") }
}

/// Says what is not there, if something is not.
pub(crate) fn left_out(text: &mut String, count: usize, what: &str) {
    if count > 0 {
        let _ = writeln!(text, "left out: {count} {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(name: &str, address: &str) -> Party {
        Party { name: name.into(), key: None, address: address.parse().ok() }
    }

    fn decided(allowed: bool, because: &str) -> Decided {
        Decided { allowed, audited: false, because: because.into() }
    }

    #[test]
    fn an_explanation_reads_well() {
        let case = Case {
            allowed: false,
            audited: false,
            from: party("default/web", "10.1.0.5"),
            to: party("default/db", "10.1.0.9"),
            egress: decided(true, "network prod, posture isolated, rule same-network"),
            ingress: decided(
                false,
                "isolated by NetworkPolicy default/db-only, and no rule matches",
            ),
        };
        let traffic = "tcp/5432".to_owned();
        let answer = Explanation { allowed: false, traffic, published: false, cases: vec![case] };
        assert_eq!(
            explanation(&answer),
            "denied   default/web (10.1.0.5) -> default/db (10.1.0.9) tcp/5432\n  \
               egress   allowed  network prod, posture isolated, rule same-network\n  \
               ingress  denied   isolated by NetworkPolicy default/db-only, and no rule matches\n"
        );
    }
}
