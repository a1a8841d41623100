//! Which events to tell, and how they read.
//!
//! An event that holds is told once. One that ceases and comes back raises the count of the first, as kubelet's do,
//! instead of making another object; a program that starts anew learns from the API server what was told before.
//! One whose answer was lost is told again under the same name, so that it is there once either way.
//! What is told of every Ingress waits until nothing else does: ten thousand of those may not delay a warning.
//! What says how things stand (who announces) is not told any more when they stand otherwise before its turn comes.
//!
//! Pure. Who writes: [`super::writer`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use config::object::{Kind, ObjectRef};
use config::report::{Event, Events};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Who tells events, and owns fields.
pub(super) const COMPONENT: &str = "ferrogate";
/// How long an event that comes and goes is told once.
const SPACING: Duration = Duration::from_secs(10);
/// How many events wait at most; more than these are of no use to anybody.
const LONGEST_QUEUE: usize = 4096;
/// The API server's limit.
const LONGEST_MESSAGE: usize = 1024;

/// What is told of every object, and of use only to who looks at that one.
const ROUTINE: &str = "Sync";

/// What is wrong as soon as it is over: told late, the last word about a Service would name the wrong node.
const STANDING: [&str; 2] = [ROUTINE, "nodeAssigned"];

/// What makes two events one.
type Key = (ObjectRef, String, String);

/// The events told, and those to tell.
#[derive(Debug, Default)]
pub(super) struct Teller {
    /// What holds, by who says so.
    holding: [Events; 3],
    told: BTreeMap<Key, Told>,
    queue: VecDeque<Event>,
    /// What waits until the queue is empty.
    routine: VecDeque<Event>,
}

#[derive(Clone, Debug)]
struct Told {
    /// Of the object that counts.
    name: String,
    /// How often it was told; zero while nobody knows whether the object was made.
    count: i64,
    /// When we told it last.
    last: Option<Instant>,
    /// Whether only an earlier process has told it, and it may still hold since then.
    learned: bool,
}

/// How to tell an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Telling {
    /// As a new object.
    Create(Value),
    /// By raising the count of the one of this namespace and name.
    Count { namespace: String, name: String, patch: Value },
}

impl Teller {
    /// Learns what an earlier process told.
    pub(super) fn learn(&mut self, list: &Value) {
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let about = &item["involvedObject"];
            let Some(kind) = Kind::ALL.into_iter().find(|kind| about["kind"] == kind.as_str()) else { continue };
            let name = config::object::ObjectName::new(text(&about["namespace"]), text(&about["name"]));
            let key = (ObjectRef::new(kind, name), text(&item["reason"]), text(&item["message"]));
            let count = item["count"].as_i64().unwrap_or(1);
            self.told.insert(key, Told { name: text(&item["metadata"]["name"]), count, last: None, learned: true });
        }
    }

    /// What holds now by what one domain says, as far as it is `ours` to tell; what is new among it is to be told, unless
    /// an earlier process did.
    pub(super) fn hold(&mut self, domain: usize, events: &Events, ours: impl Fn(&Event) -> bool) {
        let Some(held) = self.holding.get_mut(domain) else { return };
        let before = std::mem::replace(held, events.clone());
        for (_, old, new) in events.changes(&before) {
            for event in new.iter().filter(|event| ours(event) && !old.contains(event)) {
                let learned = self.told.get_mut(&key(event)).is_some_and(|told| std::mem::take(&mut told.learned));
                let queue = if event.reason == ROUTINE { &mut self.routine } else { &mut self.queue };
                if !learned && queue.len() < LONGEST_QUEUE {
                    queue.push_back(event.clone());
                }
            }
        }
        let holding = &self.holding;
        let stays = |event: &Event| !STANDING.contains(&event.reason) || holds(holding, event);
        self.queue.retain(stays);
        self.routine.retain(stays);
        self.forget();
    }

    /// Tells this, whatever holds.
    pub(super) fn tell(&mut self, events: Vec<Event>) {
        let room = LONGEST_QUEUE.saturating_sub(self.queue.len());
        self.queue.extend(events.into_iter().take(room));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.routine.is_empty()
    }

    /// Whether nothing waits that anybody should wait for.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.routine.clear();
    }

    /// The next event to tell at `now`.
    pub(super) fn next(
        &mut self,
        uid: impl Fn(&ObjectRef) -> Option<String>,
        now: Instant,
        clock: Timestamp,
    ) -> Option<(Event, Telling)> {
        loop {
            let event = self.queue.pop_front().or_else(|| self.routine.pop_front())?;
            let key = key(&event);
            let telling = match self.told.get_mut(&key) {
                Some(told) if told.last.is_some_and(|last| now < last + SPACING) => {
                    told.count += 1;
                    continue;
                }
                Some(told) if told.count > 0 => {
                    told.count += 1;
                    told.last = Some(now);
                    let patch = json!({ "count": told.count, "lastTimestamp": seconds(clock) });
                    let namespace = namespace(&event.object);
                    Telling::Count { namespace, name: told.name.clone(), patch }
                }
                tried => {
                    let name = tried.map_or_else(|| name(&event, clock), |told| told.name.clone());
                    self.told.insert(key, Told { name: name.clone(), count: 1, last: Some(now), learned: false });
                    Telling::Create(body(&event, &name, uid(&event.object), clock))
                }
            };
            return Some((event, telling));
        }
    }

    /// The object that counted an event is gone, as events go after an hour: tells it as a new one.
    pub(super) fn expired(&mut self, event: Event) {
        self.told.remove(&key(&event));
        self.queue.push_back(event);
    }

    /// Nobody knows whether it was told; it has its turn again.
    pub(super) fn again(&mut self, event: Event) {
        if let Some(told) = self.told.get_mut(&key(&event)) {
            told.last = None;
            told.count -= 1;
        }
        let is_over = STANDING.contains(&event.reason) && !holds(&self.holding, &event);
        if self.queue.len() < LONGEST_QUEUE && !is_over {
            self.queue.push_front(event);
        }
    }

    /// Keeps the memory of what was told from growing without end.
    fn forget(&mut self) {
        if self.told.len() > 4 * LONGEST_QUEUE {
            let holding: BTreeSet<Key> = self.holding.iter().flat_map(Events::iter).map(key).collect();
            self.told.retain(|key, _| holding.contains(key));
        }
    }
}

