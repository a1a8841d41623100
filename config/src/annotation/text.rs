//! Text with nginx's variables in it: `https://$host$request_uri`.
//!
//! The variables are a closed set, and what they stand for is never read again as text with variables.

/// Text, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    written: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

/// What a request says of itself, by nginx's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `$scheme`, `$pass_access_scheme`.
    Scheme,
    /// `$host`, `$server_name`: without port, lower case.
    Host,
    /// `$http_host`, `$best_http_host`: as the client wrote it.
    HttpHost,
    /// `$request_uri`: path and query as the client wrote them.
    RequestUri,
    /// `$escaped_request_uri`: the same, percent-encoded as one component.
    EscapedRequestUri,
    /// `$uri`: the path, normalised.
    Uri,
    /// `$args`, `$query_string`.
    Args,
    /// `$request_method`.
    Method,
    /// `$remote_addr`, `$the_real_ip`, `$proxy_add_x_forwarded_for`: the client's address.
    RemoteAddr,
    /// `$remote_user`: the name that came with a password.
    RemoteUser,
    /// `$req_id`, `$request_id`.
    RequestId,
    /// `$namespace`: of the Ingress.
    Namespace,
    /// `$ingress_name`.
    Ingress,
    /// `$service_name`.
    Service,
    /// `$http_NAME`: a field, lower case with `-`.
    Field(String),
    /// `$arg_NAME`: of the query.
    Arg(String),
    /// `$cookie_NAME`.
    Cookie(String),
    /// `$1` to `$9`: of the expression at hand.
    Group(usize),
}

impl Variable {
    /// The variable of this name, without the `$`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let named = |prefix: &str| name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
        Some(match name {
            "scheme" | "pass_access_scheme" => Self::Scheme,
            "host" | "server_name" => Self::Host,
            "http_host" | "best_http_host" => Self::HttpHost,
            "request_uri" => Self::RequestUri,
            "escaped_request_uri" => Self::EscapedRequestUri,
            "uri" | "document_uri" => Self::Uri,
            "args" | "query_string" => Self::Args,
            "request_method" => Self::Method,
            "remote_addr" | "the_real_ip" | "proxy_add_x_forwarded_for" => Self::RemoteAddr,
            "remote_user" => Self::RemoteUser,
            "req_id" | "request_id" => Self::RequestId,
            "namespace" => Self::Namespace,
            "ingress_name" => Self::Ingress,
            "service_name" => Self::Service,
            "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" => Self::Group(name.parse().ok()?),
            _ => {
                let field = named("http_").map(|name| Self::Field(name.to_ascii_lowercase().replace('_', "-")));
                let arg = || named("arg_").map(|name| Self::Arg(name.to_owned()));
                let cookie = || named("cookie_").map(|name| Self::Cookie(name.to_owned()));
                return field.or_else(arg).or_else(cookie);
            }
        })
    }
}

impl Text {
    /// Reads text; an error names the variable that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = Self::with_groups(text)?;
        let is_group = |piece: &Piece| matches!(piece, Piece::Variable(Variable::Group(_)));
        if parsed.pieces.iter().any(is_group) {
            return Err(format!("{text:?} names a group where there is no expression"));
        }
        Ok(parsed)
    }

    /// As [`Self::parse`] where an expression has groups.
    pub fn with_groups(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut push = |text: &str| {
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
        };
        let mut rest = text;
        let mut found = Vec::new();
        while let Some(at) = rest.find('$') {
            let (name, after) = name(&rest[at + 1..]).ok_or_else(|| format!("{text:?} has a $ without a name"))?;
            let variable = Variable::parse(name).ok_or_else(|| format!("variable ${name} is not understood"))?;
            found.push((rest[..at].to_owned(), variable));
            rest = after;
        }
        if found.is_empty() {
            push(rest);
        } else {
            for (before, variable) in found {
                if !before.is_empty() {
                    pieces.push(Piece::Text(before));
                }
                pieces.push(Piece::Variable(variable));
            }
            if !rest.is_empty() {
                pieces.push(Piece::Text(rest.to_owned()));
            }
        }
        Ok(Self { written: text.to_owned(), pieces })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether it is the same for every request.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The text with what `value` says in place of the variables.
    pub fn fill(&self, value: impl Fn(&Variable) -> String) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(variable) => value(variable),
        };
        self.pieces.iter().map(text).collect()
    }
}

/// The name at the beginning of `text`, perhaps in braces, and what follows.
fn name(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('{') {
        return rest.split_once('}');
    }
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_once() {
        let value = |variable: &Variable| match variable {
            Variable::Host => "a.example".to_owned(),
            Variable::RequestUri => "/x?$host".to_owned(),
            Variable::Field(name) => format!("<{name}>"),
            _ => String::new(),
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("https://$host$request_uri", "https://a.example/x?$host"),
            ("${host}name/$http_x_user-y", "a.examplename/<x-user>-y"),
            ("$args", ""),
        ] {
            assert_eq!(Text::parse(text).unwrap().fill(value), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_variable_is_refused() {
        for text in ["$", "a$ b", "$nonsense", "${host", "$http_", "$1"] {
            assert!(Text::parse(text).is_err(), "{text}");
        }
    }
}
