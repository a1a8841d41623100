//! One order, from a key to a certificate: a state machine over RFC 8555.
//!
//! ```text
//! Keyed ─placed─> Placed ─committed─> Published ─confirmed─> Confirmed ─told─> Asked
//!                                                                               │ ready
//!    Issued <─downloaded─ Valid <─valid─ Finalized <────────finalized──────── Ready
//! ```
//!
//! What has to outlive us is stored before the step that relies on it: key and request before the CA hears of them,
//! URL and tokens before the CA is told to look. Whoever takes over a stored order is at [`Stage::Keyed`] or
//! [`Stage::Resumed`], asks the CA how it stands and goes on from there: every step may be done twice.
//!
//! Pure. What a step costs when it fails: [`crate::retry`]. Who takes it: `io`.

use std::fmt;

use config::issuer::Method;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::retry::Failure;

/// An order as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// `namespace/name` of the Secret it is for.
    pub secret: String,
    /// `namespace/name` of the Ingress that asks.
    pub ingress: String,
    /// The issuer's name.
    pub issuer: String,
    /// The account that orders.
    pub account: String,
    /// The names, sorted.
    pub names: Vec<String>,
    /// The profile to order by.
    pub profile: Option<String>,
    /// The private key, PKCS #8 PEM.
    pub key: Zeroizing<String>,
    /// The certificate signing request, DER in base64.
    pub request: String,
    /// The certificate that this one replaces, as RFC 9773 §4.1 names it.
    pub replaces: Option<String>,
    /// Whether a certificate for the very same names was held before.
    pub renewal: bool,
    /// What the CA made of it.
    pub placed: Option<Placed>,
}

/// An order that the CA knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its URL.
    pub url: String,
    /// What is to be proved; names that were proved before are not in here.
    pub challenges: Vec<Challenge>,
}

/// One name to prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The name.
    pub name: String,
    /// How, as RFC 8555 §9.7.8 names it.
    pub method: String,
    /// The token of the CA.
    pub token: String,
    /// Token and thumbprint of the account key (RFC 8555 §8.1).
    pub authorization: String,
}

impl Challenge {
    /// Whether it is proved by `method`.
    #[must_use]
    pub fn is_by(&self, method: Method) -> bool {
        self.method == method.as_str()
    }
}

impl fmt::Debug for Order {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("secret", &self.secret).field("placed", &self.placed).finish_non_exhaustive()
    }
}

/// Where an order stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Key and request are made.
    Keyed,
    /// The CA has the order; URL and tokens are known.
    Placed,
    /// An earlier leader has placed it; the CA is to be asked how it stands.
    Resumed,
    /// Tokens are stored, so that every replica can answer.
    Published,
    /// Every replica that could be asked does answer.
    Confirmed,
    /// The CA was told to look.
    Asked,
    /// All names are proved.
    Ready,
    /// The CA has the request.
    Finalized,
    /// The CA has the certificate.
    Valid,
    /// We have it: the chain, PEM.
    Issued(String),
    /// It came to nothing.
    Failed(Failure),
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The CA took it.
    Placed,
    /// What is stored of it is what we know of it.
    Committed,
    /// The replicas answer, or had their time.
    Confirmed,
    /// The CA was told to look.
    Told,
    /// The CA said how it stands.
    Seen(Status),
    /// The CA took the request.
    Finalized,
    /// The chain arrived.
    Downloaded(String),
    /// It cannot go on.
    Failed(Failure),
}

/// How the CA says an order stands (RFC 8555 §7.1.6), but for `invalid`, which is a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Names are still to be proved.
    Pending,
    /// All names are proved.
    Ready,
    /// The certificate is being made.
    Processing,
    /// The certificate is there.
    Valid,
}

/// The next thing to do for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Store what is known of it.
    Store,
    /// Give it to the CA.
    Place,
    /// Ask the replicas for their answers.
    Confirm,
    /// Tell the CA to look.
    Tell,
    /// Ask the CA how it stands.
    Look,
    /// Send the request.
    Finalize,
    /// Fetch the chain.
    Download,
    /// Write the Secret.
    Write,
    /// Drop it.
    Drop,
}

impl Stage {
    /// Where a stored order stands for who takes it over.
    #[must_use]
    pub const fn of(order: &Order) -> Self {
        if order.placed.is_some() { Self::Resumed } else { Self::Keyed }
    }

    /// What comes next; `stored` says whether what is stored of the order is what we know of it.
    #[must_use]
    pub const fn step(&self, stored: bool) -> Step {
        match self {
            Self::Keyed if !stored => Step::Store,
            Self::Keyed => Step::Place,
            Self::Placed => Step::Store,
            Self::Published => Step::Confirm,
            Self::Confirmed => Step::Tell,
            Self::Resumed | Self::Asked | Self::Finalized => Step::Look,
            Self::Ready => Step::Finalize,
            Self::Valid => Step::Download,
            Self::Issued(_) => Step::Write,
            Self::Failed(_) => Step::Drop,
        }
    }

