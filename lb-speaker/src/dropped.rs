//! Why a received frame is not looked at.

/// Why a received frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Shorter than its kind of frame.
    Runt,
    /// Tagged for a VLAN, so not meant for this interface.
    VlanTagged,
    /// Neither ARP nor Neighbor Discovery, by `EtherType` or what follows.
    Foreign,
    /// ARP that is not of Ethernet hardware, or with hardware addresses not of 6 bytes.
    Hardware,
    /// ARP that is not about IPv4, or with addresses not of 4 bytes.
    Protocol,
    /// ARP that is neither request nor reply.
    Operation,
    /// Sent by a multicast, broadcast or zero hardware address.
    SenderMac,
    /// Neighbor Discovery that came through a router: the hop limit is not 255 (RFC 4861 §7.1).
    HopLimit,
    /// Neighbor Discovery with a checksum that is wrong.
    Checksum,
    /// Neighbor Discovery that breaks another rule of RFC 4861 §7.1.
    Malformed,
    /// Our own, come back.
    Own,
    /// Sent to another station, or to us on another VLAN.
    OtherHost,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Runt,
        Self::VlanTagged,
        Self::Foreign,
        Self::Hardware,
        Self::Protocol,
        Self::Operation,
        Self::SenderMac,
        Self::HopLimit,
        Self::Checksum,
        Self::Malformed,
        Self::Own,
        Self::OtherHost,
    ];

    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runt => "runt",
            Self::VlanTagged => "vlan_tagged",
            Self::Foreign => "foreign",
            Self::Hardware => "hardware",
            Self::Protocol => "protocol",
            Self::Operation => "operation",
            Self::SenderMac => "sender_mac",
            Self::HopLimit => "hop_limit",
            Self::Checksum => "checksum",
            Self::Malformed => "malformed",
            Self::Own => "own",
            Self::OtherHost => "other_host",
        }
    }
}
