//! What a plugin answered: a result, or a CNI error, read without the product's own code.

use std::net::IpAddr;

use serde_json::Value;

use super::process::Finished;

/// The document a plugin printed, or why there is none: every text says what went wrong and is
/// meant for the report.
pub(crate) fn document(finished: &Finished) -> Result<Value, String> {
    let parsed = serde_json::from_slice::<Value>(&finished.stdout);
    if !finished.status.success() {
        let said = parsed.ok().as_ref().map_or_else(|| raw(finished), error_text);
        return Err(format!("{}: {said}", finished.status));
    }
    match parsed {
        Ok(value) => Ok(value),
        Err(_) if finished.stdout.is_empty() => Ok(Value::Null),
        Err(error) => Err(format!("the output is not JSON ({error}): {}", raw(finished))),
    }
}

/// The fields of a CNI error on one line.
fn error_text(error: &Value) -> String {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let code = error.get("code").map(ToString::to_string).unwrap_or_default();
    format!("CNI error {code}: {} {}", text("msg"), text("details")).trim_end().to_owned()
}

/// What a plugin that did not speak JSON said instead.
fn raw(finished: &Finished) -> String {
    let said = [finished.stdout.as_slice(), b" ", finished.stderr.as_slice()].concat();
    String::from_utf8_lossy(&said).trim().chars().take(300).collect()
}

/// The addresses that a result gives to an interface of the container.
pub(crate) fn addresses_of(result: &Value, ifname: &str) -> Result<Vec<IpAddr>, String> {
    let list = |key: &str| {
        result.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    };
    let in_container = |interface: &Value| {
        let text = |key: &str| interface.get(key).and_then(Value::as_str).unwrap_or_default();
        text("name") == ifname && !text("sandbox").is_empty()
    };
    let position = list("interfaces")
        .iter()
        .position(in_container)
        .ok_or_else(|| format!("the result has no interface {ifname} with a sandbox: {result}"))?;

    let mut found = Vec::new();
    for ip in list("ips") {
        if ip.get("interface").and_then(Value::as_u64) != Some(position as u64) {
            continue;
        }
        let text = ip.get("address").and_then(Value::as_str).unwrap_or_default();
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        found.push(address.parse().map_err(|_| format!("the result has a bad address: {text:?}"))?);
    }
    if found.is_empty() {
        return Err(format!("the result has no address for {ifname}: {result}"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use serde_json::json;

    use super::*;

    fn finished(code: i32, stdout: &str, stderr: &str) -> Finished {
        Finished {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    #[test]
    fn an_address_counts_only_for_the_containers_own_interface() {
        let mut result = json!({
            "interfaces": [
                {"name": "eth0"},
                {"name": "br0"},
                {"name": "eth0", "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"interface": 1, "address": "10.0.0.1/16"},
                {"interface": 2, "address": "10.0.0.7/16"},
                {"interface": 2, "address": "fd00::7/64"},
            ],
        });
        let expected: Vec<IpAddr> =
            vec!["10.0.0.7".parse().expect("v4"), "fd00::7".parse().expect("v6")];
        assert_eq!(addresses_of(&result, "eth0"), Ok(expected));

        result["ips"] = json!([{"interface": 1, "address": "10.0.0.1/16"}]);
        assert!(
            addresses_of(&result, "eth0").expect_err("none left").contains("no address for eth0")
        );
        result["ips"] = json!([{"interface": 2, "address": "10.0.0/16"}]);
        assert!(addresses_of(&result, "eth0").expect_err("bad").contains("\"10.0.0/16\""));
        assert!(
            addresses_of(&Value::Null, "eth0").expect_err("nothing").contains("no interface eth0")
        );
    }

    #[test]
    fn a_failed_call_is_told_in_the_plugins_words() {
        let error =
            r#"{"cniVersion":"1.0.0","code":7,"msg":"no address","details":"pool is empty"}"#;
        let text = document(&finished(1, error, "")).expect_err("failed");
        assert!(text.ends_with("CNI error 7: no address pool is empty"), "{text}");
        let text = document(&finished(2, "", "panic: oh")).expect_err("failed");
        assert!(text.ends_with("panic: oh"), "{text}");
    }

    #[test]
    fn success_may_be_silent_but_not_garbled() {
        assert_eq!(document(&finished(0, "", "a log line")), Ok(Value::Null));
        assert!(document(&finished(0, "ok", "")).is_err());
    }
}