    /// Where it stands after `event`.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        use Event as E;
        match (self, event) {
            (Self::Failed(first), _) => Self::Failed(first),
            (Self::Issued(chain), _) | (Self::Valid, E::Downloaded(chain)) => Self::Issued(chain),
            (_, E::Failed(failure)) => Self::Failed(failure),
            (Self::Keyed, E::Placed) => Self::Placed,
            (Self::Placed, E::Committed) | (Self::Resumed, E::Seen(Status::Pending)) => Self::Published,
            (Self::Published, E::Confirmed) => Self::Confirmed,
            (Self::Confirmed, E::Told) => Self::Asked,
            (Self::Resumed | Self::Asked | Self::Finalized, E::Seen(Status::Ready)) => Self::Ready,
            (Self::Resumed | Self::Asked | Self::Finalized, E::Seen(Status::Processing))
            | (Self::Ready, E::Finalized) => Self::Finalized,
            (Self::Resumed | Self::Asked | Self::Finalized, E::Seen(Status::Valid)) => Self::Valid,
            // An answer to a question that is not asked any more changes nothing.
            (
                stage @ (Self::Keyed
                | Self::Placed
                | Self::Resumed
                | Self::Published
                | Self::Confirmed
                | Self::Asked
                | Self::Ready
                | Self::Finalized
                | Self::Valid),
                E::Placed | E::Committed | E::Confirmed | E::Told | E::Seen(_) | E::Finalized | E::Downloaded(_),
            ) => stage,
        }
    }

    /// What is going on, for people.
    #[must_use]
    pub const fn words(&self) -> &'static str {
        match self {
            Self::Keyed => "placing the order at the CA",
            Self::Placed => "storing the order",
            Self::Resumed => "asking the CA how the order stands",
            Self::Published => "asking every replica for its answer to the challenges",
            Self::Confirmed => "telling the CA to look at the challenges",
            Self::Asked => "waiting for the CA to look at the challenges",
            Self::Ready => "sending the certificate signing request",
            Self::Finalized => "waiting for the CA to issue",
            Self::Valid => "fetching the certificate",
            Self::Issued(_) => "writing the Secret",
            Self::Failed(_) => "giving up this order",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retry::Class;

    fn events() -> impl Strategy<Value = Event> {
        let seen =
            prop_oneof![Just(Status::Pending), Just(Status::Ready), Just(Status::Processing), Just(Status::Valid)];
        prop_oneof![
            Just(Event::Placed),
            Just(Event::Committed),
            Just(Event::Confirmed),
            Just(Event::Told),
            seen.prop_map(Event::Seen),
            Just(Event::Finalized),
            Just(Event::Downloaded("pem".to_owned())),
        ]
    }

    /// A CA to which every step succeeds; what it answers to a step.
    fn answer(step: Step, finalized: bool) -> Event {
        match step {
            Step::Store => Event::Committed,
            Step::Place => Event::Placed,
            Step::Confirm => Event::Confirmed,
            Step::Tell => Event::Told,
            Step::Look => Event::Seen(if finalized { Status::Valid } else { Status::Ready }),
            Step::Finalize => Event::Finalized,
            Step::Download => Event::Downloaded("pem".to_owned()),
            Step::Write | Step::Drop => unreachable!("it is done"),
        }
    }

    #[test]
    fn an_order_goes_through_every_stage_once() {
        use Step::{Confirm, Download, Finalize, Look, Place, Store, Tell};
        let (mut stage, mut steps, mut stored, mut finalized) = (Stage::Keyed, Vec::new(), false, false);
        while !matches!(stage, Stage::Issued(_)) {
            let step = stage.step(stored);
            steps.push(step);
            stored |= step == Step::Store;
            finalized |= step == Step::Finalize;
            stage = stage.after(answer(step, finalized));
        }
        assert_eq!(steps, [Store, Place, Store, Confirm, Tell, Look, Finalize, Look, Download]);
    }

    proptest! {
        #[test]
        fn no_answer_out_of_turn_leads_past_a_step(events in proptest::collection::vec(events(), 0..40)) {
            // The CA is never told to look before the tokens are stored, nor sent a request before it is ready.
            let (mut stage, mut committed, mut ready) = (Stage::Keyed, false, false);
            for event in events {
                committed |= stage == Stage::Placed && event == Event::Committed;
                ready |= matches!(event, Event::Seen(status) if status != Status::Pending);
                stage = stage.after(event);
                if matches!(stage.step(true), Step::Tell) { prop_assert!(committed); }
                if matches!(stage.step(true), Step::Finalize | Step::Download) { prop_assert!(ready); }
            }
        }

        #[test]
        fn a_failed_order_stays_so(events in proptest::collection::vec(events(), 0..10)) {
            let failure = Failure::new(Class::Refused, "no".to_owned());
            let mut stage = Stage::Asked.after(Event::Failed(failure.clone()));
            for event in events { stage = stage.after(event); }
            prop_assert_eq!(stage, Stage::Failed(failure));
        }
    }
}
