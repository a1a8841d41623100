//! The loop that drives all connections of a run, on one thread.
#![expect(clippy::disallowed_methods, reason = "a load generator measures time")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::link::Link;
use super::{Outcome, Plan, tls};
use crate::histogram::Histogram;
use crate::response::Answer;

/// How long the last answers are waited for.
const GRACE: Duration = Duration::from_secs(20);
/// How often the loop looks at the clock when nothing happens.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Event numbers that are no connection.
const TIMER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

/// Runs a plan to its end.
pub fn run(plan: &Plan) -> io::Result<Outcome> {
    let mut engine = Engine::new(plan)?;
    engine.timer = plan.rate.map(|rate| engine.start_timer(rate)).transpose()?;
    if plan.until_stdin_closes {
        epoll::add(&engine.epoll, io::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;
    }
    engine.work()?;
    Ok(engine.outcome())
}

struct Engine<'a> {
    plan: &'a Plan,
    heads: Vec<Vec<Vec<u8>>>,
    names: Vec<ServerName<'static>>,
    tls: Arc<ClientConfig>,
    epoll: OwnedFd,
    /// Ticks in an open loop.
    timer: Option<OwnedFd>,
    /// By slot; a slot is empty between two fresh connections.
    links: Vec<Option<Link>>,
    /// Slots without a request under way.
    idle: Vec<usize>,
    /// Due times of requests that found no idle connection.
    waiting: VecDeque<Instant>,
    start: Instant,
    end: Instant,
    /// Requests due so far.
    due: u64,
    /// Requests begun so far: decides which host and path is next.
    begun: usize,
    last_answer: Instant,
    buffer: Vec<u8>,
    histogram: Histogram,
    outcome: Outcome,
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        let names = plan.hosts.iter().map(|host| ServerName::try_from(host.clone()).map_err(io::Error::other));
        let start = Instant::now();
        Ok(Self {
            plan,
            heads: plan.heads(),
            names: names.collect::<io::Result<_>>()?,
            tls: tls::config(plan.fresh),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            timer: None,
            links: (0..plan.connections).map(|_| None).collect(),
            idle: (0..plan.connections).rev().collect(),
            waiting: VecDeque::new(),
            start,
            end: start + plan.duration(),
            due: 0,
            begun: 0,
            last_answer: start,
            buffer: vec![0; 256 * 1024],
            histogram: Histogram::default(),
            outcome: Outcome::default(),
        })
    }

    /// A timer that ticks at the rate; finer than what epoll's own timeout could do.
    fn start_timer(&self, rate: f64) -> io::Result<OwnedFd> {
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let period = Duration::from_secs_f64(1.0 / rate).max(Duration::from_micros(20));
        let period = Timespec::try_from(period).map_err(io::Error::other)?;
        let schedule = Itimerspec { it_interval: period, it_value: period };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &schedule)?;
        epoll::add(&self.epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(timer)
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            let now = Instant::now();
            self.begin_due(now);
            if now >= self.end && (self.is_done() || now > self.end + GRACE) {
                return Ok(());
            }
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&TICK)) {
                Err(rustix::io::Errno::INTR) | Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    TIMER => self.hear_timer()?,
                    STDIN => self.end = self.end.min(Instant::now()),
                    slot => self.advance(usize::try_from(slot).map_err(io::Error::other)?),
                }
            }
        }
    }

    /// Reads the timer: it ticks again only once it was heard.
    fn hear_timer(&self) -> io::Result<()> {
        let Some(timer) = &self.timer else { return Ok(()) };
        match rustix::io::read(timer, &mut [0_u8; 8]) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.links.iter().flatten().all(|link| link.due.is_none())
    }

    /// Begins every request that is due, as far as there are idle connections.
    fn begin_due(&mut self, now: Instant) {
        match self.plan.rate {
            None if now < self.end => {
                // By count: a slot whose connection fails at once is idle again, and must not keep us here.
                for slot in std::mem::take(&mut self.idle) {
                    self.begin(slot, now);
                }
            }
            None => {}
            Some(rate) => {
                self.note_due(rate, now);
                for _ in 0..self.idle.len().min(self.waiting.len()) {
                    let (Some(slot), Some(due)) = (self.idle.pop(), self.waiting.pop_front()) else { return };
                    self.begin(slot, due);
                }
            }
        }
    }

    /// Notes the requests that became due in an open loop.
    fn note_due(&mut self, rate: f64, now: Instant) {
        loop {
            #[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
            let due = self.start + Duration::from_secs_f64(self.due as f64 / rate);
            if due > now.min(self.end) {
                return;
            }
            self.waiting.push_back(due);
            self.due += 1;
        }
    }

    /// Begins a request in an idle slot.
    fn begin(&mut self, slot: usize, due: Instant) {
        let number = self.begun;
        self.begun += 1;
        if self.links[slot].is_none() {
            // Fresh connections go round the hosts; a kept one belongs to a host for good.
            let host = if self.plan.fresh.is_some() { number } else { slot } % self.plan.hosts.len();
            match self.open(slot, host) {
                Ok(link) => self.links[slot] = Some(link),
                Err(error) => return self.fail(slot, &error),
            }
        }
        let Some(link) = &mut self.links[slot] else { return };
        let head = &self.heads[link.host][number % self.plan.paths.len()];
        link.ask(head, self.plan.upload.unwrap_or(0), due);
        self.advance(slot);
    }

    fn open(&self, slot: usize, host: usize) -> io::Result<Link> {
        let tls = self.plan.tls.then(|| (&self.tls, &self.names[host]));
        let link = Link::open(self.plan.target, tls, host)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &link, EventData::new_u64(slot as u64), interest)?;
        Ok(link)
    }

    /// Lets a connection do what it can.
    fn advance(&mut self, slot: usize) {
        let Some(link) = &mut self.links[slot] else { return };
        match link.drive(&mut self.buffer) {
            Ok(None) => {}
            Ok(Some(answer)) => self.answered(slot, answer),
            Err(error) => self.ended(slot, &error),
        }
    }

    fn answered(&mut self, slot: usize, answer: Answer) {
        let Some(link) = &mut self.links[slot] else { return };
        let Some(due) = link.due.take() else {
            return self.complain("an answer nobody asked for");
        };
        self.last_answer = Instant::now();
        self.histogram.record(self.last_answer.saturating_duration_since(due));
        if let Some(resumed) = link.resumed().filter(|_| self.plan.fresh.is_some()) {
            self.outcome.handshakes += 1;
            self.outcome.resumed += u64::from(resumed);
        }
        if (200..300).contains(&answer.status) {
            self.outcome.requests += 1;
        } else {
            self.outcome.refused += 1;
            self.complain(&format!("status {}", answer.status));
        }
        if self.plan.fresh.is_some() {
            // The server hangs up, so that ports in TIME_WAIT are its own; the end comes as an event, or is here now.
            return self.advance(slot);
        }
        if answer.close {
            self.links[slot] = None;
        }
        self.release(slot);
    }

    /// The peer hung up, or worse.
    fn ended(&mut self, slot: usize, error: &io::Error) {
        let under_way = self.links[slot].as_ref().is_some_and(|link| link.due.is_some());
        if under_way {
            return self.fail(slot, error);
        }
        self.links[slot] = None;
        if self.plan.fresh.is_some() {
            self.release(slot);
        } else {
            self.outcome.closed += 1;
        }
    }

    fn fail(&mut self, slot: usize, error: &io::Error) {
        self.outcome.failed += 1;
        self.complain(&error.to_string());
        self.links[slot] = None;
        self.release(slot);
    }

    /// A slot is idle again; the loop will use it.
    fn release(&mut self, slot: usize) {
        self.idle.push(slot);
    }

    fn complain(&mut self, what: &str) {
        self.outcome.complaint.get_or_insert_with(|| what.to_owned());
    }

    fn outcome(mut self) -> Outcome {
        let under_way = self.links.iter().flatten().filter_map(|link| link.due);
        let now = Instant::now();
        for due in under_way.chain(self.waiting.iter().copied()) {
            self.outcome.unfinished += 1;
            self.histogram.record(now.saturating_duration_since(due));
        }
        Outcome {
            seconds: (self.last_answer - self.start).as_secs_f64(),
            p50: self.histogram.permille(500),
            p99: self.histogram.permille(990),
            p999: self.histogram.permille(999),
            slowest: self.histogram.greatest(),
            ..self.outcome
        }
    }
}
