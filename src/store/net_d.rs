//! `config_dir`: the networks that an operator defines in files. Each file is a network
//! configuration (`*.conf`, `*.json`) or a list of plugins (`*.conflist`) of which the first of our
//! type counts. A file that will not do is reported and never stops the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quantum_config::cni::{Call, CniError, Code, Definition, Dns};
use quantum_config::ids::NetworkName;
use serde_json::Value;

use super::small_file;

/// The plugin type that is ours.
pub const PLUGIN_TYPE: &str = "quantum-cni";
const SUFFIXES: [&str; 3] = [".conf", ".conflist", ".json"];

/// What the files of a directory define.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetD {
    /// The networks, each with the name of its file.
    pub networks: BTreeMap<NetworkName, (String, Definition)>,
    /// The files that will not do, and why.
    pub problems: Vec<Problem>,
}

/// A file that will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the directory.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Reads the directory, in the order of the files' names. One that does not exist defines nothing.
pub fn load(dir: &Path) -> NetD {
    let mut found = NetD::default();
    let mut files = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => files.extend(entries.flatten().map(|e| e.path())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => found.problem(dir, format!("cannot be read: {e}")),
    }
    files.retain(|f| SUFFIXES.iter().any(|s| f.to_string_lossy().ends_with(s)));
    files.sort();
    for file in files {
        let defined = small_file::read(&file)
            .map_err(|e| format!("cannot be read: {e}"))
            .and_then(|text| definition(&text).map_err(|e| e.to_string()));
        match defined {
            Ok(None) => {} // of another plugin
            Ok(Some(network)) => found.define(&file, network),
            Err(reason) => found.problem(&file, reason),
        }
    }
    found
}

impl NetD {
    fn define(&mut self, file: &Path, network: Definition) {
        match self.networks.get(&network.name) {
            // As runtimes do it: the first file in the order of names counts.
            Some((first, _)) => {
                let reason = format!(
                    "defines network {:?}, which {first} has defined already",
                    network.name.as_str()
                );
                self.problem(file, reason);
            }
            None => {
                let name = network.name.clone();
                self.networks.insert(name, (file.display().to_string(), network));
            }
        }
    }

    fn problem(&mut self, file: &Path, reason: String) {
        self.problems.push(Problem { file: file.display().to_string(), reason });
    }
}

/// The network that a file defines; none if it is another plugin's.
fn definition(text: &[u8]) -> Result<Option<Definition>, CniError> {
    let value: Value = serde_json::from_slice(text).map_err(|e| {
        CniError::new(Code::Decode, "is not valid JSON").with_details(e.to_string())
    })?;
    let Value::Object(document) = &value else {
        return Err(CniError::new(Code::Decode, "is not a JSON object"));
    };
    let ours = |conf: &Value| conf.get("type").and_then(Value::as_str) == Some(PLUGIN_TYPE);
    let conf = match document.get("plugins") {
        None => Some(value.clone()).filter(ours),
        Some(plugins) => {
            let plugins = plugins.as_array().map(Vec::as_slice).unwrap_or_default();
            // The list gives its members name and version, as libcni does it for the runtime.
            plugins.iter().find(|p| ours(p)).cloned().map(|mut conf| {
                for key in ["name", "cniVersion"] {
                    if let (Some(map), Some(v)) = (conf.as_object_mut(), document.get(key)) {
                        map.insert(key.to_owned(), v.clone());
                    }
                }
                conf
            })
        }
    };
    let Some(conf) = conf else { return Ok(None) };
    let call = Call::parse(conf.to_string().as_bytes())?.of_operator();
    if call.is_thin() {
        return Err(CniError::new(
            Code::InvalidNetworkConfig,
            "only names its network: a definition needs \"bridge\" or \"ipam\"",
        ));
    }
    let mut network = call.definition()?;
    if let Some(path) = call.resolv_conf().filter(|_| network.dns.is_empty()) {
        let text = fs::read_to_string(path).map_err(|e| {
            CniError::new(Code::Io, format!("ipam.resolvConf {path:?} cannot be read"))
                .with_details(e.to_string())
        })?;
        network.dns = Dns::from_resolv_conf(&text);
    }
    Ok(Some(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_define_networks_and_bad_ones_do_not_stop_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
        write("10-a.conf", r#"{"name":"a","type":"quantum-cni","bridge":"br0"}"#);
        write(
            "20-b.conflist",
            r#"{"name":"b","cniVersion":"1.0.0","plugins":[{"type":"x"},{"type":"quantum-cni","bridge":"br1"}]}"#,
        );
        write("30-other.conflist", r#"{"name":"c","plugins":[{"type":"bridge"}]}"#);
        write("40-bad.conf", "{");
        write("50-again.json", r#"{"name":"a","type":"quantum-cni","bridge":"br9"}"#);
        write("60-thin.conf", r#"{"name":"t","type":"quantum-cni"}"#);
        write("70-vlan.conf", r#"{"name":"v","type":"quantum-cni","bridge":"b","vlan":4095}"#);
        write("readme.txt", "{");
        let found = load(dir.path());
        let names: Vec<&str> = found.networks.keys().map(NetworkName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        let bridges = found.networks.values().map(|(_, d)| d.bridge.to_string());
        assert_eq!(bridges.collect::<Vec<_>>(), ["br0", "br1"]);
        let bad: Vec<&str> =
            found.problems.iter().map(|p| p.file.rsplit('/').next().unwrap_or("")).collect();
        assert_eq!(bad, ["40-bad.conf", "50-again.json", "60-thin.conf", "70-vlan.conf"]);
    }

    #[test]
    fn no_directory_defines_nothing() {
        assert_eq!(load(Path::new("/nonexistent/net.d")), NetD::default());
    }
}
