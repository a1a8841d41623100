//! Tells the kernel what to send on, over a netlink socket that the table of [`crate::forward`] ends with.

use std::io::{self, Read as _};

use socket2::{Domain, Protocol, Socket, Type};

use crate::forward::{self, Obstacle, Table};

/// What the kernel does now.
#[derive(Debug)]
pub(super) struct Forwarder {
    socket: Socket,
    table: Table,
}

impl Forwarder {
    /// Finds out whether it can be done here at all.
    pub(super) fn open() -> Result<Self, Obstacle> {
        let kernel = |error: io::Error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Obstacle::Capability,
            _ => Obstacle::Kernel { why: error.to_string() },
        };
        let socket =
            Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_NETFILTER)));
        let socket = socket.map_err(kernel)?;
        socket.set_nonblocking(true).map_err(kernel)?;
        let forwarder = Self { socket, table: Table::default() };
        forwarder.tell(&forward::probe()).map_err(kernel)?;
        Ok(forwarder)
    }

    /// Makes the kernel do this, and nothing else. After an error it does nothing at all.
    pub(super) fn set(&mut self, table: Table) -> io::Result<()> {
        let Some(batch) = forward::update(&self.table, &table) else { return Ok(()) };
        let told = self.tell(&batch);
        if told.is_err() {
            // It may be that the interface is gone, and the chain with it: what is left is removed, to begin anew.
            let _ = forward::update(&self.table, &Table::default()).map(|batch| self.tell(&batch));
            self.table = Table::default();
            return told;
        }
        self.table = table;
        Ok(())
    }

    /// Sends one transaction, which the kernel deals with before this returns, and reads what it says of it.
    fn tell(&self, batch: &[u8]) -> io::Result<()> {
        self.socket.send(batch)?;
        let mut buffer = [0; 4096];
        let (mut outcome, mut answered) = (Ok(()), false);
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(len) => {
                    answered = true;
                    outcome = outcome.and(forward::outcome(&buffer[..len]).map_err(io::Error::from_raw_os_error));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && answered => return outcome,
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::IpAddr;
    use std::os::fd::AsFd as _;
    use std::process::Command;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use crate::forward::Line;

    use super::*;

    fn table(vips: &[&str], members: u8, line: &str) -> Table {
        let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        let macs = (1..=members).map(|number| [2, 0, 0, 0, 0, number]);
        Table {
            lines: [Line { index: 1, name: line.to_owned() }].into(),
            members: macs.clone().collect(),
            first: vips.iter().map(|vip| ((1, *vip), [2, 0, 0, 0, 0, members])).collect(),
            next: vips.iter().flat_map(|vip| macs.clone().map(|mac| ((1, *vip, mac), mac))).collect(),
        }
    }

    #[test]
    fn the_kernel_takes_every_table_and_every_change_of_it() {
        let work = || {
            let mut forwarder = match Forwarder::open() {
                Ok(forwarder) => forwarder,
                Err(Obstacle::Capability) => return eprintln!("skipped: {}", Obstacle::Capability),
                Err(other) => panic!("{other}"),
            };
            let many: Vec<String> = (0..1200).map(|at| format!("10.1.{}.{}", at / 200, at % 200)).collect();
            let many: Vec<&str> = many.iter().map(String::as_str).collect();
            for table in [
                table(&["192.0.2.1", "2001:db8::1"], 2, "lo"),
                table(&["192.0.2.1", "192.0.2.2"], 3, "lo"),
                table(&[], 3, "lo"),
                Table::default(),
                table(&many, 1, "lo"),
                table(&["2001:db8::7"], 1, "lo"),
            ] {
                forwarder.set(table.clone()).unwrap();
                assert_eq!(forwarder.table, table);
            }
            // Whether the kernel waits for the interface or refuses depends on its version.
            let _ = forwarder.set(table(&["192.0.2.1"], 1, "none-such"));
            forwarder.set(table(&["192.0.2.1"], 1, "lo")).unwrap();
        };
        let name = format!("fg-forward-{}", std::process::id());
        let ip = |what: &str| Command::new("ip").args(["netns", what, &name]).status().is_ok_and(|it| it.success());
        if !ip("add") {
            return eprintln!("skipped: network namespaces need root and iproute2");
        }
        let file = File::open(format!("/run/netns/{name}")).unwrap();
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work();
        });
        let outcome = inside.join();
        assert!(ip("del"));
        outcome.unwrap();
    }
}
