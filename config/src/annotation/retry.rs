//! When another endpoint is asked: `proxy-next-upstream`, `-tries` and `-timeout`.

use std::time::Duration;

use super::read::Reader;
use super::value;

/// When another endpoint is asked, as far as the annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// After what.
    pub on: Option<RetryOn>,
    /// How many endpoints in all; `usize::MAX` where there is no limit but their number (0).
    pub tries: Option<usize>,
    /// For how long after the request came; `None` also where there is no limit (0).
    pub within: Option<Duration>,
}

/// After what another endpoint is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word that stands in the list or does not")]
pub struct RetryOn {
    /// The connection was refused or broke.
    pub error: bool,
    /// There was no answer in time.
    pub timeout: bool,
    /// The answer was not HTTP.
    pub invalid_header: bool,
    /// Whether also requests that are not idempotent and may have been received (RFC 9110 §9.2.2).
    pub non_idempotent: bool,
    /// Statuses of answers.
    pub statuses: Vec<u16>,
}

impl RetryOn {
    /// nginx's `error timeout`.
    #[must_use]
    pub fn error_or_timeout() -> Self {
        Self { error: true, timeout: true, ..Self::default() }
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Retry {
    Retry {
        on: reader.value("proxy-next-upstream", words),
        tries: reader
            .value("proxy-next-upstream-tries", count)
            .map(|tries| if tries == 0 { usize::MAX } else { tries }),
        within: reader
            .value("proxy-next-upstream-timeout", count)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds as u64)),
    }
}

fn words(text: &str) -> Result<RetryOn, String> {
    let mut on = RetryOn::default();
    for word in text.split_ascii_whitespace() {
        match word {
            "error" => on.error = true,
            "timeout" => on.timeout = true,
            "invalid_header" => on.invalid_header = true,
            "non_idempotent" => on.non_idempotent = true,
            "off" => return Ok(RetryOn::default()),
            word => on.statuses.push(status(word)?),
        }
    }
    Ok(on)
}

fn status(word: &str) -> Result<u16, String> {
    let status = word.strip_prefix("http_").and_then(value::number);
    let known = status.filter(|status| [403, 404, 429, 500, 502, 503, 504].contains(status));
    known.and_then(|status| status.try_into().ok()).ok_or_else(|| {
        format!("{word:?} is none of error, timeout, invalid_header, http_500, http_502, http_503, http_504, http_403, http_404, http_429, non_idempotent, off")
    })
}

fn count(text: &str) -> Result<usize, String> {
    let number = value::number(text).filter(|number| *number <= 86_400).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("{text:?} is not a number; write it like \"3\", or \"0\" for no limit"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn when_another_endpoint_is_asked_is_read() {
        let on = |words: &str| read(&[("proxy-next-upstream", words)]).0.upstream.retry.on;
        assert_eq!(on("error timeout"), Some(RetryOn::error_or_timeout()));
        assert_eq!(on("off"), Some(RetryOn::default()));
        assert_eq!(on("error off"), Some(RetryOn::default()));
        let all = RetryOn {
            error: true,
            timeout: true,
            invalid_header: true,
            non_idempotent: true,
            statuses: vec![502, 404],
        };
        assert_eq!(on("error timeout  invalid_header http_502 http_404 non_idempotent"), Some(all));
        let (read, problems) = read(&[("proxy-next-upstream-tries", "0"), ("proxy-next-upstream-timeout", "0")]);
        assert_eq!(
            (read.upstream.retry.tries, read.upstream.retry.within, problems.len()),
            (Some(usize::MAX), None, 0)
        );
    }

    #[test]
    fn a_word_that_nobody_knows_is_told() {
        for (name, value) in [
            ("proxy-next-upstream", "error http_501"),
            ("proxy-next-upstream", "sometimes"),
            ("proxy-next-upstream-tries", "-1"),
            ("proxy-next-upstream-timeout", "5s"),
        ] {
            let (read, problems) = read(&[(name, value)]);
            assert_eq!((read.upstream.retry, problems.len()), (Retry::default(), 1), "{name}: {value}");
        }
    }
}
