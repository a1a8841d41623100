//! Signatures of requests to Amazon's services.
//!
//! Pure. Source: AWS Signature Version 4, "Create a signed AWS API request".

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Who signs, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The public part of the key.
    pub access_key: &'a str,
    /// The secret part.
    pub secret_key: &'a str,
    /// The region, `us-east-1` for what has none.
    pub region: &'a str,
    /// The service, such as `route53`.
    pub service: &'a str,
}

/// A request to sign.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The value of `Host`.
    pub host: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// Names and values of the query, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// What a signed request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `x-amz-date`.
    pub date: String,
    /// `authorization`.
    pub authorization: String,
}

impl Signer<'_> {
    /// Signs a request at `now`.
    #[must_use]
    pub fn sign(&self, request: &Signed<'_>, now: Timestamp) -> Headers {
        let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &date[..8];
        let canonical = format!(
            "{}\n{}\n{}\nhost:{}\nx-amz-date:{date}\n\nhost;x-amz-date\n{}",
            request.method,
            request.path,
            query(request.query),
            request.host,
            hex(&Sha256::digest(request.body)),
        );
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let first = mac(format!("AWS4{}", self.secret_key).as_bytes(), day);
        let key = [self.region, self.service, "aws4_request"].iter().fold(first, |key, part| mac(key.as_ref(), part));
        let signature = hex(mac(key.as_ref(), &text).as_ref());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}",
            self.access_key
        );
        Headers { date, authorization }
    }
}

/// The query of a URL: encoded, and in the order that is signed.
#[must_use]
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut encoded: Vec<_> = pairs.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    encoded.sort();
    let pairs: Vec<String> = encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Everything but unreserved characters (RFC 3986 §2.3) as `%XX`.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_amazons_own_test_suite_are_signed_as_there() {
        let signer = Signer {
            access_key: "AKIDEXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
            service: "service",
        };
        let vanilla = Signed { method: "GET", host: "example.amazonaws.com", path: "/", query: &[], body: b"" };
        let ordered = Signed { query: &[("Param2", "value2"), ("Param1", "value1")], ..vanilla };
        for (name, request, expected) in [
            ("get-vanilla", vanilla, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "get-vanilla-query-order-key-case",
                ordered,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let headers = signer.sign(&request, "2015-08-30T12:36:00Z".parse().unwrap());
            assert_eq!(headers.date, "20150830T123600Z");
            let (_, signature) = headers.authorization.split_once("Signature=").unwrap();
            assert_eq!(signature, expected, "{name}");
        }
    }

    #[test]
    fn a_query_is_encoded_and_in_order() {
        assert_eq!(query(&[("type", "TXT"), ("name", "_a.b c/é")]), "name=_a.b%20c%2F%C3%A9&type=TXT");
    }
}
