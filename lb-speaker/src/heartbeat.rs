//! What speakers say to each other: one authenticated datagram, sent again and again.
//!
//! | bytes | field      | value                                                                |
//! |-------|------------|----------------------------------------------------------------------|
//! | 0-3   | magic      | `FGHB`                                                               |
//! | 4     | version    | 1                                                                    |
//! | 5-36  | tag        | HMAC-SHA256 over everything after it and the six bytes before it     |
//! | 37-   | [`Beat`]   | integers big-endian, texts and lists behind their length             |
//!
//! The key is HKDF-SHA256 of the shared secret with the cluster's name as context, so that one secret in two clusters
//! does not make them one. A [`Keyring`] signs with its first key and accepts all, which is how a key is changed
//! without a pause. HMAC-SHA256, since it is what the TLS library in this binary has already; at 40 datagrams a second
//! its cost is not to be seen. The content is no secret, so it is not encrypted.
//!
//! A datagram is of use once: [`Beat::boot`] and [`Beat::seq`] must grow, which [`crate::members`] sees to.
//!
//! Pure. Source: RFC 2104 (HMAC), RFC 5869 (HKDF), RFC 5880 §6.8 (what a detector of failures has to say).

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::{hkdf, hmac};

/// The UDP port of heartbeats, both ends.
pub const PORT: u16 = 7947;
/// Most VIPs that one member can own, so that a datagram holds them.
pub const MAX_OWNED: usize = 2000;
/// Most peers that one datagram says it hears.
pub const MAX_HEARD: usize = 64;
/// Most findings that one datagram tells.
pub const MAX_FINDINGS: usize = 16;
/// The longest datagram.
pub const MAX_LEN: usize = 65_507;
/// Most wishes that one datagram tells.
pub const MAX_WISHES: usize = 8;
/// VIPs on offer that are told.
const MAX_OFFERED: usize = 64;

const MAGIC: [u8; 4] = *b"FGHB";
const VERSION: u8 = 1;
const TAG: std::ops::Range<usize> = 5..37;
const MAX_NAME: usize = 253;

/// What one member says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The name of its node, at most 253 bytes.
    pub node: Arc<str>,
    /// Grows with every start of the speaker on that node.
    pub boot: u64,
    /// Grows with every datagram of this boot.
    pub seq: u64,
    /// The time until the receiver gets the next one, in ms; 0 when this one changes nothing about that.
    pub interval: u16,
    /// How many intervals of silence mean that something is wrong.
    pub misses: u8,
    /// What state it is in.
    pub flags: Flags,
    /// The generation of the snapshot it works by.
    pub generation: u64,
    /// Hardware addresses it answers ARP from.
    pub macs: Vec<[u8; 6]>,
    /// Whom it hears, at most [`MAX_HEARD`].
    pub heard: Vec<Heard>,
    /// The VIPs it answers for, at most [`MAX_OWNED`]; `None` when that is long and did not change of late.
    pub owned: Option<Vec<Claim>>,
    /// VIPs that it could not announce now, for want of an interface.
    pub unable: Vec<IpAddr>,
    /// VIPs that others claim and that no Service has any more, by a fresh view of the API.
    pub disowned: Vec<IpAddr>,
    /// Members that it found silent, by [`id`].
    pub silent: Vec<u64>,
    /// What it says of VIPs that move.
    pub moves: Moves,
    /// VIPs of others that it asked the LAN for and did not find where they should be, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
}

/// The state of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what they are, on the wire too")]
pub struct Flags {
    /// It is about to end: others shall take its VIPs, and give it none.
    pub leaving: bool,
    /// It has just started and wants to hear from everybody.
    pub joining: bool,
    /// It has not been stable for long enough to take VIPs from others.
    pub warming: bool,
    /// Its view of the API is older than 30 s.
    pub stale: bool,
    /// Its view of the API is older than 10 min.
    pub outdated: bool,
    /// It can send packets on to who had a VIP before.
    pub forwards: bool,
}

/// VIPs that move, as one member sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// VIPs it answers for until somebody else does, since it is no candidate for them.
    pub offered: Vec<IpAddr>,
    /// VIPs that others answer for and that it still serves connections of; complete whenever [`Beat::owned`] is there.
    pub lingering: Vec<IpAddr>,
    /// What operators want, at most [`MAX_WISHES`], told in turn.
    pub wishes: Vec<Wish>,
}

/// What an operator wants of a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The VIP.
    pub vip: IpAddr,
    /// When it was said, in microseconds since 1970: the last one counts.
    pub stamp: u64,
    /// The node that shall have it; `None` for whichever comes first without a wish.
    pub node: Option<Arc<str>>,
}

/// A peer that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The peer, by [`id`].
    pub id: u64,
    /// Its boot.
    pub boot: u64,
    /// The newest datagram of it.
    pub seq: u64,
    /// Whether it flaps, so that it shall not take VIPs from others.
    pub held: bool,
    /// Whether its beats come by letter only: see [`crate::members::letters`].
    pub by_letter: bool,
}

