//! Snippets of nginx's language, as far as they say what we can do: translated, never run.
//!
//! Headers, `return`, `rewrite`, `allow` and `deny`, simple conditions, and knobs that a streaming proxy does not have.
//! One directive that is not among these refuses the whole snippet, and the message names its line.

mod lex;

use std::net::IpAddr;

use ipnet::IpNet;

use self::lex::{Directive, parse};
use super::text::{Text, Variable};
use super::value;
use crate::pattern::Pattern;

/// What a snippet asks for, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snippet {
    /// One directive each.
    pub(super) steps: Vec<Step>,
}

/// One thing to do if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Those of the blocks around it.
    pub when: Vec<Condition>,
    /// What to do.
    pub action: Action,
    /// Where it is written.
    pub level: Level,
}

/// What one directive does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets a field of the request for endpoints; nothing removes it.
    Request(String, Text),
    /// Adds a field to answers, or sets it.
    Answer {
        /// Its name.
        name: String,
        /// Its value.
        text: Text,
        /// Whether fields of that name stay.
        adds: bool,
        /// Whether to answers of every status, or only those that nginx's `add_header` is for.
        always: bool,
    },
    /// Removes a field from answers.
    Hide(String),
    /// Answers: a status, and where to or what.
    Return(u16, Option<Text>),
    /// Replaces the path where an expression is found, and with a status sends the client there.
    Rewrite(Pattern, Text, Option<u16>),
    /// Lets these come, or not; the first that is for a client counts. `None` stands for all.
    Access(Option<IpNet>, bool),
}

/// What has to hold of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub of: Variable,
    /// What is to be so.
    pub test: Test,
    /// Or not.
    pub negated: bool,
}

/// What a text is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is neither empty nor `0`.
    Something,
    /// It is this.
    Is(String),
    /// It begins with this.
    Begins(String),
    /// An expression is found in it.
    Matches(Pattern),
}

impl Condition {
    /// Whether it holds where the variable says `text`.
    #[must_use]
    pub fn holds(&self, text: &str) -> bool {
        let holds = match &self.test {
            Test::Something => !text.is_empty() && text != "0",
            Test::Is(expected) => text == expected,
            Test::Begins(prefix) => text.starts_with(prefix),
            Test::Matches(pattern) => pattern.is_match(text),
        };
        holds != self.negated
    }
}

/// Where a snippet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In nginx's `server` block: what it answers comes before anything else.
    Server,
    /// In a `location` block.
    Location,
}

/// Reads a snippet.
pub(super) fn read(text: &str, level: Level) -> Result<Snippet, String> {
    let mut snippet = Snippet::default();
    let mut blocks = parse(text)?;
    // As nginx chooses a location: exact ones, then expressions in their order, then the longest prefix.
    blocks.sort_by_key(|directive| location_rank(&directive.words));
    for directive in &blocks {
        snippet.add(directive, &[], level)?;
    }
    Ok(snippet)
}

/// Reads the fields of a snippet that has nothing else (`auth-snippet`).
pub(super) fn request_fields(text: &str) -> Result<Vec<(String, Text)>, String> {
    let snippet = read(text, Level::Location)?;
    let field = |step: Step| match step.action {
        Action::Request(name, text) if step.when.is_empty() => Ok((name, text)),
        _ => Err("only proxy_set_header is understood here; the whole snippet is refused".to_owned()),
    };
    snippet.steps.into_iter().map(field).collect()
}

fn location_rank(words: &[String]) -> (u8, usize) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["location", "=", _] => (1, 0),
        ["location", "~" | "~*", _] => (2, 0),
        ["location", "^~", path] | ["location", path] => (3, usize::MAX - path.len()),
        _ => (0, 0),
    }
}

impl Snippet {
    fn add(&mut self, directive: &Directive, when: &[Condition], level: Level) -> Result<(), String> {
        let fail = |why: String| format!("line {}: {why}; the whole snippet is refused", directive.line);
        if let Some(block) = &directive.block {
            let condition = condition(directive, when, level).map_err(fail)?;
            let when = [when, &condition].concat();
            return block.iter().try_for_each(|inner| self.add(inner, &when, level));
        }
        for action in actions(&directive.words).map_err(fail)? {
            self.steps.push(Step { when: when.to_vec(), action, level });
        }
        Ok(())
    }
}

fn not_understood(words: &[String]) -> String {
    format!("directive {:?} is not understood", words.first().map_or("", String::as_str))
}

/// The condition of a block.
fn condition(directive: &Directive, outer: &[Condition], level: Level) -> Result<Vec<Condition>, String> {
    let words: Vec<&str> = directive.words.iter().map(String::as_str).collect();
    let of_path = |test| Ok(vec![Condition { of: Variable::Uri, test, negated: false }]);
    match words[..] {
        ["if", ..] => condition_of_if(&words[1..].join(" ")).map(|condition| vec![condition]),
        ["location", ..] if level == Level::Location || !outer.is_empty() => {
            Err("a location may stand in a server-snippet only".to_owned())
        }
        ["location", "=", path] => of_path(Test::Is(path.to_owned())),
        ["location", "^~", path] | ["location", path] if path.starts_with('/') => {
            of_path(Test::Begins(path.to_owned()))
        }
        ["location", "~", pattern] => of_path(Test::Matches(expression(pattern, false)?)),
        ["location", "~*", pattern] => of_path(Test::Matches(expression(pattern, true)?)),
        _ => Err(not_understood(&directive.words)),
    }
}

