//! Wanted certificates against held ones: which are due, and why.
//!
//! A certificate is renewed when its CA suggests it (RFC 9773), else at ⅔ of its life, one that lives less than ten days
//! at ½. What is in a Secret that is not
//! ours is served as it is and never due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::issuer::Issuers;
use config::object::ObjectName;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::held::{Found, Held, Owner};
use crate::name::CertName;
use crate::wanted::Wanted;

/// A life below this is short.
const SHORT_LIFE: SignedDuration = SignedDuration::from_hours(10 * 24);

/// Why a certificate is to be ordered, the most urgent reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// The one we hold no longer holds.
    #[error("it has expired")]
    Expired,
    /// There is no Secret.
    #[error("there is no such Secret yet")]
    Missing,
    /// Our Secret holds nothing that can be read.
    #[error("the Secret holds no certificate that can be read")]
    Unreadable,
    /// The hosts of the Ingress changed.
    #[error("it does not hold the hosts of the Ingress")]
    NamesDiffer,
    /// Another issuer is named than the one that issued it.
    #[error("another issuer is named")]
    IssuerDiffers,
    /// Another kind of key is asked for.
    #[error("another kind of key is asked for")]
    KeyDiffers,
    /// An operator asks for it.
    #[error("an operator asks for it")]
    Asked,
    /// It is time.
    #[error("it is due for renewal")]
    Renewal,
}

impl Reason {
    /// Whether what we hold has the same names, so that a CA sees a renewal.
    #[must_use]
    pub const fn is_renewal(self) -> bool {
        match self {
            Self::Missing | Self::Unreadable | Self::NamesDiffer | Self::IssuerDiffers => false,
            Self::Expired | Self::KeyDiffers | Self::Asked | Self::Renewal => true,
        }
    }
}

/// When the CA suggests to renew a certificate (RFC 9773 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From here.
    pub start: Timestamp,
    /// To here.
    pub end: Timestamp,
}

/// What bears on renewal besides the certificates themselves.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The CA's suggestions, by [`Held::id`].
    pub windows: BTreeMap<String, Window>,
    /// What an operator asks for.
    pub asked: BTreeSet<ObjectName>,
    /// The issuers, for the name of the default one.
    pub issuers: Arc<Issuers>,
}

/// Why nothing is ordered although an Ingress asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Somebody else wrote the Secret.
    #[error("the Secret was not written by Ferrogate; it is served as it is and never overwritten")]
    NotOurs,
    /// We wrote it, then somebody changed it.
    #[error(
        "the Secret was changed after Ferrogate wrote it; it is served as it is, delete it to have it ordered anew"
    )]
    Altered,
    /// cert-manager wrote it.
    #[error("the Secret belongs to cert-manager, which renews it; ferrogate.io/take-over-certificate hands it to us")]
    CertManager,
    /// It is no TLS Secret.
    #[error("the Secret is not of type kubernetes.io/tls; name another one")]
    NotTls,
}

/// What holds for one wanted certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds until it is renewed.
    Valid {
        /// When that is.
        renew_at: Timestamp,
    },
    /// It is to be ordered.
    Due(Reason),
    /// It is not ours to order.
    Refused(Refusal),
}

/// A certificate to order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The Secret to keep it in.
    pub secret: ObjectName,
    /// The Ingress that asks.
    pub ingress: ObjectName,
    /// Its names.
    pub names: BTreeSet<CertName>,
    /// Why now.
    pub reason: Reason,
    /// The wish itself.
    pub wanted: Wanted,
    /// The certificate that it replaces, as RFC 9773 §4.1 names it.
    pub replaces: Option<String>,
}

/// Everything that is wanted, judged at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What to order, the most urgent first.
    pub due: Vec<Due>,
    /// What is wanted.
    pub wanted: Vec<Wanted>,
    /// What holds for each wanted Secret.
    pub states: BTreeMap<ObjectName, State>,
}

impl Inventory {
    /// The next moment at which something becomes due by itself.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        let renewals = self.states.values().filter_map(|state| match state {
            State::Valid { renew_at } => Some(*renew_at),
            State::Due(_) | State::Refused(_) => None,
        });
        renewals.min()
    }
}

