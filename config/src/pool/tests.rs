use proptest::prelude::*;

use super::*;

fn range(text: &str) -> AddressRange {
    text.parse().unwrap()
}

#[test]
fn a_range_runs_forward_within_one_family() {
    for (first, last, valid) in [
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.2", "10.0.0.1", false),
        ("10.0.0.1", "::1", false),
        ("::", "ffff::", true),
    ] {
        let range = AddressRange::new(first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(range.is_some(), valid, "{first}-{last}");
    }
}

#[test]
fn a_range_counts_its_addresses() {
    for (text, expected) in [
        ("10.0.0.1-10.0.0.1", 1),
        ("10.0.0.0/24", 256),
        ("0.0.0.0/0", 1 << 32),
        ("2001:db8::/64", 1 << 64),
        ("::/0", u128::MAX),
    ] {
        assert_eq!(range(text).len(), expected, "{text}");
        assert!(!range(text).is_empty());
    }
}

#[test]
fn a_range_finds_its_addresses_by_number() {
    for (text, offset, expected) in [
        ("10.0.0.250-10.0.1.5", 6, Some("10.0.1.0")),
        ("10.0.0.250-10.0.1.5", 12, None),
        ("0.0.0.0/0", 0xFFFF_FFFF, Some("255.255.255.255")),
        ("0.0.0.0/0", 1 << 32, None),
        ("::/0", u128::MAX, Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ("::1-::5", u128::MAX, None),
        ("::/120", 5, Some("::5")),
    ] {
        assert_eq!(range(text).nth(offset), expected.map(|ip| ip.parse().unwrap()), "{text} at {offset}");
    }
}

#[test]
fn families_do_not_mix() {
    assert!(!range("::/0").contains("10.0.0.1".parse().unwrap()));
    assert!(!range("0.0.0.0/0").contains("::1".parse().unwrap()));
    assert!(!range("::/0").overlaps(&range("0.0.0.0/0")));
}

#[test]
fn buggy_addresses_are_left_out_on_request() {
    let ranges = vec![range("10.0.0.0/23"), range("2001:db8::ff00/120")];
    let pool = |avoid_buggy_ips| Pool {
        avoid_buggy_ips,
        ..Pool::new(PoolName::new("a").unwrap(), Protocol::Layer2, ranges.clone())
    };
    for (ip, either, careful) in [
        ("10.0.0.0", true, false),
        ("10.0.0.255", true, false),
        ("10.0.1.7", true, true),
        ("2001:db8::ff00", true, true),
        ("10.0.2.0", false, false),
    ] {
        let ip = ip.parse().unwrap();
        assert_eq!((pool(false).allows(ip), pool(true).allows(ip)), (either, careful), "{ip}");
    }
}

#[test]
fn a_password_does_not_show_itself() {
    assert_eq!(format!("{:?} {:?}", Password::new("x".to_owned()), Password::default()), "\"<secret>\" \"\"");
}

fn any_range() -> impl Strategy<Value = AddressRange> {
    (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(a, b, v4)| {
        let ip = |bits: u8| from_bits(if v4 { 0x0A00_0000 } else { 0 } + u128::from(bits), v4);
        AddressRange::new(ip(a.min(b)), ip(a.max(b))).unwrap()
    })
}

proptest! {
    #[test]
    fn two_ranges_overlap_exactly_if_they_share_an_address(left in any_range(), right in any_range()) {
        let shared = (0..left.len()).filter_map(|offset| left.nth(offset)).any(|ip| right.contains(ip));
        prop_assert_eq!(left.overlaps(&right), shared);
        prop_assert_eq!(right.overlaps(&left), shared);
    }

    #[test]
    fn a_range_contains_exactly_the_addresses_it_counts(range in any_range()) {
        let all: Vec<_> = (0..).map_while(|offset| range.nth(offset)).collect();
        prop_assert_eq!(all.len() as u128, range.len());
        prop_assert_eq!((all.first(), all.last()), (Some(&range.first()), Some(&range.last())));
        prop_assert!(all.into_iter().all(|ip| range.contains(ip)));
    }
}
