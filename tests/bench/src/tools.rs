//! What `wrk` and `h2load` print, as numbers.

/// One run of a load generator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests answered.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// What went wrong, for people; empty if nothing did.
    pub errors: Vec<String>,
}

/// Reads what `wrk` prints; `None` if it has no result.
#[must_use]
pub fn parse_wrk(output: &str) -> Option<Load> {
    let mut load = Load::default();
    let mut rate = None;
    for line in output.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            load.requests = count.parse().ok()?;
        } else if let Some(figure) = line.strip_prefix("Requests/sec:") {
            rate = figure.trim().parse().ok();
        } else if line.starts_with("Socket errors:") || line.starts_with("Non-2xx or 3xx responses:") {
            load.errors.push(line.to_owned());
        }
    }
    load.rate = rate?;
    Some(load)
}

/// Reads what `h2load` prints; `None` if it has no result.
#[must_use]
pub fn parse_h2load(output: &str) -> Option<Load> {
    let line_of = |prefix| output.lines().find_map(|line: &str| line.strip_prefix(prefix));
    let rate = line_of("finished in ")?.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()?;
    let requests = line_of("requests: ")?;
    let statuses = line_of("status codes: ")?;
    let mut load = Load { requests: count(requests, "done")?, rate, errors: Vec::new() };
    for (line, names) in [(requests, &["failed", "errored", "timeout"][..]), (statuses, &["3xx", "4xx", "5xx"])] {
        for name in names {
            let count = count(line, name)?;
            if count > 0 {
                load.errors.push(format!("{count} {name}"));
            }
        }
    }
    Some(load)
}

/// The number before a word, in a list separated by commas.
fn count(line: &str, word: &str) -> Option<u64> {
    line.split(',').find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
}

/// The times of `h2load --log-file`: start, status and time in microseconds, one request a line; `None` where a line
/// is not one.
pub fn parse_h2load_log(text: &str) -> impl Iterator<Item = Option<u64>> {
    text.lines().map(|line| line.split('\t').nth(2)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  Thread Stats   Avg      \
        Stdev     Max   +/- Stdev\n    Latency     1.00ms  340.24us  11.17ms   91.24%\n    Req/Sec    64.43k     \
        3.62k   71.17k    70.00%\n  128345 requests in 2.00s, 151.30MB read\n";

    #[test]
    fn a_clean_run_of_wrk_has_no_errors() {
        let text = format!("{WRK}Requests/sec:  64101.42\nTransfer/sec:     75.57MB\n");
        let load = parse_wrk(&text).unwrap();
        assert_eq!(load, Load { requests: 128_345, rate: 64_101.42, errors: Vec::new() });
    }

    #[test]
    fn errors_of_wrk_are_kept_and_no_result_is_none() {
        let errors = "  Socket errors: connect 0, read 3, write 0, timeout 0\n  Non-2xx or 3xx responses: 7\n";
        let load = parse_wrk(&format!("{WRK}{errors}Requests/sec:  64101.42\n")).unwrap();
        assert_eq!(load.errors.len(), 2);
        assert_eq!(parse_wrk(WRK), None);
        assert_eq!(parse_wrk("unable to connect to 127.0.0.1:1 Connection refused\n"), None);
    }

    fn h2load(failed: u64, server_errors: u64) -> String {
        format!(
            "starting benchmark...\nMain benchmark duration is over for thread #0. Stopping all clients.\n\nfinished \
             in 5.00s, 12345.60 req/s, 15.23MB/s\nrequests: 61728 total, 62240 started, 61728 done, 61728 succeeded, \
             {failed} failed, 0 errored, 0 timeout\nstatus codes: 61728 2xx, 0 3xx, 0 4xx, {server_errors} 5xx\n\
             traffic: 76.15MB (79847880) total, 1.47MB (1543200) headers (space savings 94.29%)\n"
        )
    }

    #[test]
    fn h2load_is_read_with_its_errors() {
        let load = parse_h2load(&h2load(0, 0)).unwrap();
        assert_eq!(load, Load { requests: 61_728, rate: 12_345.6, errors: Vec::new() });
        assert_eq!(parse_h2load(&h2load(2, 3)).unwrap().errors, ["2 failed", "3 5xx"]);
        assert_eq!(parse_h2load("starting benchmark...\n"), None);
    }

    #[test]
    fn the_log_of_h2load_gives_times() {
        let times: Vec<_> = parse_h2load_log("1700000000000001\t200\t431\n17\t200\t97\nnonsense").collect();
        assert_eq!(times, [Some(431), Some(97), None]);
    }
}
