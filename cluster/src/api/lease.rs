//! Reads and writes the Lease as [`crate::lease`] wishes.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use config::object::ObjectName;
use jiff::Timestamp;
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::{Connection, Failure, WRITE};
use crate::Leadership;
use crate::lease::{Election, Record, Timing, Wish};

/// How often it is said that the Lease cannot be had.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// Stands for election until it is told to stop.
pub(super) struct Candidate {
    pub(super) connection: Arc<Connection>,
    pub(super) lease: ObjectName,
    pub(super) identity: String,
    pub(super) timing: Timing,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) stop: CancellationToken,
}

impl Candidate {
    /// Runs until `stop`; gives the Lease back then.
    pub(super) async fn run(self) {
        let mut election = Election::new(self.identity.clone(), self.timing);
        let mut acquired: Option<Timestamp> = None;
        let mut said: Option<Instant> = None;
        loop {
            let stopped = tokio::select! {
                biased;
                () = self.stop.cancelled() => true,
                outcome = self.attempt(&mut election, &mut acquired) => {
                    if let Err(failure) = outcome && said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                        warn!(lease = %self.lease, %failure, "the lease that decides who writes cannot be had");
                        said = Some(Instant::now());
                    }
                    false
                }
            };
            self.publish(&election);
            if stopped {
                break;
            }
            let next = Instant::now() + self.timing.retry.mul_f64(0.9 + fastrand::f64() / 5.0);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep_until(next.into()) => {}
            }
        }
        self.leadership.send_replace(Leadership::Follower);
        self.release(&election).await;
    }

    /// One look, and one write if it is our turn. Whatever it takes, leadership ends when it has to.
    async fn attempt(&self, election: &mut Election, acquired: &mut Option<Timestamp>) -> Result<(), Failure> {
        let now = Instant::now();
        // One that has ceased to lead tries as long as any other.
        let expiry = election.expiry().filter(|expiry| *expiry > now);
        let limit = expiry.map_or(now + WRITE, |expiry| expiry.min(now + WRITE));
        let late = Failure::Unreachable("no answer in time".to_owned());
        timeout_at(limit.into(), self.exchange(election, acquired)).await.unwrap_or(Err(late))
    }

    async fn exchange(&self, election: &mut Election, acquired: &mut Option<Timestamp>) -> Result<(), Failure> {
        if election.held().is_none() {
            let found = match self.connection.json(self.get()?, WRITE).await {
                Ok(lease) => Some(record(&lease)),
                Err(failure) if failure.code() == 404 => None,
                Err(failure) => return Err(failure),
            };
            election.observe(found, Instant::now());
        }
        let Some(wish) = election.wish(Instant::now()) else {
            debug!(holder = election.holder().unwrap_or_default(), "another process writes");
            return Ok(());
        };
        let sent = Instant::now();
        if election.held().is_none() {
            *acquired = Some(Timestamp::now());
        }
        match self.connection.json(self.put(&wish, *acquired)?, WRITE).await {
            Ok(lease) => {
                election.accepted(record(&lease), sent);
                Ok(())
            }
            Err(failure) if matches!(failure.code(), 404 | 409) => {
                // Somebody was faster, or removed it: what we believe is worth nothing until it was read again.
                let found = self.connection.json(self.get()?, WRITE).await.ok().as_ref().map(record);
                election.refused();
                election.observe(found, Instant::now());
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    fn publish(&self, election: &Election) {
        let now = election.leadership(Instant::now());
        self.leadership.send_if_modified(|known| {
            let changed = *known != now;
            if changed {
                match now {
                    Leadership::Leader => {
                        info!(lease = %self.lease, identity = self.identity, "leading: this process writes");
                    }
                    Leadership::Follower => warn!(lease = %self.lease, "not leading any more: another process writes"),
                }
            }
            *known = now;
            changed
        });
    }

    /// Lets another take over at once.
    async fn release(&self, election: &Election) {
        let Some(held) = election.held() else { return };
        let mut body = self.body(held.transitions, None);
        body["metadata"]["resourceVersion"] = json!(held.version);
        body["spec"]["holderIdentity"] = json!("");
        body["spec"]["leaseDurationSeconds"] = json!(1);
        let request =
            Request::new(self.path()).replace(&self.lease.name, &PostParams::default(), body.to_string().into());
        let outcome = match request {
            Ok(request) => self.connection.json(request, WRITE).await.map(drop),
            Err(error) => Err(Failure::Garbled(error.to_string())),
        };
        match outcome {
            Ok(()) => info!(lease = %self.lease, "lease given back"),
            Err(failure) => {
                warn!(lease = %self.lease, %failure, "the lease could not be given back; it ends by itself");
            }
        }
    }

    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.lease.namespace)
    }

    fn get(&self) -> Result<http::Request<Vec<u8>>, Failure> {
        let request = Request::new(self.path()).get(&self.lease.name, &kube::api::GetParams::default());
        request.map_err(|error| Failure::Garbled(error.to_string()))
    }

    fn put(&self, wish: &Wish, acquired: Option<Timestamp>) -> Result<http::Request<Vec<u8>>, Failure> {
        let (path, params) = (Request::new(self.path()), PostParams::default());
        let request = match wish {
            Wish::Create => path.create(&params, self.body(0, acquired).to_string().into_bytes()),
            Wish::Hold { version, transitions, .. } => {
                let mut body = self.body(*transitions, acquired);
                body["metadata"]["resourceVersion"] = json!(version);
                path.replace(&self.lease.name, &params, body.to_string().into_bytes())
            }
        };
        request.map_err(|error| Failure::Garbled(error.to_string()))
    }

    fn body(&self, transitions: i32, acquired: Option<Timestamp>) -> Value {
        let micros = |moment: Timestamp| moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "namespace": &*self.lease.namespace, "name": &*self.lease.name },
            "spec": {
                "holderIdentity": self.identity, "leaseDurationSeconds": self.timing.term.as_secs().max(1),
                "acquireTime": acquired.map(micros), "renewTime": micros(Timestamp::now()),
                "leaseTransitions": transitions,
            },
        })
    }
}

fn record(lease: &Value) -> Record {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Record {
        holder: text(&lease["spec"]["holderIdentity"]),
        transitions: lease["spec"]["leaseTransitions"].as_i64().and_then(|it| it.try_into().ok()).unwrap_or_default(),
        version: text(&lease["metadata"]["resourceVersion"]),
    }
}
