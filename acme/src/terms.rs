//! What an Ingress asks of a certificate besides its names: cert-manager's annotations.
//!
//! | annotation `cert-manager.io/` | effect |
//! |---|---|
//! | `common-name`, `alt-names` | more names, the first also as the subject's common name |
//! | `duration` | checked; an ACME CA decides by its profile |
//! | `renew-before`, `renew-before-percentage` | when to renew, unless the CA suggests a moment |
//! | `private-key-algorithm`, `private-key-size` | the kind of key; P-256 if nothing is said |
//! | (`ferrogate.io/take-over-certificate`) | whether to renew what cert-manager has issued |
//! | `private-key-rotation-policy`, `private-key-encoding` | checked; every certificate has a new key, in PKCS #8 |

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::Ingress;

use crate::keyspec::KeySpec;
use crate::name::CertName;

/// The longest common name (RFC 5280, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// Says that a Secret which cert-manager wrote is ours from now on.
pub const TAKE_OVER: &str = "ferrogate.io/take-over-certificate";

/// Names the Secrets of an Ingress whose certificates are to have RSA keys, separated by commas.
pub const RSA_SECRETS: &str = "ferrogate.io/rsa-secrets";

/// What is asked of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The kind of its key.
    pub key: KeySpec,
    /// The subject's common name.
    pub common_name: Option<CertName>,
    /// Names besides the hosts.
    pub extra: BTreeSet<CertName>,
    /// When to renew it.
    pub renewal: Option<RenewBefore>,
    /// Whether a Secret that cert-manager wrote is ours to renew.
    pub take_over: bool,
    /// Secrets whose certificate is to have an RSA key, whatever is said of the others.
    pub rsa: BTreeSet<String>,
}

/// How long before its end to renew a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewBefore {
    /// This long.
    Time(SignedDuration),
    /// This part of its life, in percent.
    Percentage(i32),
}

impl Terms {
    /// Reads the annotations; the first that is wrong, and what is wrong with it.
    pub fn read(ingress: &Ingress) -> Result<Self, (&'static str, String)> {
        let text = |name: &str| ingress.metadata.annotations.as_ref()?.get(name).map(|text| text.trim());
        let names = |annotation: &'static str| {
            let parts = text(annotation).into_iter().flat_map(|all| all.split(',')).map(str::trim);
            let parts = parts.filter(|part| !part.is_empty());
            parts.map(CertName::parse).collect::<Result<BTreeSet<_>, _>>().map_err(|why| (annotation, why.to_string()))
        };
        let time = |annotation: &'static str, least: SignedDuration| match text(annotation) {
            None => Ok(None),
            Some(text) => match text.parse::<SignedDuration>() {
                Ok(time) if time >= least => Ok(Some(time)),
                Ok(_) => Err((annotation, format!("{text:?} is too short; use at least {} minutes", least.as_mins()))),
                Err(_) => Err((annotation, format!("{text:?} is not a time; write it like 720h"))),
            },
        };
        time("cert-manager.io/duration", SignedDuration::from_hours(1))?;
        let renewal = match (time("cert-manager.io/renew-before", SignedDuration::from_mins(5))?, percentage(text)?) {
            (Some(_), Some(_)) => {
                let message = "renew-before is set too; remove one".to_owned();
                return Err(("cert-manager.io/renew-before-percentage", message));
            }
            (time, percentage) => time.map(RenewBefore::Time).or(percentage.map(RenewBefore::Percentage)),
        };
        one_of(text, "cert-manager.io/private-key-rotation-policy", ["Always", "Never"])?;
        one_of(text, "cert-manager.io/private-key-encoding", ["PKCS1", "PKCS8"])?;
        let algorithm = "cert-manager.io/private-key-algorithm";
        let key = KeySpec::parse(text(algorithm), text("cert-manager.io/private-key-size"));
        let common_name = "cert-manager.io/common-name";
        let name = names(common_name)?.into_iter().next();
        if name.as_ref().is_some_and(|name| name.as_str().len() > MAX_COMMON_NAME) {
            return Err((common_name, format!("a common name has at most {MAX_COMMON_NAME} characters; leave it out")));
        }
        let mut extra = names("cert-manager.io/alt-names")?;
        extra.extend(name.clone());
        let addresses = "cert-manager.io/ip-sans";
        for name in names(addresses)? {
            if name.address().is_none() {
                return Err((addresses, format!("{name} is no address")));
            }
            extra.insert(name);
        }
        let annotation = |name: &str| ingress.metadata.annotations.as_ref()?.get(name).map(|text| text.trim());
        let take_over = match annotation(TAKE_OVER) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err((TAKE_OVER, format!("{other:?} is not true or false"))),
        };
        let key = key.map_err(|why| (algorithm, why))?;
        let listed = annotation(RSA_SECRETS).into_iter().flat_map(|text| text.split(',')).map(str::trim);
        let rsa = listed.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Self { key, common_name: name, extra, renewal, take_over, rsa })
    }

    /// The moment asked for, of a certificate that holds in this time; `None` if none is, or none inside it.
    #[must_use]
    pub fn renew_at(&self, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
        let before = match self.renewal? {
            RenewBefore::Time(time) => time,
            RenewBefore::Percentage(part) => to.duration_since(from).checked_mul(part)? / 100,
        };
        to.checked_sub(before).ok().filter(|moment| *moment > from)
    }
}

