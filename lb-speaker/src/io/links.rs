//! The interfaces of this machine, by netlink: read whole after every event.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::routes;
use crate::arp::{MacAddr, ZERO};
use crate::link::{Link, Unfit};

/// The kernel's number of `lo`, in every network namespace.
const LO: u32 = 1;

/// Watches the interfaces; dropping it ends the watch.
pub(super) struct Links {
    handle: Handle,
    /// One item for each event that may change what [`Self::read`] finds; `Sync`, so that the speaker's task may move
    /// between threads while [`Self::read`] borrows us.
    events: Pin<Box<dyn Stream<Item = News> + Send + Sync>>,
    /// Interfaces that were down, perhaps only since they were read last.
    bounced: BTreeSet<u32>,
    connection: JoinHandle<()>,
}

impl Links {
    /// Begins to watch; needs no privilege.
    pub(super) fn watch() -> std::io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        let events = messages.filter_map(|(message, _)| std::future::ready(news(&message.payload)));
        Ok(Self { handle, events: Box::pin(events), bounced: BTreeSet::new(), connection })
    }

    /// Waits for something to change; several events that came together count as one.
    pub(super) async fn changed(&mut self) {
        let Some(first) = self.events.next().await else {
            tracing::error!("the kernel's link events ended; interfaces that change are noticed no more");
            return std::future::pending().await;
        };
        self.note(first);
        while let Some(Some(news)) = self.events.next().now_or_never() {
            self.note(news);
        }
    }

    fn note(&mut self, news: News) {
        if let News::Down(index) = news {
            self.bounced.insert(index);
        }
    }

    /// The interfaces that were down since this was asked last: one that is up again by the time it is read was.
    pub(super) fn take_bounced(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.bounced)
    }

    /// All interfaces as they are.
    pub(super) async fn read(&self) -> Result<Vec<Link>, rtnetlink::Error> {
        let mut subnets: HashMap<u32, Vec<IpNet>> = HashMap::new();
        for address in addresses(&self.handle).await? {
            if let Some(subnet) = subnet(&address) {
                subnets.entry(address.header.index).or_default().push(subnet);
            }
        }
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        Ok(links.into_iter().map(|link| read_link(&link, &mut subnets)).collect())
    }

    /// The routers that routes lead to.
    pub(super) async fn gateways(&self) -> Result<Vec<IpAddr>, rtnetlink::Error> {
        routes::gateways(&self.handle).await
    }

    /// The gateway of the default route, if it leads through an interface that may announce; `None` if there is none.
    pub(super) async fn gateway(&self, links: &[Link]) -> Option<IpAddr> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<RouteMessage> = self.handle.route().get(all).execute().try_collect().await.ok()?;
        let fit = |index: u32| links.iter().any(|link| link.index == index && link.unfit.is_none());
        let default = routes.iter().filter(|route| route.header.destination_prefix_length == 0);
        default.filter_map(next_hop).find(|(index, _)| fit(*index)).map(|(_, gateway)| gateway)
    }

    /// The handle for other requests.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// All addresses of this machine.
pub(super) async fn addresses(handle: &Handle) -> Result<Vec<AddressMessage>, rtnetlink::Error> {
    handle.address().get().execute().try_collect().await
}

/// The address itself, as opposed to the peer's of a point-to-point link.
pub(super) fn local(address: &AddressMessage) -> Option<IpAddr> {
    let find = |pick: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(pick);
    find(|it| if let AddressAttribute::Local(ip) = it { Some(*ip) } else { None })
        .or_else(|| find(|it| if let AddressAttribute::Address(ip) = it { Some(*ip) } else { None }))
}

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Something changed.
    Changed,
    /// This interface cannot send.
    Down(u32),
}

/// What an event tells, if it may change the picture. Addresses of `lo` do not: we put VIPs there ourselves, every few
/// seconds. An overrun means that events were lost.
fn news(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<News> {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address),
        ) => (address.header.index != LO).then_some(News::Changed),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) => {
            Some(if is_ready(link.header.flags) { News::Changed } else { News::Down(link.header.index) })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)) => {
            routes::is_default(route).then_some(News::Changed)
        }
        NetlinkPayload::Overrun(_) => Some(News::Changed),
        _ => None,
    }
}

fn is_ready(flags: LinkFlags) -> bool {
    flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

/// The interface and the address that a route leads through.
fn next_hop(route: &RouteMessage) -> Option<(u32, IpAddr)> {
    let index =
        route.attributes.iter().find_map(|it| if let RouteAttribute::Oif(index) = it { Some(*index) } else { None });
    let gateway = route.attributes.iter().find_map(|it| match it {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        _ => None,
    });
    Some((index?, gateway?))
}

/// The subnet that an address is in; a link-local one is on every interface and tells nothing.
fn subnet(address: &AddressMessage) -> Option<IpNet> {
    let ip = local(address)?;
    let everywhere = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if everywhere { None } else { IpNet::new(ip, address.header.prefix_len).ok() }
}

fn read_link(message: &LinkMessage, subnets: &mut HashMap<u32, Vec<IpNet>>) -> Link {
    let (mut name, mut mac, mut kind, mut member) = (String::new(), ZERO, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(it) => name.clone_from(it),
            LinkAttribute::Address(it) => mac = <[u8; 6]>::try_from(it.as_slice()).map_or(ZERO, MacAddr::from),
            LinkAttribute::Controller(it) => member = *it != 0,
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let header = &message.header;
    let ready = is_ready(header.flags);
    let unfit = unfit(header.flags, header.link_layer_type == LinkLayerType::Ether && mac != ZERO, member);
    let subnets = subnets.remove(&header.index).unwrap_or_default();
    Link { index: header.index, name, mac, ready, unfit, kind, subnets }
}

fn unfit(flags: LinkFlags, ethernet: bool, member: bool) -> Option<Unfit> {
    if flags.contains(LinkFlags::Loopback) {
        Some(Unfit::Loopback)
    } else if !ethernet || !flags.contains(LinkFlags::Broadcast) {
        Some(Unfit::NotEthernet)
    } else if flags.contains(LinkFlags::Noarp) {
        Some(Unfit::NoArp)
    } else {
        member.then_some(Unfit::Member)
    }
}