/// A VIP and how often it has changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The VIP.
    pub vip: IpAddr,
    /// Higher than that of every owner before.
    pub epoch: u64,
}

/// What came of asking the LAN for a VIP that another member owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The VIP.
    pub vip: IpAddr,
    /// Who answered that does not own it; `None` when nobody answered.
    pub answered_by: Option<[u8; 6]>,
}

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeatError {
    /// It is not ours at all, or of another version.
    #[error("not a heartbeat of version {VERSION}")]
    Foreign,
    /// Signed with a key that we do not have, or forged.
    #[error("signed with another key; give every speaker the same key file")]
    Key,
    /// Signed properly, and still not understood.
    #[error("heartbeat is malformed at byte {at}; are all speakers of one version?")]
    Malformed {
        /// Where reading failed.
        at: usize,
    },
}

/// The short form of a node's name, for lists.
#[must_use]
pub fn id(node: &str) -> u64 {
    use sha2::{Digest as _, Sha256};
    let digest: [u8; 32] = Sha256::digest(node).into();
    u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// The keys of a cluster: the first signs, all are accepted.
pub struct Keyring(Vec<hmac::Key>);

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({} keys)", self.0.len())
    }
}

impl Keyring {
    /// Derives the keys of `cluster` from a secret text: one secret a line, empty lines aside, the first of them signs.
    ///
    /// `None` when there is no secret in it.
    #[must_use]
    pub fn new(secrets: &str, cluster: &str) -> Option<Self> {
        let lines = secrets.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<hmac::Key> = lines.map(|secret| derive(secret.as_bytes(), cluster)).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Encodes and signs.
    #[must_use]
    pub fn seal(&self, beat: &Beat) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.extend([0; 32]);
        write(beat, &mut bytes);
        let tag = sign(&self.0[0], &bytes);
        bytes[TAG].copy_from_slice(tag.as_ref());
        bytes
    }

    /// Checks and decodes.
    pub fn open(&self, bytes: &[u8]) -> Result<Beat, BeatError> {
        if bytes.len() < TAG.end || bytes[..4] != MAGIC || bytes[4] != VERSION {
            return Err(BeatError::Foreign);
        }
        let signed = self.0.iter().any(|key| is_signed(key, bytes));
        if !signed {
            return Err(BeatError::Key);
        }
        decode(&bytes[TAG.end..])
    }
}

fn derive(secret: &[u8], cluster: &str) -> hmac::Key {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"ferrogate heartbeat 1");
    let derived = salt.extract(secret);
    let info = [cluster.as_bytes()];
    let okm = derived.expand(&info, hmac::HMAC_SHA256).expect("32 bytes are within the bound of RFC 5869 section 2.3");
    hmac::Key::from(okm)
}

fn sign(key: &hmac::Key, bytes: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&bytes[..TAG.start]);
    context.update(&bytes[TAG.end..]);
    context.sign()
}

/// Compared in constant time.
fn is_signed(key: &hmac::Key, bytes: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(sign(key, bytes).as_ref(), &bytes[TAG]).is_ok()
}

/// Appends the unsigned form; lists beyond their bound are cut.
fn write(beat: &Beat, out: &mut Vec<u8>) {
    let name = &beat.node.as_bytes()[..beat.node.len().min(MAX_NAME)];
    out.push(u8::try_from(name.len()).expect("at most 253"));
    out.extend(name);
    out.extend(beat.boot.to_be_bytes());
    out.extend(beat.seq.to_be_bytes());
    out.extend(beat.interval.to_be_bytes());
    out.push(beat.misses);
    out.push(beat.flags.bits());
    out.extend(beat.generation.to_be_bytes());
    list(out, &beat.macs, 16, |mac, out| out.extend(mac));
    list(out, &beat.heard, MAX_HEARD, |heard, out| {
        out.extend(heard.id.to_be_bytes());
        out.extend(heard.boot.to_be_bytes());
        out.extend(heard.seq.to_be_bytes());
        out.push(heard.held.into());
        out.push(heard.by_letter.into());
    });
    out.push(beat.owned.is_some().into());
    list(out, beat.owned.as_deref().unwrap_or_default(), MAX_OWNED, |claim, out| {
        address(claim.vip, out);
        out.extend(claim.epoch.to_be_bytes());
    });
    list(out, &beat.unable, 256, |vip, out| address(*vip, out));
    list(out, &beat.disowned, 64, |vip, out| address(*vip, out));
    list(out, &beat.silent, 16, |id, out| out.extend(id.to_be_bytes()));
    let Moves { offered, lingering, wishes } = &beat.moves;
    list(out, offered, MAX_OFFERED, |vip, out| address(*vip, out));
    list(out, lingering, most_lingering(beat.owned.as_ref().map_or(0, Vec::len)), |vip, out| address(*vip, out));
    list(out, wishes, MAX_WISHES, |wish, out| {
        address(wish.vip, out);
        out.extend(wish.stamp.to_be_bytes());
        let node = wish.node.as_deref().unwrap_or_default().as_bytes();
        let node = &node[..node.len().min(MAX_NAME)];
        out.push(u8::try_from(node.len()).expect("at most 253"));
        out.extend(node);
    });
    list(out, &beat.findings, MAX_FINDINGS, |finding, out| {
        address(finding.vip, out);
        out.push(finding.answered_by.is_some().into());
        out.extend(finding.answered_by.iter().flatten());
    });
}

