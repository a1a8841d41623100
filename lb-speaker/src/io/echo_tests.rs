//! Ping over a cable between two network namespaces. Needs root; says so when it skips.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::echo::tests::{v4, v6};
use crate::filter::Instruction;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const ASKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ASKER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const PATIENCE: Duration = Duration::from_secs(8);

/// Two namespaces with a cable between their `eth0`; gone when dropped.
struct Cable {
    ends: [String; 2],
}

impl Cable {
    /// `None`, and why, where namespaces are not to be had.
    fn lay() -> Option<Self> {
        let end = |name: &str| format!("fg-echo-{}-{name}", std::process::id());
        let cable = Self { ends: [end("node"), end("peer")] };
        for namespace in &cable.ends {
            if !ip(&format!("netns add {namespace}")) {
                eprintln!("skipped: network namespaces need root and iproute2");
                return None;
            }
        }
        let [node, peer] = &cable.ends;
        assert!(ip(&format!("link add eth0 netns {node} type veth peer name eth0 netns {peer}")));
        for namespace in &cable.ends {
            assert!(ip(&format!("-n {namespace} link set eth0 up")));
        }
        Some(cable)
    }

    /// Number and hardware address of the `eth0` at one end.
    fn eth0(&self, end: usize) -> (u32, MacAddr) {
        let output = Command::new("ip").args(["-n", &self.ends[end], "-o", "link", "show", "eth0"]).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let mac = line.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        (line.split(':').next().unwrap().parse().unwrap(), mac.parse().unwrap())
    }

    /// Runs `work` on a thread at one end.
    fn at<T: Send + 'static>(&self, end: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(format!("/run/netns/{}", self.ends[end])).unwrap();
        let inside = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        std::thread::spawn(inside).join().unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in self.ends.iter().filter(|name| std::path::Path::new("/run/netns").join(name).exists()) {
            if !ip(&format!("netns del {namespace}")) {
                eprintln!("namespace {namespace} is left behind");
            }
        }
    }
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

#[test]
fn ping_of_a_vip_is_answered_and_of_nothing_else() {
    let Some(cable) = Cable::lay() else { return };
    let ((node, node_mac), (peer, peer_mac)) = (cable.eth0(0), cable.eth0(1));
    let table = Table::from([(node, (node_mac, BTreeSet::from([VIP.into(), VIP6.into()])))]);
    let mut echo = cable.at(0, || Echo::start().unwrap());
    echo.set(table);
    let everything = Instruction { code: 6, if_true: 0, if_false: 0, operand: 0xffff };
    let sockets = [Kind::Ipv4, Kind::Ndp].map(|kind| {
        let socket = cable.at(1, move || PacketSocket::open(peer, kind).unwrap());
        socket.filter(&[everything]).unwrap();
        socket
    });
    let address = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&node_mac.octets());
        frame[6..12].copy_from_slice(&peer_mac.octets());
        frame
    };
    let data = [7; 1400];
    for (socket, other, request, expected) in [
        (&sockets[0], v4(8, ASKER, ASKER, &data), v4(8, ASKER, VIP, &data), v4(0, VIP, ASKER, &data)),
        (&sockets[1], v6(128, ASKER6, ASKER6, &data), v6(128, ASKER6, VIP6, &data), v6(129, VIP6, ASKER6, &data)),
    ] {
        // The thread takes the table over in its own time, so who gets no answer asks again.
        let deadline = Instant::now() + PATIENCE;
        let answer = loop {
            assert!(Instant::now() < deadline, "no answer within {PATIENCE:?}");
            for frame in [&other, &request] {
                socket.send(&address(frame.clone())).unwrap();
            }
            if let Some(answer) = next(socket, &expected[14..]) {
                break answer;
            }
        };
        assert_eq!(answer[..12], [peer_mac.octets(), node_mac.octets()].concat());
        assert_eq!(answer[14..], expected[14..]);
    }
}

/// The next frame from a station that answers a ping, if it comes soon; others of the same protocol are passed over.
fn next(socket: &PacketSocket, like: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = [0; FRAME_MAX];
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        socket::wait(&mut [socket::readable(socket.as_raw_fd())], Some(Duration::from_millis(50))).unwrap();
        while let Ok(Some(received)) = socket.recv(&mut buffer) {
            let frame = &buffer[..received.len.min(FRAME_MAX)];
            // An answer, whoever gives it: the same length and protocol.
            if frame.len() == like.len() + 14 && frame[14..20] == like[..6] {
                return Some(frame.to_vec());
            }
        }
    }
    None
}