/// Judges what is wanted by what is held at `now`.
#[must_use]
pub fn inventory(wanted: &[Wanted], held: &BTreeMap<ObjectName, Found>, hints: &Hints, now: Timestamp) -> Inventory {
    let (mut due, mut states) = (Vec::new(), BTreeMap::new());
    for want in wanted {
        let found = held.get(&want.secret);
        let state = state(want, found, hints, now);
        states.insert(want.secret.clone(), state);
        if let State::Due(reason) = state {
            let held = found.and_then(|found| found.certificate.as_ref().ok());
            let (secret, ingress, names) = (want.secret.clone(), want.ingress.clone(), want.names.clone());
            let replaces = held.and_then(|held| held.id.clone()).filter(|_| reason.is_renewal());
            let due_now = Due { secret, ingress, names, reason, wanted: want.clone(), replaces };
            due.push((held.map(|held| held.not_after), due_now));
        }
    }
    due.sort_by(|(end, a), (other, b)| (a.reason, end, &a.secret).cmp(&(b.reason, other, &b.secret)));
    Inventory { due: due.into_iter().map(|(_, due)| due).collect(), wanted: wanted.to_vec(), states }
}

/// The moment to renew a certificate, in whole seconds.
#[must_use]
pub fn renewal(held: &Held) -> Timestamp {
    let life = held.not_after.duration_since(held.not_before);
    let wait = if life < SHORT_LIFE { life.as_secs() / 2 } else { life.as_secs() / 3 * 2 };
    // A life that ends before it begins is renewed at its beginning.
    held.not_before.checked_add(SignedDuration::from_secs(wait.max(0))).unwrap_or(held.not_after)
}

/// The moment to renew this certificate: in the window that the CA suggests, if it does, else as its Ingress asks, else
/// as [`renewal`] says, up to 2 % of its life earlier. Where in that span is drawn by the certificate itself, so that
/// everybody finds the same moment and not all certificates the same.
#[must_use]
pub fn renew_at(want: &Wanted, held: &Held, hints: &Hints) -> Timestamp {
    let window = held.id.as_ref().and_then(|id| hints.windows.get(id));
    // A window older than the certificate would renew it again and again.
    if let Some(window) = window.filter(|window| window.end > held.not_before && window.end > window.start) {
        return later(window.start, window.end.duration_since(window.start), draw(held));
    }
    if let Some(moment) = want.terms.renew_at(held.not_before, held.not_after) {
        return moment;
    }
    let (usual, life) = (renewal(held), held.not_after.duration_since(held.not_before));
    later(usual, -(life / 50), draw(held)).max(held.not_before)
}

/// `from` and a part of `span`, which may be negative, in whole seconds.
fn later(from: Timestamp, span: SignedDuration, part: f64) -> Timestamp {
    let seconds =
        SignedDuration::try_from_secs_f64((span.as_secs_f64() * part).trunc()).unwrap_or(SignedDuration::ZERO);
    from.checked_add(seconds).unwrap_or(from)
}

/// A number from 0 to 1 that belongs to a certificate.
fn draw(held: &Held) -> f64 {
    let mut hash = Sha256::new();
    hash.update(held.id.as_deref().unwrap_or_default());
    hash.update(held.not_after.as_second().to_be_bytes());
    let [first, second, ..] = <[u8; 32]>::from(hash.finalize());
    f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX)
}

fn state(want: &Wanted, found: Option<&Found>, hints: &Hints, now: Timestamp) -> State {
    let Some(found) = found else { return State::Due(Reason::Missing) };
    match (found.owner, &found.certificate) {
        (Owner::Somebody, _) => State::Refused(Refusal::NotOurs),
        (Owner::Altered, _) => State::Refused(Refusal::Altered),
        (Owner::CertManager, Ok(held)) if want.terms.take_over => {
            judge(want, held, found.issuer.as_deref(), hints, now)
        }
        (Owner::CertManager, Err(_)) if want.terms.take_over => State::Due(Reason::Unreadable),
        (Owner::CertManager, _) => State::Refused(Refusal::CertManager),
        (Owner::NotTls, _) => State::Refused(Refusal::NotTls),
        (Owner::Us, Err(_)) => State::Due(Reason::Unreadable),
        (Owner::Us, Ok(held)) => judge(want, held, found.issuer.as_deref(), hints, now),
    }
}