fn percentage<'a>(text: impl Fn(&str) -> Option<&'a str>) -> Result<Option<i32>, (&'static str, String)> {
    let annotation = "cert-manager.io/renew-before-percentage";
    let Some(text) = text(annotation) else { return Ok(None) };
    match text.parse() {
        Ok(part @ 1..=99) => Ok(Some(part)),
        Ok(_) | Err(_) => Err((annotation, format!("{text:?} is not a whole number from 1 to 99"))),
    }
}

fn one_of<'a>(
    text: impl Fn(&str) -> Option<&'a str>,
    annotation: &'static str,
    known: [&str; 2],
) -> Result<(), (&'static str, String)> {
    match text(annotation) {
        Some(text) if !known.contains(&text) => {
            Err((annotation, format!("{text:?} is not {} or {}", known[0], known[1])))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Result<Terms, (&'static str, String)> {
        let mut ingress = Ingress::default();
        let pairs = annotations.iter().map(|(key, value)| (format!("cert-manager.io/{key}"), (*value).to_owned()));
        ingress.metadata.annotations = Some(pairs.collect());
        Terms::read(&ingress)
    }

    #[test]
    fn each_annotation_is_understood() {
        let terms = read(&[
            ("private-key-algorithm", "RSA"),
            ("private-key-size", "4096"),
            ("common-name", "A.example.com"),
            ("alt-names", "b.example.com, c.example.com"),
            ("duration", "2160h"),
            ("renew-before", "360h0m0s"),
        ])
        .unwrap();
        assert_eq!(terms.key, KeySpec::Rsa4096);
        assert_eq!(terms.common_name.unwrap().as_str(), "a.example.com");
        let names: Vec<_> = terms.extra.iter().map(CertName::as_str).collect();
        assert_eq!(names, ["a.example.com", "b.example.com", "c.example.com"]);
        assert_eq!(terms.renewal, Some(RenewBefore::Time(SignedDuration::from_hours(360))));
    }

    #[test]
    fn what_is_wrong_is_said_of_the_annotation() {
        let long = format!("{}.example.com", "a".repeat(60));
        for (annotation, value) in [
            ("duration", "5m"),
            ("duration", "soon"),
            ("renew-before", "1m"),
            ("renew-before-percentage", "100"),
            ("private-key-algorithm", "Ed25519"),
            ("private-key-rotation-policy", "never"),
            ("alt-names", "a_b.example.com"),
            ("ip-sans", "192.0.2.one"),
            ("common-name", &long),
        ] {
            assert_eq!(read(&[(annotation, value)]).unwrap_err().0, format!("cert-manager.io/{annotation}"), "{value}");
        }
        assert!(read(&[("renew-before", "1h"), ("renew-before-percentage", "10")]).is_err());
    }

    #[test]
    fn a_time_outside_of_the_life_of_a_certificate_is_not_taken() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (renewal, expected) in [
            (RenewBefore::Time(SignedDuration::from_secs(10)), Some(at(90))),
            (RenewBefore::Time(SignedDuration::from_secs(100)), None),
            (RenewBefore::Percentage(25), Some(at(75))),
        ] {
            let terms = Terms { renewal: Some(renewal), ..Terms::default() };
            assert_eq!(terms.renew_at(at(0), at(100)), expected);
        }
    }
}
