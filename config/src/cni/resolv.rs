//! resolv.conf(5), as far as a result of CNI can say it.

use std::net::IpAddr;

use super::Dns;

impl Dns {
    /// Takes out the name servers that no container can ask, and gives them: a link-local address with the zone of
    /// an interface of the host's, which no container has, and what is no address.
    pub fn leave_out_unreachable(&mut self) -> Vec<String> {
        let servers = std::mem::take(&mut self.nameservers);
        let (left, out) = servers.into_iter().partition(|one| one.parse::<IpAddr>().is_ok());
        self.nameservers = left;
        out
    }

    /// Reads the text of a resolver's configuration file. What CNI has no word for (`sortlist`) is let
    /// pass, and so is everything behind `#` and `;`.
    pub fn from_resolv_conf(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => dns.nameservers.extend(words.next()),
                Some("domain") => dns.domain = words.next().unwrap_or_default(),
                // The last one counts.
                Some("search") => dns.search = words.collect(),
                Some("options") => dns.options.extend(words),
                _ => {}
            }
        }
        dns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_container_can_ask_is_taken_out() {
        let said = ["fe80::1%enp5s0", "192.0.2.3", "fe80::2", "resolver", "", "::1", "10.0.0"];
        let nameservers = said.map(str::to_owned).to_vec();
        let mut dns = Dns { nameservers, domain: "d".to_owned(), ..Dns::default() };
        assert_eq!(dns.leave_out_unreachable(), ["fe80::1%enp5s0", "resolver", "", "10.0.0"]);
        assert_eq!(
            (dns.nameservers.join(" "), dns.domain.as_str()),
            ("192.0.2.3 fe80::2 ::1".into(), "d")
        );
    }

    #[test]
    fn the_four_keywords_are_read_and_the_rest_is_let_pass() {
        let text = "# of the host\nnameserver 192.0.2.3\nnameserver\t2001:db8::3 ; second\n\
                    domain old.example\nsearch a b\nsearch example.com sub.example.com\n\
                    options ndots:5 edns0\nsortlist 10.0.0.0\n\nnameserver";
        let dns = Dns::from_resolv_conf(text);
        assert_eq!(dns.nameservers, ["192.0.2.3", "2001:db8::3"]);
        assert_eq!(dns.domain, "old.example");
        assert_eq!(dns.search, ["example.com", "sub.example.com"]);
        assert_eq!(dns.options, ["ndots:5", "edns0"]);
        assert!(Dns::from_resolv_conf("; nothing").is_empty());
    }
}
