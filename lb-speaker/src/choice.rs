//! Which interfaces an operator chose to announce on, by name or by regular expression.
//!
//! Pure. What is chosen where nothing was said: [`crate::reach`].

use std::fmt;
use std::str::FromStr;

use config::pattern::{Pattern, PatternError};

/// What was chosen; without anything every suitable interface is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// These alone, whatever their subnets and kinds; empty for those that suit.
    pub only: Vec<Chosen>,
    /// None of these, even if they are among [`Self::only`].
    pub except: Vec<Chosen>,
}

/// One interface, or all whose name matches as a whole.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// The one of this name.
    Named(String),
    /// Those that match, as it was written.
    Matching(String, Box<Pattern>),
}

impl PartialEq for Chosen {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Chosen {}

impl Chosen {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Named(text) | Self::Matching(text, _) => text,
        }
    }

    /// Whether the interface of this name is meant.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        match self {
            Self::Named(named) => named == name,
            Self::Matching(_, pattern) => pattern.is_match(name),
        }
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Chosen {
    type Err = PatternError;

    /// A text without any character that is special in regular expressions, but for the dot of VLANs, is a name.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let is_plain = |character: char| character.is_alphanumeric() || ".-_@:".contains(character);
        if text.chars().all(is_plain) {
            return Ok(Self::Named(text.to_owned()));
        }
        // By itself first, so that a stray parenthesis cannot close the group around it.
        Pattern::search(text)?;
        Ok(Self::Matching(text.to_owned(), Box::new(Pattern::search(&format!("^(?:{text})$"))?)))
    }
}

impl Choice {
    /// Whether nothing is announced on the interface of this name, whatever else.
    #[must_use]
    pub fn excludes(&self, name: &str) -> bool {
        self.except.iter().any(|chosen| chosen.is(name))
    }

    /// Whether the interface of this name was asked for.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.only.iter().any(|chosen| chosen.is(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_literally_and_an_expression_matches_whole_names() {
        for (text, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth0.5", "eth0.5", true),
            ("eth0.5", "eth0x5", false),
            ("eth[0-9]+", "eth12", true),
            ("eth[0-9]+", "veth12", false),
            ("eth.*|bond0", "bond0", true),
            ("eth.*|bond0", "bond01", false),
        ] {
            let chosen: Chosen = text.parse().unwrap();
            assert_eq!(chosen.is(name), expected, "{text} against {name}");
            assert_eq!(chosen.to_string(), text);
        }
        for wrong in ["eth[", "a)|(b", "*"] {
            assert!(wrong.parse::<Chosen>().is_err(), "{wrong}");
        }
    }
}
