//! A resolver's configuration file: what was read is read again when it is written down.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quantum_config::cni::Dns;

fuzz_target!(|text: &str| {
    let dns = Dns::from_resolv_conf(text);
    let words = dns.nameservers.iter().chain([&dns.domain]).chain(&dns.search).chain(&dns.options);
    for word in words {
        assert!(!word.contains(|c: char| c.is_whitespace() || c == '#' || c == ';'), "{word:?}");
    }
    let mut written = String::new();
    for server in &dns.nameservers {
        written.push_str(&format!("nameserver {server}\n"));
    }
    written.push_str(&format!("domain {}\n", dns.domain));
    written.push_str(&format!("search {}\n", dns.search.join(" ")));
    written.push_str(&format!("options {}\n", dns.options.join(" ")));
    assert_eq!(Dns::from_resolv_conf(&written), dns);
});
