//! One CA: accounts, and the steps of an order as requests.
//!
//! Every failure is made a [`Failure`] here, by what the CA said and, where the library has lost that, by the status
//! of the last answer. A refused nonce is tried again at once: it only says that somebody else was faster.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use config::issuer::{Issuer, Method, Way};
use instant_acme::{
    Account as Signer, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error,
    ExternalAccountKey, Identifier, Key, NewAccount, NewOrder, OrderStatus, Problem,
};
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::pem::Pem;
use zeroize::Zeroizing;

use super::http::{Http, Last, last, recorded};
use super::keys;
use crate::inventory::Window;
use crate::metrics::AcmeMetrics;
use crate::order::{Challenge, Order, Placed, Status};
use crate::orders::Answer;
use crate::retry::{self, Class, Failure};
use crate::store::Account;

/// How often a call is repeated whose nonce was refused; the library repeats each request three times itself.
const NONCES: usize = 12;

/// An account that is ready to sign.
#[derive(Clone)]
pub(super) struct Session {
    signer: Signer,
}

/// Calls `$call` until its nonce is taken.
macro_rules! signed {
    ($call:expr) => {{
        let mut tries = NONCES;
        loop {
            match $call.await {
                Err(Error::Api(problem)) if is_nonce(&problem) && tries > 0 => tries -= 1,
                outcome => break outcome,
            }
        }
    }};
}

impl Session {
    /// Reads the CA's directory; the account is one that the CA knows.
    pub(super) async fn open(account: &Account, issuer: &Issuer, metrics: Arc<AcmeMetrics>) -> Result<Self, Failure> {
        let http = client(issuer, metrics)?;
        let key = pkcs8(account)?;
        let url = account.url.clone().unwrap_or_default();
        let (signer, seen) = recorded(async {
            let builder = Signer::builder_with_http(Box::new(http));
            builder.from_parts(url, PrivatePkcs8KeyDer::from(key.as_slice()), issuer.server.clone()).await
        })
        .await;
        Ok(Self { signer: signer.map_err(|error| failure(&error, &seen))? })
    }

    /// Gives the order to the CA, and learns what is to be proved.
    pub(super) async fn place(&self, order: &Order, issuer: &Issuer) -> Result<Answer, Failure> {
        let names: Vec<_> = order.names.iter().map(|name| identifier(name)).collect();
        let (placed, seen) = recorded(async {
            let outcome = signed!(async {
                let mut new = NewOrder::new(&names);
                if let Some(profile) = &order.profile {
                    new = new.profile(profile);
                }
                if let Some((authority, serial)) = order.replaces.as_ref().and_then(|id| id.split_once('.')) {
                    let (authority_key_identifier, serial) = (authority.into(), serial.into());
                    new = new.replaces(CertificateIdentifier { authority_key_identifier, serial });
                }
                self.signer.new_order(&new).await
            });
            let mut placed = outcome?;
            let challenges = challenges(&mut placed, issuer).await?;
            Ok(Placed { url: placed.url().to_owned(), challenges })
        })
        .await;
        placed.map(Answer::Placed).map_err(|error: CallError| error.failure(&seen, order.replaces.is_some()))
    }

