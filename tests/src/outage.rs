//! What a client sees of a VIP: a thousand questions a second, who answered, and for how long nobody did.
//!
//! An [`Echo`] runs on every node and answers with the node's number; a [`Probe`] asks from the client. [`Claims`] asks
//! for the VIP by ARP, to tell for how long two nodes said at once that it is theirs.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::netns::{Namespace, Wire};

/// The UDP port of the echo.
const PORT: u16 = 7777;
/// The time between two questions.
pub const PERIOD: Duration = Duration::from_millis(1);
/// The time between two questions by ARP.
const ARP_PERIOD: Duration = Duration::from_millis(20);

/// A thread in a namespace that works until it is dropped.
#[derive(Debug)]
struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(namespace: &Namespace, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), namespace.name().to_owned());
        let thread = std::thread::spawn(move || crate::netns::enter(&name, move || work(&stopped)));
        Self { stop, thread: Some(thread) }
    }

    fn end(&mut self) -> Option<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().expect("a worker does not panic"))
    }
}

/// Answers at a VIP with the number of its node.
#[derive(Debug)]
pub struct Echo(Worker<()>);

impl Echo {
    /// Starts it; the VIP need not be there yet.
    #[must_use]
    pub fn start(namespace: &Namespace, node: u8, vip: Ipv4Addr) -> Self {
        Self(Worker::start(namespace, move |stop| {
            let socket = UdpSocket::bind((vip, PORT)).expect("ip_nonlocal_bind is set");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
            let mut question = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                let Ok((8, from)) = socket.recv_from(&mut question) else { continue };
                let mut answer = [node; 9];
                answer[..8].copy_from_slice(&question);
                // A client that is cut off is not told.
                let _ = socket.send_to(&answer, from);
            }
        }))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Which node answers at a VIP, asked from this namespace; `None` when none does within 200 ms.
///
/// # Panics
/// If a socket cannot be opened there.
#[must_use]
pub fn owner(namespace: &Namespace, vip: Ipv4Addr) -> Option<u8> {
    namespace.enter(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
        socket.send_to(&[0; 8], (vip, PORT)).ok()?;
        let mut answer = [0; 16];
        let len = socket.recv(&mut answer).ok()?;
        (len == 9).then_some(answer[8])
    })
}

/// Asks a VIP every [`PERIOD`].
#[derive(Debug)]
pub struct Probe(Worker<Trace>);

impl Probe {
    /// Begins to ask.
    #[must_use]
    pub fn start(namespace: &Namespace, vip: Ipv4Addr) -> Self {
        Self(Worker::start(namespace, move |stop| ask(stop, (vip, PORT).into())))
    }

    /// Ends it; what it saw.
    ///
    /// # Panics
    /// Never: it has not been ended before.
    #[must_use]
    pub fn end(mut self) -> Trace {
        self.0.end().expect("ended once")
    }
}

