//! Tests of the catalog: what holds while something is broken, and what operators may.

use std::collections::BTreeMap;

use quantum_config::ids::IfName;
use quantum_config::policy::{Kind, Labels};

use super::super::{Because, Endpoint, Flow, Side, Standing, Traffic, World, evaluate};
use super::*;

fn network_policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: \"{namespace}\"}}\nspec: {spec}\n"
    )
}

fn allow(namespace: &str) -> String {
    network_policy(namespace, "allow", "{podSelector: {}, ingress: [{}]}")
}

fn deny(namespace: &str) -> String {
    network_policy(namespace, "deny", "{podSelector: {}, ingress: []}")
}

/// A policy with a field that is misspelt.
fn misspelt(namespace: &str) -> String {
    network_policy(namespace, "slip", "{podSelector: {}, policyTypes: [Ingress], ingres: []}")
}

fn with(catalog: &Catalog, files: &[(&str, &str)]) -> Catalog {
    let read = |(name, text): &(&str, &str)| ((*name).to_owned(), Ok(text.as_bytes().to_vec()));
    catalog.with_files("policy.d", Ok(files.iter().map(read).collect()))
}

fn cold(files: &[(&str, &str)]) -> Catalog {
    with(&Catalog::default(), files)
}

/// Of the connections from somebody elsewhere to an endpoint in the namespaces `x` and `y`, and from
/// these to elsewhere: which are allowed.
fn allowed(catalog: &Catalog) -> [bool; 4] {
    let endpoint = |namespace: &str, address: &str| Endpoint {
        key: format!("net/{namespace}/eth0").parse().expect("a key"),
        bridge: IfName::new("net0").expect("a name"),
        link_local: None,
        audit: false,
        unknown: false,
        namespace: namespace.to_owned(),
        name: "a".to_owned(),
        network: "net".to_owned(),
        labels: Labels::new(),
        addresses: vec![address.parse().expect("an address")],
        ports: Vec::new(),
    };
    let endpoints = vec![endpoint("x", "10.0.0.1"), endpoint("y", "10.0.0.2")];
    let networks = BTreeMap::from([("net".to_owned(), Standing::Open)]);
    let world = World::new(endpoints, networks, catalog.documents());
    let elsewhere = Side::World("192.0.2.1".parse().expect("an address"));
    let [x, y] = ["10.0.0.1", "10.0.0.2"].map(|a| world.side(a.parse().expect("an address")));
    [(elsewhere, x), (elsewhere, y), (x, elsewhere), (y, elsewhere)].map(|(from, to)| {
        let flow = Flow { from, to, traffic: Traffic::Other(47), published: false };
        let verdict = evaluate(&world, &flow);
        if let Because::Rule(rule) = &verdict.ingress.because
            && rule.kind == Kind::Broken
        {
            let told = verdict.to_string();
            assert!(told.contains("ingress denied: broken document policy.d/"), "{told}");
        }
        verdict.allowed
    })
}

fn apply(catalog: &Catalog, text: &str) -> Result<(Catalog, Vec<DocumentKey>), CatalogError> {
    catalog.apply(Written::read(text)?)
}

#[test]
fn at_a_cold_start_a_broken_document_denies_what_it_could_have_selected() {
    let text = allow("y") + &misspelt("x");
    let catalog = cold(&[("policy.d/a.yaml", &text)]);
    assert_eq!(allowed(&catalog), [false, true, true, true], "x, and what comes to it only");
    let [problem] = &catalog.problems()[..] else { panic!("{catalog:?}") };
    assert_eq!(problem.file, "policy.d/a.yaml");
    assert!(problem.reason.contains("NetworkPolicy x/slip: spec.ingres=[]"), "{problem:?}");
    let good_ones_hold = cold(&[("policy.d/a.yaml", &(deny("y") + &misspelt("x")))]);
    assert_eq!(allowed(&good_ones_hold), [false, false, true, true]);
    for text in ["kind: [", "kind: Pod\napiVersion: v1", "{\"kind\": 1}"] {
        assert_eq!(allowed(&cold(&[("policy.d/a.yaml", text)])), [false; 4], "{text}");
    }
}

