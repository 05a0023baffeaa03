//! Labels, names of objects and names of ports, as Kubernetes has them: what documents of policy and
//! network configurations both speak of.

use std::collections::BTreeMap;

/// The labels of a namespace or an endpoint.
pub type Labels = BTreeMap<String, String>;

/// What an operator says of an endpoint's labels: it has those with a value, and has not those without,
/// whoever else gave them.
pub type OperatorLabels = BTreeMap<String, Option<String>>;

/// A label's key: a name of up to 63 characters, behind a DNS name and a slash if it likes.
pub fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_value(name)
}

/// A label's value: up to 63 letters, digits, `-`, `_` and `.`, the latter within only.
pub fn is_label_value(text: &str) -> bool {
    let is_inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let is_outer = |c: Option<&u8>| c.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.iter().copied().all(is_inner)
        && is_outer(bytes.first())
        && is_outer(bytes.last())
}

/// A DNS name of small letters, as names of objects and prefixes of keys are.
pub fn is_dns_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !part.is_empty()
            && part.bytes().all(is_inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// The name of a port (RFC 6335): up to 15 small letters, digits and single hyphens within, at least
/// one a letter.
pub fn is_port_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= 15
        && text.chars().all(is_inner)
        && text.chars().any(|c| c.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_name_and_perhaps_a_domain() {
        let long = "a".repeat(63);
        for good in ["app", "A_b.c", "app.kubernetes.io/name", "x/y", &long] {
            assert!(is_label_key(good), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "/a", "a/", "a/b/c", "-a", "a b", "Upper/a", "a\n", "é", &longer] {
            assert!(!is_label_key(bad), "{bad}");
        }
    }

    #[test]
    fn a_value_may_be_empty() {
        assert!(is_label_value("") && is_label_value("1.2_3-x"));
        for bad in ["a/b", "a=b", "a,b", ".a", "a-", "a b"] {
            assert!(!is_label_value(bad), "{bad}");
        }
    }
}
