//! Answers about policy that are tables.

use std::fmt::Write;

use quantum_config::ask::{Cell, Denied, Matrix, Shown};

use crate::render::{end, left_out};

/// Rows of words, each column as wide as its widest word.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|word| word.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let words = row.iter().zip(&widths).map(|(word, width)| format!("{word:<width$}"));
        let line = words.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn heading(words: &[&str]) -> Vec<Vec<String>> {
    vec![words.iter().map(|word| (*word).to_owned()).collect()]
}

/// A row for each sender, a column for each receiver; both have the same numbers.
pub(crate) fn matrix(answer: &Matrix) -> String {
    let mut text = format!("{}: who begins (rows) to whom (columns)\n\n", answer.traffic);
    let digits = answer.groups.len().saturating_sub(1).to_string().len();
    let mut head = String::new();
    for column in 0..answer.groups.len() {
        let _ = write!(head, " {column:>digits$}");
    }
    let _ = writeln!(text, "{:>digits$} {head}", "");
    for (number, row) in answer.cells.iter().enumerate() {
        let _ = write!(text, "{number:>digits$} ");
        for cell in row {
            let _ = write!(text, " {:>digits$}", sign(*cell));
        }
        let group = answer.groups.get(number).cloned().unwrap_or_default();
        let network = if group.network.is_empty() {
            group.network
        } else {
            format!(" of network {}", group.network)
        };
        let _ = writeln!(text, "   {}{network}", group.name);
    }
    let legend = [
        (Cell::Allowed, "allowed"),
        (Cell::Denied, "denied"),
        (Cell::Audited, "denied and let through (audit)"),
        (Cell::ByFamily, "differs between IPv4 and IPv6"),
        (Cell::Apart, "no family of addresses in common"),
    ];
    let seen = |cell: &Cell| answer.cells.iter().flatten().any(|found| found == cell);
    let used = legend.iter().filter(|(cell, _)| seen(cell));
    let used: Vec<String> = used.map(|(cell, what)| format!("{} {what}", sign(*cell))).collect();
    let _ = writeln!(text, "\n{}", used.join("; "));
    left_out(&mut text, answer.left_out, "groups of endpoints");
    text
}

fn sign(cell: Cell) -> char {
    match cell {
        Cell::Allowed => '+',
        Cell::Denied => 'x',
        Cell::Audited => 'a',
        Cell::ByFamily => '~',
        Cell::Apart => ' ',
        Cell::Itself => '.',
    }
}

/// What is in force.
pub(crate) fn shown(answer: &Shown) -> String {
    let mut text = String::new();
    for problem in &answer.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    let mut networks = heading(&["NETWORK", "POSTURE"]);
    networks.extend(answer.networks.iter().map(|n| vec![n.name.clone(), n.posture.clone()]));
    let mut namespaces = heading(&["NAMESPACE", "LABELS", "SOURCE"]);
    namespaces.extend(answer.namespaces.iter().map(|namespace| {
        let labels = namespace.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let labels = labels.collect::<Vec<_>>().join(",");
        vec![namespace.name.clone(), labels, namespace.source.clone()]
    }));
    let mut policies = heading(&["TIER", "PRIORITY", "POLICY", "MODE", "SELECTS", "SOURCE"]);
    policies.extend(answer.policies.iter().map(|policy| {
        vec![
            policy.tier.clone(),
            policy.priority.map(|priority| priority.to_string()).unwrap_or_default(),
            format!("{} {}", policy.kind, policy.name),
            policy.mode.clone(),
            policy.selects.to_string(),
            policy.source.clone(),
        ]
    }));
    let mut endpoints = heading(&["ENDPOINT", "NETWORK", "ADDRESSES", "POLICIES", "LABELS"]);
    endpoints.extend(answer.endpoints.iter().map(|endpoint| {
        let audit = if endpoint.audit { " (audit)" } else { "" };
        let addresses = endpoint.addresses.iter().map(ToString::to_string);
        let labels = endpoint.labels.iter().map(|(key, label)| format!("{key}={}", label.value));
        let labels = labels.chain(endpoint.removed.keys().map(|key| format!("{key}-")));
        let policies =
            if endpoint.policies.is_empty() { "-".to_owned() } else { endpoint.policies.join(",") };
        vec![
            format!("{}{audit}", endpoint.name),
            endpoint.network.clone(),
            addresses.collect::<Vec<_>>().join(","),
            policies,
            labels.collect::<Vec<_>>().join(","),
        ]
    }));
    for rows in [networks, namespaces, policies, endpoints].iter().filter(|rows| rows.len() > 1) {
        let space = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{space}{}", table(rows));
    }
    left_out(&mut text, answer.namespaces_left_out, "namespaces");
    left_out(&mut text, answer.policies_left_out, "policies");
    left_out(&mut text, answer.endpoints_left_out, "endpoints");
    match text.is_empty() {
        true => "there are no networks, no policies and no endpoints".to_owned(),
        false => text,
    }
}

/// What was denied of late.
pub(crate) fn denied(answer: &Denied) -> String {
    if answer.flows.is_empty() {
        return "nothing was denied of late".to_owned();
    }
    let mut rows = heading(&["AGO", "PACKETS", "FROM", "TO", "TRAFFIC", "BECAUSE"]);
    rows.extend(answer.flows.iter().map(|flow| {
        let audited = if flow.audited { "audited: " } else { "" };
        vec![
            format!("{}s", flow.seconds_ago),
            flow.packets.to_string(),
            end(&flow.from),
            end(&flow.to),
            flow.traffic.clone(),
            format!("{audited}{}", flow.because),
        ]
    }));
    let mut text = table(&rows);
    left_out(&mut text, usize::try_from(answer.left_out).unwrap_or(usize::MAX), "flows");
    text
}

#[cfg(test)]
mod tests {
    use quantum_config::ask::{DeniedFlow, Group, Party};

    use super::*;

    #[test]
    fn a_matrix_has_a_row_for_each_sender() {
        let group = |name: &str| Group { name: name.into(), endpoints: 1, network: "n".into() };
        let answer = Matrix {
            traffic: "tcp/80".into(),
            endpoints: 2,
            groups: vec![group("x/a"), group("x/b")],
            cells: vec![vec![Cell::Itself, Cell::Denied], vec![Cell::Allowed, Cell::Itself]],
            left_out: 0,
        };
        assert_eq!(
            matrix(&answer),
            "tcp/80: who begins (rows) to whom (columns)\n\n   0 1\n\
             0  . x   x/a of network n\n1  + .   x/b of network n\n\n+ allowed; x denied\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let flow = |name: &str| DeniedFlow {
            from: Party { name: name.into(), ..Party::default() },
            to: Party { name: "host".into(), ..Party::default() },
            traffic: "icmp".into(),
            because: "why".into(),
            packets: 7,
            ..DeniedFlow::default()
        };
        let text = denied(&Denied { flows: vec![flow("a"), flow("default/long")], left_out: 2 });
        assert_eq!(
            text,
            "AGO  PACKETS  FROM          TO    TRAFFIC  BECAUSE\n\
             0s   7        a             host  icmp     why\n\
             0s   7        default/long  host  icmp     why\n\
             left out: 2 flows\n"
        );
    }
}