#[test]
fn what_cannot_be_read_at_all_denies_everything_at_a_cold_start() {
    let read = vec![("policy.d/a.yaml".to_owned(), Err("no permission".to_owned()))];
    let catalog = Catalog::default().with_files("policy.d", Ok(read));
    assert_eq!(allowed(&catalog), [false; 4]);
    let catalog = Catalog::default().with_files("policy.d/", Err("no permission".to_owned()));
    assert_eq!((allowed(&catalog), catalog.problems().len()), ([false; 4], 1));
    let twice = catalog.with_files("policy.d/", Err("no permission".to_owned()));
    assert_eq!((allowed(&twice), twice.problems().len()), ([false; 4], 1));
    assert_eq!(allowed(&with(&catalog, &[])), [true; 4], "it can be read again");
    let binary = vec![("policy.d/a.yaml".to_owned(), Ok(vec![0xff]))];
    let catalog = Catalog::default().with_files("policy.d", Ok(binary));
    assert_eq!(allowed(&catalog), [false; 4]);
}

#[test]
fn a_bad_file_keeps_its_last_good_documents_and_hinders_no_other() {
    let (x, y) = (deny("x"), deny("y"));
    let good = cold(&[("policy.d/a.yaml", &x)]);
    assert_eq!(allowed(&good), [false, true, true, true]);
    for bad in ["kind: [".to_owned(), allow("x") + &misspelt("y")] {
        let catalog = with(&good, &[("policy.d/a.yaml", &bad), ("policy.d/b.yaml", &y)]);
        assert_eq!(allowed(&catalog), [false, false, true, true], "{bad}");
        assert_eq!(catalog.problems().len(), 1);
        let again = with(&catalog, &[("policy.d/a.yaml", &bad)]);
        assert_eq!(allowed(&again), [false, true, true, true], "also the second time");
        let mended = with(&again, &[("policy.d/a.yaml", &allow("x"))]);
        assert_eq!((allowed(&mended), mended.problems()), ([true; 4], Vec::new()));
    }
    let unread = good.with_files("policy.d", Err("no permission".to_owned()));
    assert_eq!((allowed(&unread), unread.problems().len()), ([false, true, true, true], 1));
    assert_eq!(allowed(&with(&good, &[])), [true; 4], "a file that was removed");
}

#[test]
fn a_document_is_held_by_one_file_only() {
    let (one, two) = (("policy.d/a.yaml", &*deny("x")), ("policy.d/b.yaml", &*deny("x")));
    let catalog = cold(&[one, two]);
    let [problem] = &catalog.problems()[..] else { panic!("{catalog:?}") };
    let expected = "NetworkPolicy x/deny is in policy.d/a.yaml already";
    assert_eq!((&*problem.file, &*problem.reason), ("policy.d/b.yaml", expected));
    assert!(
        cold(&[("policy.d/a.yaml", &deny("x").repeat(2))]).problems()[0].reason.contains("twice")
    );
    // The second file had it first: what it said else holds on.
    let both = deny("x") + &deny("y");
    let catalog = with(&cold(&[("policy.d/b.yaml", &both)]), &[one, ("policy.d/b.yaml", &both)]);
    assert_eq!((catalog.documents().len(), catalog.problems().len()), (2, 1));
    assert_eq!(allowed(&catalog), [false, false, true, true]);
}

#[test]
fn operators_change_all_or_nothing() {
    let catalog = cold(&[("policy.d/a.yaml", &allow("x"))]);
    let (given, keys) = apply(&catalog, &(deny("y") + &deny("x"))).expect("applied");
    assert_eq!(allowed(&given), [true, false, true, true], "a file's rule still lets through");
    for (text, expected) in [
        ("", "there is no document in what was given"),
        (&*(deny("z") + &misspelt("x")), "spec.ingres=[] is not a known field"),
        (&*(deny("z") + &allow("x")), "NetworkPolicy x/allow is the file policy.d/a.yaml's"),
        (&*deny("z").repeat(2), "NetworkPolicy z/deny is there twice"),
        ("{\"kind\": ", "not JSON"),
    ] {
        let error = apply(&given, text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let [y, x] = <[DocumentKey; 2]>::try_from(keys).expect("as many as were given, in their order");
    let file = [catalog.documents()[0].key()];
    assert!(matches!(given.delete(&file), Err(CatalogError::OfFile { .. })));
    let gone = given.delete(&[x.clone(), y]).expect("deleted");
    assert_eq!(allowed(&gone), [true; 4]);
    let error = gone.delete(&[x]).expect_err("gone").to_string();
    assert_eq!(error, "NetworkPolicy x/deny is not there");
    assert_eq!(given.documents().len(), 3, "the older value is as it was");
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}]}"#;
    assert_eq!(apply(&Catalog::default(), json).expect("a list").0.documents().len(), 2);
}

