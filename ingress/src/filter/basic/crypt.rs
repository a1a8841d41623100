//! Whether a password is that of a hash, for the hashes that ingress-nginx's users have.
//!
//! | begins with | what it is | |
//! |---|---|---|
//! | `$2a$`, `$2b$`, `$2y$` | bcrypt | costly |
//! | `$5$`, `$6$` | SHA-crypt (Drepper 2007) | costly |
//! | `$apr1$`, `$1$` | a thousand rounds of MD5 | costly |
//! | `{SHA}`, `{SSHA}` | SHA-1, with salt (RFC 2307) | cheap |
//! | `{PLAIN}` | the password itself | cheap |
//!
//! Hashes are compared in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha_crypt::{PasswordHashRef, PasswordVerifier, ShaCrypt};

/// The costliest bcrypt that is computed: some seconds.
const MOST_COST: u32 = 15;
/// The most rounds of SHA-crypt: some seconds.
const MOST_ROUNDS: u32 = 1_000_000;

/// The hash of one password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Plain(Vec<u8>),
    /// With the salt, which may be empty.
    Sha1([u8; SHA1_OUTPUT_LEN], Vec<u8>),
    Md5 {
        magic: &'static str,
        salt: String,
        sum: String,
    },
    Sha(String),
    Bcrypt(String),
}

impl Hash {
    /// Reads a hash; an error says what is wrong with it and not what it is.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let sha1 = |text: &str| {
            let bytes = STANDARD.decode(text).map_err(|_| "is no base64")?;
            let (sum, salt) = bytes.split_first_chunk().ok_or("is too short")?;
            Ok(Self::Sha1(*sum, salt.to_vec()))
        };
        if let Some(plain) = text.strip_prefix("{PLAIN}") {
            return Ok(Self::Plain(plain.into()));
        }
        if let Some(text) = text.strip_prefix("{SSHA}").or_else(|| text.strip_prefix("{SHA}")) {
            return sha1(text);
        }
        for magic in ["$apr1$", "$1$"] {
            if let Some(rest) = text.strip_prefix(magic) {
                let (salt, sum) = rest.split_once('$').ok_or("has no salt")?;
                let salt = salt.get(..salt.len().min(8)).ok_or("has a salt that is no ASCII")?;
                return Ok(Self::Md5 { magic, salt: salt.to_owned(), sum: sum.to_owned() });
            }
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|magic| text.starts_with(magic)) {
            let cost = text.get(4..6).and_then(|cost| cost.parse().ok()).filter(|_| text.len() == 60);
            let cost: u32 = cost.ok_or("is not a whole bcrypt hash")?;
            return if cost <= MOST_COST { Ok(Self::Bcrypt(text.to_owned())) } else { Err("costs too much") };
        }
        if text.starts_with("$5$") || text.starts_with("$6$") {
            let rounds = text[3..].strip_prefix("rounds=").and_then(|rest| rest.split_once('$'));
            let rounds: Option<u32> = rounds.and_then(|(rounds, _)| rounds.parse().ok());
            PasswordHashRef::new(text).map_err(|_| "is not a whole SHA-crypt hash")?;
            let is_fine = rounds.unwrap_or_default() <= MOST_ROUNDS;
            return if is_fine { Ok(Self::Sha(text.to_owned())) } else { Err("costs too much") };
        }
        Err("is of a kind that is not supported; make it again with htpasswd -B")
    }

    /// Whether checking takes so long that nothing else may wait for it.
    pub(super) const fn is_costly(&self) -> bool {
        !matches!(self, Self::Plain(_) | Self::Sha1(..))
    }

    /// Whether it is that of `password`.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        let same = |one: &[u8], other: &[u8]| verify_slices_are_equal(one, other).is_ok();
        match self {
            Self::Plain(plain) => same(plain, password),
            Self::Sha1(sum, salt) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(password);
                context.update(salt);
                same(sum, context.finish().as_ref())
            }
            Self::Md5 { magic, salt, sum } => same(sum.as_bytes(), md5_crypt(magic, password, salt).as_bytes()),
            Self::Sha(text) => {
                PasswordHashRef::new(text).is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok())
            }
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        }
    }
}

/// `$1$` of FreeBSD's crypt(3) and Apache's `$apr1$`, which differ in nothing but that word.
fn md5_crypt(magic: &str, password: &[u8], salt: &str) -> String {
    let salt = salt.as_bytes();
    let twice = sum(&[password, salt, password]);
    let mut first = Md5::new();
    first.update(password);
    first.update(magic);
    first.update(salt);
    for left in (1..=password.len()).rev().step_by(16) {
        first.update(&twice[..left.min(16)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut last: [u8; 16] = first.finalize().into();
    for round in 0..1000 {
        let odd = round % 2 == 1;
        let empty = &[][..];
        last = sum(&[
            if odd { password } else { &last },
            if round % 3 == 0 { empty } else { salt },
            if round % 7 == 0 { empty } else { password },
            if odd { &last } else { password },
        ]);
    }
    spell(&last)
}

fn sum(parts: &[&[u8]]) -> [u8; 16] {
    let mut all = Md5::new();
    for part in parts {
        all.update(part);
    }
    all.finalize().into()
}

/// Six bits a letter, the lowest first, bytes in the order that crypt(3) has.
fn spell(sum: &[u8; 16]) -> String {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut out = String::with_capacity(22);
    let mut push = |mut bits: u32, letters: usize| {
        for _ in 0..letters {
            out.push(char::from(LETTERS[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    for [a, b, c] in ORDER {
        push(u32::from(sum[a]) << 16 | u32::from(sum[b]) << 8 | u32::from(sum[c]), 4);
    }
    push(u32::from(sum[11]), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by OpenSSL and crypt(3).
    const OF_SECRET: [&str; 9] = [
        "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
        "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
        "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
        "$6$rounds=1000$abc$MqEcPZUYRGGcOeq7PhMpfjfu/F0HrVEI0OlZBijWvO8mSG77iNUDP5MqFceKpJTBc8iITVtNyLiNTRNCxv6oh0",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0",
        "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "{PLAIN}secret",
    ];

    #[test]
    fn every_kind_knows_its_password_and_no_other() {
        for text in OF_SECRET {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.is_of(b"secret"), "{text}");
            for other in ["", "Secret", "secret ", "secre", "secretsecretsecretsecret"] {
                assert!(!hash.is_of(other.as_bytes()), "{text} {other:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for text in [
            "",
            "secret",
            "abNANd1rDfiNc",
            "{SHA}x",
            "{SSHA}AAAA",
            "$apr1$",
            "$2y$05$short",
            "$2y$31$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
            "$6$rounds=999999999$abc$x",
            "$y$j9T$x$y",
        ] {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }
}
