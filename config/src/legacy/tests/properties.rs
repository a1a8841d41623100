use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use crate::legacy::parse_text;
use crate::legacy::range::widest_prefix;
use crate::pool::AddressRange;

const VALID: &str = "\
bgp-communities: {local: 64512:7}
bfd-profiles: [{name: fast, echo-interval: 100}]
address-pools:
- &base
  name: default
  protocol: bgp
  addresses: [10.0.0.0/24, 10.1.0.1-10.1.0.8, 2001:db8::/64]
  bgp-advertisements: [{aggregation-length: 30, communities: [local]}]
- {<<: *base, name: other, addresses: [10.2.0.0/24], avoid-buggy-ips: yes}
peers:
- my-asn: 64512
  peer-asn: 64513
  peer-address: 10.0.0.1
  hold-time: 1m
  bfd-profile: fast
  node-selectors: [{match-labels: {a: b}}]
";

/// A range of one family from any two addresses.
fn range() -> impl Strategy<Value = AddressRange> {
    let v4 = any::<(u32, u32)>().prop_map(|(a, b)| (Ipv4Addr::from(a.min(b)).into(), Ipv4Addr::from(a.max(b)).into()));
    let v6 =
        any::<(u128, u128)>().prop_map(|(a, b)| (Ipv6Addr::from(a.min(b)).into(), Ipv6Addr::from(a.max(b)).into()));
    prop_oneof![v4, v6]
        .prop_filter_map("mapped addresses change family", |(first, last)| AddressRange::new(first, last))
}

/// Replaces some bytes of a text, at character boundaries, by pieces of YAML.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::new()),
        proptest::sample::select(vec![
            "\t", "\n", "- ", ": ", "[", "}", "&a ", "*a", "|", "'", "\"", "<<", "\u{feff}", "#", "!", "%", "---\n",
            "\r", "é"
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,4}",
    ];
    proptest::collection::vec((0..VALID.len(), 0..6usize, piece), 1..6).prop_map(|cuts| {
        let mut text = VALID.to_owned();
        for (start, length, piece) in cuts {
            let start = (0..=start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (start + length..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            text.replace_range(start.min(end)..end, &piece);
        }
        text
    })
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        let legacy = parse_text(&"c".into(), &text.as_str().into());
        prop_assert!(legacy.config.is_some() || !legacy.problems.is_empty());
    }

    #[test] // so nothing is refused without a reason, and nothing is half accepted
    fn a_configuration_is_refused_exactly_if_there_is_an_error(text in mutated()) {
        let legacy = parse_text(&"c".into(), &text.as_str().into());
        let errors = legacy.problems.iter().any(super::is_error_problem);
        prop_assert_eq!(legacy.config.is_none(), errors);
        for place in legacy.problems.iter().filter_map(|problem| problem.place.as_ref()) {
            prop_assert!(place.line >= 1 && place.column >= 1);
        }
    }

    #[test]
    fn a_range_reads_back_as_it_is_shown(range in range()) {
        prop_assert_eq!(range.to_string().parse::<AddressRange>(), Ok(range));
    }

    #[test]
    fn the_widest_prefix_of_a_prefix_is_its_own_length(address: u32, length in 0u8..=32) {
        let range: AddressRange = format!("{}/{length}", Ipv4Addr::from(address)).parse().unwrap();
        prop_assert_eq!(widest_prefix(&range), length);
    }

    #[test] // a range of n addresses holds a prefix of at least a quarter of them, and none larger than itself
    fn the_widest_prefix_fits_into_its_range(range in range()) {
        let width = if range.first().is_ipv4() { 32 } else { 128 };
        let size = 1u128.checked_shl(width - u32::from(widest_prefix(&range))).unwrap_or(u128::MAX);
        prop_assert!(size <= range.len() && size >= range.len() / 4);
    }
}

#[test]
fn the_text_that_is_mutated_is_valid() {
    super::config(VALID);
}
