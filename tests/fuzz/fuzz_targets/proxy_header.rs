//! PROXY headers: whatever a peer begins with is a header, more of one to come, or refused; and where a header is cut
//! does not matter.

#![no_main]

use ingress::proxy_protocol::{Header, parse, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((header, length))) = parse(bytes) else { return };
    assert!(length <= bytes.len());
    for cut in 0..length {
        assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} of {length}");
    }
    if let Header::Proxied { source, destination } = header {
        let line = write(source, destination);
        let read = parse(line.as_bytes()).expect("what we write is a header").expect("a whole one");
        let Header::Proxied { source: again, .. } = read.0 else { panic!("{line} names nobody") };
        assert_eq!((again.ip().to_canonical(), again.port()), (source.ip().to_canonical(), source.port()));
    }
});
