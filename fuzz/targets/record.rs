//! What the store and its files hold, as a damaged disk or another release may have left it: what can be
//! read is written down as it was read, and can be worked with.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use quantum_cni::attach::{ForwardingNote, Record, elements, endpoint, naming};
use quantum_cni::docker::Book;
use quantum_cni::policy::Catalog;
use quantum_config::cni::Definition;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    if let Some(record) = survives::<Record>(bytes) {
        let _ = (elements(&record), endpoint(&record, &Default::default()));
        assert!(record.links().iter().any(|(name, _)| *name == record.host), "its link is removed");
        assert_eq!(
            record.reached().len(),
            record.addresses.len(),
            "each of its addresses is forgotten"
        );
        let alias = naming::alias(&record.key, record.addresses.iter().map(|a| a.address));
        let read = naming::read_alias(&alias).expect("an alias of ours");
        assert!(
            read.key
                .is_none_or(|key| key == record.key || naming::stand_in(&record.key) == Some(key))
        );
    }
    survives::<Definition>(bytes);
    survives::<ForwardingNote>(bytes);
    if let Ok(book) = Book::read(bytes) {
        let saved = book.to_saved().expect("a book can be saved");
        let again = Book::read(&saved).expect("and read").to_saved().expect("and saved");
        assert_eq!(again, saved);
    }
    let catalog = Catalog::from_saved("policy.json", bytes);
    if let Some(saved) = catalog.to_saved().expect("a catalog can be saved") {
        let back = Catalog::from_saved("policy.json", &saved);
        assert_eq!(back.documents(), catalog.documents());
        assert_eq!(back.problems(), catalog.problems());
    }
});

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&read).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&text).expect("and read"), read);
    Some(read)
}
