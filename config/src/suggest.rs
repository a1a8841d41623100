//! "Did you mean ...?" for a word that is none of those we know.

/// The known word that was probably meant; `None` if no word is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= 4)
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about an unknown word: `; did you mean "port"?`, or `otherwise`.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    match nearest(word, known) {
        Some(known) => format!("did you mean {known:?}?"),
        None => otherwise.to_owned(),
    }
}

/// The letters of a word without case and separators, so that `bfdProfile` is `bfd-profile`.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .take(64)
        .filter(|letter| !matches!(letter, '-' | '_'))
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

/// How many letters to insert, drop, change or swap with a neighbour (optimal string alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let change = above[j] + usize::from(a != b);
            let mut least = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["bfd-profile", "peer-address", "peer-asn", "my-asn"];
        for (word, expected) in [
            ("bfdProfile", Some("bfd-profile")),
            ("peer-adress", Some("peer-address")),
            ("peer-ans", Some("peer-asn")),
            ("password", None),
            ("", None),
            ("p", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
