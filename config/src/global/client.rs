//! What clients may do and how long they may take: `keep-alive`, `client-header-timeout`,
//! `large-client-header-buffers` and their kin.

use std::time::Duration;

use super::read::Reader;
use super::unit;
use crate::annotation::value;

/// What clients may do; `None` leaves it to our defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRules {
    /// For a whole request head (`client-header-timeout`).
    pub head: Option<Duration>,
    /// For the next byte of a request body (`client-body-timeout`).
    pub body: Option<Duration>,
    /// For the next request on an open connection (`keep-alive`); 0 closes after each.
    pub idle: Option<Duration>,
    /// Requests on one connection (`keep-alive-requests`).
    pub requests: Option<usize>,
    /// Bytes of a request head, and of its longest line (`large-client-header-buffers`).
    pub buffers: Option<(usize, usize)>,
    /// Whether fields with `_` in their name pass (`enable-underscores-in-headers`).
    pub underscores: bool,
}

pub(super) fn read(reader: &mut Reader<'_>) -> ClientRules {
    // nginx begins with a small buffer and goes on to large ones; what may be in all of them is what matters.
    let first = reader.value("client-header-buffer-size", buffer);
    let large = reader.value("large-client-header-buffers", buffers);
    let most = first.map_or(0, |first| first.min(1 << 20));
    ClientRules {
        head: reader.value("client-header-timeout", unit::seconds),
        body: reader.value("client-body-timeout", unit::seconds),
        idle: reader.value("keep-alive", unit::time),
        requests: reader.value("keep-alive-requests", unit::count),
        buffers: large.map(|(count, size)| (count * size + most, size.max(most))),
        underscores: reader.flag("enable-underscores-in-headers").unwrap_or_default(),
    }
}

fn buffer(text: &str) -> Result<usize, String> {
    let size = value::size(text)?;
    usize::try_from(size).ok().filter(|size| (1..=1 << 20).contains(size)).ok_or_else(|| too_much(text))
}

/// `4 8k`: how many, and how large each.
fn buffers(text: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("{text:?} is not a number and a size; write it like \"4 8k\"");
    let (count, size) = text.split_once(' ').ok_or_else(wrong)?;
    let (count, size) = (unit::count(count).map_err(|_| wrong())?, buffer(size.trim())?);
    if count == 0 {
        return Err(wrong());
    }
    Some((count, size)).filter(|_| count.saturating_mul(size) <= 1 << 20).ok_or_else(|| too_much(text))
}

fn too_much(text: &str) -> String {
    format!("{text:?} is more than one connection may hold; stay within 1m")
}
