//! What nginx's variables stand for in a request.

use config::annotation::{Text, Variable};

use super::Asked;
use super::basic::Credentials;
use crate::{headers, path};

/// The text with the variables filled in.
pub(super) fn fill(text: &Text, asked: &Asked<'_>) -> String {
    text.fill(|variable| value(variable, asked))
}

/// What a variable stands for; empty if the request has no such thing.
pub(super) fn value(variable: &Variable, asked: &Asked<'_>) -> String {
    let uri = &asked.request.uri;
    let text = |text: &str| text.to_owned();
    let request_uri = || text(uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
    match variable {
        Variable::Scheme => text(if asked.tls { "https" } else { "http" }),
        Variable::Host => text(asked.host),
        Variable::HttpHost => text(asked.authority),
        Variable::RequestUri => request_uri(),
        Variable::EscapedRequestUri => component(&request_uri()),
        Variable::Uri => path::readable(asked.path).into_owned(),
        Variable::Args => text(uri.query().unwrap_or_default()),
        Variable::Method => text(asked.request.method.as_str()),
        Variable::RemoteAddr => asked.client.map(|client| client.to_string()).unwrap_or_default(),
        Variable::RemoteUser => Credentials::of(&asked.request.headers).map(|who| who.user).unwrap_or_default(),
        Variable::RequestId => text(asked.request_id),
        Variable::Namespace => text(&asked.ingress.namespace),
        Variable::Ingress => text(&asked.ingress.name),
        Variable::Service => text(&asked.service.name),
        Variable::Field(name) if name == "host" => text(asked.authority),
        Variable::Field(name) => {
            let field = asked.request.headers.get(name.as_str()).and_then(|field| field.to_str().ok());
            text(field.unwrap_or_default())
        }
        Variable::Arg(name) => text(argument(uri.query().unwrap_or_default(), name)),
        Variable::Cookie(name) => text(headers::cookie(&asked.request.headers, name).unwrap_or_default()),
        Variable::Group(_) => String::new(),
    }
}

fn argument<'a>(query: &'a str, name: &str) -> &'a str {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
}

/// Percent-encoded but for unreserved characters (RFC 3986 §2.3).
pub(crate) fn component(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The page that a client wanted, for the sign-in page: `https%3A%2F%2F..`, as ingress-nginx writes it.
pub(super) fn wanted(asked: &Asked<'_>) -> String {
    let scheme = if asked.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", asked.authority, value(&Variable::EscapedRequestUri, asked))
}
