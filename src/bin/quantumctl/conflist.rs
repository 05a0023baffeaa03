//! A conflist of ours, as a value. Others add to it: a mesh its plugin, an operator a key. So it is known by
//! what is in it, only our own entry is brought up to date or taken out, and what others have there stays.

use serde_json::{Map, Value};

/// Our plugin; the entry of this type is ours.
pub(crate) const TYPE: &str = "quantum-cni";
/// The members of the list itself that are ours to say.
const OF_THE_LIST: [&str; 3] = ["cniVersion", "cniVersions", "name"];
/// The keys of an older form of `ipam`, which would name subnets beside those of `ranges`.
const OLDER_IPAM: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];

/// What is at the place of a conflist.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum There {
    /// One with an entry of ours.
    Ours(Value),
    /// Something else, and how that is known.
    Foreign(String),
}

/// Reads what is there.
pub(crate) fn read(text: &[u8]) -> There {
    match serde_json::from_slice::<Value>(text) {
        Err(error) => There::Foreign(format!("it is not JSON: {error}")),
        Ok(list) if entries(&list).iter().any(is_ours) => There::Ours(list),
        Ok(_) => There::Foreign(format!("no plugin of it is {TYPE}")),
    }
}

/// The list that is there with our entry, and what is ours of the list, as in `new`; and which members that
/// changes.
pub(crate) fn updated(there: &Value, new: &Value) -> (Value, Vec<String>) {
    let mut list = there.clone();
    let mut changed = Vec::new();
    for key in OF_THE_LIST {
        if list.get(key) != new.get(key) {
            list[key] = new[key].clone();
            changed.push(key.to_owned());
        }
    }
    let own = &new["plugins"][0];
    let entries = list["plugins"].as_array_mut().into_iter().flatten();
    if let Some(entry) = entries.into_iter().find(|entry| is_ours(entry)) {
        let before = entry.clone();
        update(entry, own);
        let members =
            entry.as_object().into_iter().flatten().chain(before.as_object().into_iter().flatten());
        for (key, _) in members {
            if before.get(key) != entry.get(key) && !changed.contains(key) {
                changed.push(key.clone());
            }
        }
    }
    (list, changed)
}

/// Sets what `own` says; the other members stay.
fn update(entry: &mut Value, own: &Value) {
    let says_direct = own.pointer("/policy/directAccess").is_some();
    if let Some(Value::Object(policy)) = entry.get_mut("policy")
        && !says_direct
    {
        policy.shift_remove("directAccess");
    }
    if entry["policy"] == Value::Object(Map::new()) {
        entry.as_object_mut().map(|entry| entry.shift_remove("policy"));
    }
    if entry["ipam"]["type"] != own["ipam"]["type"] {
        entry["ipam"] = Value::Null; // somebody else's keys mean nothing to ours
    }
    if let Some(ipam) = entry["ipam"].as_object_mut() {
        ipam.retain(|key, _| !OLDER_IPAM.contains(&key.as_str()));
    }
    for (key, value) in own.as_object().into_iter().flatten() {
        match (entry.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(members)) => {
                there.extend(members.clone());
            }
            _ => entry[key] = value.clone(),
        }
    }
}

/// The list without our entries, and the types of those that stay; nothing if none does.
pub(crate) fn without_ours(there: &Value) -> Option<(Value, Vec<String>)> {
    let mut list = there.clone();
    let left: Vec<Value> = entries(there).into_iter().filter(|entry| !is_ours(entry)).collect();
    let types = left.iter().map(|entry| type_of(entry).unwrap_or("without a type").to_owned());
    let types: Vec<String> = types.collect();
    list["plugins"] = left.into();
    (!types.is_empty()).then_some((list, types))
}

/// The plugins that a file names, be it a list or a single configuration.
pub(crate) fn types(text: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(text).unwrap_or_default();
    let plugins = if list["plugins"].is_array() { entries(&list) } else { vec![list] };
    plugins.iter().filter_map(type_of).map(str::to_owned).collect()
}

fn entries(list: &Value) -> Vec<Value> {
    list["plugins"].as_array().cloned().unwrap_or_default()
}

fn is_ours(entry: &Value) -> bool {
    type_of(entry) == Some(TYPE)
}

fn type_of(entry: &Value) -> Option<&str> {
    entry.get("type").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn new() -> Value {
        json!({
            "cniVersion": "1.0.0", "cniVersions": ["1.0.0"], "name": "quantum",
            "plugins": [{
                "type": TYPE, "bridge": "q0",
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/24" }]] },
                "capabilities": { "dns": true }
            }]
        })
    }

    #[test]
    fn what_others_added_stays_where_it_is() {
        let mut there = new();
        there["cniVersion"] = "0.4.0".into();
        there["disableCheck"] = true.into();
        there["plugins"][0]["bridge"] = "old0".into();
        there["plugins"][0]["mtu"] = 1400.into();
        there["plugins"][0]["capabilities"]["theirs"] = true.into();
        there["plugins"][0]["policy"] = json!({ "directAccess": true, "posture": "isolated" });
        there["plugins"][0]["ipam"] =
            json!({ "type": "host-local", "subnet": "10.9.0.0/24", "dataDir": "/d" });
        let mesh = json!({ "type": "linkerd-cni", "kubernetes": { "k": 1 } });
        there["plugins"].as_array_mut().expect("plugins").push(mesh.clone());
        let (list, changed) = updated(&there, &new());
        assert_eq!(changed, ["cniVersion", "bridge", "ipam", "policy"]);
        assert_eq!(list["plugins"][1], mesh);
        assert_eq!(list["disableCheck"], true);
        let own = &list["plugins"][0];
        assert_eq!((&own["bridge"], &own["mtu"]), (&json!("q0"), &json!(1400)));
        assert_eq!(own["capabilities"], json!({ "dns": true, "theirs": true }));
        assert_eq!(own["policy"], json!({ "posture": "isolated" }));
        let ranges = &new()["plugins"][0]["ipam"]["ranges"];
        assert_eq!(own["ipam"], json!({ "type": "host-local", "dataDir": "/d", "ranges": ranges }));
        assert_eq!(updated(&list, &new()), (list.clone(), Vec::new()), "the second time nothing");
    }

    #[test]
    fn another_programs_addresses_are_replaced_whole() {
        let mut there = new();
        there["plugins"][0]["ipam"] = json!({ "type": "dhcp", "daemonSocketPath": "/s" });
        there["plugins"][0]["policy"] = json!({ "directAccess": true });
        assert_eq!(updated(&there, &new()).0, new());
    }

    #[test]
    fn a_file_is_known_by_what_is_in_it() {
        assert_eq!(read(new().to_string().as_bytes()), There::Ours(new()));
        for (text, why) in [
            ("not JSON", "not JSON"),
            ("[]", "no plugin"),
            (r#"{"plugins":[{"type":"bridge"}]}"#, "no plugin"),
            (r#"{"type":"quantum-cni"}"#, "no plugin"),
        ] {
            let There::Foreign(said) = read(text.as_bytes()) else { panic!("{text}") };
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(types(br#"{"type":"bridge"}"#), ["bridge"]);
    }

    #[test]
    fn only_ours_is_taken_out() {
        assert_eq!(without_ours(&new()), None);
        let mut there = new();
        there["plugins"].as_array_mut().expect("plugins").push(json!({ "type": "linkerd-cni" }));
        let (left, types) = without_ours(&there).expect("theirs");
        assert_eq!(left["plugins"], json!([{ "type": "linkerd-cni" }]));
        assert_eq!(types, ["linkerd-cni"]);
    }
}