    /// Tells the CA to look at every challenge that it has not looked at.
    pub(super) async fn tell(&self, order: &Order) -> Result<Answer, Failure> {
        let placed = placed(order)?;
        let (told, seen) = recorded(async {
            let mut at_ca = signed!(self.signer.order(placed.url.clone()))?;
            let mut first = None;
            for _ in 0..=NONCES {
                let mut refused = false;
                let mut authorizations = at_ca.authorizations();
                while let Some(authorization) = authorizations.next().await {
                    let mut authorization = match authorization {
                        Ok(authorization) => authorization,
                        Err(Error::Api(problem)) if is_nonce(&problem) => {
                            refused = true;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    if authorization.status != AuthorizationStatus::Pending {
                        continue;
                    }
                    let name = authorization.identifier().to_string();
                    let Some(ours) = placed.challenges.iter().find(|it| it.name == name) else { continue };
                    let Some(mut challenge) = authorization.challenge(method(&ours.method)) else { continue };
                    if challenge.status != ChallengeStatus::Pending {
                        continue;
                    }
                    match challenge.set_ready().await {
                        Ok(()) => {}
                        Err(Error::Api(problem)) if is_nonce(&problem) => refused = true,
                        // Told before, by a leader that did not live to store it.
                        Err(Error::Api(problem)) if is(&problem, "malformed") => drop(first.get_or_insert(problem)),
                        Err(error) => return Err(error),
                    }
                }
                if !refused {
                    break;
                }
                at_ca = signed!(self.signer.order(placed.url.clone()))?;
            }
            Ok(())
        })
        .await;
        told.map(|()| Answer::Done).map_err(|error| failure(&error, &seen))
    }

    /// Asks how the order stands.
    pub(super) async fn look(&self, order: &Order) -> Result<Answer, Failure> {
        let placed = placed(order)?;
        let (status, seen) = recorded(async {
            let mut at_ca = signed!(self.signer.order(placed.url.clone()))?;
            let again = last().retry_after;
            let (status, error) = (at_ca.state().status, at_ca.state().error.clone());
            if status == OrderStatus::Invalid {
                return Ok(Err(refusal(&mut at_ca, error).await));
            }
            Ok(Ok((status, again)))
        })
        .await;
        let (status, again) = status.map_err(|error| gone(&error, &seen))??;
        let status = match status {
            OrderStatus::Pending => Status::Pending,
            OrderStatus::Ready => Status::Ready,
            OrderStatus::Processing => Status::Processing,
            OrderStatus::Valid | OrderStatus::Invalid => Status::Valid,
        };
        Ok(Answer::Seen(status, again))
    }

    /// Sends the request.
    pub(super) async fn finalize(&self, order: &Order) -> Result<Answer, Failure> {
        let placed = placed(order)?;
        let request = STANDARD.decode(&order.request);
        let request = request.map_err(|_| Failure::new(Class::Gone, "the stored request cannot be read".to_owned()))?;
        let (done, seen) = recorded(async {
            let mut at_ca = signed!(self.signer.order(placed.url.clone()))?;
            if at_ca.state().status != OrderStatus::Ready {
                // The request has arrived before, and the answer was lost.
                return Ok(());
            }
            signed!(at_ca.finalize_csr(&request))
        })
        .await;
        done.map(|()| Answer::Done).map_err(|error| gone(&error, &seen))
    }

    /// Fetches the chain, the preferred one if the CA has it.
    pub(super) async fn download(&self, order: &Order, issuer: &Issuer) -> Result<Answer, Failure> {
        let placed = placed(order)?;
        let (chain, seen) = recorded(async {
            let mut at_ca = signed!(self.signer.order(placed.url.clone()))?;
            let chain = signed!(at_ca.certificate())?.ok_or(Error::Str("the certificate is not there yet"))?;
            let wanted = issuer.preferred_chain.as_deref().filter(|wanted| !ends_in(&chain, wanted));
            let Some(wanted) = wanted else { return Ok(chain) };
            for url in last().alternates {
                // The library takes it for an order, and cannot read it; the body is what is wanted.
                for _ in 0..NONCES {
                    match self.signer.order(url.clone()).await {
                        Err(Error::Api(problem)) if is_nonce(&problem) => {}
                        _ => break,
                    }
                }
                let other = last();
                let text = String::from_utf8(other.body.to_vec()).unwrap_or_default();
                if other.status == 200 && ends_in(&text, wanted) {
                    return Ok(text);
                }
            }
            Ok(chain)
        })
        .await;
        let chain = chain.map_err(|error| gone(&error, &seen))?;
        keys::check(&chain, order, Timestamp::now()).map_err(|why| Failure::new(Class::Refused, why))?;
        Ok(Answer::Chain(chain))
    }

    /// When the CA would renew a certificate, and when to ask again.
    pub(super) async fn suggestion(&self, certificate: &str) -> Result<(Window, Timestamp), Failure> {
        let (authority, serial) = certificate.split_once('.').unwrap_or_default();
        let id = CertificateIdentifier { authority_key_identifier: authority.into(), serial: serial.into() };
        let (asked, seen) = recorded(self.signer.renewal_info(&id)).await;
        let (info, wait) = asked.map_err(|error| failure(&error, &seen))?;
        let moment = |time: i64| Timestamp::from_second(time).unwrap_or(Timestamp::MAX);
        let window = Window {
            start: moment(info.suggested_window.start.unix_timestamp()),
            end: moment(info.suggested_window.end.unix_timestamp()),
        };
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
        // RFC 9773 §4.3.3: neither faster than a minute nor slower than a day.
        let wait = wait.clamp(SignedDuration::from_mins(1), SignedDuration::from_hours(24));
        Ok((window, Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX)))
    }
}

/// Has the CA know an account; one that it knows already stays as it is.
pub(super) async fn register(
    account: Option<&Account>,
    issuer: &Issuer,
    customer: Option<&str>,
    metrics: &Arc<AcmeMetrics>,
) -> Result<Account, Failure> {
    let contact = issuer.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let customer = issuer.external_account.as_ref().map(|it| customer_key(&it.key_id, customer)).transpose()?;
    let mut tries = NONCES;
    loop {
        let http = client(issuer, Arc::clone(metrics))?;
        let builder = Signer::builder_with_http(Box::new(http));
        let key = account.map(pkcs8).transpose()?;
        let (made, seen) = recorded(async {
            let Some(key) = key else {
                let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
                return builder.create(&new, issuer.server.clone(), customer.as_ref()).await;
            };
            let pair = Key::from_pkcs8_der(PrivatePkcs8KeyDer::from(key.as_slice()))?;
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
            let (signer, credentials) = builder.create_from_key((pair, der), issuer.server.clone()).await?;
            if !contact.is_empty() {
                signed!(signer.update_contacts(&contact))?;
            }
            Ok((signer, credentials))
        })
        .await;
        match made {
            Err(Error::Api(problem)) if is_nonce(&problem) && tries > 0 => tries -= 1,
            Err(error) => return Err(account_failure(&error, &seen)),
            Ok((signer, credentials)) => {
                let key = Zeroizing::new(STANDARD.encode(credentials.private_key().secret_pkcs8_der()));
                return Ok(Account { server: issuer.server.clone(), key, url: Some(signer.id().to_owned()) });
            }
        }
    }
}

fn client(issuer: &Issuer, metrics: Arc<AcmeMetrics>) -> Result<Http, Failure> {
    Http::new(issuer.ca_bundle.as_deref(), metrics).map_err(|error| Failure::new(Class::Refused, error.to_string()))
}

fn pkcs8(account: &Account) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let key = STANDARD.decode(account.key.as_bytes()).map(Zeroizing::new);
    key.map_err(|_| Failure::new(Class::Refused, "the stored account key cannot be read".to_owned()))
}

