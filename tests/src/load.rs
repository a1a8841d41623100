//! Steady requests while something changes; every one of them has to succeed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use crate::client::{Connection, Response, Target};
use crate::wait::until;

/// What is asked for, again and again.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where.
    pub target: Target,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
}

/// How one client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// One connection for all requests, renewed only when the server says it closes.
    Keep,
    /// A connection for each request.
    Fresh,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers by status and body.
    pub answers: BTreeMap<(u16, String), usize>,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Tally {
    /// How many answers had this body.
    #[must_use]
    pub fn of(&self, body: &str) -> usize {
        self.answers.iter().filter(|((_, found), _)| found == body).map(|(_, count)| count).sum()
    }

    /// How many answers came.
    #[must_use]
    pub fn total(&self) -> usize {
        self.answers.values().sum()
    }

    /// Everything that is not a 200 with one of these bodies.
    #[must_use]
    pub fn unexpected(&self, bodies: &[&str]) -> Vec<String> {
        let wrong = |((status, body), count): (&(u16, String), &usize)| {
            let fine = *status == 200 && bodies.contains(&body.as_str());
            (!fine).then(|| format!("{count} x {status} {body:?}"))
        };
        self.failures.iter().cloned().chain(self.answers.iter().filter_map(wrong)).collect()
    }

    fn add(&mut self, outcome: io::Result<Response>) {
        match outcome {
            Ok(response) => *self.answers.entry((response.status, response.text())).or_default() += 1,
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    fn merge(mut self, other: Self) -> Self {
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.failures.extend(other.failures);
        self
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Starts two clients for each request: one of each habit.
    #[must_use]
    pub fn start(requests: &[Request]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let client = |request: &Request, habit| {
            tokio::spawn(work(request.clone(), habit, Arc::clone(&stop), Arc::clone(&asked)))
        };
        let clients = requests.iter().flat_map(|request| [client(request, Habit::Keep), client(request, Habit::Fresh)]);
        let clients = clients.collect();
        Self { stop, asked, clients }
    }

    /// Waits until `count` more requests were made, so that what happened before is followed by load as well.
    pub async fn more(&self, count: usize) {
        let goal = self.asked.load(Ordering::Relaxed) + count;
        until("more load", async || {
            let asked = self.asked.load(Ordering::Relaxed);
            if asked >= goal { Ok(()) } else { Err(format!("{asked} of {goal}")) }
        })
        .await;
    }

    /// Ends it after the requests that are under way.
    pub async fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            all = all.merge(client.await.expect("a client does not panic"));
        }
        all
    }
}

async fn work(request: Request, habit: Habit, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Tally {
    let (mut tally, mut kept) = (Tally::default(), None);
    while !stop.load(Ordering::Relaxed) {
        tally.add(one(&request, habit, &mut kept).await);
        asked.fetch_add(1, Ordering::Relaxed);
        // Leaves the machine to the program under test; the point is steadiness, not speed.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    tally
}

async fn one(request: &Request, habit: Habit, kept: &mut Option<Connection>) -> io::Result<Response> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => request.target.connect().await?,
    };
    let response = connection.get(&request.host, &request.path).await?;
    if habit == Habit::Keep && !response.closes() {
        *kept = Some(connection);
    }
    Ok(response)
}
