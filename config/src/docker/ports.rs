//! Published ports as Docker says them: numbers for protocols, and a range of the host's ports to choose
//! from.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Options;
use crate::cni::{Call, PortMapping, Transport, gojson};

/// Where they are said.
const KEY: &str = "com.docker.network.portmap";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Raw {
    proto: u8,
    port: u16,
    #[serde(rename = "HostIP")]
    host_ip: String,
    host_port: u16,
    host_port_end: u16,
}

/// The ports that are published, each range's `choice`-th one; none if a range has not so many. An error is
/// for dockerd's user.
pub fn ports(options: &Options, choice: u16) -> Result<Option<Vec<PortMapping>>, String> {
    let Some(said) = options.get(KEY).filter(|said| !said.is_null()) else {
        return Ok(Some(Vec::new()));
    };
    let raw: Vec<Raw> = gojson::from_value(said.clone())
        .map_err(|e| format!("the published ports cannot be read: {e}"))?;
    let mut entries: Vec<Value> = Vec::with_capacity(raw.len());
    for port in &raw {
        let Some(transport) = Transport::from_number(port.proto) else {
            return Err(format!(
                "protocol {} of port {} is not TCP, UDP or SCTP",
                port.proto, port.port
            ));
        };
        if port.host_port == 0 {
            return Err(format!(
                "port {}/{transport} is published at no port of the host in particular, and Docker could not \
                 be told which one was taken; name one, as in -p 8080:{}",
                port.port, port.port
            ));
        }
        let is_range = port.host_port_end > port.host_port;
        let host_port = u32::from(port.host_port) + if is_range { u32::from(choice) } else { 0 };
        if host_port > u32::from(port.host_port.max(port.host_port_end)) {
            return Ok(None);
        }
        entries.push(json!({
            "hostPort": host_port,
            "containerPort": port.port,
            "protocol": transport.to_string(),
            "hostIP": port.host_ip,
        }));
    }
    if choice > 0 && raw.iter().all(|port| port.host_port_end <= port.host_port) {
        return Ok(None);
    }
    let call = json!({"name": "docker", "runtimeConfig": {"portMappings": entries}}).to_string();
    let checked = Call::parse(call.as_bytes()).and_then(|call| call.ports());
    checked.map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str, choice: u16) -> Result<Option<Vec<String>>, String> {
        let text = format!(r#"{{"{KEY}":{list}}}"#);
        let options: Options = serde_json::from_str(&text).expect("JSON");
        let text = |port: PortMapping| format!("{port} to {}", port.container_port);
        ports(&options, choice).map(|found| found.map(|f| f.into_iter().map(text).collect()))
    }

    #[test]
    fn ports_are_read_as_dockerd_writes_them() {
        let list = r#"[{"Proto":17,"IP":"","Port":90,"HostIP":"","HostPort":9090,"HostPortEnd":9090},
            {"Proto":6,"IP":"","Port":80,"HostIP":"192.0.2.1","HostPort":8080,"HostPortEnd":8080}]"#;
        let found = read(list, 0).expect("valid").expect("a choice");
        assert_eq!(found, ["udp/9090 to 90", "tcp/8080 of 192.0.2.1 to 80"]);
        assert_eq!(read(list, 1), Ok(None), "there is nothing to choose");
        assert_eq!(read("null", 0), Ok(Some(Vec::new())));
        assert_eq!(ports(&Options::new(), 0), Ok(Some(Vec::new())));
    }

    #[test]
    fn a_range_is_gone_through() {
        let list = r#"[{"Proto":6,"Port":80,"HostPort":8080,"HostPortEnd":8081},{"Proto":6,"Port":90,"HostPort":9090,"HostPortEnd":9090}]"#;
        let of = |choice| read(list, choice).expect("valid");
        assert_eq!(of(0).expect("the first")[0], "tcp/8080 to 80");
        assert_eq!(of(1).expect("the second"), ["tcp/8081 to 80", "tcp/9090 to 90"]);
        assert_eq!(of(2), None);
    }

    #[test]
    fn what_cannot_be_published_is_said() {
        for (list, word) in [
            (r#"[{"Proto":6,"Port":80,"HostPort":0}]"#, "-p 8080:80"),
            (r#"[{"Proto":1,"Port":80,"HostPort":1}]"#, "protocol 1"),
            (r#"[{"Proto":6,"Port":80,"HostPort":1,"HostIP":"::1"}]"#, "::1"),
            (r#"{"a":1}"#, "cannot be read"),
        ] {
            let error = read(list, 0).expect_err(list);
            assert!(error.contains(word), "{error}");
        }
    }
}
