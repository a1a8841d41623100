//! The routers this machine sends through, by netlink.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

/// The next hops of all routes.
pub(super) async fn gateways(handle: &Handle) -> Result<Vec<IpAddr>, rtnetlink::Error> {
    let queries = [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut gateways = BTreeSet::new();
    for query in queries {
        let routes: Vec<RouteMessage> = handle.route().get(query).execute().try_collect().await?;
        gateways.extend(routes.iter().flat_map(|route| next_hops(&route.attributes)));
    }
    Ok(gateways.into_iter().collect())
}

/// Whether a route leads everywhere: news of others come by the thousand where pods come and go.
pub(super) fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
}

fn next_hops(attributes: &[RouteAttribute]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => found.push(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => found.push(IpAddr::V6(*ip)),
            RouteAttribute::MultiPath(hops) => found.extend(hops.iter().flat_map(|hop| next_hops(&hop.attributes))),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    #[test]
    fn every_next_hop_counts() {
        let (one, two): (Ipv4Addr, Ipv6Addr) = ("192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap());
        let mut hop = RouteNextHop::default();
        hop.attributes = vec![RouteAttribute::Gateway(two.into())];
        let attributes =
            [RouteAttribute::Gateway(one.into()), RouteAttribute::Oif(3), RouteAttribute::MultiPath(vec![hop])];
        assert_eq!(next_hops(&attributes), [IpAddr::V4(one), IpAddr::V6(two)]);
    }
}