/// `($variable)`, `($variable = text)`, `($variable !~* expression)`.
fn condition_of_if(text: &str) -> Result<Condition, String> {
    let wrong = || format!("condition {text:?} is not understood");
    let inner = text.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?.trim();
    let (name, rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let name = name.strip_prefix('$').ok_or_else(wrong)?;
    let of = Variable::parse(name).filter(|of| !matches!(of, Variable::Group(_)));
    let of = of.ok_or_else(|| format!("variable ${name} is not understood"))?;
    let (operator, operand) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let operand = operand.trim();
    let (outcome, negated) = match operator {
        "" => (Test::Something, false),
        "=" => (Test::Is(operand.to_owned()), false),
        "!=" => (Test::Is(operand.to_owned()), true),
        "~" => (Test::Matches(expression(operand, false)?), false),
        "!~" => (Test::Matches(expression(operand, false)?), true),
        "~*" => (Test::Matches(expression(operand, true)?), false),
        "!~*" => (Test::Matches(expression(operand, true)?), true),
        _ => return Err(wrong()),
    };
    if matches!(&outcome, Test::Is(text) if text.contains('$')) {
        return Err(wrong());
    }
    Ok(Condition { of, test: outcome, negated })
}

fn expression(text: &str, ignores_case: bool) -> Result<Pattern, String> {
    let text = if ignores_case { format!("(?i){text}") } else { text.to_owned() };
    Pattern::search(&text).map_err(|why| why.to_string())
}

/// What a directive without a block does; nothing for a knob that we do not have.
fn actions(words: &[String]) -> Result<Vec<Action>, String> {
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match all[..] {
        // WebSocket works without.
        ["proxy_set_header", name, _] if ["upgrade", "connection"].contains(&&*name.to_ascii_lowercase()) => vec![],
        ["proxy_set_header", name, text] => vec![Action::Request(field_name(name)?, field_text(text)?)],
        ["more_set_input_headers", ref fields @ ..] if !fields.is_empty() => {
            let field = |field: &&str| field_of(field).map(|(name, text)| Action::Request(name, text));
            fields.iter().map(field).collect::<Result<_, _>>()?
        }
        ["more_clear_input_headers", ref names @ ..] if !names.is_empty() => {
            let clear = |name: &&str| Ok(Action::Request(field_name(name)?, Text::parse("")?));
            names.iter().map(clear).collect::<Result<_, String>>()?
        }
        ["add_header", name, text] => vec![answer(name, text, true, false)?],
        ["add_header", name, text, "always"] => vec![answer(name, text, true, true)?],
        ["more_set_headers", ref fields @ ..] if !fields.is_empty() => {
            let field = |field: &&str| {
                let (name, text) = field_of(field)?;
                Ok(Action::Answer { name, text, adds: false, always: true })
            };
            fields.iter().map(field).collect::<Result<_, String>>()?
        }
        ["more_clear_headers", ref names @ ..] if !names.is_empty() => {
            names.iter().map(|name| field_name(name).map(Action::Hide)).collect::<Result<_, _>>()?
        }
        ["proxy_hide_header", name] => vec![Action::Hide(field_name(name)?)],
        ["return", status] if status.starts_with("http") => vec![Action::Return(302, Some(line(status)?))],
        ["return", code] => vec![Action::Return(status(code)?, None)],
        ["return", code, text] => vec![Action::Return(status(code)?, Some(line(text)?))],
        ["rewrite", pattern, to] if to.starts_with("http") => vec![rewrite(pattern, to, Some(302))?],
        ["rewrite", pattern, to, "break"] => vec![rewrite(pattern, to, to.starts_with("http").then_some(302))?],
        ["rewrite", pattern, to, "redirect"] => vec![rewrite(pattern, to, Some(302))?],
        ["rewrite", pattern, to, "permanent"] => vec![rewrite(pattern, to, Some(301))?],
        ["allow", who] => vec![Action::Access(network(who)?, true)],
        ["deny", who] => vec![Action::Access(network(who)?, false)],
        ref knob if is_knob(knob) => vec![],
        _ => return Err(not_understood(words)),
    })
}

/// Directives about buffers and the like, which say nothing to a proxy that streams.
fn is_knob(words: &[&str]) -> bool {
    const BUFFERS: [&str; 8] = [
        "proxy_buffering",
        "proxy_request_buffering",
        "proxy_buffer_size",
        "proxy_buffers",
        "proxy_busy_buffers_size",
        "proxy_max_temp_file_size",
        "client_body_buffer_size",
        "large_client_header_buffers",
    ];
    let first = words.first().copied().unwrap_or_default();
    BUFFERS.contains(&first) || matches!(words, ["proxy_http_version", "1.1"] | ["chunked_transfer_encoding", "on"])
}

