//! Messages to the kernel's packet filter, `nf_tables`: as much of it as forwarding needs.
//!
//! A batch is one transaction: the kernel does all of it or nothing. Integers are big-endian but for the netlink
//! headers, attributes are padded to four bytes.
//!
//! Pure. Source: `include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h`; RFC 3549 (netlink).

const NETDEV: u8 = 5;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;
/// The table ends with the socket that made it.
const OWNED: u32 = 2;
/// Elements of one message, so that their attribute stays below 64 kB.
const ELEMENTS: usize = 500;

/// A register of four bytes; longer values take several.
pub(super) type Register = u32;
/// The first of sixteen.
pub(super) const R0: Register = 8;

/// Where bytes of a packet are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Ethernet.
    Link = 0,
    /// IP.
    Network = 1,
    /// TCP.
    Transport = 2,
}

/// What the kernel knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meta {
    /// The `EtherType`, two bytes.
    Protocol = 1,
    /// The number of the interface it came in by, four bytes in the machine's order.
    Interface = 4,
    /// TCP or another, one byte.
    Transport = 16,
    /// 0 for frames to our hardware address, one byte.
    Addressee = 19,
}

/// One step of a rule; a rule goes on while its comparisons hold and its look-ups find something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Loads what the kernel knows.
    Meta(Meta, Register),
    /// Loads so many bytes of the packet.
    Load(Header, u32, u32, Register),
    /// Writes so many bytes to the packet.
    Store(Register, Header, u32, u32),
    /// Keeps the bits of this byte.
    Mask(Register, u8),
    /// Goes on if the register holds this.
    Equal(Register, &'a [u8]),
    /// Goes on if it does not.
    Unequal(Register, &'a [u8]),
    /// Goes on if the set has what begins in this register.
    Member(&'a str, Register),
    /// The same for a map, whose value goes to the second register.
    Find(&'a str, Register, Register),
    /// Puts what begins in this register into the set.
    Learn(&'a str, Register),
    /// Sends the frame by the interface whose number is in the register; it goes nowhere else.
    Forward(Register),
    /// Lets the packet go its usual way.
    Accept,
    /// Goes on with the rules of this chain.
    Jump(&'a str),
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The length of a key, a multiple of four.
    pub(super) key: u32,
    /// The length of a value, if it is a map.
    pub(super) value: Option<u32>,
    /// If packets put keys into it: how many at most, and for how many milliseconds each stays.
    pub(super) learns: Option<(u32, u64)>,
}

/// A transaction about one table.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    table: &'static str,
    last: usize,
    messages: u32,
}

impl Batch {
    pub(super) fn new(table: &'static str) -> Self {
        let mut batch = Self { bytes: Vec::new(), table, last: 0, messages: 0 };
        batch.begin(BATCH_BEGIN, 0, 0, SUBSYSTEM);
        batch.end();
        batch
    }

    /// The messages; the last of them asks for an answer.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[self.last + 6] |= u8::try_from(ACK).expect("a small flag");
        self.begin(BATCH_END, 0, 0, SUBSYSTEM);
        self.end();
        self.bytes
    }

    /// Makes the table, which ends with the socket.
    pub(super) fn add_table(&mut self) {
        let table = self.table;
        self.message(0, CREATE, |it| {
            it.text(1, table);
            it.number(2, OWNED);
        });
    }

    /// Removes the table with all that is in it.
    pub(super) fn delete_table(&mut self) {
        let table = self.table;
        self.message(2, 0, |it| it.text(1, table));
    }

    /// Makes a chain; one with an interface sees every frame that comes in there, before anybody else in the kernel.
    pub(super) fn add_chain(&mut self, name: &str, interface: Option<&str>) {
        /// Before all that people usually put there.
        const PRIORITY: i32 = -500;
        let table = self.table;
        self.message(3, CREATE, |it| {
            it.text(1, table);
            it.text(3, name);
            if let Some(interface) = interface {
                it.nest(4, |hook| {
                    hook.number(1, 0);
                    hook.number(2, PRIORITY.cast_unsigned());
                    hook.text(3, interface);
                });
                it.text(7, "filter");
            }
        });
    }

    /// Appends a rule to a chain.
    pub(super) fn add_rule(&mut self, chain: &str, steps: &[Step<'_>]) {
        let table = self.table;
        self.message(6, CREATE | APPEND, |it| {
            it.text(1, table);
            it.text(2, chain);
            it.nest(4, |list| steps.iter().for_each(|step| list.nest(1, |it| it.step(step))));
        });
    }

    /// Makes a set.
    pub(super) fn add_set(&mut self, set: Set<'_>) {
        let (table, number) = (self.table, self.messages);
        self.message(9, CREATE, |it| {
            it.text(1, table);
            it.text(2, set.name);
            let learns = if set.learns.is_some() { 0x30 } else { 0 };
            it.number(3, learns | if set.value.is_some() { 8 } else { 0 });
            it.number(4, 0);
            it.number(5, set.key);
            if let Some(len) = set.value {
                it.number(6, 0);
                it.number(7, len);
            }
            it.number(10, number);
            if let Some((size, timeout)) = set.learns {
                it.nest(9, |it| it.number(1, size));
                it.put(11, &timeout.to_be_bytes());
            }
        });
    }

    /// Adds elements to a set, with a value each if it is a map.
    pub(super) fn add_elements(&mut self, set: &str, elements: &[(Vec<u8>, Option<[u8; 6]>)]) {
        self.elements(12, CREATE, set, elements);
    }

    /// Removes elements from a set; all of them must be in it.
    pub(super) fn delete_elements(&mut self, set: &str, elements: &[(Vec<u8>, Option<[u8; 6]>)]) {
        self.elements(14, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[(Vec<u8>, Option<[u8; 6]>)]) {
        let table = self.table;
        for part in elements.chunks(ELEMENTS) {
            self.message(kind, flags, |it| {
                it.text(1, table);
                it.text(2, set);
                it.nest(3, |list| {
                    for (key, value) in part {
                        list.nest(1, |it| {
                            it.nest(1, |it| it.put(1, key));
                            if let Some(value) = value {
                                it.nest(2, |it| it.put(1, value));
                            }
                        });
                    }
                });
            });
        }
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.begin(SUBSYSTEM << 8 | kind, flags, NETDEV, 0);
        body(&mut Attributes(&mut self.bytes));
        self.end();
    }

    fn begin(&mut self, kind: u16, flags: u16, family: u8, resource: u16) {
        self.last = self.bytes.len();
        self.messages += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend([0; HEADER - 12]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
    }

    fn end(&mut self) {
        let len = u32::try_from(self.bytes.len() - self.last).expect("a message is short");
        self.bytes[self.last..self.last + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// Writes attributes.
struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    fn put(&mut self, kind: u16, value: &[u8]) {
        let at = self.start(kind);
        self.0.extend(value);
        self.stop(at);
    }

    fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let at = self.start(kind | NESTED);
        body(&mut Attributes(self.0));
        self.stop(at);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    fn numbers(&mut self, values: &[(u16, u32)]) {
        for (kind, value) in values {
            self.number(*kind, *value);
        }
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn start(&mut self, kind: u16) -> usize {
        let at = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        at
    }

    fn stop(&mut self, at: usize) {
        let len = u16::try_from(self.0.len() - at).expect("an attribute is shorter than 64 kB");
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An expression: its name, and what it is about.
    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Attributes<'_>)) {
        self.text(1, name);
        self.nest(2, body);
    }

    fn compare(&mut self, register: Register, operation: u32, value: &[u8]) {
        self.expression("cmp", |it| {
            it.number(1, register);
            it.number(2, operation);
            it.nest(3, |it| it.put(1, value));
        });
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |it| {
            it.number(1, 0);
            it.nest(2, |it| {
                it.nest(2, |it| {
                    it.number(1, code.cast_unsigned());
                    if let Some(chain) = chain {
                        it.text(2, chain);
                    }
                });
            });
        });
    }

    fn step(&mut self, step: &Step<'_>) {
        const ACCEPT: i32 = 1;
        const JUMP: i32 = -3;
        const UPDATE: u32 = 1;
        match *step {
            Step::Meta(key, to) => self.expression("meta", |it| {
                it.number(1, to);
                it.number(2, key as u32);
            }),
            Step::Load(from, at, len, to) => self.expression("payload", |it| {
                it.number(1, to);
                it.numbers(&[(2, from as u32), (3, at), (4, len)]);
            }),
            Step::Store(from, to, at, len) => self.expression("payload", |it| {
                it.numbers(&[(5, from), (2, to as u32), (3, at), (4, len), (6, 0), (7, 0)]);
            }),
            Step::Mask(register, bits) => self.expression("bitwise", |it| {
                it.numbers(&[(1, register), (2, register), (3, 1)]);
                it.nest(4, |it| it.put(1, &[bits]));
                it.nest(5, |it| it.put(1, &[0]));
            }),
            Step::Equal(register, value) => self.compare(register, 0, value),
            Step::Unequal(register, value) => self.compare(register, 1, value),
            Step::Member(set, key) => self.expression("lookup", |it| {
                it.text(1, set);
                it.number(2, key);
            }),
            Step::Find(map, key, to) => self.expression("lookup", |it| {
                it.text(1, map);
                it.number(2, key);
                it.number(3, to);
            }),
            Step::Learn(set, key) => self.expression("dynset", |it| {
                it.text(1, set);
                it.number(3, UPDATE);
                it.number(4, key);
            }),
            Step::Forward(device) => self.expression("fwd", |it| it.number(1, device)),
            Step::Accept => self.verdict(ACCEPT, None),
            Step::Jump(chain) => self.verdict(JUMP, Some(chain)),
        }
    }
}

/// What an answer of the kernel says: the number of the error, unless all is well or it is about something else.
pub fn outcome(mut answer: &[u8]) -> Result<(), i32> {
    const ERROR: u16 = 2;
    while let Some(header) = answer.get(..HEADER) {
        let len = u32::from_ne_bytes(header[..4].try_into().expect("four bytes"));
        let len = usize::try_from(len).unwrap_or(usize::MAX).max(HEADER);
        let kind = u16::from_ne_bytes(header[4..6].try_into().expect("two bytes"));
        let code = answer.get(HEADER..HEADER + 4).map(|code| i32::from_ne_bytes(code.try_into().expect("four bytes")));
        if let (ERROR, Some(code @ ..0)) = (kind, code) {
            return Err(code.saturating_neg());
        }
        answer = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_error_only_if_it_says_so() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes.resize(36, 0);
            bytes
        };
        assert_eq!(outcome(&answer(2, 0)), Ok(()));
        assert_eq!(outcome(&answer(3, -1)), Ok(()));
        assert_eq!(outcome(&[answer(2, 0), answer(2, -17)].concat()), Err(17));
        for len in 0..36 {
            assert_eq!(outcome(&answer(2, -1)[..len]), if len < 20 { Ok(()) } else { Err(1) });
        }
        let mut endless = answer(3, 0);
        endless[..4].fill(0xff);
        assert_eq!(outcome(&endless), Ok(()));
    }

    #[test]
    fn attributes_are_padded_and_their_lengths_are_not() {
        let mut bytes = Vec::new();
        let mut attributes = Attributes(&mut bytes);
        attributes.nest(4, |it| it.put(1, &[9]));
        assert_eq!(
            bytes,
            [
                &12_u16.to_ne_bytes()[..],
                &0x8004_u16.to_ne_bytes(),
                &5_u16.to_ne_bytes(),
                &1_u16.to_ne_bytes(),
                &[9, 0, 0, 0]
            ]
            .concat()
        );
    }
}
