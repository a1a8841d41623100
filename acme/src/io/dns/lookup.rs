//! Looks around in DNS: aliases, the name servers of a zone, and what each of them says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::Placed;
use crate::dns::ancestors;

/// Aliases followed.
const HOPS: usize = 8;
/// For one question to one server.
const ANSWER: Duration = Duration::from_secs(3);

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    servers: Vec<SocketAddr>,
}

impl Lookup {
    /// Asks `servers`; without any, those of `/etc/resolv.conf`.
    pub(super) const fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    /// What `name` is an alias for in the end; itself, if it is none.
    pub(super) async fn target(&self, name: &str) -> String {
        let mut name = name.to_owned();
        let Some(resolver) = self.recursive() else { return name };
        for _ in 0..HOPS {
            let found = query(&resolver, &name, RecordType::CNAME).await;
            let target = found.into_iter().find_map(|data| match data {
                RData::CNAME(target) => Some(text(&target.0)),
                _ => None,
            });
            match target {
                Some(target) => name = target,
                None => break,
            }
        }
        name
    }

    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(ip) = host.parse() {
            return vec![ip];
        }
        let (Some(resolver), Some(name)) = (self.recursive(), absolute(host)) else { return Vec::new() };
        resolver.lookup_ip(name).await.map(|found| found.iter().collect()).unwrap_or_default()
    }

    /// The name servers of a record's zone that do not show it; none if they cannot be found out.
    pub(super) async fn lacking(&self, record: &Placed) -> Vec<IpAddr> {
        let mut lacking = Vec::new();
        for server in self.authorities(&record.owner).await {
            let Some(resolver) = direct(server) else { continue };
            let found = query(&resolver, &record.owner, RecordType::TXT).await;
            let shown = found.iter().any(|data| match data {
                RData::TXT(text) => text.txt_data.concat() == record.value.as_bytes(),
                _ => false,
            });
            if !shown {
                lacking.push(server);
            }
        }
        lacking
    }

    /// The name servers of the zone that a name is in.
    async fn authorities(&self, name: &str) -> Vec<IpAddr> {
        let Some(resolver) = self.recursive() else { return Vec::new() };
        for zone in ancestors(name) {
            let found = query(&resolver, zone, RecordType::NS).await;
            let hosts: Vec<String> = found
                .into_iter()
                .filter_map(|data| match data {
                    RData::NS(host) => Some(text(&host.0)),
                    _ => None,
                })
                .collect();
            if hosts.is_empty() {
                continue;
            }
            let mut addresses = Vec::new();
            for host in hosts {
                addresses.extend(self.addresses(&host).await);
            }
            // What this machine has no route to cannot be asked.
            addresses.retain(|ip: &IpAddr| ip.is_ipv4() || has_ipv6());
            return addresses;
        }
        Vec::new()
    }

    fn recursive(&self) -> Option<TokioResolver> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder(provider).ok()?
        } else {
            let config = ResolverConfig::from_name_servers(self.servers.iter().map(|at| server(*at)).collect());
            TokioResolver::builder_with_config(config, provider)
        };
        configure(builder.options_mut());
        builder.build().ok()
    }
}

/// Asks one name server for what it knows itself.
fn direct(address: IpAddr) -> Option<TokioResolver> {
    let config = ResolverConfig::from_name_servers(vec![server((address, 53).into())]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    configure(builder.options_mut());
    builder.options_mut().recursion_desired = false;
    builder.build().ok()
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn configure(options: &mut ResolverOpts) {
    options.timeout = ANSWER;
    // What was not there a moment ago may be there by now.
    options.cache_size = 0;
}

async fn query(resolver: &TokioResolver, name: &str, kind: RecordType) -> Vec<RData> {
    let Some(name) = absolute(name) else { return Vec::new() };
    let found = resolver.lookup(name, kind).await;
    found.map(|found| found.answers().iter().map(|record| record.data.clone()).collect()).unwrap_or_default()
}

/// A name that is not completed by search domains.
pub(super) fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A name in lower case, without its final dot.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// Whether this machine has a route to IPv6 addresses out there; connecting a UDP socket sends nothing.
fn has_ipv6() -> bool {
    use std::net::{Ipv6Addr, UdpSocket};
    let somewhere = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 53));
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect(somewhere)).is_ok()
}
