use proptest::prelude::*;

use super::*;

fn beats() -> impl Strategy<Value = Beat> {
    let echo = (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>());
    let echo = echo.prop_map(|(id, boot, seq, held, by_letter)| Heard { id, boot, seq, held, by_letter });
    let claim = (any::<IpAddr>(), any::<u64>()).prop_map(|(vip, epoch)| Claim { vip, epoch });
    let start = ("[a-z0-9.-]{1,253}", any::<u64>(), any::<u64>(), any::<u16>(), any::<u8>(), 0_u8..64, any::<u64>());
    let lists = (
        prop::collection::vec(any::<[u8; 6]>(), 0..16),
        prop::collection::vec(echo, 0..MAX_HEARD),
        prop::option::of(prop::collection::vec(claim, 0..40)),
        prop::collection::vec(any::<IpAddr>(), 0..9),
        prop::collection::vec(any::<IpAddr>(), 0..9),
        prop::collection::vec(any::<u64>(), 0..16),
        moves(),
        prop::collection::vec((any::<IpAddr>(), any::<Option<[u8; 6]>>()), 0..MAX_FINDINGS),
    );
    (start, lists).prop_map(|(start, (macs, heard, owned, unable, disowned, silent, moves, findings))| {
        let (node, boot, seq, interval, misses, flags, generation) = start;
        let flags = Flags::of(flags).expect("six flags");
        let node = node.into();
        let findings = findings.into_iter().map(|(vip, answered_by)| Finding { vip, answered_by }).collect();
        Beat {
            node,
            boot,
            seq,
            interval,
            misses,
            flags,
            generation,
            macs,
            heard,
            owned,
            unable,
            disowned,
            silent,
            moves,
            findings,
        }
    })
}

fn moves() -> impl Strategy<Value = Moves> {
    let vips = || prop::collection::vec(any::<IpAddr>(), 0..9);
    let wish = (any::<IpAddr>(), any::<u64>(), prop::option::of("[a-z0-9.-]{1,253}"));
    let wish = wish.prop_map(|(vip, stamp, node)| Wish { vip, stamp, node: node.map(Into::into) });
    (vips(), vips(), prop::collection::vec(wish, 0..MAX_WISHES)).prop_map(|(offered, lingering, wishes)| Moves {
        offered,
        lingering,
        wishes,
    })
}

fn keys(secrets: &str) -> Keyring {
    Keyring::new(secrets, "edge").expect("there is a secret")
}

#[test]
fn two_keys_are_accepted_while_one_replaces_the_other() {
    let beat = Beat { node: "a".into(), ..Beat::default() };
    let rows = [
        ("old", "old", true),
        ("old", "old\nnew\n", true),
        ("new", "old\nnew", true),
        ("new", "\n new \nold", true),
        ("old", "new", false),
        ("other", "old\nnew", false),
    ];
    for (signer, receiver, accepted) in rows {
        let opened = keys(receiver).open(&keys(signer).seal(&beat));
        assert_eq!(opened, if accepted { Ok(beat.clone()) } else { Err(BeatError::Key) }, "{signer} to {receiver:?}");
    }
}

#[test]
fn one_secret_in_two_clusters_makes_two_keys() {
    let beat = Beat { node: "a".into(), ..Beat::default() };
    let sealed = Keyring::new("secret", "east").unwrap().seal(&beat);
    assert_eq!(Keyring::new("secret", "west").unwrap().open(&sealed), Err(BeatError::Key));
}

#[test]
fn a_file_without_a_secret_makes_no_keyring() {
    assert!(Keyring::new(" \n\n", "edge").is_none());
}

#[test]
fn the_longest_beat_fits_a_datagram() {
    let claim = Claim { vip: "2001:db8::1".parse().unwrap(), epoch: u64::MAX };
    let beat = Beat {
        node: "n".repeat(253).into(),
        macs: vec![[0; 6]; 99],
        heard: vec![Heard { id: 1, boot: 1, seq: 1, held: true, by_letter: true }; 99],
        owned: Some(vec![claim; 3000]),
        unable: vec![claim.vip; 300],
        disowned: vec![claim.vip; 300],
        silent: vec![1; 99],
        moves: Moves {
            offered: vec![claim.vip; 99],
            lingering: vec![claim.vip; 3000],
            wishes: vec![Wish { vip: claim.vip, stamp: 1, node: Some("n".repeat(253).into()) }; 99],
        },
        findings: vec![Finding { vip: claim.vip, answered_by: Some([1; 6]) }; 99],
        ..Beat::default()
    };
    let sealed = keys("k").seal(&beat);
    assert!(sealed.len() <= MAX_LEN, "{}", sealed.len());
    assert_eq!(keys("k").open(&sealed).unwrap().owned.unwrap().len(), MAX_OWNED);
}

proptest! {
    #[test]
    fn opening_gives_back_what_was_sealed(beat in beats()) {
        prop_assert_eq!(keys("k").open(&keys("k").seal(&beat)), Ok(beat));
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed(beat in beats(), at: prop::sample::Index, bit in 0..8_u32) {
        let mut sealed = keys("k").seal(&beat);
        let at = at.index(sealed.len());
        sealed[at] ^= 1_u8 << bit;
        prop_assert!(keys("k").open(&sealed).is_err());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
        let keys = keys("k");
        prop_assert!(keys.open(&bytes).is_err());
        if let Ok(beat) = decode(&bytes) {
            prop_assert_eq!(keys.open(&keys.seal(&beat)), Ok(beat));
        }
    }

    #[test]
    fn a_cut_beat_is_malformed(beat in beats(), at: prop::sample::Index) {
        let mut bytes = Vec::new();
        write(&beat, &mut bytes);
        let cut = at.index(bytes.len());
        let refused = matches!(decode(&bytes[..cut]), Err(BeatError::Malformed { .. }));
        prop_assert!(refused);
    }
}
