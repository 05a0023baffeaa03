//! How long lists of a configuration may be. All requests are read on one thread, and a list whose entries are
//! compared with each other takes it the longer, the longer the list is, and more than that.

use super::CniError;
use super::netconf::invalid;

/// The most entries of a list whose entries are compared with each other, on the thread that all
/// requests share.
const MOST: usize = 256;
/// The most routes, which are compared with those that a container has, on another thread.
const MOST_ROUTES: usize = 1024;

/// Sees that a list whose entries are compared with each other is not too long.
pub(super) fn bounded(list: &str, length: usize) -> Result<(), CniError> {
    within(list, length, MOST)
}

/// The same for routes.
pub(super) fn bounded_routes(length: usize) -> Result<(), CniError> {
    within("the list of ipam routes", length, MOST_ROUTES)
}

fn within(list: &str, length: usize, most: usize) -> Result<(), CniError> {
    match length <= most {
        true => Ok(()),
        false => {
            Err(invalid(format!("{list} has {length} entries, and at most {most} are allowed")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Call, Code, Environment, IpamResult};

    /// All that is read of a configuration.
    fn read(text: &str, args: &str) -> Result<(), super::CniError> {
        let env = Environment { args: args.to_owned(), ..Environment::default() };
        let call = Call::parse(text.as_bytes())?;
        let definition = call.definition()?;
        call.meant(&definition, &env)?;
        call.ports()?;
        call.identity(&definition, &env).map(|_| ())
    }

    fn list(count: usize, entry: impl Fn(usize) -> String) -> String {
        format!("[{}]", (0..count).map(entry).collect::<Vec<_>>().join(","))
    }

    fn quad(n: usize) -> String {
        format!("{}.{}", n / 256, n % 256)
    }

    #[test]
    fn lists_whose_entries_are_compared_have_an_end() {
        let ipam = |ipam: &str| format!(r#"{{"name":"n","ipam":{ipam}}}"#);
        let local = |rest: &str| {
            let own = r#""type":"host-local","ranges":[[{"subnet":"172.16.0.0/16"}]]"#;
            format!(r#"{{"name":"n","ipam":{{{own}}}{rest}}}"#)
        };
        let range = |n: usize| format!(r#"{{"subnet":"10.{}.0/24"}}"#, quad(n));
        let given = |n: usize| format!(r#""10.{}.7/24""#, quad(n));
        type Text<'a> = &'a dyn Fn(usize) -> (String, String);
        let plain = |text: String| (text, String::new());
        let cases: [(&str, usize, Text<'_>); 9] = [
            ("ipam range sets", 256, &|n| {
                let sets = list(n, |n| format!("[{}]", range(n)));
                plain(ipam(&format!(r#"{{"type":"host-local","ranges":{sets}}}"#)))
            }),
            ("ipam ranges", 256, &|n| {
                plain(ipam(&format!(r#"{{"type":"host-local","ranges":[{}]}}"#, list(n, range))))
            }),
            ("ipam ranges", 255, &|n| {
                plain(local(&format!(r#","runtimeConfig":{{"ipRanges":[{}]}}"#, list(n, range))))
            }),
            ("requested addresses", 256, &|n| {
                plain(local(&format!(r#","runtimeConfig":{{"ips":{}}}"#, list(n, given))))
            }),
            ("static addresses", 256, &|n| {
                let all = list(n, |n| format!(r#"{{"address":{}}}"#, given(n)));
                plain(ipam(&format!(r#"{{"type":"static","addresses":{all}}}"#)))
            }),
            ("static addresses", 256, &|n| {
                let all: Vec<String> = (0..n).map(|n| given(n).replace('"', "")).collect();
                (ipam(r#"{"type":"static"}"#), format!("IP={}", all.join(",")))
            }),
            ("ipam routes", 1024, &|n| {
                let all = list(n, |n| format!(r#"{{"dst":"10.{}.0/24"}}"#, quad(n)));
                plain(ipam(&format!(
                    r#"{{"type":"host-local","subnet":"172.16.0.0/16","routes":{all}}}"#
                )))
            }),
            ("vlanTrunk", 256, &|n| {
                let all = list(n, |n| format!(r#"{{"id":{}}}"#, n % 4000 + 1));
                plain(format!(r#"{{"name":"n","vlanTrunk":{all}}}"#))
            }),
            ("tcp/80 is published at", 256, &|n| {
                let all = list(n, |n| {
                    let ip = format!("10.{}.1", quad(n));
                    format!(r#"{{"hostPort":80,"containerPort":1,"hostIP":"{ip}"}}"#)
                });
                plain(local(&format!(r#","runtimeConfig":{{"portMappings":{all}}}"#)))
            }),
        ];
        for (called, most, text) in cases {
            let (conf, args) = text(most);
            if let Err(error) = read(&conf, &args) {
                panic!("{most} {called}: {error}");
            }
            let (conf, args) = text(most + 1);
            let error = read(&conf, &args).expect_err(called);
            assert_eq!(error.code, Code::InvalidNetworkConfig, "{called}");
            assert!(error.msg.contains(called) && error.msg.contains("at most"), "{error}");
        }
        let many = list(257, |n| format!(r#"{{"address":{}}}"#, given(n)));
        let printed = format!(r#"{{"ips":{many}}}"#);
        assert!(IpamResult::parse(printed.as_bytes()).is_err_and(|e| e.contains("at most 256")));
    }

    #[test]
    fn a_list_that_is_only_gone_through_has_none() {
        let all =
            list(5000, |n| format!(r#"{{"address":"172.16.{}","pod":"a/p{n}"}}"#, quad(n + 2)));
        let ports = list(5000, |n| format!(r#"{{"hostPort":{},"containerPort":1}}"#, n + 1));
        let text = format!(
            r#"{{"name":"n","ipam":{{"type":"host-local","subnet":"172.16.0.0/16","reservations":{all}}},
                 "runtimeConfig":{{"portMappings":{ports}}}}}"#
        );
        read(&text, "K8S_POD_NAMESPACE=a;K8S_POD_NAME=p1").expect("taken");
    }
}
