//! A LAN of several nodes and a client on one switch, made of network namespaces.
//!
//! ```text
//!  n1 eth0 10.78.0.11   n2 eth0 10.78.0.12  ..    client eth0 10.78.0.2
//!        └── p1 ──────────── p2 ── br0 (switch) ────── p0 ──┘
//! ```
//!
//! A port can be cut in the ways cables and switches fail; see [`Cut`]. Nothing leaves the namespaces, which are gone
//! with the value.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

use crate::netns::Namespace;

/// How a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The cable is pulled: the node loses carrier.
    Cable,
    /// Frames are lost both ways, and nobody is told.
    Silent,
    /// Frames to the node are lost.
    Deaf,
    /// Frames from the node are lost.
    Mute,
    /// This many in a hundred frames are lost, each way.
    Loss(u8),
    /// Everything but UDP of this port passes.
    Udp(u16),
    /// ARP from the node about this address is lost, as where a switch inspects ARP.
    Arp(Ipv4Addr),
    /// It is on the other half of the switch from now on.
    OtherHalf,
}

/// The switch, and who is plugged in.
#[derive(Debug)]
pub struct Switch {
    hub: Namespace,
    /// The nodes: the first is at 10.78.0.11.
    pub nodes: Vec<Namespace>,
    /// Who asks for VIPs, at 10.78.0.2.
    pub client: Namespace,
    cuts: BTreeMap<usize, Cut>,
}

impl Switch {
    /// Plugs `count` nodes and a client into a switch.
    ///
    /// # Panics
    /// If the kernel does not let us; ask [`crate::netns::unavailable`] first.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self::plug(count).unwrap_or_else(|why| panic!("the LAN cannot be made: {why}"))
    }

    fn plug(count: usize) -> Result<Self, String> {
        let hub = Namespace::new("switch")?;
        hub.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        hub.ip("link set br0 up")?;
        let client = Namespace::new("client")?;
        let nodes = (1..=count).map(|at| Namespace::new(&format!("n{at}"))).collect::<Result<Vec<_>, _>>()?;
        let switch = Self { hub, nodes, client, cuts: BTreeMap::new() };
        for (at, namespace) in [&switch.client].into_iter().chain(&switch.nodes).enumerate() {
            let address = if at == 0 { Ipv4Addr::new(10, 78, 0, 2) } else { node_address(at - 1) };
            switch.hub.ip(&format!("link add p{at} type veth peer name eth0 netns {}", namespace.name()))?;
            switch.hub.ip(&format!("link set p{at} master br0 up"))?;
            namespace.ip(&format!("addr add {address}/24 dev eth0"))?;
            namespace.ip("link set eth0 up")?;
            // So that an echo can listen at a VIP that is not there yet.
            namespace
                .enter(|| std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").map_err(|why| why.to_string()))?;
        }
        Ok(switch)
    }

    /// Cuts the node of this number.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn cut(&mut self, node: usize, cut: Cut) {
        self.cuts.insert(node, cut);
        self.apply();
        if cut == Cut::Cable {
            self.hub.ip(&format!("link set p{} down", node + 1)).expect("a cable can be pulled");
        }
    }

    /// Plugs every node into a second switch, `eth1`, which no cut concerns.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn add_second(&self) {
        let hub = |arguments: &str| drop(self.hub.ip(arguments).expect("a second switch can be made"));
        hub("link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        hub("link set br1 up");
        for (at, namespace) in self.nodes.iter().enumerate() {
            hub(&format!("link add q{at} type veth peer name eth1 netns {}", namespace.name()));
            hub(&format!("link set q{at} master br1 up"));
            let inside = |arguments: &str| drop(namespace.ip(arguments).expect("a second cable can be plugged in"));
            inside(&format!("addr add {}/24 dev eth1", second_address(at)));
            inside("link set eth1 up");
        }
    }

    /// Makes the interface of a node anew, as a driver that is loaded again does: the same name, another number and
    /// hardware address. It is gone for as long as `between` takes.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub async fn replace(&self, node: usize, between: impl Future<Output = ()>) {
        let (name, port) = (self.nodes[node].name(), node + 1);
        self.hub.ip(&format!("link del p{port}")).expect("an interface can be removed");
        between.await;
        self.hub.ip(&format!("link add p{port} type veth peer name eth0 netns {name}")).expect("it can be made");
        self.hub.ip(&format!("link set p{port} master br0 up")).expect("it can be plugged in");
        self.nodes[node].ip(&format!("addr add {}/24 dev eth0", node_address(node))).expect("it has an address");
        self.nodes[node].ip("link set eth0 up").expect("it can be put up");
    }

    /// Undoes what was cut.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn heal(&mut self, node: usize) {
        if self.cuts.remove(&node) == Some(Cut::Cable) {
            self.hub.ip(&format!("link set p{} up", node + 1)).expect("a cable can be plugged in");
        }
        self.apply();
    }

    /// Makes the packet filter of the switch match the cuts, in one transaction.
    fn apply(&self) {
        let mut rules = String::new();
        let halves: Vec<usize> =
            self.cuts.iter().filter(|(_, cut)| **cut == Cut::OtherHalf).map(|(at, _)| *at).collect();
        for (node, cut) in &self.cuts {
            let (from, to) = (format!("iifname \"p{}\"", node + 1), format!("oifname \"p{}\"", node + 1));
            let lines: Vec<String> = match cut {
                Cut::Cable | Cut::OtherHalf => Vec::new(),
                Cut::Silent => vec![format!("{from} drop"), format!("{to} drop")],
                Cut::Deaf => vec![format!("{to} drop")],
                Cut::Mute => vec![format!("{from} drop")],
                Cut::Loss(percent) => {
                    let lost = format!("numgen random mod 100 < {percent} drop");
                    vec![format!("{from} {lost}"), format!("{to} {lost}")]
                }
                Cut::Arp(ip) => vec![format!("{from} arp saddr ip {ip} drop")],
                Cut::Udp(port) => {
                    let udp = format!("ether type ip udp dport {port} drop");
                    vec![format!("{from} {udp}"), format!("{to} {udp}")]
                }
            };
            for line in lines {
                let _ = writeln!(rules, "    {line}");
            }
        }
        if !halves.is_empty() {
            let ports = halves.iter().map(|at| format!("\"p{}\"", at + 1)).collect::<Vec<_>>().join(", ");
            let _ = writeln!(rules, "    iifname {{ {ports} }} oifname != {{ {ports} }} drop");
            let _ = writeln!(rules, "    iifname != {{ {ports} }} oifname {{ {ports} }} drop");
        }
        let table = format!(
            "table bridge cut\ndelete table bridge cut\ntable bridge cut {{\n  chain forward {{\n    type filter hook \
             forward priority 0; policy accept;\n{rules}  }}\n}}\n"
        );
        let mut nft = self.hub.command("nft");
        let nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut nft = nft.spawn().expect("nft can be run; it is in the package nftables");
        nft.stdin.take().expect("piped").write_all(table.as_bytes()).expect("nft reads");
        let output = nft.wait_with_output().expect("nft ends");
        assert!(output.status.success(), "{}\n{table}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The address of the node of this number on the second switch.
#[must_use]
pub fn second_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 79, 0, 11 + u8::try_from(node).expect("a few nodes"))
}

/// The address of the node of this number.
#[must_use]
pub fn node_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, 11 + u8::try_from(node).expect("a few nodes"))
}
