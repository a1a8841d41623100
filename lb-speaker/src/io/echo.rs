//! The thread that answers ping for VIPs; there is none unless it is wanted.
//!
//! It is scheduled as any other, apart from the one that answers ARP, and answers no more than [`PER_SECOND`]: a flood of
//! requests delays nothing but itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::socket::{self, Kind, PacketSocket, Waker};
use crate::arp::MacAddr;
use crate::echo::{self, FRAME_MAX};
use crate::filter;
use crate::limiter::Pace;

/// Answers a second, to all who ask.
const PER_SECOND: u32 = 1000;
/// Frames taken from one socket before the others get their turn.
const BATCH: usize = 64;

/// By the number of the interface: its hardware address, and the VIPs that are announced there.
pub(super) type Table = BTreeMap<u32, (MacAddr, BTreeSet<IpAddr>)>;

/// The handle on the thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Echo {
    tables: Option<mpsc::Sender<Table>>,
    last: Table,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts the thread with nothing to answer for.
    pub(super) fn start() -> io::Result<Self> {
        let (tables, inbox) = mpsc::channel();
        let waker = Waker::new()?;
        let bell = waker.try_clone()?;
        let pace = Pace::new(PER_SECOND, PER_SECOND);
        let thread = std::thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || Loop { lines: BTreeMap::new(), bell, pace }.run(&inbox))?;
        Ok(Self { tables: Some(tables), last: Table::new(), waker, thread: Some(thread) })
    }

    /// Replaces what is answered for.
    pub(super) fn set(&mut self, table: Table) {
        if table == self.last {
            return;
        }
        self.last.clone_from(&table);
        if let Some(tables) = &self.tables {
            // A thread that is gone answers no ping, which harms no VIP.
            let _ = tables.send(table);
        }
        self.waker.wake();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.tables = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // Nothing is left to be told if it panicked.
            let _ = thread.join();
        }
    }
}

/// What the thread holds.
struct Loop {
    lines: BTreeMap<u32, Line>,
    bell: Waker,
    pace: Pace,
}

/// One interface of the thread.
struct Line {
    sockets: [PacketSocket; 2],
    mac: MacAddr,
    vips: BTreeSet<IpAddr>,
}

impl Line {
    fn open(index: u32) -> io::Result<Self> {
        let sockets = [PacketSocket::open(index, Kind::Ipv4)?, PacketSocket::open(index, Kind::Ndp)?];
        Ok(Self { sockets, mac: crate::arp::ZERO, vips: BTreeSet::new() })
    }

    fn set(&mut self, mac: MacAddr, vips: BTreeSet<IpAddr>) -> io::Result<()> {
        let v4 = vips.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let v6 = vips.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        self.sockets[0].filter(&filter::ping(v4))?;
        self.sockets[1].filter(&filter::ping6(v6))?;
        (self.mac, self.vips) = (mac, vips);
        Ok(())
    }
}

impl Loop {
    /// Until the handle is dropped.
    fn run(mut self, inbox: &mpsc::Receiver<Table>) {
        loop {
            let mut polled = vec![socket::readable(self.bell.as_raw_fd())];
            let sockets = self.lines.values().flat_map(|line| &line.sockets);
            polled.extend(sockets.map(|socket| socket::readable(socket.as_raw_fd())));
            if socket::wait(&mut polled, None).is_err() {
                return;
            }
            self.answer();
            if polled[0].revents != 0 {
                self.bell.clear();
                loop {
                    match inbox.try_recv() {
                        Ok(table) => self.set(table),
                        Err(mpsc::TryRecvError::Empty) => break,
                        Err(mpsc::TryRecvError::Disconnected) => return,
                    }
                }
            }
        }
    }

    /// Takes over a table; an interface whose sockets cannot be had is tried again with the next.
    fn set(&mut self, table: Table) {
        self.lines.retain(|index, _| table.contains_key(index));
        for (index, (mac, vips)) in table {
            let line = self.lines.remove(&index).map_or_else(|| Line::open(index), Ok);
            if let Ok(mut line) = line
                && line.set(mac, vips).is_ok()
            {
                self.lines.insert(index, line);
            }
        }
    }

    fn answer(&mut self) {
        let mut buffer = [0; FRAME_MAX];
        for line in self.lines.values() {
            for socket in &line.sockets {
                for _ in 0..BATCH {
                    // An error is told once, and an interface that is gone is in no later table.
                    let Ok(Some(received)) = socket.recv(&mut buffer) else { break };
                    let Some(frame) = buffer.get_mut(..received.len) else { continue };
                    let is_vip = |ip| line.vips.contains(&ip);
                    let answer = echo::answer(frame, line.mac, is_vip).filter(|_| !received.other_host);
                    if let Some((len, _)) = answer
                        && self.pace.take(1, Instant::now())
                    {
                        // Who gets no answer asks again.
                        let _ = socket.send(&frame[..len]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "echo_tests.rs"]
mod tests;
