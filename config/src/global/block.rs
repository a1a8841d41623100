//! Who is refused with 403: `block-cidrs`, `block-user-agents`, `block-referers`.

use super::read::Reader;
use super::trust::Network;
use crate::annotation::network;
use crate::pattern::Pattern;

/// Who is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Clients in these networks.
    pub networks: Vec<Network>,
    /// Requests with such a `User-Agent`.
    pub agents: Vec<Match>,
    /// Requests with such a `Referer`.
    pub referers: Vec<Match>,
}

/// What a field is compared with, upper and lower case alike as in nginx's `map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is this, in lower case.
    Is(String),
    /// An expression is found in it.
    Finds(Pattern),
}

impl Match {
    /// Whether `text` is meant.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Is(whole) => text.eq_ignore_ascii_case(whole),
            Self::Finds(pattern) => pattern.is_match(text),
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Blocks {
    Blocks {
        networks: reader.elements("block-cidrs", network),
        agents: reader.elements("block-user-agents", matched),
        referers: reader.elements("block-referers", matched),
    }
}

/// `~*text` and `~text` are expressions, `text` is the whole field.
fn matched(text: &str) -> Result<Match, String> {
    let pattern = match (text.strip_prefix("~*"), text.strip_prefix('~')) {
        (Some(rest), _) => Pattern::search(&format!("(?i){rest}")),
        (None, Some(rest)) => Pattern::search(rest),
        (None, None) => return Ok(Match::Is(text.to_owned())),
    };
    pattern.map(Match::Finds).map_err(|error| error.to_string())
}