fn holds(holding: &[Events], event: &Event) -> bool {
    holding.iter().any(|events| events.of(&event.object).contains(event))
}

fn key(event: &Event) -> Key {
    (event.object.clone(), event.reason.to_owned(), cut(&event.message).to_owned())
}

/// A name that is unique as far as it matters: two of the same moment are the same event.
fn name(event: &Event, clock: Timestamp) -> String {
    let mut hasher = DefaultHasher::new();
    (key(event), clock.as_nanosecond()).hash(&mut hasher);
    let object: String = event.object.name.name.chars().take(200).collect();
    format!("{object}.{:016x}", hasher.finish())
}

/// Where an event lives: beside its object, or in `default` if that has no namespace.
fn namespace(object: &ObjectRef) -> String {
    let namespace = &object.name.namespace;
    if namespace.is_empty() { "default".to_owned() } else { (**namespace).to_owned() }
}

fn body(event: &Event, name: &str, uid: Option<String>, clock: Timestamp) -> Value {
    let object = &event.object;
    let mut about = json!({
        "apiVersion": object.kind.api_version(), "kind": object.kind.as_str(), "name": &*object.name.name,
        "namespace": &*object.name.namespace,
    });
    if let Some(uid) = uid {
        about["uid"] = json!(uid);
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "namespace": namespace(object), "name": name },
        "involvedObject": about, "reason": event.reason, "message": cut(&event.message),
        "type": if event.severity.is_some() { "Warning" } else { "Normal" },
        "source": { "component": COMPONENT }, "reportingComponent": COMPONENT, "reportingInstance": COMPONENT,
        "firstTimestamp": seconds(clock), "lastTimestamp": seconds(clock), "count": 1,
    })
}

