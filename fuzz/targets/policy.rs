//! Documents of policy, as operators give them: what was taken is saved and restored as it was, is taken
//! away again, and compiles to rules of which none leads nowhere.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use quantum_cni::attach::Element;
use quantum_cni::policy::{Catalog, Documents, Endpoint, World, Written, compile};
use quantum_config::policy::{Document, DocumentKey, read_each, read_each_yaml};

fuzz_target!(|text: &str| {
    for document in read_each(text).into_iter().chain(read_each_yaml(text)) {
        match document {
            Ok(document) => is_named(&document),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let empty = Catalog::default();
    let Ok(written) = Written::read(text) else { return };
    let Ok((catalog, keys)) = empty.apply(written) else { return };
    let saved = catalog.to_saved().expect("what was given can be saved").expect("it is not lost");
    let back = Catalog::from_saved("policy.json", &saved);
    assert_eq!(back.documents(), catalog.documents(), "as it was given");
    assert!(back.problems().is_empty(), "{:?}", back.problems());
    let without = back.delete(&keys).expect("what was given can be taken away");
    assert!(without.documents().is_empty());
    compiles(catalog.documents());
});

fn is_named(document: &Document) {
    let DocumentKey { kind, namespace, name } = document.key();
    let again = DocumentKey::named(&kind.to_string(), namespace.as_deref(), &name);
    assert_eq!(again, Some(document.key()), "an operator can name it");
}

/// Every chain and every set that an endpoint's elements, or a chain, lead to is there.
fn compiles(documents: Vec<Document>) {
    let endpoint = |namespace: &str, name: &str, address: [&str; 2]| Endpoint {
        key: format!("net/{name}/eth0").parse().expect("a key"),
        bridge: "br0".to_owned().try_into().expect("a name"),
        addresses: address.map(|a| a.parse().expect("an address")).to_vec(),
        network: "net".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        ports: Vec::new(),
        link_local: None,
        audit: false,
        unknown: false,
    };
    let endpoints = vec![
        endpoint("shop", "web", ["10.0.0.2", "fd00::2"]),
        endpoint("default", "db", ["10.0.0.3", "fd00::3"]),
    ];
    let world = World::of(Arc::new(Documents::new(documents)), endpoints, BTreeMap::new());
    let compiled = compile(&world);
    let (rules, elements) = (&compiled.rules, compiled.elements.values().flatten());
    for element in elements {
        match element {
            Element::Judged { chain, .. } => {
                assert!(
                    rules.chains.contains_key(chain) || rules.doors.contains_key(chain),
                    "{chain}"
                );
            }
            Element::Member { set, .. } | Element::Named { set, .. } => {
                assert!(rules.sets.contains_key(set), "{set}");
            }
            _ => {}
        }
    }
    for to in rules.doors.values() {
        assert!(rules.chains.contains_key(to), "{to}");
    }
}