#[test]
fn a_file_may_not_take_what_an_operator_gave() {
    let (given, _) = apply(&Catalog::default(), &deny("x")).expect("applied");
    let catalog = with(&given, &[("policy.d/a.yaml", &deny("x"))]);
    assert_eq!(
        catalog.problems()[0].reason,
        "NetworkPolicy x/deny has been given at run time: delete it first"
    );
}

#[test]
fn labels_are_given_and_taken_and_some_are_the_daemons() {
    let key: AttachmentKey = "net/c/eth0".parse().expect("a key");
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let empty = Catalog::default();
    let came_with = |key: &str| key == "role";
    let label = |catalog: &Catalog, set: &[(&str, &str)], removed: &[&str]| {
        let removed: Vec<String> = removed.iter().map(|key| (*key).to_owned()).collect();
        catalog.label(&key, &labels(set), &removed, came_with)
    };
    let said = |pairs: &[(&str, Option<&str>)]| -> OperatorLabels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect()
    };
    let given = label(&empty, &[("a", "1"), ("b", "2")], &[]).expect("given");
    let changed = label(&given, &[("b", "3")], &["a", "none"]).expect("changed");
    assert_eq!(changed.labels(&key), Some(&said(&[("b", Some("3"))])));
    // What it came with stays away until it is given again, also by a daemon that was started since.
    let removed = label(&changed, &[], &["role"]).expect("taken away");
    assert_eq!(removed.labels(&key), Some(&said(&[("b", Some("3")), ("role", None)])));
    let saved = removed.to_saved().expect("written").expect("not lost");
    let restored = Catalog::from_saved("policy.json", &saved);
    assert_eq!(restored.labels(&key), removed.labels(&key));
    let again = label(&restored, &[("role", "web")], &[]).expect("given again");
    assert_eq!(again.labels(&key), Some(&said(&[("b", Some("3")), ("role", Some("web"))])));
    for (bad, word) in [("cni.quantum/network", "daemon's"), ("a b", "not the key")] {
        let error = label(&given, &[], &[bad]).expect_err(bad).to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(given.forget(&key).labels(&key), None);
    for (name, value, word) in [
        ("cni.quantum/network", "n", "reserved"),
        ("a.cni.quantum/x", "n", "reserved"),
        ("a b", "n", "is not the key of a label"),
        ("a", "n n", "has the value"),
        ("policy.quantum/mode", "dry", "not enforce or audit"),
    ] {
        let error = label(&given, &[(name, value)], &[]).expect_err(name).to_string();
        assert!(error.contains(word), "{error}");
    }
    let many: Labels = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    assert!(matches!(
        empty.label(&key, &many, &[], |_| false),
        Err(CatalogError::TooManyLabels { .. })
    ));
}

#[test]
fn what_an_operator_gave_and_a_later_release_does_not_read_is_broken() {
    let (given, key) = apply(&Catalog::default(), &deny("x")).expect("applied");
    let bytes = given.to_saved().expect("encoded").expect("not lost");
    let later = String::from_utf8(bytes).expect("UTF-8").replace("\"ingress\"", "\"gone\"");
    let restored = Catalog::from_saved("policy.json", later.as_bytes());
    assert_eq!((restored.documents().len(), restored.problems().len()), (1, 1));
    let Document::Ordered(stand_in) = &restored.documents()[0] else { panic!("{restored:?}") };
    assert_eq!(stand_in.kind, Kind::Broken);
    assert!(restored.delete(&key).expect("deleted").documents().is_empty());
}
