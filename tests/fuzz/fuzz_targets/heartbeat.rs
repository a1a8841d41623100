//! Datagrams from anybody who reaches the port: nothing unsigned is accepted, and what is understood is understood
//! again after encoding.
#![no_main]

use lb_speaker::heartbeat::{Keyring, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let keys = Keyring::new("secret", "cluster").expect("a key");
    assert!(keys.open(bytes).is_err(), "accepted without the key");
    if let Ok(beat) = decode(bytes) {
        assert_eq!(keys.open(&keys.seal(&beat)), Ok(beat));
    }
});
