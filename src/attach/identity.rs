//! An attachment as policy sees it.

use std::net::IpAddr;

use quantum_config::cni::MODE_LABEL;
use quantum_config::policy::OperatorLabels;

use super::{Record, naming};
use crate::policy::Endpoint;

/// The endpoint that a record is of. `operator` is what the operator has said of its labels since.
///
/// One of whom nothing is known ([`Identity::is_known`](quantum_config::cni::Identity::is_known)) has no
/// namespace, and no labels but the daemon's own: it is marked as unknown.
pub fn endpoint(record: &Record, operator: &OperatorLabels) -> Endpoint {
    let identity = &record.identity;
    let labels = identity.all_labels(&record.key, operator);
    let audit = match labels.get(MODE_LABEL) {
        Some(mode) => mode.value == "audit",
        None => record.posture.audit,
    };
    let addresses: Vec<IpAddr> = record.addresses.iter().map(|a| a.address.ip()).collect();
    Endpoint {
        key: record.key.clone(),
        bridge: record.home().clone(),
        link_local: Some(naming::link_local(record.mac)),
        audit,
        unknown: !identity.is_known(),
        namespace: identity.namespace.clone(),
        name: identity.name.clone(),
        network: record.key.network.to_string(),
        labels: labels.into_iter().map(|(key, label)| (key, label.value)).collect(),
        addresses,
        ports: identity.ports.clone(),
    }
}

#[cfg(test)]
mod tests {
    use quantum_config::cni::{Identity, NETWORK_LABEL};

    use super::super::plan::tests::sample;
    use super::*;

    #[test]
    fn an_endpoint_is_what_its_record_says() {
        let record = sample(r#","vlan":7,"policy":{"labels":{"app":"db"}}"#).record;
        let endpoint = endpoint(&record, &OperatorLabels::new());
        assert_eq!((&endpoint.key, endpoint.bridge.as_str()), (&record.key, "br0.7"));
        assert_eq!(endpoint.link_local, Some(naming::link_local(record.mac)));
        assert_eq!(endpoint.addresses, [record.addresses[0].address.ip()]);
        assert_eq!((endpoint.namespace.as_str(), endpoint.name.as_str()), ("shop", "db-0"));
        assert_eq!(endpoint.network, "net");
        assert_eq!(endpoint.labels.get("app").map(String::as_str), Some("db"));
        assert_eq!(endpoint.ports, record.identity.ports);
        assert!(!endpoint.audit);
    }

    #[test]
    fn the_operators_labels_win_but_for_what_the_daemon_knows() {
        let record = sample(r#","policy":{"labels":{"app":"db"}}"#).record;
        let said = [("app", "web"), (NETWORK_LABEL, "another")];
        let operator = said.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).into();
        let labels = endpoint(&record, &operator).labels;
        assert_eq!(labels.get("app").map(String::as_str), Some("web"));
        assert_eq!(labels.get(NETWORK_LABEL).map(String::as_str), Some("net"));
    }

    #[test]
    fn audit_is_the_networks_unless_the_operator_says_otherwise() {
        let audit = |keys: &str, mode: Option<&str>| {
            let operator = mode.map(|mode| (MODE_LABEL.to_owned(), Some(mode.to_owned())));
            endpoint(&sample(keys).record, &operator.into_iter().collect()).audit
        };
        let network = r#","policy":{"mode":"audit"}"#;
        assert!(audit(network, None) && audit("", Some("audit")));
        assert!(!audit(network, Some("enforce")) && !audit("", None));
    }

    #[test]
    fn a_record_of_an_earlier_release_can_be_read() {
        let mut record = sample("").record;
        let mut stored = serde_json::to_value(&record).expect("json");
        stored.as_object_mut().expect("an object").remove("identity").expect("written");
        record.identity = Identity::unknown();
        assert_eq!(serde_json::from_value::<Record>(stored).expect("readable"), record);
    }

    #[test]
    fn of_an_unknown_one_nothing_is_made_up() {
        let mut record = sample("").record;
        record.identity = Identity::unknown();
        let endpoint = endpoint(&record, &OperatorLabels::new());
        assert!(endpoint.namespace.is_empty() && endpoint.name.is_empty());
        assert_eq!(endpoint.labels.len(), 2, "{:?}", endpoint.labels);
    }
}
