//! Does what [`crate::orders`] wants done, each job in a task of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use config::challenge::WELL_KNOWN;
use config::issuer::{Issuer, Method};
use config::object::ObjectName;
use config::snapshot::Snapshot;
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::ca::{self, Session};
use super::dns::{self, Publisher};
use super::{AcmeOptions, keys};
use crate::metrics::AcmeMetrics;
use crate::order::{Order, Step};
use crate::orders::{Answer, Done, Job};
use crate::retry::{Class, Failure};
use crate::store::Account;

/// How long replicas may take until all of them answer; then the CA is asked all the same.
const REPLICAS: Duration = Duration::from_secs(30);
/// How long one replica may take.
const REPLICA: Duration = Duration::from_secs(3);
/// How often they are asked.
const PERIOD: Duration = Duration::from_millis(200);
/// The name of the port at which replicas answer HTTP.
const PORT: &str = "http";

/// What jobs are done with.
pub(super) struct Office {
    replicas: Option<ObjectName>,
    leads: watch::Receiver<bool>,
    metrics: Arc<AcmeMetrics>,
    sessions: Sessions,
    publisher: Publisher,
}

/// Accounts that were opened, by URL and whom to trust.
type Sessions = Arc<Mutex<HashMap<(String, Option<String>), Session>>>;

impl Office {
    pub(super) fn new(options: &AcmeOptions, leads: watch::Receiver<bool>, metrics: Arc<AcmeMetrics>) -> Self {
        let publisher = Publisher::new(options.dns_servers.clone());
        Self { replicas: options.replicas.clone(), leads, metrics, sessions: Sessions::default(), publisher }
    }

    /// Begins a job.
    pub(super) fn take(&self, job: Job, snapshot: &Snapshot, running: &mut JoinSet<Done>) {
        let metrics = Arc::clone(&self.metrics);
        match job {
            Job::Make { id, key, common_name, order } => {
                running.spawn_blocking(move || Done::Made(id, keys::make(key, common_name, order)));
            }
            Job::MakeAccount { id, server } => {
                running.spawn_blocking(move || Done::Account(id, keys::account(server)));
            }
            Job::Register { id, account, issuer } => {
                let credentials = dns::credentials(&issuer, snapshot);
                running.spawn(async move {
                    let key = issuer.external_account.as_ref().and_then(|it| credentials.get(&it.secret));
                    let customer = key.map(|text| text.as_str());
                    Done::Account(id, ca::register(account.as_ref(), &issuer, customer, &metrics).await)
                });
            }
            Job::Suggest { certificate, account, issuer } => {
                let opening = self.open(account, issuer);
                running.spawn(async move {
                    let asked = async { opening.await?.0.suggestion(&certificate).await }.await;
                    Done::Suggested(certificate, asked)
                });
            }
            Job::Clean { record, issuer } => {
                let (publisher, credentials) = (self.publisher.clone(), dns::credentials(&issuer, snapshot));
                running.spawn(async move {
                    let result = publisher.remove(&record, &issuer, &credentials).await;
                    Done::Cleaned(record, result)
                });
            }
            Job::Take { id, step: Step::Confirm, order, issuer, .. } => {
                let (publisher, credentials) = (self.publisher.clone(), dns::credentials(&issuer, snapshot));
                let replicas = self.replicas.as_ref().map(|service| addresses(service, snapshot)).unwrap_or_default();
                running.spawn(async move {
                    let done = publisher.publish(&order.records(), &issuer, &credentials).await;
                    if done.is_ok() {
                        confirm(&order, &replicas).await;
                    }
                    Done::Taken(id, Step::Confirm, done.map(|()| Answer::Done))
                });
            }
            Job::Take { id, step, order, account, issuer } => {
                let (opening, leads) = (self.open(account, issuer), self.leads.clone());
                let sessions = Arc::clone(&self.sessions);
                running.spawn(async move {
                    let result = step_of(opening, step, &order, &leads).await;
                    if result.as_ref().is_err_and(|failure| failure.class == Class::Account) {
                        sessions.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    }
                    Done::Taken(id, step, result)
                });
            }
        }
    }

    /// The account, ready to sign.
    fn open(
        &self,
        account: Account,
        issuer: Box<Issuer>,
    ) -> impl Future<Output = Result<(Session, Box<Issuer>), Failure>> + Send + 'static {
        let (sessions, metrics) = (Arc::clone(&self.sessions), Arc::clone(&self.metrics));
        async move {
            let key = (account.url.clone().unwrap_or_default(), issuer.ca_bundle.clone());
            let known = sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            if let Some(session) = known {
                return Ok((session, issuer));
            }
            let session = Session::open(&account, &issuer, metrics).await?;
            sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(key, session.clone());
            Ok((session, issuer))
        }
    }
}

async fn step_of(
    opening: impl Future<Output = Result<(Session, Box<Issuer>), Failure>>,
    step: Step,
    order: &Order,
    leads: &watch::Receiver<bool>,
) -> Result<Answer, Failure> {
    let (session, issuer) = opening.await?;
    if !*leads.borrow() {
        return Err(Failure::new(Class::Transient, "another replica leads by now".to_owned()));
    }
    match step {
        Step::Place => session.place(order, &issuer).await,
        Step::Tell => session.tell(order).await,
        Step::Look => session.look(order).await,
        Step::Finalize => session.finalize(order).await,
        Step::Download => session.download(order, &issuer).await,
        // These are not for the CA.
        Step::Store | Step::Confirm | Step::Write | Step::Drop => Ok(Answer::Done),
    }
}

/// Where the ready replicas behind a Service answer HTTP.
fn addresses(service: &ObjectName, snapshot: &Snapshot) -> Vec<SocketAddr> {
    let slices = snapshot.endpoint_slices.iter().filter(|(name, slice)| {
        let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
        name.namespace == service.namespace && label.is_some_and(|label| **label == *service.name)
    });
    let of_slice = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| {
        let port = slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some(PORT))?.port?;
        let port = u16::try_from(port).ok()?;
        let ready = slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
        let ips = ready.flat_map(|endpoint| &endpoint.addresses).filter_map(|ip| ip.parse::<IpAddr>().ok());
        Some(ips.map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>())
    };
    slices.filter_map(|(_, slice)| of_slice(slice)).flatten().collect()
}

/// Waits until every replica answers every HTTP-01 challenge: the CA may reach any of them.
async fn confirm(order: &Order, replicas: &[SocketAddr]) {
    let until = Instant::now() + REPLICAS;
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let challenges = order.placed.iter().flat_map(|placed| &placed.challenges);
    for challenge in challenges.filter(|challenge| challenge.is_by(Method::Http01)) {
        for replica in replicas {
            let mut said = ask(&client, *replica, &challenge.name, &challenge.token).await;
            while said.as_ref() != Ok(&challenge.authorization) && Instant::now() < until {
                sleep(PERIOD).await;
                said = ask(&client, *replica, &challenge.name, &challenge.token).await;
            }
            if said.as_ref() != Ok(&challenge.authorization) {
                let said = said.map_or_else(|error| error, |body| format!("it said {body:?}"));
                warn!(%replica, name = challenge.name, said, "a replica does not answer a challenge; the CA is asked all the same");
            }
        }
    }
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    replica: SocketAddr,
    host: &str,
    token: &str,
) -> Result<String, String> {
    let request = Request::get(format!("http://{replica}{WELL_KNOWN}{token}")).header(HOST, host).body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = async {
        let answer = client.request(request).await.map_err(|error| error.to_string())?;
        let body = Limited::new(answer.into_body(), 1024).collect().await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    };
    timeout(REPLICA, answer).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}
