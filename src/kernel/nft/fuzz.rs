//! What must hold of nftables' answers, whatever they are.

use std::collections::HashMap;

use super::elements::{collect, expand};
use super::foreign::{in_key, of_rule};
use super::listing::{Listing, Object, chain, element, rule};
use super::message::Answer;
use super::print::{ends, essence, kind_of};
use super::sets::{SetElement, known};
use super::translation;
use crate::kernel::netfilter::attribute;

/// Reads a datagram as the answer about elements, of each set in turn, and as a listing.
pub fn read(datagram: &[u8]) {
    let mut answer = Answer::default();
    let _ = answer.read(datagram);
    assert!(answer.elements.len() <= datagram.len() / 8, "each has its attributes");
    for set in known::ALL {
        let of =
            |(key, value): &(Vec<u8>, Vec<u8>)| SetElement::found(set, key.clone(), value.clone());
        collected(&answer.elements.iter().map(of).collect::<Vec<_>>());
    }
    let mut listing = Listing::default();
    listing.read(datagram);
    listing.objects.iter().for_each(object);
}

/// What is collected from elements is collected again from the elements that it is made of.
fn collected(found: &[SetElement]) {
    let things = collect(found);
    let again = collect(&things.iter().flat_map(expand).collect::<Vec<_>>());
    for thing in &things {
        assert!(again.contains(thing), "{thing:?} of {found:?}");
    }
    for one in found {
        assert!(!one.to_string().is_empty());
    }
}

fn object(object: &Object) {
    let (_, expressions) = (kind_of(object), object.get(rule::EXPRESSIONS));
    assert_eq!(essence(expressions), essence(expressions));
    for name in of_rule(object) {
        assert!(!name.contains('\0'), "{name:?}");
    }
    // What is copied to another place is no more than was listed, and what cannot be read is not copied.
    let copied = translation::expressions(expressions, &HashMap::new());
    assert!(copied.len() <= expressions.len().next_multiple_of(4), "{}", copied.len());
    assert!(ends(object).len() <= object.get(element::LIST).len());
    if let Some(key) = attribute(object.get(element::LIST), element::KEY) {
        assert!(in_key(key).len() <= key.len());
    }
    let name = object.name(chain::NAME);
    assert!(!name.contains('\0'), "{name:?}");
}
