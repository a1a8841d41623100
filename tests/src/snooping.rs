//! Machines on a switch that snoops, made of network namespaces.
//!
//! ```text
//!  namespace <name>-a      namespace <name>-switch       namespace <name>-b
//!  eth0 10.78.0.1/24  <──> port0 ─┐          ┌─ port1 <──>  eth0 10.78.0.2/24
//!  2001:db8:78::1/64              └── br0 ───┘              2001:db8:78::2/64
//! ```
//!
//! The bridge queries for multicast groups and forwards a group's packets only to ports that reported it, as managed
//! switches do (RFC 4541 §3). Nothing leaves the namespaces; they are deleted on drop.

use crate::netns::{Namespace, Wire};

/// A switch and the stations plugged into it.
#[derive(Debug)]
pub struct SnoopingSwitch {
    /// The stations, each with an `eth0`; the `n`th is `10.78.0.(n + 1)` and `2001:db8:78::(n + 1)`.
    pub stations: Vec<Namespace>,
    namespace: Namespace,
}

impl SnoopingSwitch {
    /// Makes a switch with so many stations.
    ///
    /// # Panics
    /// If the kernel does not let us; ask [`crate::netns::unavailable`] first.
    #[must_use]
    pub fn new(stations: usize) -> Self {
        Self::make(stations).unwrap_or_else(|why| panic!("the switch cannot be made: {why}"))
    }

    fn make(stations: usize) -> Result<Self, String> {
        let namespace = Namespace::new("switch")?;
        namespace.ip("link add br0 type bridge mcast_snooping 1 mcast_query_response_interval 10")?;
        namespace.ip("link set br0 up type bridge mcast_querier 1")?;
        let mut switch = Self { stations: Vec::new(), namespace };
        for number in 0..stations {
            switch.stations.push(Namespace::new(&format!("station{number}"))?);
            switch.plug(number)?;
        }
        Ok(switch)
    }

    /// Lays the cable of a station and gives it its addresses.
    pub fn plug(&self, number: usize) -> Result<(), String> {
        let station = &self.stations[number];
        self.namespace
            .ip(&format!("link add port{number} type veth peer name eth0 netns {}", station.name()))
            .and_then(|_| self.namespace.ip(&format!("link set port{number} master br0 up")))?;
        station.ip(&format!("addr add 10.78.0.{}/24 dev eth0", number + 1))?;
        station.ip(&format!("addr add 2001:db8:78::{}/64 dev eth0 nodad", number + 1))?;
        station.ip("link set eth0 up").map(drop)
    }

    /// Pulls the cable of a station, whose `eth0` is gone with it.
    pub fn unplug(&self, number: usize) -> Result<(), String> {
        self.namespace.ip(&format!("link del port{number}")).map(drop)
    }

    /// Whether the port of a station gets the packets of a group.
    #[must_use]
    pub fn has_group(&self, number: usize, group: &str) -> bool {
        let output = self.namespace.command("bridge").args(["mdb", "show", "dev", "br0"]).output();
        let wanted = format!("port port{number} grp {group} ");
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&wanted))
    }

    /// A raw socket on a station's `eth0` that hears every frame.
    #[must_use]
    pub fn listen(&self, number: usize) -> Wire {
        self.stations[number].enter(Wire::open)
    }
}
