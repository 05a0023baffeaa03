//! Everything the programs under test could have changed in a namespace, as lines to compare.

use std::collections::BTreeSet;

use serde_json::Value;

use super::netns::Netns;
use super::world::UPLINK;

/// A namespace's links, addresses, routes and nftables objects, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeSet<String>);

impl Inventory {
    /// What is there now.
    pub(crate) fn of(netns: &Netns) -> Self {
        let mut lines = BTreeSet::new();
        for link in netns.ip_json("address show") {
            let name = text(&link["ifname"]);
            lines.insert(format!(
                "link {name} master {} alias {} up {}",
                text(&link["master"]),
                text(&link["ifalias"]),
                is_up(&link)
            ));
            for address in link["addr_info"].as_array().into_iter().flatten() {
                // The kernel makes link-local addresses, in its own time.
                if address["scope"] != "link" {
                    let local = text(&address["local"]);
                    lines.insert(format!("address {local}/{} on {name}", address["prefixlen"]));
                }
            }
        }
        for family in ["-4", "-6"] {
            for route in netns.ip_json(&format!("{family} route show table all")) {
                let keys = ["type", "dst", "gateway", "dev", "table"].map(|k| text(&route[k]));
                if keys[1].starts_with("fe80:") || keys[1].starts_with("ff00:") {
                    continue;
                }
                lines.insert(format!("route {}", keys.join(" ")));
            }
        }
        lines.extend(nft_lines(netns));
        Self(lines)
    }

    /// Fails, and says what came and what went, unless this and `now` are the same.
    #[track_caller]
    pub(crate) fn assert_same(&self, now: &Self, when: &str) {
        let came: Vec<_> = now.0.difference(&self.0).collect();
        let went: Vec<_> = self.0.difference(&now.0).collect();
        assert!(
            came.is_empty() && went.is_empty(),
            "{when}: there are besides {came:#?}\nthere are no longer {went:#?}"
        );
    }
}

/// Is the interface up, as far as its owner is concerned?
pub(crate) fn is_up(link: &Value) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == "UP"))
}

/// The host's ends of container interfaces: every veth but the uplink.
pub(crate) fn veths(host: &Netns) -> Vec<String> {
    let is_ours =
        |link: &Value| link["linkinfo"]["info_kind"] == "veth" && link["ifname"] != UPLINK;
    host.ip_json("link show").iter().filter(|l| is_ours(l)).map(|l| text(&l["ifname"])).collect()
}

/// Every element of every nftables set and map, one a line.
pub(crate) fn nft_elements(host: &Netns) -> BTreeSet<String> {
    nft_lines(host).into_iter().filter(|line| line.starts_with("element ")).collect()
}

/// The ruleset without what changes by itself: counters, whose the tables are, the mark of what was judged.
/// It is read as text: `nft` 1.0.6 cannot print every table as JSON.
fn nft_lines(netns: &Netns) -> Vec<String> {
    let all = netns.output("nft", "-s list ruleset");
    let (mut lines, mut place) = (Vec::new(), [String::new(), String::new()]);
    let mut rest = all.lines().map(str::trim);
    while let Some(line) = rest.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, table, ..] => place[0] = format!("{family} {table}"),
            ["chain" | "set" | "map", name, "{"] => place[1] = name.to_owned(),
            ["elements", "=", "{", ..] => {
                let mut list = line.to_owned();
                while !list.ends_with('}') {
                    list.push_str(&format!(" {}", rest.next().expect("the end of the elements")));
                }
                // The mark changes when something else does.
                if ["epoch", "stamp"].contains(&place[1].as_str()) {
                    continue;
                }
                let list = list.trim_start_matches("elements = {").trim_end_matches('}');
                let of = place.join(" ");
                lines.extend(list.split(',').map(|one| format!("element of {of}: {}", one.trim())));
            }
            ["flags"] | ["flags", "owner"] | ["}"] | [] => {}
            _ => lines.push(format!("nft {}: {line}", place.join(" "))),
        }
    }
    lines
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
