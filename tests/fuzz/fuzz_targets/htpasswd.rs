//! Password files: whatever stands in one, reading it and asking it ends.
#![no_main]

use ingress::filter::{Check, Credentials, Users};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (file, user, password) = input;
    let (users, problems) = Users::read(file);
    assert!(problems.len() <= file.lines().count());
    let who = Credentials { user: user.to_owned(), password: password.to_vec() };
    // Costly hashes are known to end; computing them here would only be slow.
    if let Check::Known(is_right) = users.check(&who) {
        assert_eq!(users.verify(&who), is_right);
    }
});
