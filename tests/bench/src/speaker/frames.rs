//! The few ARP frames that are sent and looked for, as bytes: RFC 826.

use std::net::Ipv4Addr;

/// Bytes of a frame.
pub const LEN: usize = 42;

/// "Who has `target`?", asked by `sender` at `mac`.
#[must_use]
pub fn question(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; LEN] {
    let mut frame = [0; LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[38..].copy_from_slice(&target.octets());
    frame
}

/// The address that a frame is an answer for, if it was sent to `mac`.
#[must_use]
pub fn answered(frame: &[u8], mac: [u8; 6]) -> Option<Ipv4Addr> {
    let is_reply = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 2]);
    if is_reply && frame.get(..6) == Some(&mac) { ip_at(frame, 28) } else { None }
}

/// The address that a frame announces: ARP whose sender and target are the same.
#[must_use]
pub fn announced(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_arp = frame.get(12..14) == Some(&[8, 6]);
    let (sender, target) = (ip_at(frame, 28)?, ip_at(frame, 38)?);
    (is_arp && sender == target).then_some(sender)
}

fn ip_at(frame: &[u8], at: usize) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(frame.get(at..at + 4)?).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart() {
        let (mac, a, b) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let asked = question(mac, a, b);
        assert_eq!((answered(&asked, mac), announced(&asked)), (None, None));
        assert_eq!(announced(&question(mac, a, a)), Some(a));
        let mut answer = asked;
        answer[..6].copy_from_slice(&mac);
        answer[21] = 2;
        assert_eq!((answered(&answer, mac), answered(&answer, [2; 6])), (Some(a), None));
        assert_eq!((answered(&[], mac), announced(&asked[..30])), (None, None));
    }
}