fn seconds(clock: Timestamp) -> String {
    clock.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cut(message: &str) -> &str {
    let end = (0..=LONGEST_MESSAGE.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
    &message[..end.unwrap_or_default()]
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant can only be had from a clock")]
mod tests {
    use config::object::ObjectName;

    use super::*;

    fn event(message: &str) -> Event {
        let object = ObjectRef::new(Kind::Ingress, ObjectName::new("shop", "web"));
        Event { object, severity: None, reason: "Sync", message: message.into() }
    }

    fn drain(teller: &mut Teller, now: Instant) -> Vec<Telling> {
        let next = || teller.next(|_| None, now, Timestamp::UNIX_EPOCH).map(|(_, telling)| telling);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn an_event_is_told_once_and_counted_when_it_comes_back() {
        let (mut teller, start) = (Teller::default(), Instant::now());
        let one: Events = [event("one")].into_iter().collect();
        teller.hold(0, &one, |_| true);
        teller.hold(0, &one, |_| true);
        assert!(matches!(drain(&mut teller, start)[..], [Telling::Create(_)]));
        teller.hold(0, &Events::default(), |_| true);
        teller.hold(0, &one, |_| true);
        assert_eq!(drain(&mut teller, start), [], "too soon to say it again");
        teller.hold(0, &Events::default(), |_| true);
        teller.hold(0, &one, |_| true);
        let told = drain(&mut teller, start + SPACING);
        assert!(matches!(&told[..], [Telling::Count { patch, .. }] if patch["count"] == 3), "{told:?}");
    }

    #[test]
    fn what_an_earlier_process_told_is_not_told_again() {
        let (mut teller, start) = (Teller::default(), Instant::now());
        let mut list = json!({ "items": [body(&event("one"), "web.1", None, Timestamp::UNIX_EPOCH)] });
        list["items"][0]["count"] = json!(4);
        teller.learn(&list);
        let events: Events = [event("one"), event("two")].into_iter().collect();
        teller.hold(0, &events, |_| true);
        let told = drain(&mut teller, start);
        assert!(matches!(&told[..], [Telling::Create(body)] if body["message"] == "two"), "{told:?}");
    }

    #[test]
    fn what_is_told_of_every_ingress_waits_for_everything_else_and_is_bounded() {
        let (mut teller, start) = (Teller::default(), Instant::now());
        let sync = |index: usize| {
            let object = ObjectRef::new(Kind::Ingress, ObjectName::new("shop", format!("i{index}")));
            Event { object, ..event("Scheduled for sync") }
        };
        let warning = Event { reason: "BackendNotFound", ..event("no such Service") };
        let events: Events = (0..2 * LONGEST_QUEUE).map(sync).chain([warning]).collect();
        teller.hold(0, &events, |_| true);
        let told = drain(&mut teller, start);
        assert!(matches!(&told[0], Telling::Create(body) if body["reason"] == "BackendNotFound"), "{:?}", told[0]);
        assert_eq!(told.len(), 1 + LONGEST_QUEUE);
    }

    #[test]
    fn an_event_whose_answer_was_lost_is_told_again_under_the_same_name() {
        let (mut teller, start) = (Teller::default(), Instant::now());
        let moment = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let warning = Event { reason: "BackendNotFound", ..event("no such Service") };
        let mut names = BTreeSet::new();
        teller.tell(vec![warning.clone()]);
        for attempt in 0..3 {
            let Some((lost, Telling::Create(body))) = teller.next(|_| None, start, moment(attempt)) else {
                panic!("attempt {attempt} makes the object")
            };
            names.insert(body["metadata"]["name"].to_string());
            if attempt < 2 {
                teller.again(lost);
            }
        }
        assert_eq!(names.len(), 1, "{names:?}");
        let mut counts = Vec::new();
        teller.tell(vec![warning]);
        for attempt in 0..2 {
            let Some((lost, Telling::Count { patch, .. })) = teller.next(|_| None, start + SPACING, moment(9)) else {
                panic!("attempt {attempt} raises its count")
            };
            counts.push(patch["count"].clone());
            teller.again(lost);
        }
        assert_eq!(counts, [2, 2]);
    }

    #[test]
    fn who_announces_is_not_told_when_it_is_another_by_then() {
        let (mut teller, start) = (Teller::default(), Instant::now());
        let announcing = |index: usize| Event {
            object: ObjectRef::new(Kind::Service, ObjectName::new("shop", format!("s{index}"))),
            reason: "nodeAssigned",
            ..event("announcing from node \"n1\"")
        };
        let all: Vec<Event> = (0..1000).map(announcing).collect();
        let events = |all: &[Event]| all.iter().cloned().collect::<Events>();
        teller.hold(0, &events(&all), |_| true);
        let (first, _) = teller.next(|_| None, start, Timestamp::UNIX_EPOCH).unwrap();
        teller.hold(0, &events(&[&all[..1], &all[998..]].concat()), |_| true);
        assert_eq!((first, drain(&mut teller, start).len()), (all[0].clone(), 2));
        teller.hold(0, &Events::default(), |_| true);
        teller.again(all[0].clone());
        assert_eq!(drain(&mut teller, start), [], "nor when its answer was lost");
    }
}
