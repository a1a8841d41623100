//! Small servers that speak the APIs of DNS providers, in front of a real name server.
//!
//! They check what the real ones check of such requests: who asks, the signature, whether a record is there already or
//! not at all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use acme::sigv4::{Signed, Signer};
use serde_json::{Value, json};

use crate::name_server;
use crate::upstream::{Received, Reply, Upstream};

/// The token that Cloudflare's API wants.
pub const TOKEN: &str = "cloudflare-token";
/// The access key that Route 53's API wants.
pub const ACCESS_KEY: &str = "AKIDEXAMPLE";
/// Its secret part.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// Cloudflare's API with one zone, kept by the name server at `server`.
pub async fn cloudflare(zone: &'static str, server: SocketAddr) -> Upstream {
    // By id: name and content.
    let records: Mutex<BTreeMap<String, (String, String)>> = Mutex::default();
    Upstream::start(move |request| {
        if request.only("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return failed(403, 10000, "Authentication error");
        }
        let (path, query) = split(request.target());
        let mut records = records.lock().expect("nobody panics with it");
        let method = request.line.split(' ').next().unwrap_or_default();
        let all = format!("/zones/{zone_id}/dns_records", zone_id = "z1");
        match (method, &*path) {
            ("GET", "/zones") => {
                let found = query.get("name").is_some_and(|name| name == zone);
                done(&if found { json!([{ "id": "z1", "name": zone }]) } else { json!([]) })
            }
            ("GET", path) if path == all => {
                let wanted = records.iter().filter(|(_, (name, _))| Some(name) == query.get("name"));
                let found: Vec<Value> =
                    wanted.map(|(id, (name, text))| json!({ "id": id, "name": name, "content": text })).collect();
                done(&json!(found))
            }
            ("POST", path) if path == all => {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
                let record = (text("name"), text("content"));
                if records.values().any(|known| *known == record) {
                    return failed(400, 81058, "An identical record already exists.");
                }
                if !name_server::update(server, &format!("add {} 60 TXT {}", record.0, record.1)) {
                    return failed(400, 9999, "not in this zone");
                }
                let id = format!("r{}", records.len() + 1);
                records.insert(id.clone(), record);
                done(&json!({ "id": id }))
            }
            ("DELETE", path) => {
                let id = path.rsplit('/').next().unwrap_or_default();
                let Some((name, text)) = records.remove(id) else {
                    return failed(404, 81044, "Record does not exist.");
                };
                let _ = name_server::update(server, &format!("delete {name} TXT {text}"));
                done(&json!({ "id": id }))
            }
            _ => failed(404, 7003, "Could not route"),
        }
    })
    .await
}

/// Route 53's API with one zone, kept by the name server at `server`.
pub async fn route53(zone: &'static str, server: SocketAddr) -> Upstream {
    // By name: its values, in quotes.
    let sets: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
    Upstream::start(move |request| {
        if !is_signed(request) {
            return xml(403, "<Error><Code>SignatureDoesNotMatch</Code><Message>it does not match</Message></Error>");
        }
        let (path, query) = split(request.target());
        let mut sets = sets.lock().expect("nobody panics with it");
        match &*path {
            "/2013-04-01/hostedzonesbyname" => {
                // It begins with the zone of that name or the next one.
                let private = format!("<HostedZone><Id>/hostedzone/ZPRIVATE</Id><Name>{zone}.</Name><Config><PrivateZone>true</PrivateZone></Config></HostedZone>");
                let public = format!("<HostedZone><Id>/hostedzone/Z1</Id><Name>{zone}.</Name><Config><PrivateZone>false</PrivateZone></Config></HostedZone>");
                let _ = query;
                xml(200, &format!("<ListHostedZonesByNameResponse><HostedZones>{private}{public}</HostedZones></ListHostedZonesByNameResponse>"))
            }
            "/2013-04-01/hostedzone/Z1/rrset" => {
                let name = query.get("name").cloned().unwrap_or_default();
                let set = sets.get(&name).map(|values| set(&name, values)).unwrap_or_default();
                xml(200, &format!("<ListResourceRecordSetsResponse><ResourceRecordSets>{set}</ResourceRecordSets></ListResourceRecordSetsResponse>"))
            }
            "/2013-04-01/hostedzone/Z1/rrset/" => {
                let body = String::from_utf8_lossy(&request.body).replace("&quot;", "\"");
                let (name, action) = (between(&body, "Name").join(""), between(&body, "Action").join(""));
                let values = between(&body, "Value");
                if action == "DELETE" && sets.get(&name) != Some(&values) {
                    return xml(400, "<Error><Code>InvalidChangeBatch</Code><Message>the values provided do not match the current values</Message></Error>");
                }
                let _ = name_server::update(server, &format!("delete {name} TXT"));
                sets.remove(&name);
                if action == "UPSERT" {
                    for value in &values {
                        let _ = name_server::update(server, &format!("add {name} 60 TXT {value}"));
                    }
                    sets.insert(name, values);
                }
                xml(200, "<ChangeResourceRecordSetsResponse><ChangeInfo><Id>/change/C1</Id><Status>INSYNC</Status></ChangeInfo></ChangeResourceRecordSetsResponse>")
            }
            _ => xml(404, "<Error><Code>NoSuchHostedZone</Code><Message>no such zone</Message></Error>"),
        }
    })
    .await
}

fn set(name: &str, values: &[String]) -> String {
    let values: Vec<String> =
        values.iter().map(|it| format!("<ResourceRecord><Value>{it}</Value></ResourceRecord>")).collect();
    let values = values.concat();
    format!(
        "<ResourceRecordSet><Name>{name}</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>{values}</ResourceRecords></ResourceRecordSet>"
    )
}

/// Whether the request is signed by our key as it arrived.
fn is_signed(request: &Received) -> bool {
    let (path, query) = split(request.target());
    let pairs: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let host = request.only("host").unwrap_or_default();
    let method = request.line.split(' ').next().unwrap_or_default();
    let message = Signed { method, host, path: &path, query: &pairs, body: &request.body };
    let signer = Signer { access_key: ACCESS_KEY, secret_key: SECRET_KEY, region: "eu-central-1", service: "route53" };
    let Some(date) = request.only("x-amz-date").and_then(moment) else { return false };
    request.only("authorization") == Some(&*signer.sign(&message, date).authorization)
}

/// Reads `20150830T123600Z`.
fn moment(text: &str) -> Option<jiff::Timestamp> {
    let at = |from: usize, to: usize| text.get(from..to);
    format!("{}-{}-{}T{}:{}:{}Z", at(0, 4)?, at(4, 6)?, at(6, 8)?, at(9, 11)?, at(11, 13)?, at(13, 15)?).parse().ok()
}

/// Path and query of a target.
fn split(target: &str) -> (String, BTreeMap<String, String>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    (path.to_owned(), pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn between(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&*open).skip(1).filter_map(|it| it.split_once(&*close)).map(|(inner, _)| inner.to_owned()).collect()
}

fn done(result: &Value) -> Reply {
    Reply::Text(json!({ "success": true, "errors": [], "result": result }).to_string())
}

fn failed(status: u16, code: u32, message: &str) -> Reply {
    raw(status, &json!({ "success": false, "errors": [{ "code": code, "message": message }] }).to_string())
}

fn xml(status: u16, body: &str) -> Reply {
    raw(status, &format!("<?xml version=\"1.0\"?>{body}"))
}

fn raw(status: u16, body: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Reply::Raw((head + body).into_bytes())
}