/// The name of an issuer as it stands in an annotation: without its namespace.
fn plain(issuer: &str) -> &str {
    issuer.rsplit('/').next().unwrap_or(issuer)
}

fn judge(want: &Wanted, held: &Held, issuer: Option<&str>, hints: &Hints, now: Timestamp) -> State {
    let renew_at = renew_at(want, held, hints);
    let named = want.issuer.name(&hints.issuers);
    if now >= held.not_after {
        State::Due(Reason::Expired)
    } else if !want.names.iter().map(CertName::as_str).eq(held.names.iter().map(String::as_str)) {
        State::Due(Reason::NamesDiffer)
    } else if issuer.is_some() && named.is_some() && issuer != named.as_deref().map(plain) {
        State::Due(Reason::IssuerDiffers)
    } else if held.key.is_some_and(|key| key != want.terms.key) {
        State::Due(Reason::KeyDiffers)
    } else if hints.asked.contains(&want.secret) {
        State::Due(Reason::Asked)
    } else if now >= renew_at {
        State::Due(Reason::Renewal)
    } else {
        State::Valid { renew_at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::held::HeldError;
    use crate::keyspec::KeySpec;
    use crate::terms::Terms;
    use crate::wanted::Issuer;

    const DAY: i64 = 24 * 3600;

    fn want(secret: &str) -> Wanted {
        Wanted {
            secret: ObjectName::new("shop", secret),
            ingress: ObjectName::new("shop", "web"),
            issuer: Issuer::Default,
            names: [CertName::parse("a.example.com").unwrap()].into(),
            terms: Terms::default(),
        }
    }

    fn held(from: i64, to: i64) -> Held {
        let moment = |second| Timestamp::from_second(second).unwrap();
        let names = ["a.example.com".to_owned()].into();
        Held { names, not_before: moment(from), not_after: moment(to), id: None, key: None }
    }

    fn judged(owner: Owner, certificate: Result<Held, HeldError>, now: i64) -> State {
        let held = [(want("tls").secret, found(owner, certificate))].into();
        judged_at(&held, now).states[&want("tls").secret]
    }

    fn found(owner: Owner, certificate: Result<Held, HeldError>) -> Found {
        Found { owner, certificate, issuer: None, version: String::new() }
    }

    fn judged_at(held: &BTreeMap<ObjectName, Found>, now: i64) -> Inventory {
        inventory(&[want("tls")], held, &Hints::default(), Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn the_window_of_the_ca_goes_before_all_and_one_older_than_the_certificate_counts_for_nothing() {
        let moment = |second| Timestamp::from_second(second).unwrap();
        let held = Held { id: Some("a.b".to_owned()), ..held(0, 90 * DAY) };
        let mut hints = Hints::default();
        for (start, end, expected) in [(10 * DAY, 11 * DAY, true), (-20, -10, false), (11 * DAY, 10 * DAY, false)] {
            hints.windows.insert("a.b".to_owned(), Window { start: moment(start), end: moment(end) });
            let at = renew_at(&want("tls"), &held, &hints).as_second();
            assert_eq!((start..=end).contains(&at), expected, "{start} {end} {at}");
        }
    }

    #[test]
    fn another_issuer_another_key_and_an_operator_make_it_due() {
        let (certificate, now) = (held(0, 90 * DAY), Timestamp::UNIX_EPOCH);
        let keyed = Held { key: Some(KeySpec::Rsa2048), ..certificate.clone() };
        let issuers = Issuers { default: Some("le".to_owned()), ..Issuers::default() };
        let hints = Hints { issuers: Arc::new(issuers), ..Hints::default() };
        let asked = Hints { asked: [want("tls").secret].into(), ..hints.clone() };
        let of = |issuer: &str, certificate: &Held| {
            let issuer = Some(issuer.to_owned());
            [(want("tls").secret, Found { issuer, ..found(Owner::Us, Ok(certificate.clone())) })].into()
        };
        for (held, hints, expected) in [
            (of("other", &certificate), &hints, Some(Reason::IssuerDiffers)),
            (of("le", &keyed), &hints, Some(Reason::KeyDiffers)),
            (of("le", &certificate), &asked, Some(Reason::Asked)),
            (of("le", &certificate), &hints, None),
        ] {
            let due = inventory(&[want("tls")], &held, hints, now).due;
            assert_eq!(due.first().map(|due| due.reason), expected);
        }
    }

    #[test]
    fn renewal_is_at_two_thirds_of_a_long_life_and_half_of_a_short_one() {
        for (life, expected) in [(90 * DAY, 60 * DAY), (45 * DAY, 30 * DAY), (10 * DAY, 576_000), (6 * DAY, 3 * DAY)] {
            assert_eq!(renewal(&held(0, life)).as_second(), expected, "{life}");
        }
    }

    #[test]
    fn each_state_of_our_secret_is_judged() {
        let renamed = Held { names: BTreeSet::new(), ..held(0, 90 * DAY) };
        let renew_at = renew_at(&want("tls"), &held(0, 90 * DAY), &Hints::default());
        assert!((58 * DAY..=60 * DAY).contains(&renew_at.as_second()), "{renew_at}");
        for (certificate, now, expected) in [
            (Ok(held(0, 90 * DAY)), 0, State::Valid { renew_at }),
            (Ok(held(0, 90 * DAY)), 60 * DAY, State::Due(Reason::Renewal)),
            (Ok(held(0, 90 * DAY)), 90 * DAY, State::Due(Reason::Expired)),
            (Ok(renamed), 0, State::Due(Reason::NamesDiffer)),
            (Err(HeldError::Missing), 0, State::Due(Reason::Unreadable)),
        ] {
            assert_eq!(judged(Owner::Us, certificate, now), expected);
        }
    }

    #[test]
    fn the_most_urgent_is_ordered_first() {
        let found = |certificate| found(Owner::Us, Ok(certificate));
        let wanted = ["late", "later", "new", "gone"].map(want);
        let held = [
            (wanted[0].secret.clone(), found(held(0, 90 * DAY))),
            (wanted[1].secret.clone(), found(held(0, 93 * DAY))),
            (wanted[3].secret.clone(), found(held(0, 70 * DAY))),
        ];
        let due = inventory(&wanted, &held.into(), &Hints::default(), Timestamp::from_second(75 * DAY).unwrap()).due;
        let order: Vec<_> = due.iter().map(|due| &*due.secret.name).collect();
        assert_eq!(order, ["gone", "new", "late", "later"]);
    }

    fn owners() -> impl Strategy<Value = Owner> {
        prop_oneof![Just(Owner::Somebody), Just(Owner::Altered), Just(Owner::CertManager), Just(Owner::NotTls)]
    }

    proptest! {
        #[test]
        fn a_secret_that_is_not_ours_is_never_ordered(owner in owners(), life in 1..100 * DAY, now in 0..200 * DAY) {
            for certificate in [Ok(held(0, life)), Err(HeldError::Unreadable)] {
                prop_assert!(matches!(judged(owner, certificate, now), State::Refused(_)));
            }
        }

        #[test]
        fn a_certificate_is_renewed_while_it_still_holds(from in 0..DAY, life in 1..4000 * DAY) {
            let held = held(from, from + life);
            prop_assert!(renewal(&held) >= held.not_before && renewal(&held) < held.not_after);
        }

        #[test]
        fn what_is_due_stays_due_and_is_announced_by_next(life in 1..4000 * DAY, now in 0..4000 * DAY, later in 0..DAY) {
            let found = found(Owner::Us, Ok(held(0, life)));
            let held = [(want("tls").secret, found)].into();
            let at = |second| judged_at(&held, second);
            let first = at(now);
            match first.next() {
                Some(next) => prop_assert!(next.as_second() > now && !at(next.as_second()).due.is_empty()),
                None => prop_assert!(!first.due.is_empty() && !at(now + later).due.is_empty()),
            }
        }
    }
}
