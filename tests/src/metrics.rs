//! A strict reader of the Prometheus text format.
//!
//! It refuses what a real scraper would: samples of a family without `# TYPE`, families whose lines do not stand
//! together, repeated samples, values that are no numbers.
//!
//! Source: Prometheus exposition formats, text format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All samples of one scrape by their full name (`x_bucket`, `x_sum` and `x_count` of a histogram apart).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: BTreeMap<String, Vec<Sample>>,
    families: BTreeMap<String, String>,
}

impl Metrics {
    /// Reads a whole scrape.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut metrics, mut current, mut seen) = (Self::default(), String::new(), BTreeSet::new());
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type in {line:?}"))?;
                if metrics.families.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return Err(format!("family {name} is declared twice"));
                }
                name.clone_into(&mut current);
            } else if !line.starts_with('#') {
                let (name, sample) = sample(line).ok_or_else(|| format!("{line:?} is no sample"))?;
                if !belongs(&name, &current, metrics.families.get(&current).map_or("", String::as_str)) {
                    return Err(format!("{name} stands under family {current:?}"));
                }
                if !seen.insert(format!("{name}{:?}", sample.labels)) {
                    return Err(format!("{line:?} is a repetition"));
                }
                metrics.samples.entry(name).or_default().push(sample);
            }
        }
        Ok(metrics)
    }

    /// The type of a family: `counter`, `gauge`, `histogram`.
    #[must_use]
    pub fn kind(&self, family: &str) -> Option<&str> {
        self.families.get(family).map(String::as_str)
    }

    /// Every family's name.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    /// The samples of that name which carry these labels (and perhaps more).
    #[must_use]
    pub fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let wanted = |sample: &&Sample| {
            labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        self.samples.get(name).into_iter().flatten().filter(wanted).collect()
    }

    /// The sum of the samples of that name and these labels; `None` if there are none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let samples = self.samples(name, labels);
        (!samples.is_empty()).then(|| samples.iter().map(|sample| sample.value).sum())
    }
}

/// Whether a sample's name fits the family above it.
fn belongs(name: &str, family: &str, kind: &str) -> bool {
    match (name.strip_prefix(family), kind) {
        (Some(""), kind) => kind != "histogram",
        (Some("_bucket"), "histogram") | (Some("_sum" | "_count"), "histogram" | "summary") => true,
        _ => false,
    }
}

/// `name{key="value",...} number`.
fn sample(line: &str) -> Option<(String, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(key.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
    (plain && !name.is_empty()).then(|| (name.to_owned(), Sample { labels, value }))
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut letters) = (String::new(), text.char_indices());
    while let Some((position, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => match letters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP x help\n# TYPE x counter\nx{a=\"1\",b=\"q\\\"}\"} 2\nx{a=\"2\"} 3\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.sum("x", &[]), Some(5.0));
        assert_eq!(metrics.sum("x", &[("b", "q\"}")]), Some(2.0));
        assert_eq!(metrics.sum("y", &[]), None);
        assert_eq!(metrics.kind("x"), Some("counter"));
    }

    #[test]
    fn what_a_scraper_would_refuse_is_refused() {
        for text in [
            "x 1\n",
            "# TYPE x counter\nx one\n",
            "# TYPE x counter\nx 1\nx 1\n",
            "# TYPE x counter\n# TYPE y counter\nx 1\n",
            "# TYPE x counter\nx 1",
            "# TYPE x histogram\nx 1\n",
        ] {
            assert!(Metrics::parse(text).is_err(), "{text:?}");
        }
    }
}