/// How many VIPs fit that are lingered for: a member that gives up many owns few.
const fn most_lingering(owned: usize) -> usize {
    const LEAST: usize = 128;
    let room = MAX_OWNED.saturating_sub(owned);
    if room > LEAST { room } else { LEAST }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], most: usize, each: impl Fn(&T, &mut Vec<u8>)) {
    let items = &items[..items.len().min(most)];
    out.extend(u16::try_from(items.len()).expect("every bound is below 65536").to_be_bytes());
    for item in items {
        each(item, out);
    }
}

fn address(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
}

/// Decodes what stands behind the tag. For tests of the decoder alone; [`Keyring::open`] is what one wants.
pub fn decode(bytes: &[u8]) -> Result<Beat, BeatError> {
    let mut reader = Reader { bytes, at: 0 };
    reader.beat().filter(|_| reader.at == bytes.len()).ok_or(BeatError::Malformed { at: reader.at })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn beat(&mut self) -> Option<Beat> {
        let node = self.name().filter(|name| !name.is_empty())?;
        let mut beat = Beat {
            node,
            boot: self.u64()?,
            seq: self.u64()?,
            interval: self.u16()?,
            misses: self.byte()?,
            flags: Flags::of(self.byte()?)?,
            generation: self.u64()?,
            macs: self.list(16, Self::array)?,
            heard: self.list(MAX_HEARD, |it| {
                let (id, boot, seq) = (it.u64()?, it.u64()?, it.u64()?);
                Some(Heard { id, boot, seq, held: it.bool()?, by_letter: it.bool()? })
            })?,
            owned: {
                let present = self.bool()?;
                let owned = self.list(MAX_OWNED, |it| Some(Claim { vip: it.address()?, epoch: it.u64()? }))?;
                if !present && !owned.is_empty() {
                    return None;
                }
                present.then_some(owned)
            },
            unable: self.list(256, Self::address)?,
            disowned: self.list(64, Self::address)?,
            silent: self.list(16, Self::u64)?,
            moves: Moves::default(),
            findings: Vec::new(),
        };
        beat.moves = self.moves(beat.owned.as_ref().map_or(0, Vec::len))?;
        beat.findings = self.list(MAX_FINDINGS, |it| {
            let vip = it.address()?;
            let answered_by = if it.bool()? { Some(it.array()?) } else { None };
            Some(Finding { vip, answered_by })
        })?;
        Some(beat)
    }

    fn moves(&mut self, owned: usize) -> Option<Moves> {
        Some(Moves {
            offered: self.list(MAX_OFFERED, Self::address)?,
            lingering: self.list(most_lingering(owned), Self::address)?,
            wishes: self.list(MAX_WISHES, |it| {
                let (vip, stamp) = (it.address()?, it.u64()?);
                Some(Wish { vip, stamp, node: Some(it.name()?).filter(|name| !name.is_empty()) })
            })?,
        })
    }

    /// A name, perhaps empty.
    fn name(&mut self) -> Option<Arc<str>> {
        let len = usize::from(self.byte()?);
        let name = std::str::from_utf8(self.take(len)?).ok()?;
        (name.len() <= MAX_NAME).then(|| name.into())
    }

    fn list<T>(&mut self, most: usize, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = usize::from(self.u16()?);
        if len > most {
            return None;
        }
        (0..len).map(|_| each(self)).collect()
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.byte()? {
            4 => Some(IpAddr::from(self.array::<4>()?)),
            6 => Some(IpAddr::from(self.array::<16>()?)),
            _ => None,
        }
    }

    fn bool(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }
}

impl Flags {
    fn bits(self) -> u8 {
        let Self { leaving, joining, warming, stale, outdated, forwards } = self;
        [leaving, joining, warming, stale, outdated, forwards]
            .iter()
            .rev()
            .fold(0, |bits, flag| bits << 1 | u8::from(*flag))
    }

    fn of(bits: u8) -> Option<Self> {
        let flag = |at: u8| bits >> at & 1 == 1;
        let (leaving, joining, warming) = (flag(0), flag(1), flag(2));
        let flags = Self { leaving, joining, warming, stale: flag(3), outdated: flag(4), forwards: flag(5) };
        (flags.bits() == bits).then_some(flags)
    }
}

#[cfg(test)]
#[path = "heartbeat_tests.rs"]
mod tests;
