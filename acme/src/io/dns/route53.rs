//! Records by the API of Route 53, version 2013-04-01.
//!
//! All values of one name are one set there, which is read, changed and written as a whole.

use bytes::Bytes;
use config::issuer::dns::{AccessKey, Route53};
use http::{Method, Request};
use http_body_util::Full;
use jiff::Timestamp;

use super::{Action, Credentials, DnsError, Placed, TTL, ask, client, secret};
use crate::dns::ancestors;
use crate::io::web::Web;
use crate::sigv4::{Signed, Signer, query};

const API: &str = "https://route53.amazonaws.com";
const WHO: &str = "Route 53";
const VERSION: &str = "/2013-04-01";

struct Api<'a> {
    web: Web,
    config: &'a Route53,
    access_key: &'a str,
    secret_key: &'a str,
}

/// The values of a name, in quotes as they are written, and their time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    values: Vec<String>,
    ttl: String,
}

/// Publishes or removes a record.
pub(super) async fn act(
    action: Action,
    record: &Placed,
    config: &Route53,
    credentials: &Credentials,
) -> Result<(), DnsError> {
    let access_key = match &config.access_key {
        AccessKey::Text(text) => text,
        AccessKey::Secret(key) => secret(credentials, key)?,
    };
    let secret_key = secret(credentials, &config.secret_key)?;
    let api = Api { web: client(None)?, config, access_key, secret_key };
    let zone = match &config.zone {
        Some(zone) => zone.trim_start_matches("/hostedzone/").to_owned(),
        None => api.zone(&record.owner).await?,
    };
    let found = api.find(&zone, &record.owner).await?;
    let Some((verb, set)) = change(action, found, &format!("\"{}\"", record.value)) else { return Ok(()) };
    let path = format!("{VERSION}/hostedzone/{zone}/rrset/");
    api.call(Method::POST, &path, &[], &request(verb, &record.owner, &set)).await.map(drop)
}

/// What to write so that a value is among those of a name, or is not; `None` if that is so.
fn change(action: Action, found: Option<Set>, value: &str) -> Option<(&'static str, Set)> {
    let mut set = found.unwrap_or_else(|| Set { values: Vec::new(), ttl: TTL.to_string() });
    let at = set.values.iter().position(|it| it == value);
    match (action, at) {
        (Action::Present, Some(_)) | (Action::Remove, None) => None,
        (Action::Present, None) => {
            set.values.push(value.to_owned());
            Some(("UPSERT", set))
        }
        // The last one goes as it is, with all that it says.
        (Action::Remove, Some(_)) if set.values.len() == 1 => Some(("DELETE", set)),
        (Action::Remove, Some(at)) => {
            set.values.remove(at);
            Some(("UPSERT", set))
        }
    }
}

fn request(verb: &str, owner: &str, set: &Set) -> String {
    let values: Vec<String> = set
        .values
        .iter()
        .map(|value| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escape(value)))
        .collect();
    let values = values.concat();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch>\
         <Changes><Change><Action>{verb}</Action><ResourceRecordSet><Name>{}.</Name><Type>TXT</Type><TTL>{}</TTL>\
         <ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch>\
         </ChangeResourceRecordSetsRequest>",
        escape(owner),
        escape(&set.ttl),
    )
}

