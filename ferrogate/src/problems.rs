//! Gathers what every part found wrong into one list: each problem once, errors first, then in the order of files.

use std::collections::BTreeSet;

use config::diagnostic::{Problem, Severity};

/// Each problem once: errors before warnings, then by file and line, then by object.
pub(crate) fn collect<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Vec<Problem> {
    let unique: BTreeSet<&Problem> = problems.into_iter().collect();
    let mut sorted: Vec<Problem> = unique.into_iter().cloned().collect();
    sorted.sort_by(|a, b| key(a).cmp(&key(b)));
    sorted
}

/// How many are errors and how many warnings.
pub(crate) fn count(problems: &[Problem]) -> (usize, usize) {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    (errors, problems.len() - errors)
}

/// "1 file", "2 files".
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn key(problem: &Problem) -> impl Ord + '_ {
    (problem.severity, problem.place.as_ref(), problem.object.as_ref(), &problem.field, &problem.message)
}

#[cfg(test)]
mod tests {
    use config::diagnostic::Place;
    use config::object::{FieldPath, Kind, ObjectName, ObjectRef};

    use super::*;

    fn problem(severity: Severity, line: u32) -> Problem {
        let object = ObjectRef::new(Kind::Ingress, ObjectName::new("a", "b"));
        let place = Place { file: "a.yaml".into(), line, column: 1 };
        Problem { severity, ..Problem::error(object, FieldPath::root(), "wrong").at(Some(place)) }
    }

    #[test]
    fn what_two_parts_found_is_shown_once_and_errors_come_first() {
        let (warning, error, later) =
            (problem(Severity::Warning, 1), problem(Severity::Error, 2), problem(Severity::Error, 10));
        let collected = collect([&later, &warning, &error, &warning]);
        assert_eq!(collected, [error, later, warning]);
        assert_eq!(count(&collected), (2, 1));
    }
}
