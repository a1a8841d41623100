//! Which member owns a VIP.
//!
//! Every speaker evaluates this over the same members and reaches the same answer without exchanging a packet: each
//! member draws a score for the VIP and the lowest owns it (rendezvous hashing). A member that leaves moves only its
//! own VIPs. The score is `MetalLB`'s, sha256 of `node#address`, so that migrating moves no address.
//!
//! Pure. Source: `MetalLB` `speaker/layer2_controller.go`, `ShouldAnnounce`.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// The member that owns `vip`; `None` when there is no member.
#[must_use]
pub fn owner<'a>(vip: IpAddr, members: &[&'a str]) -> Option<&'a str> {
    members.iter().copied().min_by_key(|member| score(vip, member))
}

/// All members, the owner of `vip` first, then who follows if those before are gone.
#[must_use]
pub fn ranking<'a>(vip: IpAddr, members: &[&'a str]) -> Vec<&'a str> {
    let mut ranked = members.to_vec();
    ranked.sort_by_cached_key(|member| score(vip, member));
    ranked
}

/// Who has the lowest comes first.
pub(crate) fn score(vip: IpAddr, member: &str) -> [u8; 32] {
    Sha256::new().chain_update(member).chain_update("#").chain_update(vip.to_string()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_winner_is_metallbs() {
        // By `printf 'a#192.0.2.1' | sha256sum` and so on: a 49af.., b 82cc.., c 46d1..
        let vip = "192.0.2.1".parse().unwrap();
        assert_eq!(ranking(vip, &["a", "b", "c"]), ["c", "a", "b"]);
        assert_eq!(owner(vip, &["a", "b"]), Some("a"));
        assert_eq!(owner(vip, &[]), None);
    }

    proptest! {
        #[test] // so connections to this VIP survive somebody else's failure
        fn only_the_owners_departure_moves_a_vip(vip: u32, members in prop::collection::btree_set("[a-z]{1,5}", 2..8)) {
            let (vip, all) = (IpAddr::V4(vip.into()), members.iter().map(String::as_str).collect::<Vec<_>>());
            let ranked = ranking(vip, &all);
            prop_assert_eq!(owner(vip, &all), ranked.first().copied());
            for bystander in &ranked[1..] {
                let rest: Vec<&str> = all.iter().copied().filter(|member| member != bystander).collect();
                prop_assert_eq!(owner(vip, &rest), owner(vip, &all));
            }
        }
    }
}
