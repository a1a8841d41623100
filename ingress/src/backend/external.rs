//! Services of type `ExternalName`: a name out there instead of endpoints.
//!
//! The addresses are those that DNS has for the name; the port is the one that the Ingress names, or the target port
//! of a port that the Service lists. A name makes requests leave the cluster, or reach what its author could not, so
//! the operator says whether such Services are served at all, and addresses are judged as those of an `EndpointSlice`:
//! none that leads to this machine, back through us, or to what is link-local, such as the metadata of a cloud.
//!
//! Pure. Who asks DNS: [`crate::resolve`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::annotation::Protocol;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{BackendKey, BackendProblem, PortRef, Standpoint, service_port};
use crate::endpoints::Endpoints;
use crate::resolve::Answer;

/// The name of an `ExternalName` Service, as it is written; `None` for a Service of another type.
#[must_use]
pub fn name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("ExternalName"))?;
    Some(spec.external_name.as_deref().unwrap_or_default())
}

/// The name to ask DNS for: lower case, without the dot at its end.
///
/// The error is a clause about `written`. Refused is what is not a DNS name (RFC 1123 §2.1), what looks like an IPv4
/// address, and `localhost` (RFC 6761 §6.3).
pub fn question(written: &str) -> Result<Arc<str>, String> {
    let name = written.strip_suffix('.').unwrap_or(written).to_ascii_lowercase();
    if written.parse::<IpAddr>().is_ok() {
        return Err("is an address; use a Service without selector and an EndpointSlice".to_owned());
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Err("is this machine; name another one".to_owned());
    }
    if !is_dns_name(&name) {
        return Err("is not a DNS name; write it like \"db.example.com\"".to_owned());
    }
    Ok(name.into())
}

fn is_dns_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// The endpoints of the backend `key`, whose Service has the name `written`.
///
/// `answer` is what is known of its [`question`].
#[must_use]
pub fn resolve(
    key: BackendKey,
    service: &Service,
    written: &str,
    answer: Option<&Answer>,
    here: &Standpoint,
    previous: Option<&Endpoints>,
) -> Endpoints {
    let found = match addresses(&key, service, written, answer, here) {
        Ok(found) => found,
        Err(problem) => return Endpoints::broken(key, problem),
    };
    let (permitted, refused): (Vec<_>, Vec<_>) = found.into_iter().partition(|addr| here.forbidden.permits(addr.ip()));
    let protocol =
        service_port(service, &key.port).and_then(|port| Protocol::of_app_protocol(port.app_protocol.as_deref()?));
    Endpoints::new(key, permitted, refused.iter().map(SocketAddr::ip).collect(), previous).speaking(protocol)
}