fn ask(stop: &AtomicBool, to: SocketAddr) -> Trace {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    socket.set_nonblocking(true).expect("a socket");
    let (mut trace, mut answer, begun) = (Trace::default(), [0; 16], Instant::now());
    let mut next = begun;
    let mut end = None;
    // A last answer may be under way.
    while end.is_none_or(|end| Instant::now() < end) {
        let now = Instant::now();
        if end.is_none() && now >= next {
            let number = u64::try_from(trace.asked.len()).expect("a number");
            trace.asked.push(now);
            // An answer that does not come tells enough.
            let _ = socket.send_to(&number.to_be_bytes(), to);
            // What a busy machine made us miss is not made up for.
            next = (next + PERIOD).max(now);
        }
        while let Ok((len, _)) = socket.recv_from(&mut answer) {
            if len == 9 {
                let number = u64::from_be_bytes(answer[..8].try_into().expect("eight bytes"));
                trace.answers.push((number, Instant::now(), answer[8]));
            }
        }
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(Instant::now() + Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    trace
}

/// Questions and answers, each with its moment.
#[derive(Debug, Default)]
pub struct Trace {
    asked: Vec<Instant>,
    /// The number of the question, when it was answered, and by which node.
    answers: Vec<(u64, Instant, u8)>,
}

/// What a client saw of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Questions asked since the fault.
    pub asked: usize,
    /// Those of them without an answer.
    pub lost: usize,
    /// The longest time between two answers that ended after the fault.
    pub outage: Duration,
    /// The longest such time before it, which is what the machine itself makes.
    pub noise: Duration,
    /// From the fault to the first answer of another node; `None` when none came.
    pub moved: Option<Duration>,
}

impl Trace {
    /// What was seen since `fault`.
    #[must_use]
    pub fn since(&self, fault: Instant) -> Seen {
        let first = self.asked.partition_point(|asked| *asked < fault);
        let answered: BTreeSet<u64> = self.answers.iter().map(|(number, ..)| *number).collect();
        let lost = (first..self.asked.len()).filter(|number| !answered.contains(&(*number as u64))).count();
        let owner = self.answers.iter().rfind(|(_, at, _)| *at < fault).map(|(.., node)| *node);
        let moved = self.answers.iter().find(|(_, at, node)| *at >= fault && Some(*node) != owner);
        let moments: Vec<Instant> = self.answers.iter().map(|(_, at, _)| *at).collect();
        let gaps = moments.windows(2).map(|pair| (pair[1], pair[1] - pair[0]));
        let longest = |after: bool| gaps.clone().filter(|(end, _)| (*end >= fault) == after).map(|(_, gap)| gap).max();
        let tail =
            self.asked.last().zip(moments.last()).map(|(asked, answer)| asked.saturating_duration_since(*answer));
        Seen {
            asked: self.asked.len() - first,
            lost,
            outage: longest(true).max(tail).unwrap_or(Duration::MAX),
            noise: longest(false).unwrap_or_default(),
            moved: moved.map(|(_, at, _)| *at - fault),
        }
    }
}

impl Trace {
    /// How often another node answered than had before.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.answers.windows(2).filter(|pair| pair[0].2 != pair[1].2).count()
    }
}

/// Asks for a VIP by ARP, and notes who answers.
#[derive(Debug)]
pub struct Claims(Worker<BTreeMap<usize, BTreeSet<[u8; 6]>>>);

impl Claims {
    /// Begins to ask.
    #[must_use]
    pub fn start(namespace: &Namespace, vip: Ipv4Addr) -> Self {
        Self(Worker::start(namespace, move |stop| {
            let (mut wire, begun) = (Wire::open(), Instant::now());
            let mut answers: BTreeMap<usize, BTreeSet<[u8; 6]>> = BTreeMap::new();
            let question = who_has(wire.mac(), vip);
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                wire.send(&question);
                let end = begun + ARP_PERIOD * (round + 1);
                while Instant::now() < end {
                    if let Some(mac) = wire.frame().as_deref().and_then(|frame| claimant(frame, vip)) {
                        answers.entry(usize::try_from(round).expect("a number")).or_default().insert(mac);
                    }
                }
            }
            answers
        }))
    }

    /// Ends it; the longest time for which every question had two answers.
    ///
    /// # Panics
    /// Never: it has not been ended before.
    #[must_use]
    pub fn doubled(mut self) -> Duration {
        let answers = self.0.end().expect("ended once");
        let (mut longest, mut run) = (0, 0);
        let last = answers.keys().last().copied().unwrap_or_default();
        for round in 0..=last {
            run = if answers.get(&round).is_some_and(|macs| macs.len() > 1) { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        ARP_PERIOD * longest
    }
}

/// Who answers for a VIP, asked by ARP for a while from this namespace.
#[must_use]
pub fn claimants(namespace: &Namespace, vip: Ipv4Addr) -> BTreeSet<[u8; 6]> {
    namespace.enter(move || {
        let (mut wire, mut found) = (Wire::open(), BTreeSet::new());
        let question = who_has(wire.mac(), vip);
        for _ in 0..10 {
            wire.send(&question);
            let asked = Instant::now();
            while asked.elapsed() < 3 * ARP_PERIOD {
                found.extend(wire.frame().as_deref().and_then(|frame| claimant(frame, vip)));
            }
        }
        found
    })
}

/// The question for `ip`, from a host that has no address, so that nobody learns from it.
fn who_has(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([0; 10]);
    frame.extend(ip.octets());
    frame
}

/// Who says in this frame that it answers for `ip`.
fn claimant(frame: &[u8], ip: Ipv4Addr) -> Option<[u8; 6]> {
    let is_reply = frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(20..22) == Some(&[0, 2]);
    // Answers only: announcements of a new owner are meant to overlap with the old one's.
    let to_us = frame.first() != Some(&0xff);
    if !(is_reply && to_us && frame.get(28..32) == Some(&ip.octets())) {
        return None;
    }
    frame.get(22..28)?.try_into().ok()
}
