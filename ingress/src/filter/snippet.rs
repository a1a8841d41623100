//! What translated snippets do.

use config::annotation::{Action, Level, Step, Text, Variable};
use config::pattern::Groups;
use http::header::{HeaderName, HeaderValue};

use super::values::{fill, value};
use super::{AnswerChange, Asked, Verdict};
use crate::answer::{Fault, reason};
use crate::path;

/// The steps whose conditions hold, in their order.
fn due<'a>(steps: &'a [Step], asked: &'a Asked<'_>) -> impl Iterator<Item = &'a Action> {
    let holds = |step: &&Step| step.when.iter().all(|condition| condition.holds(&value(&condition.of, asked)));
    steps.iter().filter(holds).map(|step| &step.action)
}

/// The first answer that a `return`, or a `rewrite` with a status, gives at this level.
pub(super) fn verdict(steps: &[Step], level: Level, asked: &Asked<'_>) -> Option<Verdict> {
    let holds = |step: &&Step| step.when.iter().all(|condition| condition.holds(&value(&condition.of, asked)));
    let mut due = steps.iter().filter(|step| step.level == level).filter(holds);
    due.find_map(|step| match &step.action {
        Action::Return(status, text) => Some(answer(*status, text.as_ref(), asked)),
        Action::Rewrite(pattern, to, Some(status)) => {
            let readable = path::readable(asked.path);
            let to = expand(to, &pattern.groups(&readable)?, asked);
            let query = asked.request.uri.query().filter(|_| !to.contains('?')).map(|query| format!("?{query}"));
            Some(Verdict::Redirect(*status, absolute(&format!("{to}{}", query.unwrap_or_default()), asked)))
        }
        _ => None,
    })
}

fn answer(status: u16, text: Option<&Text>, asked: &Asked<'_>) -> Verdict {
    let text = text.map(|text| fill(text, asked));
    match text {
        Some(to) if matches!(status, 301 | 302 | 303 | 307 | 308) => Verdict::Redirect(status, absolute(&to, asked)),
        Some(text) => Verdict::Answer(status, text),
        None if status == 204 => Verdict::NoContent,
        None => Verdict::Answer(status, format!("{status} {}\n", reason(status))),
    }
}

/// As ingress-nginx's nginx, a path is sent with scheme and host, without port.
fn absolute(to: &str, asked: &Asked<'_>) -> String {
    let scheme = if asked.tls { "https" } else { "http" };
    if to.starts_with('/') { format!("{scheme}://{}{to}", asked.host) } else { to.to_owned() }
}

/// The path that a `rewrite .. break` makes.
pub(super) fn rewrite(steps: &[Step], asked: &Asked<'_>) -> Result<Option<String>, Fault> {
    let readable = path::readable(asked.path);
    let rewritten = due(steps, asked).find_map(|action| match action {
        Action::Rewrite(pattern, to, None) => Some(expand(to, &pattern.groups(&readable)?, asked)),
        _ => None,
    });
    Ok(rewritten.map(|path| path::respell(&path)).transpose()?)
}

fn expand(to: &Text, groups: &Groups<'_>, asked: &Asked<'_>) -> String {
    to.fill(|variable| match variable {
        Variable::Group(number) => groups.get(*number).to_owned(),
        variable => value(variable, asked),
    })
}

/// Whether a client may pass: what the first `allow` or `deny` for it says.
pub(super) fn admits(steps: &[Step], asked: &Asked<'_>) -> bool {
    due(steps, asked)
        .find_map(|action| match action {
            Action::Access(None, may) => Some(*may),
            Action::Access(Some(network), may) => network.contains(&asked.client?).then_some(*may),
            _ => None,
        })
        .unwrap_or(true)
}

/// Fields for the endpoint; an empty value removes one, as in nginx.
pub(super) fn request_fields(steps: &[Step], asked: &Asked<'_>) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let field = |action: &Action| match action {
        Action::Request(name, text) => self::field(name, &fill(text, asked)),
        _ => None,
    };
    due(steps, asked).filter_map(field).collect()
}

/// A field to set, or to remove if its value is empty; `None` if the value cannot stand in a field.
pub(super) fn field(name: &str, value: &str) -> Option<(HeaderName, Option<HeaderValue>)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    match value {
        "" => Some((name, None)),
        value => Some((name, Some(HeaderValue::from_str(value).ok()?))),
    }
}

/// What happens to the fields of the answer.
pub(super) fn answer_changes(steps: &[Step], asked: &Asked<'_>) -> Vec<AnswerChange> {
    let change = |action: &Action| match action {
        Action::Answer { name, text, adds, always } => {
            let (name, value) = field(name, &fill(text, asked))?;
            // nginx adds no empty field; setting one to nothing removes it.
            let is_nothing = *adds && value.is_none();
            (!is_nothing).then_some(AnswerChange { name, value, adds: *adds, always: *always })
        }
        Action::Hide(name) => {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some(AnswerChange { name, value: None, adds: false, always: true })
        }
        _ => None,
    };
    due(steps, asked).filter_map(change).collect()
}
