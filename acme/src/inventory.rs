//! Wanted certificates against held ones: which are due, and why.
//!
//! A certificate is renewed at ⅔ of its life, one that lives less than ten days at ½. What is in a Secret that is not
//! ours is served as it is and never due.

use std::collections::{BTreeMap, BTreeSet};

use config::object::ObjectName;
use jiff::{SignedDuration, Timestamp};

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
    /// It is time.
    #[error("it is due for renewal")]
    Renewal,
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
    #[error("the Secret belongs to cert-manager, which renews it")]
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
}

/// Everything that is wanted, judged at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What to order, the most urgent first.
    pub due: Vec<Due>,
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
pub fn inventory(wanted: &[Wanted], held: &BTreeMap<ObjectName, Found>, now: Timestamp) -> Inventory {
    let (mut due, mut states) = (Vec::new(), BTreeMap::new());
    for want in wanted {
        let found = held.get(&want.secret);
        let state = state(want, found, now);
        states.insert(want.secret.clone(), state);
        if let State::Due(reason) = state {
            let end = found.and_then(|found| found.certificate.as_ref().ok()).map(|held| held.not_after);
            let (secret, ingress, names) = (want.secret.clone(), want.ingress.clone(), want.names.clone());
            due.push((end, Due { secret, ingress, names, reason }));
        }
    }
    due.sort_by(|(end, a), (other, b)| (a.reason, end, &a.secret).cmp(&(b.reason, other, &b.secret)));
    Inventory { due: due.into_iter().map(|(_, due)| due).collect(), states }
}

/// The moment to renew a certificate, in whole seconds.
#[must_use]
pub fn renewal(held: &Held) -> Timestamp {
    let life = held.not_after.duration_since(held.not_before);
    let wait = if life < SHORT_LIFE { life.as_secs() / 2 } else { life.as_secs() / 3 * 2 };
    // A life that ends before it begins is renewed at its beginning.
    held.not_before.checked_add(SignedDuration::from_secs(wait.max(0))).unwrap_or(held.not_after)
}

fn state(want: &Wanted, found: Option<&Found>, now: Timestamp) -> State {
    let Some(found) = found else { return State::Due(Reason::Missing) };
    match (found.owner, &found.certificate) {
        (Owner::Somebody, _) => State::Refused(Refusal::NotOurs),
        (Owner::Altered, _) => State::Refused(Refusal::Altered),
        (Owner::CertManager, _) => State::Refused(Refusal::CertManager),
        (Owner::NotTls, _) => State::Refused(Refusal::NotTls),
        (Owner::Us, Err(_)) => State::Due(Reason::Unreadable),
        (Owner::Us, Ok(held)) => judge(want, held, now),
    }
}

fn judge(want: &Wanted, held: &Held, now: Timestamp) -> State {
    let renew_at = renewal(held);
    if now >= held.not_after {
        State::Due(Reason::Expired)
    } else if !want.names.iter().map(CertName::as_str).eq(held.names.iter().map(String::as_str)) {
        State::Due(Reason::NamesDiffer)
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
    use crate::wanted::Issuer;

    const DAY: i64 = 24 * 3600;

    fn want(secret: &str) -> Wanted {
        Wanted {
            secret: ObjectName::new("shop", secret),
            ingress: ObjectName::new("shop", "web"),
            issuer: Issuer::Default,
            names: [CertName::parse("a.example.com").unwrap()].into(),
        }
    }

    fn held(from: i64, to: i64) -> Held {
        let moment = |second| Timestamp::from_second(second).unwrap();
        Held { names: ["a.example.com".to_owned()].into(), not_before: moment(from), not_after: moment(to) }
    }

    fn judged(owner: Owner, certificate: Result<Held, HeldError>, now: i64) -> State {
        let held = [(want("tls").secret, Found { owner, certificate })].into();
        inventory(&[want("tls")], &held, Timestamp::from_second(now).unwrap()).states[&want("tls").secret]
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
        let renew_at = Timestamp::from_second(60 * DAY).unwrap();
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
        let found = |certificate| Found { owner: Owner::Us, certificate: Ok(certificate) };
        let wanted = ["late", "later", "new", "gone"].map(want);
        let held = [
            (wanted[0].secret.clone(), found(held(0, 90 * DAY))),
            (wanted[1].secret.clone(), found(held(0, 93 * DAY))),
            (wanted[3].secret.clone(), found(held(0, 70 * DAY))),
        ];
        let due = inventory(&wanted, &held.into(), Timestamp::from_second(75 * DAY).unwrap()).due;
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
            let found = Found { owner: Owner::Us, certificate: Ok(held(0, life)) };
            let held = [(want("tls").secret, found)].into();
            let at = |second| inventory(&[want("tls")], &held, Timestamp::from_second(second).unwrap());
            let first = at(now);
            match first.next() {
                Some(next) => prop_assert!(next.as_second() > now && !at(next.as_second()).due.is_empty()),
                None => prop_assert!(!first.due.is_empty() && !at(now + later).due.is_empty()),
            }
        }
    }
}
