//! What every peer serves: hosts, each with its own certificate, Service and endpoint address.

use std::net::{Ipv4Addr, SocketAddr};

use ferrogate_tests::certificate::{self, Certificate};

/// The paths of every host, longest first: more than one, so that a path has to be looked up too.
pub const PREFIXES: [&str; 3] = ["/static", "/api", "/"];
/// How many hosts get requests; the others are there to be looked past.
pub const ASKED: usize = 32;
/// The paths that requests name.
pub const PATHS: [&str; 3] = ["/", "/api/v1/items", "/static/app.js"];

/// One host.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its place in the fleet.
    pub index: usize,
    /// Its name.
    pub host: String,
    /// Where its Service's only endpoint listens.
    pub endpoint: SocketAddr,
    /// Its certificate (ECDSA P-256).
    pub certificate: Certificate,
}

impl Site {
    /// The name of its objects.
    #[must_use]
    pub fn name(&self) -> String {
        format!("site-{:05}", self.index)
    }

    /// How many idle connections to its endpoint are worth keeping: the first host alone is asked by 512 streams at a
    /// time.
    #[must_use]
    pub const fn kept_connections(&self) -> usize {
        if self.index == 0 { 512 } else { 64 }
    }

    /// The same site with its endpoint moved for the n-th time, to an address where it never was.
    #[must_use]
    pub fn moved(&self, times: u8) -> Self {
        Self { endpoint: endpoint(self.index, self.endpoint.port(), times), ..self.clone() }
    }
}

/// The hosts.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// All of them, by index.
    pub sites: Vec<Site>,
}

impl Fleet {
    /// This many hosts, whose endpoints all listen on one port.
    #[must_use]
    pub fn new(size: usize, upstream_port: u16) -> Self {
        let make = |index| {
            let host = format!("h{index:05}.bench.test");
            let certificate = certificate::issue(&[&host]);
            Site { index, host, endpoint: endpoint(index, upstream_port, 0), certificate }
        };
        Self { sites: (0..size).map(make).collect() }
    }

    /// The hosts that get requests, evenly spread.
    #[must_use]
    pub fn asked(&self) -> Vec<&str> {
        let step = (self.sites.len() / ASKED).max(1);
        self.sites.iter().step_by(step).take(ASKED).map(|site| site.host.as_str()).collect()
    }
}

/// An endpoint address of its own, inside 127.0.0.0/8, for each site: 127.96.0.0/16 at first, the next /16 after each
/// move, round after 64.
fn endpoint(index: usize, port: u16, moves: u8) -> SocketAddr {
    let network = u32::from(Ipv4Addr::new(127, 96 + moves % 64, 0, 1));
    let host = u32::try_from(index % 60_000).unwrap_or(0);
    SocketAddr::from((Ipv4Addr::from(network + host), port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_site_has_an_endpoint_of_its_own_and_another_to_move_to() {
        let fleet = Fleet::new(300, 80);
        let both = |site: &Site| [site.endpoint, site.moved(1).endpoint];
        let all: HashSet<_> = fleet.sites.iter().flat_map(both).collect();
        assert_eq!(all.len(), 600);
        assert!(all.iter().all(|endpoint| endpoint.ip().is_loopback()));
        assert_eq!(fleet.sites[7].moved(3).moved(0).endpoint, fleet.sites[7].endpoint);
    }

    #[test]
    fn requests_go_to_hosts_all_over_the_fleet() {
        let fleet = Fleet::new(320, 80);
        let asked = fleet.asked();
        assert_eq!((asked.len(), asked[0], asked[31]), (32, "h00000.bench.test", "h00310.bench.test"));
        assert_eq!(Fleet::new(3, 80).asked().len(), 3);
    }
}
