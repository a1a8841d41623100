//! How much one client may ask for: `limit-rps`, `limit-rpm`, `limit-connections`, `limit-rate` and their kin.

use ipnet::IpNet;

use super::read::Reader;
use super::{source, value};

/// What one address may do, over all paths of the Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second (`limit-rps`).
    pub per_second: Option<u32>,
    /// Requests per minute (`limit-rpm`).
    pub per_minute: Option<u32>,
    /// How many times a rate may come at once (`limit-burst-multiplier`); 0 stands for 5.
    pub burst: u32,
    /// Requests under way at once (`limit-connections`).
    pub at_once: Option<u32>,
    /// Who is free of those (`limit-whitelist`, `limit-allowlist`).
    pub exempt: Vec<IpNet>,
    /// Bytes per second of one answer (`limit-rate`).
    pub rate: Option<u64>,
    /// Bytes of an answer that come first without a limit (`limit-rate-after`).
    pub rate_after: u64,
}

impl Limits {
    /// Whether requests are counted.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.per_second.is_some() || self.per_minute.is_some() || self.at_once.is_some()
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Limits {
    let older = reader.value("limit-whitelist", source::networks);
    let limits = Limits {
        per_second: reader.value("limit-rps", count).flatten(),
        per_minute: reader.value("limit-rpm", count).flatten(),
        burst: reader.value("limit-burst-multiplier", count).flatten().unwrap_or_default(),
        at_once: reader.value("limit-connections", count).flatten(),
        exempt: reader.value("limit-allowlist", source::networks).or(older).unwrap_or_default(),
        rate: reader.value("limit-rate", kilobytes).filter(|rate| *rate > 0),
        rate_after: reader.value("limit-rate-after", kilobytes).unwrap_or_default(),
    };
    // What others depend on asks for nothing by itself.
    let burst = if limits.per_second.is_some() || limits.per_minute.is_some() { limits.burst } else { 0 };
    let exempt = if limits.counts() { limits.exempt } else { Vec::new() };
    let rate_after = if limits.rate.is_some() { limits.rate_after } else { 0 };
    Limits { burst, exempt, rate_after, ..limits }
}

/// A count; 0 stands for none.
fn count(text: &str) -> Result<Option<u32>, String> {
    let number = value::number(text).and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= 1 << 24);
    let number = number.ok_or_else(|| format!("{text:?} is not a count; write it like \"10\""))?;
    Ok(Some(number).filter(|number| *number > 0))
}

fn kilobytes(text: &str) -> Result<u64, String> {
    let number = value::number(text).and_then(|number| number.checked_mul(1024));
    number.ok_or_else(|| format!("{text:?} is not a number of kilobytes; write it like \"512\""))
}