/// The key that a CA hands its customers: base64url, padded or not.
fn customer_key(key_id: &str, text: Option<&str>) -> Result<ExternalAccountKey, Failure> {
    let refused = |why: &str| Failure::new(Class::Refused, why.to_owned());
    let text = text.ok_or_else(|| refused("the Secret of externalAccountBinding is not there, or lacks the key"))?;
    let key = URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text)).or_else(|_| STANDARD.decode(text));
    let key = key.map_err(|_| refused("the key of externalAccountBinding is not base64url, as CAs hand it out"))?;
    Ok(ExternalAccountKey::new(key_id.to_owned(), &key))
}

fn placed(order: &Order) -> Result<&Placed, Failure> {
    order.placed.as_ref().ok_or_else(|| Failure::new(Class::Gone, "the order has no URL".to_owned()))
}

/// Everything that is still to be proved.
async fn challenges(at_ca: &mut instant_acme::Order, issuer: &Issuer) -> Result<Vec<Challenge>, CallError> {
    let mut found = Vec::new();
    let mut tries = NONCES;
    'again: loop {
        found.clear();
        let mut authorizations = at_ca.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = match authorization {
                Ok(authorization) => authorization,
                Err(Error::Api(problem)) if is_nonce(&problem) && tries > 0 => {
                    tries -= 1;
                    continue 'again;
                }
                Err(error) => return Err(error.into()),
            };
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let methods: Vec<Method> = issuer.ways(&name).into_iter().map(Way::method).collect();
            let usable = methods.iter().find(|wanted| {
                authorization.challenges.iter().any(|challenge| challenge.r#type == method(wanted.as_str()))
            });
            let Some(usable) = usable else {
                let wanted: Vec<_> = methods.iter().map(ToString::to_string).collect();
                return Err(CallError::NoChallenge { name, wanted: wanted.join(", ") });
            };
            let Some(challenge) = authorization.challenge(method(usable.as_str())) else { continue };
            found.push(Challenge {
                name: name.clone(),
                method: usable.as_str().to_owned(),
                token: challenge.token.clone(),
                authorization: challenge.key_authorization().as_str().to_owned(),
            });
        }
        return Ok(found);
    }
}

fn identifier(name: &str) -> Identifier {
    name.parse().map_or_else(|_| Identifier::Dns(name.to_owned()), Identifier::Ip)
}

fn method(name: &str) -> ChallengeType {
    match name {
        "tls-alpn-01" => ChallengeType::TlsAlpn01,
        "dns-01" => ChallengeType::Dns01,
        _ => ChallengeType::Http01,
    }
}

