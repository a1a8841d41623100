//! Records by the API of Cloudflare, version 4.

use bytes::Bytes;
use config::issuer::dns::{Cloudflare, CloudflareLogin};
use http::request::Builder;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Action, Credentials, DnsError, Placed, TTL, ask, client, secret};
use crate::dns::ancestors;
use crate::io::web::Web;
use crate::sigv4::query;

const API: &str = "https://api.cloudflare.com/client/v4";
const WHO: &str = "Cloudflare";

struct Api<'a> {
    web: Web,
    config: &'a Cloudflare,
    credentials: &'a Credentials,
}

/// Publishes or removes a record.
pub(super) async fn act(
    action: Action,
    record: &Placed,
    config: &Cloudflare,
    credentials: &Credentials,
) -> Result<(), DnsError> {
    let api = Api { web: client(None)?, config, credentials };
    let zone = api.zone(&record.owner).await?;
    let found = api.find(&zone, record).await?;
    match action {
        Action::Present if found.is_empty() => {
            // Contents of TXT records stand in quotes there.
            let content = format!("\"{}\"", record.value);
            let body = json!({ "type": "TXT", "name": record.owner, "content": content, "ttl": TTL });
            api.call(Method::POST, &format!("/zones/{zone}/dns_records"), Some(&body)).await.map(drop)
        }
        Action::Present => Ok(()),
        Action::Remove => {
            for id in found {
                api.call(Method::DELETE, &format!("/zones/{zone}/dns_records/{id}"), None).await?;
            }
            Ok(())
        }
    }
}

impl Api<'_> {
    /// The id of the zone that a name is in.
    async fn zone(&self, owner: &str) -> Result<String, DnsError> {
        for name in ancestors(owner) {
            let answer = self.call(Method::GET, &format!("/zones?{}", query(&[("name", name)])), None).await?;
            let id = answer["result"].as_array().into_iter().flatten().find_map(|zone| zone["id"].as_str());
            if let Some(id) = id.filter(|id| is_id(id)) {
                return Ok(id.to_owned());
            }
        }
        Err(DnsError::NoZone(owner.to_owned(), "among those that the token may see"))
    }

    /// The ids of this very record.
    async fn find(&self, zone: &str, record: &Placed) -> Result<Vec<String>, DnsError> {
        let query = query(&[("type", "TXT"), ("name", &record.owner), ("per_page", "100")]);
        let answer = self.call(Method::GET, &format!("/zones/{zone}/dns_records?{query}"), None).await?;
        let all = answer["result"].as_array().into_iter().flatten();
        let same = all.filter(|it| it["content"].as_str().is_some_and(|text| text.trim_matches('"') == record.value));
        Ok(same.filter_map(|it| it["id"].as_str()).filter(|id| is_id(id)).map(str::to_owned).collect())
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, DnsError> {
        let base = self.config.endpoint.as_deref().unwrap_or(API);
        let request = self.login(Request::builder().method(method).uri(format!("{base}{path}")))?;
        let text = body.map(ToString::to_string).unwrap_or_default();
        let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(text)));
        let (_, body) = ask(&self.web, WHO, request, reason).await?;
        super::json(&body, WHO)
    }

    fn login(&self, request: Builder) -> Result<Builder, DnsError> {
        Ok(match &self.config.login {
            CloudflareLogin::Token(token) => {
                request.header("authorization", format!("Bearer {}", secret(self.credentials, token)?))
            }
            CloudflareLogin::Key { email, key } => {
                request.header("x-auth-email", email).header("x-auth-key", secret(self.credentials, key)?)
            }
        })
    }
}

/// What becomes part of a path has no other meaning there.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn reason(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let error = answer["errors"].as_array()?.first()?;
    Some(format!("{} ({})", error["message"].as_str()?, error["code"]))
}