fn answer(name: &str, text: &str, adds: bool, always: bool) -> Result<Action, String> {
    Ok(Action::Answer { name: field_name(name)?, text: field_text(text)?, adds, always })
}

fn rewrite(pattern: &str, to: &str, status: Option<u16>) -> Result<Action, String> {
    let to = value::field_text(to).and_then(|to| Text::with_groups(&to))?;
    if status.is_none() && !to.as_str().starts_with('/') {
        return Err(format!("{:?} does not begin with a slash", to.as_str()));
    }
    Ok(Action::Rewrite(expression(pattern, false)?, to, status))
}

pub(super) fn status(text: &str) -> Result<u16, String> {
    let status = value::number(text).and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (200..=599).contains(status) && *status != 444);
    status.ok_or_else(|| format!("status {text:?} is not understood"))
}

/// Text of an answer, which may have lines.
fn line(text: &str) -> Result<Text, String> {
    Text::parse(text)
}

/// `Name: text`.
pub(crate) fn field_of(text: &str) -> Result<(String, Text), String> {
    let (name, text) = text.split_once(':').ok_or_else(|| format!("{text:?} is not of the form \"Name: value\""))?;
    Ok((field_name(name.trim())?, field_text(text.trim())?))
}

fn field_text(text: &str) -> Result<Text, String> {
    value::field_text(text).and_then(|text| Text::parse(&text))
}

/// A field that neither frames a message nor is for one connection.
fn field_name(text: &str) -> Result<String, String> {
    const OURS: [&str; 8] =
        ["connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err(format!("{text:?} is not the name of a field"));
    }
    if OURS.contains(&&*text.to_ascii_lowercase()) {
        return Err(format!("field {text} is the proxy's own"));
    }
    Ok(text.to_owned())
}

fn network(text: &str) -> Result<Option<IpNet>, String> {
    if text == "all" {
        return Ok(None);
    }
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().map(|network| network.trunc()).or_else(|_| address());
    network.map(Some).map_err(|_| format!("{text:?} is neither a network nor an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (text, steps) in [
            ("", 0),
            ("# nothing\n", 0),
            ("more_set_headers \"X-Frame-Options: DENY\" 'X-A: b;c';\nproxy_set_header Accept-Encoding \"\";", 3),
            ("add_header Cache-Control \"public, max-age=3600\" always;", 1),
            ("proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";", 0),
            (
                "if ($request_method = POST) { return 403; }\nif ($http_user_agent ~* (bot|spider)) {\n return 403 'no';\n}",
                2,
            ),
            ("rewrite ^/old/(.*)$ https://new.example/$1 permanent;", 1),
            ("allow 10.0.0.0/8; deny all;", 2),
            ("proxy_buffer_size 128k; proxy_buffers 4 256k;", 0),
            ("proxy_set_header X-Forwarded-Host $http_host;\nproxy_hide_header X-Powered-By;", 2),
        ] {
            assert_eq!(read(text, Level::Location).map(|snippet| snippet.steps.len()), Ok(steps), "{text}");
        }
        let server = "location = /robots.txt { return 200 \"User-agent: *\\nDisallow: /\\n\"; }\n\
                      location ~* ^/(admin|internal) { deny all; return 403; }";
        assert_eq!(read(server, Level::Server).unwrap().steps.len(), 3);
    }

    #[test]
    fn one_foreign_directive_refuses_all_and_names_its_line() {
        for (text, word) in [
            ("add_header A b;\n\nproxy_pass http://evil;", "line 3: directive \"proxy_pass\""),
            ("content_by_lua_block { ngx.say(1) }", "line 1"),
            ("if ($x) { return 403; }", "variable $x"),
            ("if (-f /etc/passwd) { return 403; }", "condition"),
            ("return 403", "line 1"),
            ("if ($host = a) { return 403;", "line 1"),
            ("} server { listen 1; }", "line 1"),
            ("add_header A \"b", "line 1"),
            ("proxy_set_header Transfer-Encoding chunked;", "the proxy's own"),
            ("add_header \"A: b\" c;", "not the name"),
            ("add_header A \"b\\r\\nX: y\";", "header field"),
            ("location /a { return 403; }", "server-snippet only"),
            ("rewrite ^/(a$ /b break;", "regular expression"),
            ("return 444;", "status"),
            ("add_header A $nonsense;", "variable $nonsense"),
            ("rewrite ^/a /b last;", "directive \"rewrite\""),
        ] {
            let why = read(text, Level::Location).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn an_auth_snippet_has_fields_only() {
        let fields = request_fields("proxy_set_header X-Forwarded-Method $request_method;").unwrap();
        assert_eq!(fields[0].0, "X-Forwarded-Method");
        assert!(request_fields("return 200;").is_err());
    }
}
