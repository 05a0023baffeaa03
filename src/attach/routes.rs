//! CHECK of one route: whether a route of the kernel's is the one that was configured, with all that the
//! configuration says of it. What it does not say may be anything, as plugins after us may move and
//! tune routes; so a route that names no table may be in any.

use quantum_config::cni::Route;

use super::{Difference, RouteSeen};

/// How a configured route is missing or changed; none if it is there.
pub(super) fn difference(route: &Route, seen: &[RouteSeen]) -> Option<Difference> {
    let is_way = |seen: &&RouteSeen| {
        let by = route.gw.is_none() || route.gw == seen.next_hop;
        seen.destination == route.dst && by && route.table.is_none_or(|table| table == seen.table)
    };
    let mut changed = None;
    for way in seen.iter().filter(is_way) {
        match change(route, way) {
            None => return None,
            Some(change) => changed = changed.or(Some(change)),
        }
    }
    Some(match changed {
        Some(change) => Difference::RouteChanged(route.dst, change),
        None => Difference::RouteGone(route.dst),
    })
}

/// In words, the first of its keys that is not as configured.
fn change(route: &Route, seen: &RouteSeen) -> Option<String> {
    // IPv6 has no scopes for routes.
    let scope = route.scope.filter(|_| route.dst.is_ipv4()).map(u32::from);
    let keys = [
        ("priority", route.priority, seen.priority),
        ("mtu", route.mtu, seen.mtu),
        ("advmss", route.advmss, seen.advmss),
        ("scope", scope, Some(u32::from(seen.scope))),
    ];
    keys.into_iter().find_map(|(key, wanted, is)| {
        let wanted = wanted.filter(|wanted| is != Some(*wanted))?;
        let is = is.map_or("none".to_owned(), |is| is.to_string());
        Some(format!("{key} {is} instead of {wanted}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str) -> Route {
        let route = Route::new(dst.parse().expect("dst"), None);
        Route {
            priority: Some(42),
            mtu: Some(1400),
            advmss: Some(1300),
            table: Some(1000),
            scope: Some(0),
            ..route
        }
    }

    fn seen(dst: &str) -> RouteSeen {
        RouteSeen {
            destination: dst.parse().expect("dst"),
            next_hop: Some("10.0.0.1".parse().expect("hop")),
            table: 1000,
            priority: Some(42),
            mtu: Some(1400),
            advmss: Some(1300),
            scope: 0,
        }
    }

    #[test]
    fn each_key_that_was_configured_is_compared() {
        let (dst, wanted) = ("10.1.0.0/16", route("10.1.0.0/16"));
        assert_eq!(difference(&wanted, &[seen(dst)]), None);
        for (is, words) in [
            (RouteSeen { priority: None, ..seen(dst) }, "priority none instead of 42"),
            (RouteSeen { mtu: Some(1300), ..seen(dst) }, "mtu 1300 instead of 1400"),
            (RouteSeen { advmss: None, ..seen(dst) }, "advmss none instead of 1300"),
            (RouteSeen { scope: 253, ..seen(dst) }, "scope 253 instead of 0"),
        ] {
            let changed = Difference::RouteChanged(wanted.dst, words.to_owned());
            assert_eq!(difference(&wanted, std::slice::from_ref(&is)), Some(changed));
            assert_eq!(difference(&wanted, &[is.clone(), seen(dst)]), None, "one of two is right");
            let bare = Route { table: wanted.table, ..Route::new(wanted.dst, None) };
            assert_eq!(difference(&bare, &[is]), None, "nothing was said");
        }
    }

    #[test]
    fn a_table_counts_where_one_was_named() {
        let (dst, wanted) = ("10.1.0.0/16", route("10.1.0.0/16"));
        let moved = [RouteSeen { table: 77, ..seen(dst) }];
        assert_eq!(difference(&wanted, &moved), Some(Difference::RouteGone(wanted.dst)));
        assert_eq!(difference(&Route { table: None, ..wanted }, &moved), None);
    }

    #[test]
    fn ipv6_has_no_scopes() {
        let is = RouteSeen { scope: 7, ..seen("fd00::/64") };
        assert_eq!(difference(&route("fd00::/64"), &[is]), None);
    }
}