/// Why the CA has given up an order: in what it says of the authorizations, if not of the order.
async fn refusal(at_ca: &mut instant_acme::Order, error: Option<Problem>) -> Failure {
    let (mut messages, mut names, mut class) = (Vec::new(), Vec::new(), None);
    let mut authorizations = at_ca.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(authorization) = authorization else { continue };
        let name = authorization.identifier().to_string();
        for problem in authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref()) {
            class = Some(Class::Validation);
            messages.push(format!("{name}: {}", words(problem)));
            names.push(name.clone());
        }
    }
    if let Some(problem) = error.filter(|_| messages.is_empty()) {
        messages.push(words(&problem));
        class = class.or(Some(retry::classify(problem.r#type.as_deref(), 400)));
    }
    let message = if messages.is_empty() { "the CA gave no reason".to_owned() } else { messages.join("; ") };
    // What an order says of itself is never about the account or the moment.
    let class = class.filter(|class| matches!(class, Class::Validation | Class::Refused)).unwrap_or(Class::Validation);
    Failure { names, ..Failure::new(class, message) }
}

/// What goes wrong with placing an order.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Acme(#[from] Error),
    #[error("the CA offers none of the challenges {wanted} for {name}; give the issuer another solver")]
    NoChallenge { name: String, wanted: String },
}

impl CallError {
    fn failure(self, seen: &Last, replaces: bool) -> Failure {
        match self {
            // A CA may know no such certificate, or not want it replaced by us.
            Self::Acme(Error::Api(problem)) if replaces && refuses_replacement(&problem, seen.status) => {
                Failure::new(Class::Replaced, words(&problem))
            }
            Self::Acme(Error::Unsupported(what)) if replaces => Failure::new(Class::Replaced, what.to_owned()),
            Self::Acme(error) => failure(&error, seen),
            Self::NoChallenge { .. } => Failure::new(Class::Refused, self.to_string()),
        }
    }
}

/// Whether what the CA says of an order that replaces a certificate may be about that, and not about us or the moment.
fn refuses_replacement(problem: &Problem, status: u16) -> bool {
    let class = retry::classify(problem.r#type.as_deref(), status);
    matches!(status, 400 | 403 | 404 | 409) && matches!(class, Class::Refused | Class::Replaced)
}

/// As [`failure`], of a call for an order that should exist.
fn gone(error: &Error, seen: &Last) -> Failure {
    let failure = failure(error, seen);
    if seen.status == 404 { Failure { class: Class::Gone, ..failure } } else { failure }
}

/// As [`failure`], of a call that makes an account: what the CA does not want will not change by itself.
fn account_failure(error: &Error, seen: &Last) -> Failure {
    let failure = failure(error, seen);
    match failure.class {
        Class::Refused | Class::Validation => Failure { class: Class::Account, ..failure },
        Class::Transient | Class::Wait | Class::Account | Class::Replaced | Class::Gone => failure,
    }
}

fn failure(error: &Error, seen: &Last) -> Failure {
    let (class, message) = match error {
        Error::Api(problem) => (retry::classify(problem.r#type.as_deref(), seen.status), words(problem)),
        // The status tells more than what the library could not read.
        Error::Json(_) | Error::Str(_) if seen.status >= 400 => {
            (retry::classify(None, seen.status), format!("the CA answered with status {}", seen.status))
        }
        other => (Class::Transient, other.to_string()),
    };
    let class =
        if class == Class::Transient && seen.status == 503 && seen.retry_after.is_some() { Class::Wait } else { class };
    let until = seen.retry_after.or_else(|| retry::retry_after_in(&message));
    let until = until.filter(|_| class == Class::Wait);
    Failure { until, ..Failure::new(class, message) }
}

/// What a CA says, in its own words.
fn words(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("no type");
    let kind = kind.rsplit(':').next().unwrap_or(kind);
    let mut text = format!("{} ({kind})", problem.detail.as_deref().unwrap_or("no detail"));
    for part in &problem.subproblems {
        text.push_str("; ");
        text.push_str(&part.to_string());
    }
    text
}

fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|it| it.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

fn is_nonce(problem: &Problem) -> bool {
    is(problem, "badNonce")
}

/// Whether the topmost certificate of a chain names `issuer` as its issuer.
fn ends_in(chain: &str, issuer: &str) -> bool {
    let top = Pem::iter_from_buffer(chain.as_bytes()).filter_map(Result::ok).last();
    top.as_ref()
        .and_then(|pem| pem.parse_x509().ok())
        .is_some_and(|top| top.issuer().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == issuer)))
}