fn addresses(
    key: &BackendKey,
    service: &Service,
    written: &str,
    answer: Option<&Answer>,
    here: &Standpoint,
) -> Result<Vec<SocketAddr>, BackendProblem> {
    let (service_name, name) = (key.service.clone(), written.to_owned());
    if !here.external_names {
        return Err(BackendProblem::ExternalName { service: service_name });
    }
    if let Err(why) = question(written) {
        return Err(BackendProblem::NameInvalid { service: service_name, name, why });
    }
    let port = port(service, &key.port).ok_or_else(|| match &key.port {
        PortRef::Unset => BackendProblem::PortUnset { service: service_name.clone() },
        port => BackendProblem::PortUnknown { service: service_name.clone(), port: port.clone() },
    })?;
    match answer {
        Some(Answer::Addresses(addrs)) => Ok(addrs.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
        Some(Answer::Missing) => Err(BackendProblem::NameMissing { service: service_name, name }),
        Some(Answer::Unknown) => Err(BackendProblem::NameUnknown { service: service_name, name }),
        None => Err(BackendProblem::NamePending { service: service_name, name }),
    }
}

/// The port to connect to. An `ExternalName` Service need not list any; then only a number says something.
fn port(service: &Service, port: &PortRef) -> Option<u16> {
    let target = |listed: &ServicePort| match &listed.target_port {
        Some(IntOrString::Int(target)) if *target != 0 => *target,
        _ => listed.port,
    };
    match (service_port(service, port), port) {
        (Some(listed), _) => u16::try_from(target(listed)).ok().filter(|port| *port != 0),
        (None, PortRef::Number(number)) => Some(*number),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use config::object::ObjectName;
    use serde_json::json;

    use super::*;
    use crate::backend::Forbidden;

    fn service(spec: &serde_json::Value) -> Service {
        serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
    }

    fn resolved(port: PortRef, spec: &serde_json::Value, answer: Option<&Answer>, here: &Standpoint) -> Endpoints {
        let service = service(spec);
        let key = BackendKey { service: ObjectName::new("shop", "db"), port };
        resolve(key, &service, name(&service).unwrap(), answer, here, None)
    }

    fn here() -> Standpoint {
        let own = ["192.0.2.99".parse().unwrap()].into();
        Standpoint {
            forbidden: Forbidden { allow_loopback: false, own },
            external_names: true,
            ..Standpoint::default()
        }
    }

    fn answer(addrs: &[&str]) -> Answer {
        Answer::Addresses(addrs.iter().map(|addr| addr.parse().unwrap()).collect())
    }

    #[test]
    fn only_the_name_of_a_machine_out_there_is_asked_for() {
        for (written, expected) in [
            ("db.example.com", Some("db.example.com")),
            ("DB.Example.com.", Some("db.example.com")),
            ("my_db.example.com", Some("my_db.example.com")),
            ("db", Some("db")),
            ("", None),
            (".", None),
            ("localhost", None),
            ("a.LOCALHOST.", None),
            ("192.0.2.1", None),
            ("::1", None),
            ("*.example.com", None),
            ("a..b", None),
            ("-a.example", None),
            ("a b", None),
            ("a/b", None),
        ] {
            assert_eq!(question(written).ok().as_deref(), expected, "{written:?}");
        }
        assert!(question(&"a.".repeat(128)).is_err() && question(&"a".repeat(64)).is_err());
    }

    #[test]
    fn the_port_is_the_number_or_what_the_service_lists() {
        let listed = json!({ "type": "ExternalName", "externalName": "db.example", "ports": [
            { "name": "pg", "port": 80, "targetPort": 5432 }, { "name": "plain", "port": 81, "targetPort": "x" } ] });
        let bare = json!({ "type": "ExternalName", "externalName": "db.example" });
        let named = |name: &str| PortRef::Name(name.into());
        for (spec, port, expected) in [
            (&bare, PortRef::Number(8443), Some(8443)),
            (&bare, named("pg"), None),
            (&bare, PortRef::Unset, None),
            (&listed, PortRef::Number(80), Some(5432)),
            (&listed, named("pg"), Some(5432)),
            (&listed, named("plain"), Some(81)),
            (&listed, PortRef::Number(8443), Some(8443)),
            (&listed, named("nope"), None),
        ] {
            let endpoints = resolved(port.clone(), spec, Some(&answer(&["192.0.2.1"])), &here());
            assert_eq!(endpoints.list().first().map(|endpoint| endpoint.addr.port()), expected, "{port} of {spec}");
        }
    }

    #[test]
    fn no_name_leads_to_this_machine_or_the_link_or_back_through_us() {
        let all =
            ["127.0.0.1", "169.254.169.254", "192.0.2.99", "203.0.113.1", "::1", "fe80::1", "2001:db8::1", "0.0.0.0"];
        let spec = json!({ "type": "ExternalName", "externalName": "db.example" });
        let endpoints = resolved(PortRef::Number(80), &spec, Some(&answer(&all)), &here());
        let used: Vec<_> = endpoints.list().iter().map(|endpoint| endpoint.addr.to_string()).collect();
        assert_eq!(used, ["203.0.113.1:80", "[2001:db8::1]:80"]);
        assert_eq!(endpoints.refused().len(), 6);
    }

    #[test]
    fn each_reason_for_having_no_address_is_told() {
        let spec = json!({ "type": "ExternalName", "externalName": "db.example" });
        let localhost = json!({ "type": "ExternalName", "externalName": "localhost" });
        let off = Standpoint { external_names: false, ..here() };
        for (spec, answer, here, word) in [
            (&spec, Some(answer(&["192.0.2.1"])), &off, "--disable-svc-external-name"),
            (&localhost, Some(answer(&["192.0.2.1"])), &here(), "this machine"),
            (&spec, Some(Answer::Missing), &here(), "no address for db.example"),
            (&spec, Some(Answer::Unknown), &here(), "does not answer"),
            (&spec, None, &here(), "being asked"),
        ] {
            let endpoints = resolved(PortRef::Number(80), spec, answer.as_ref(), here);
            let problem = endpoints.problem().unwrap().to_string();
            assert!(endpoints.list().is_empty() && problem.contains(word), "{problem}");
        }
    }
}