impl Api<'_> {
    /// The id of the public zone that a name is in.
    async fn zone(&self, owner: &str) -> Result<String, DnsError> {
        let path = format!("{VERSION}/hostedzonesbyname");
        for name in ancestors(owner) {
            let wanted = format!("{name}.");
            let answer = self.call(Method::GET, &path, &[("dnsname", &wanted), ("maxitems", "10")], "").await?;
            for zone in elements(&answer, "HostedZone") {
                let is_it = first(zone, "Name") == Some(&wanted) && first(zone, "PrivateZone") != Some("true");
                if let Some(id) = first(zone, "Id").filter(|_| is_it) {
                    return Ok(id.trim_start_matches("/hostedzone/").to_owned());
                }
            }
        }
        Err(DnsError::NoZone(owner.to_owned(), "among the hosted zones"))
    }

    async fn find(&self, zone: &str, owner: &str) -> Result<Option<Set>, DnsError> {
        let (path, wanted) = (format!("{VERSION}/hostedzone/{zone}/rrset"), format!("{owner}."));
        let query = [("name", &*wanted), ("type", "TXT"), ("maxitems", "1")];
        let answer = self.call(Method::GET, &path, &query, "").await?;
        // It begins at that name, which need not be there.
        let set = elements(&answer, "ResourceRecordSet").into_iter().find(|set| {
            first(set, "Name").is_some_and(|name| name.eq_ignore_ascii_case(&wanted))
                && first(set, "Type") == Some("TXT")
        });
        Ok(set.map(|set| Set {
            values: elements(set, "Value").into_iter().map(unescape).collect(),
            ttl: first(set, "TTL").unwrap_or_default().to_owned(),
        }))
    }

    async fn call(&self, method: Method, path: &str, pairs: &[(&str, &str)], body: &str) -> Result<String, DnsError> {
        let base = self.config.endpoint.as_deref().unwrap_or(API);
        let host = base.split_once("://").map_or(base, |(_, host)| host);
        let signer = Signer {
            access_key: self.access_key,
            secret_key: self.secret_key,
            region: &self.config.region,
            service: "route53",
        };
        let message = Signed { method: method.as_str(), host, path, query: pairs, body: body.as_bytes() };
        let headers = signer.sign(&message, Timestamp::now());
        let text = query(pairs);
        let mark = if text.is_empty() { "" } else { "?" };
        let request = Request::builder().method(method).uri(format!("{base}{path}{mark}{text}"));
        let request = request.header("x-amz-date", headers.date).header("authorization", headers.authorization);
        let request = request.header("content-type", "text/xml").body(Full::new(Bytes::from(body.to_owned())));
        let reason = |body: &[u8]| {
            let text = String::from_utf8_lossy(body);
            Some(format!("{} ({})", first(&text, "Message")?, first(&text, "Code")?))
        };
        let (_, body) = ask(&self.web, WHO, request, reason).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// What stands between the tags of each element of a name; such elements do not nest there.
fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&*open).skip(1).filter_map(|rest| rest.split_once(&*close)).map(|(inner, _)| inner).collect()
}

fn first<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    elements(text, name).into_iter().next()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn unescape(text: &str) -> String {
    let text = text.replace("&quot;", "\"").replace("&#34;", "\"");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_joins_and_leaves_those_of_others() {
        let set =
            |values: &[&str]| Set { values: values.iter().map(|it| (*it).to_owned()).collect(), ttl: "60".into() };
        for (action, found, expected) in [
            (Action::Present, None, Some(("UPSERT", set(&["a"])))),
            (Action::Present, Some(set(&["b"])), Some(("UPSERT", set(&["b", "a"])))),
            (Action::Present, Some(set(&["a"])), None),
            (Action::Remove, Some(set(&["b", "a"])), Some(("UPSERT", set(&["b"])))),
            (Action::Remove, Some(set(&["a"])), Some(("DELETE", set(&["a"])))),
            (Action::Remove, Some(set(&["b"])), None),
            (Action::Remove, None, None),
        ] {
            assert_eq!(change(action, found.clone(), "a"), expected, "{action:?} {found:?}");
        }
    }

    #[test]
    fn what_a_set_says_is_read_back_as_it_was_written() {
        let set = Set { values: vec!["\"a&b\"".to_owned()], ttl: "60".to_owned() };
        let text = request("UPSERT", "_acme-challenge.example.com", &set);
        assert_eq!(elements(&text, "Value").into_iter().map(unescape).collect::<Vec<_>>(), set.values);
        assert_eq!(first(&text, "Name"), Some("_acme-challenge.example.com."));
    }
}
