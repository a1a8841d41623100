//! What DNS is to say for DNS-01 (RFC 8555 §8.4): a TXT record below `_acme-challenge` for each name of an order.
//!
//! A wildcard and the name itself share the owner of their records, each with a value of its own. Records are known to
//! the store before they are published, and until they are gone.
//!
//! Pure. Who publishes them: `io`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::order::Challenge;

/// What the name of a record begins with.
const LABEL: &str = "_acme-challenge.";

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Record {
    /// The issuer whose solver publishes it.
    pub issuer: String,
    /// The name that it proves; may be a wildcard.
    pub name: String,
    /// The text: 43 characters of base64url.
    pub value: String,
}

impl Record {
    /// The record that answers a challenge.
    #[must_use]
    pub fn of(issuer: &str, challenge: &Challenge) -> Self {
        let value = URL_SAFE_NO_PAD.encode(Sha256::digest(challenge.authorization.as_bytes()));
        Self { issuer: issuer.to_owned(), name: challenge.name.clone(), value }
    }

    /// Where it belongs unless that is an alias, without a final dot.
    #[must_use]
    pub fn owner(&self) -> String {
        format!("{LABEL}{}", self.name.strip_prefix("*.").unwrap_or(&self.name))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TXT record {}", self.owner())
    }
}

/// A name and everything above it, the longest first: where a zone may begin.
pub fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    starts.map(|at| &name[at..]).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_and_its_name_share_the_owner_of_their_records_and_nothing_else() {
        let challenge = |name: &str, authorization: &str| Challenge {
            name: name.to_owned(),
            method: "dns-01".to_owned(),
            token: "t".to_owned(),
            authorization: authorization.to_owned(),
        };
        let (apex, wildcard) = (challenge("example.com", "a.x"), challenge("*.example.com", "b.x"));
        let (apex, wildcard) = (Record::of("le", &apex), Record::of("le", &wildcard));
        assert_eq!((apex.owner(), wildcard.owner()), ("_acme-challenge.example.com".into(), apex.owner()));
        assert!(apex.value != wildcard.value && apex.value.len() == 43);
    }

    #[test]
    fn a_zone_may_begin_at_every_label() {
        let all: Vec<_> = ancestors("_acme-challenge.a.example.com").collect();
        assert_eq!(all, ["_acme-challenge.a.example.com", "a.example.com", "example.com", "com"]);
        assert_eq!(ancestors("a.").collect::<Vec<_>>(), ["a."]);
    }
}
