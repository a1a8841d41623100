//! What is compressed: `use-gzip`, `enable-brotli`, `enable-zstd` and their kin.

use super::read::Reader;
use super::unit;

/// What ingress-nginx compresses where nothing is said; `text/html` goes without saying.
const TYPES: [&str; 17] = [
    "application/atom+xml",
    "application/javascript",
    "application/x-javascript",
    "application/json",
    "application/rss+xml",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "application/x-web-app-manifest+json",
    "application/xhtml+xml",
    "application/xml",
    "font/opentype",
    "image/svg+xml",
    "image/x-icon",
    "text/css",
    "text/javascript",
    "text/plain",
    "text/x-component",
];

/// A content coding (RFC 9110 §8.4.1), in the order of our preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    /// As in `Content-Encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// How one coding is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Which.
    pub coding: Coding,
    /// How hard it tries.
    pub level: u32,
    /// Answers shorter than this are left alone, in bytes.
    pub least: u64,
    /// Media types, lower case, beside `text/html`; `*` for all.
    pub types: Vec<String>,
}

/// What is compressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// The codings that are on, the preferred one first.
    pub codecs: Vec<Codec>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Compression {
    let codecs = [
        codec(
            reader,
            Coding::Brotli,
            ["enable-brotli", "brotli-level", "brotli-min-length", "brotli-types"],
            (4, 11, 20),
        ),
        codec(reader, Coding::Zstd, ["enable-zstd", "zstd-level", "zstd-min-length", "zstd-types"], (3, 19, 256)),
        codec(reader, Coding::Gzip, ["use-gzip", "gzip-level", "gzip-min-length", "gzip-types"], (1, 9, 256)),
    ];
    Compression { codecs: codecs.into_iter().flatten().collect() }
}

/// `(usual level, highest level, usual least length)`.
fn codec(reader: &mut Reader<'_>, coding: Coding, keys: [&str; 4], usual: (u32, u32, u64)) -> Option<Codec> {
    let [on, level, least, types] = keys;
    let (level, least, types) = (
        reader.value(level, |text| unit::level(text, 1, usual.1)),
        reader.value(least, unit::size),
        reader.value(types, self::types),
    );
    let types = types.unwrap_or_else(|| TYPES.map(str::to_owned).to_vec());
    let codec = Codec { coding, level: level.unwrap_or(usual.0), least: least.unwrap_or(usual.2), types };
    reader.flag(on)?.then_some(codec)
}

fn types(text: &str) -> Result<Vec<String>, String> {
    let one = |word: &str| {
        let is_type = |word: &str| word.split_once('/').is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty());
        let word = word.to_ascii_lowercase();
        if word == "*" || is_type(&word) {
            return Ok(word);
        }
        Err(format!("{word:?} is not a media type; write them like \"text/css application/json\""))
    };
    text.split_ascii_whitespace().map(one).collect()
}
