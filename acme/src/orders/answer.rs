//! What follows from what was done.

use jiff::{SignedDuration, Timestamp};

use super::{Answer, Done, Live, Orders};
use crate::budget::Limits;
use crate::inventory::Window;
use crate::order::{Event, Order, Placed, Step};
use crate::retry::{self, Class, Failure};
use crate::store::Setback;

/// How far apart questions to the CA are about one order, unless it says otherwise.
const POLL: SignedDuration = SignedDuration::from_secs(1);
/// The longest that we wait although the CA asks for longer: somebody looks at the page.
const LONGEST_POLL: SignedDuration = SignedDuration::from_mins(10);
/// An order that stands still for so long is dropped.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// When to ask again for a suggestion that was not to be had.
const NO_SUGGESTION: SignedDuration = SignedDuration::from_hours(6);
/// The longest message of a CA that is kept.
const LONGEST_MESSAGE: usize = 600;

impl Orders {
    /// Takes in what became of a job; `draw` is from 0 to 1.
    pub fn done(&mut self, done: Done, now: Timestamp, draw: f64) {
        if !self.leads {
            return;
        }
        match done {
            Done::Made(id, Ok(order)) => {
                if self.making.remove(&id) {
                    self.live.insert(id.clone(), Live::of(&order, now));
                    self.store.orders.insert(id, *order);
                }
            }
            Done::Made(id, Err(why)) => {
                self.making.remove(&id);
                let due = self.inventory.due.iter().find(|due| self.id(due).as_ref() == Some(&id));
                if let Some(secret) = due.map(|due| due.secret.to_string()) {
                    let failure = Failure::new(Class::Refused, why);
                    self.set_back(&secret, id, &failure, now, draw);
                }
            }
            Done::Account(id, result) => self.account_done(id, result, now, draw),
            Done::Taken(id, step, result) => self.taken(&id, step, result, now, draw),
            Done::Cleaned(record, result) => self.cleaned(&record, result, now, draw),
            Done::Suggested(certificate, result) => self.suggested(certificate, result.ok(), now),
        }
    }

    fn taken(&mut self, id: &str, step: Step, result: Result<Answer, Failure>, now: Timestamp, draw: f64) {
        let Some(live) = self.live.get_mut(id) else { return };
        live.busy = false;
        match result {
            Ok(answer) => {
                live.tries = 0;
                self.answered(id, step, answer, now);
            }
            Err(failure) if failure.class == Class::Transient && now.duration_since(live.since) < PATIENCE => {
                live.tries += 1;
                live.not_before = retry::next_try(&failure, live.tries, now, draw);
                live.error = Some(cut(&failure.message));
            }
            // As long as the CA asks to wait before it has the order, nothing is lost but time.
            Err(failure) => self.failed(id, &failure, now, draw),
        }
    }

    fn answered(&mut self, id: &str, step: Step, answer: Answer, now: Timestamp) {
        let event = match (step, answer) {
            (Step::Place, Answer::Placed(placed)) => {
                self.placed(id, placed);
                Event::Placed
            }
            (Step::Confirm, Answer::Done) => Event::Confirmed,
            (Step::Tell, Answer::Done) => Event::Told,
            (Step::Finalize, Answer::Done) => Event::Finalized,
            (Step::Look, Answer::Seen(status, again)) => {
                self.go(id, Event::Seen(status), now);
                self.look_again(id, again, now);
                return;
            }
            (Step::Download, Answer::Chain(chain)) => Event::Downloaded(chain),
            (
                Step::Store
                | Step::Place
                | Step::Confirm
                | Step::Tell
                | Step::Look
                | Step::Finalize
                | Step::Download
                | Step::Write
                | Step::Drop,
                Answer::Placed(_) | Answer::Done | Answer::Seen(..) | Answer::Chain(_),
            ) => return,
        };
        self.go(id, event, now);
    }

    fn placed(&mut self, id: &str, placed: Placed) {
        if let Some(order) = self.store.orders.get_mut(id) {
            order.placed = Some(placed);
        }
        self.remember_records(id);
    }

    /// A question that changed nothing is asked again a little later.
    fn look_again(&mut self, id: &str, again: Option<Timestamp>, now: Timestamp) {
        let Some(live) = self.live.get_mut(id) else { return };
        if live.stage.step(true) != Step::Look {
            return;
        }
        let (soon, late) = (now.checked_add(POLL).unwrap_or(now), now.checked_add(LONGEST_POLL).unwrap_or(now));
        live.not_before = again.map_or(soon, |again| again.clamp(soon, late));
        if now.duration_since(live.since) > PATIENCE {
            let message = "the CA has not come to a decision within an hour".to_owned();
            live.stage = live.stage.clone().after(Event::Failed(Failure::new(Class::Gone, message.clone())));
            self.failed(id, &Failure::new(Class::Gone, message), now, 0.5);
        }
    }

    /// An order came to nothing: it is dropped, and what failed is remembered.
    fn failed(&mut self, id: &str, failure: &Failure, now: Timestamp, draw: f64) {
        let Some(order) = self.store.orders.get(id).cloned() else { return };
        let by = self.live.get(id).and_then(|live| live.account.clone());
        match failure.class {
            Class::Account => self.forget_account(&order.account, by.as_deref()),
            Class::Replaced => self.irreplaceable.extend(order.replaces.clone()),
            Class::Validation => self.count_failures(&order, failure, now),
            Class::Transient | Class::Wait | Class::Refused | Class::Gone => {}
        }
        self.set_back(&order.secret, id.to_owned(), failure, now, draw);
        self.tell_failed(&order, failure);
        self.remove(id);
    }

    /// The CA counts each name that failed.
    fn count_failures(&mut self, order: &Order, failure: &Failure, now: Timestamp) {
        let Some(issuer) = self.hints.issuers.by_name.get(&order.issuer) else { return };
        let rate = Limits::of(&issuer.server).failures;
        for failed in &failure.names {
            self.store.journal.budget.take(super::start::failures_key(&order.account, failed), rate, now);
        }
    }

    fn set_back(&mut self, secret: &str, wish: String, failure: &Failure, now: Timestamp, draw: f64) {
        if failure.class == Class::Replaced {
            return;
        }
        let before = self.store.journal.setbacks.get(secret);
        let before = before.filter(|before| before.wish == wish && before.class == failure.class);
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        let next = retry::next_try(failure, count, now, draw);
        let setback = Setback { wish, class: failure.class, count, message: cut(&failure.message), next };
        self.store.journal.setbacks.insert(secret.to_owned(), setback);
    }

    fn suggested(&mut self, certificate: String, result: Option<(Window, Timestamp)>, now: Timestamp) {
        self.asking.remove(&certificate);
        let later = now.checked_add(NO_SUGGESTION).unwrap_or(Timestamp::MAX);
        let next = match result {
            Some((window, next)) => {
                self.hints.windows.insert(certificate.clone(), window);
                next
            }
            None => later,
        };
        self.asks.insert(certificate, next);
    }
}

fn cut(message: &str) -> String {
    message.chars().take(LONGEST_MESSAGE).collect()
}
