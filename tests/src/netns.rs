//! Two machines on one cable, made of network namespaces.
//!
//! ```text
//!  namespace <name>-node                 namespace <name>-peer
//!  eth0 10.77.0.1/24  <──── veth ────>  eth0 10.77.0.2/24
//! ```
//!
//! Nothing leaves them. They are deleted on drop; the kernel then removes the cable and its addresses.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pnet::datalink::{self, Channel, DataLinkReceiver, DataLinkSender};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Why namespaces cannot be made here; `None` if they can.
#[must_use]
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    match Namespace::new("probe") {
        Ok(_) => None,
        Err(why) => Some(format!("network namespaces cannot be made here: {why}")),
    }
}

/// Leaves the test, and says why, where namespaces cannot be made.
#[macro_export]
macro_rules! skip_unless_root {
    () => {
        if let Some(why) = $crate::netns::unavailable() {
            eprintln!("skipped: {why}");
            return;
        }
    };
}

/// One network namespace with its loopback up.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Makes a namespace whose name holds `label`.
    pub fn new(label: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fgt-{}-{}-{label}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self(name);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// A command that runs inside.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// Runs `ip` on it: `namespace.ip("link set eth0 down")`.
    pub fn ip(&self, arguments: &str) -> Result<Output, String> {
        run(Command::new("ip").args(["-n", &self.0]).args(arguments.split(' ')))
    }

    /// Runs `work` on a thread inside; what it opens stays there.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        enter(&self.0, work)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its processes belong to values that end before it; nobody is left to tell when this fails.
        let _ = run(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

/// Runs `work` on a thread in the namespace of that name.
///
/// # Panics
/// If there is no such namespace, or `work` panics.
pub fn enter<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let path = format!("/run/netns/{name}");
    let inside = move || {
        let file = std::fs::File::open(&path).expect("the namespace exists");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter a namespace");
        work()
    };
    std::thread::spawn(inside).join().expect("work in a namespace does not panic")
}

/// Opens a TCP connection from inside the namespace of that name.
pub fn connect(name: &str, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    enter(name, move || TcpStream::connect_timeout(&address, limit))
}

/// The cable and both its ends.
#[derive(Debug)]
pub struct Lan {
    /// Where the appliance runs: `eth0`, 10.77.0.1/24.
    pub node: Namespace,
    /// Somebody else on the LAN: `eth0`, 10.77.0.2/24.
    pub peer: Namespace,
}

impl Lan {
    /// Lays the cable.
    ///
    /// # Panics
    /// If the kernel does not let us; ask [`unavailable`] first.
    #[must_use]
    pub fn new() -> Self {
        Self::lay().unwrap_or_else(|why| panic!("the LAN cannot be made: {why}"))
    }

    fn lay() -> Result<Self, String> {
        let lan = Self { node: Namespace::new("node")?, peer: Namespace::new("peer")? };
        lan.node.ip(&format!("link add eth0 type veth peer name eth0 netns {}", lan.peer.name()))?;
        for (namespace, address) in [(&lan.node, "10.77.0.1/24"), (&lan.peer, "10.77.0.2/24")] {
            namespace.ip(&format!("addr add {address} dev eth0"))?;
            namespace.ip("link set eth0 up")?;
        }
        Ok(lan)
    }

    /// A raw socket on the peer's `eth0` that hears every frame.
    #[must_use]
    pub fn listen(&self) -> Wire {
        self.peer.enter(Wire::open)
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

/// A raw socket on an `eth0`.
pub struct Wire {
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    mac: [u8; 6],
}

impl Wire {
    /// Opens the `eth0` of the current thread's namespace.
    ///
    /// # Panics
    /// If there is none, or packet sockets are not permitted.
    #[must_use]
    pub fn open() -> Self {
        let eth0 = datalink::interfaces().into_iter().find(|interface| interface.name == "eth0");
        let eth0 = eth0.expect("a namespace on the LAN has an eth0");
        let config = datalink::Config { read_timeout: Some(Duration::from_millis(20)), ..Default::default() };
        let Ok(Channel::Ethernet(sender, receiver)) = datalink::channel(&eth0, config) else {
            panic!("root may open a packet socket");
        };
        let mac = eth0.mac.expect("a veth has a MAC");
        Self { sender, receiver, mac: [mac.0, mac.1, mac.2, mac.3, mac.4, mac.5] }
    }

    /// Our own hardware address.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Puts a frame on the cable.
    pub fn send(&mut self, frame: &[u8]) {
        self.sender.send_to(frame, None).expect("the buffer has room").expect("the cable takes frames");
    }

    /// Forgets what was heard so far.
    pub fn forget(&mut self) {
        while self.frame().is_some() {}
    }

    /// The next frame, if one comes within 20 ms.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        match self.receiver.next() {
            Ok(frame) => Some(frame.to_vec()),
            Err(_) => None,
        }
    }
}

/// Runs a command to its end; its error output is the error.
fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
