//! From snapshots to the table in force, and from start to drain.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use config::snapshot::Snapshot;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access_writer::Writer;
use super::listen::{Listener, Scheme};
use super::proxy::{Gateway, POOL};
use super::resolve::Names;
use super::streams::{self, Keeper};
use super::tls::Door;
use super::worker::{Seat, Worker};
use super::{IngressError, IngressOptions, IngressPorts, Timeouts, tls};
use crate::certs::{Certificate, generate_default};
use crate::compile::{CompileOptions, Compiled, compile};
use crate::resolve::Answers;
use crate::routes::RouteTable;
use crate::streams::Streams;

/// Serves `ports.snapshots` on `listeners` until shutdown is asked for; returns after the drain.
pub(super) async fn run(
    options: IngressOptions,
    timeouts: Timeouts,
    listeners: Vec<Listener>,
    mut ports: IngressPorts,
) -> Result<(), IngressError> {
    tls::install_crypto_provider();
    let shutdown = ports.shutdown.clone();
    let first = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        snapshot = next_snapshot(&mut ports, None) => snapshot?,
    };
    let recipe = Recipe { options: options.compile.clone(), default: Arc::new(generate_default(Timestamp::now())?) };
    let mut names = Names::new(options.dns_servers.clone());
    let compiled = first_table(&recipe, &first, &mut names).await.ok_or(IngressError::Compile)?;
    ports.metrics.expect(&compiled.routes.ingresses);
    let table = Arc::new(ArcSwap::from(Arc::clone(&compiled.table)));
    let writer = Writer::start().map_err(|source| IngressError::Worker { worker: 0, source })?;
    let drain = CancellationToken::new();
    // Whatever ends this function also ends the workers.
    let _guard = drain.clone().drop_guard();
    let front = Arc::clone(compiled.table.front());
    let door = Door::new(Arc::clone(&table), ports.challenges.clone(), &front.global.tls);
    let tls = Arc::new(door.map_err(IngressError::Tls)?);
    let streams = watch::Sender::new(Arc::clone(&compiled.streams));
    let hall = Hall {
        options: &options,
        timeouts: Arc::new(timeouts),
        table: &table,
        tls: &tls,
        pool: front.global.upstream_pool.unwrap_or(POOL),
        streams: &streams,
        ports: &ports,
        writer: &writer,
    };
    let (workers, accepting) = hall.open(listeners, &drain)?;
    for (worker, accepts) in accepting.into_iter().enumerate() {
        accepts.await.map_err(|_| IngressError::WorkerLost { worker })?;
    }
    publish(&ports, &compiled);
    let ready = std::mem::replace(&mut ports.ready, oneshot::channel().0);
    let _ = ready.send(());
    let state = State { snapshot: first, compiled, names, tls, streams };
    let result = steer(&recipe, &mut ports, &table, state, workers, &drain).await;
    tokio::task::spawn_blocking(move || writer.finish()).await.ok();
    result
}

/// What is in force.
struct State {
    snapshot: Arc<Snapshot>,
    compiled: Arc<Compiled>,
    names: Names,
    tls: Arc<Door>,
    streams: watch::Sender<Arc<Streams>>,
}

/// Swaps tables until shutdown, then waits for the workers.
async fn steer(
    recipe: &Recipe,
    ports: &mut IngressPorts,
    table: &ArcSwap<RouteTable>,
    mut state: State,
    workers: Vec<Worker>,
    drain: &CancellationToken,
) -> Result<(), IngressError> {
    let mut ends: FuturesUnordered<_> = workers.into_iter().map(end_of).collect();
    let shutdown = ports.shutdown.clone();
    let result = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            Some((worker, _)) = ends.next() => break Err(IngressError::WorkerLost { worker }),
            snapshot = next_snapshot(ports, Some(&state.snapshot)) => match snapshot {
                Ok(snapshot) => {
                    state.snapshot = snapshot;
                    state.swap(recipe, ports, table).await;
                }
                Err(error) => break Err(error),
            },
            () = state.names.changed() => state.swap(recipe, ports, table).await,
        }
    };
    drain.cancel();
    while let Some((worker, is_well)) = ends.next().await {
        if !is_well {
            tracing::error!(worker, "the worker panicked; this is a bug, please report the lines before this one");
        }
    }
    result
}

impl State {
    /// Compiles what is known now and puts it in force.
    async fn swap(&mut self, recipe: &Recipe, ports: &IngressPorts, table: &ArcSwap<RouteTable>) {
        let (snapshot, previous) = (Arc::clone(&self.snapshot), Some(Arc::clone(&self.compiled)));
        let Some(next) = recipe.compile(snapshot, self.names.answers(), previous).await else { return };
        self.names.set_wanted(&next.names);
        ports.metrics.expect(&next.routes.ingresses);
        table.store(Arc::clone(&next.table));
        self.renew_tls(&next);
        if !Arc::ptr_eq(&self.streams.borrow(), &next.streams) {
            self.streams.send_replace(Arc::clone(&next.streams));
        }
        publish(ports, &next);
        self.compiled = next;
    }
}

impl State {
    /// Speaks TLS with new clients as the settings say now.
    fn renew_tls(&self, next: &Compiled) {
        if let Err(error) = self.tls.renew(&next.table.front().global.tls) {
            tracing::error!(%error, "TLS stays as it was, since it cannot be as the settings say");
        }
    }
}

/// The first table, with the addresses of all names that DNS knows by then.
async fn first_table(recipe: &Recipe, snapshot: &Arc<Snapshot>, names: &mut Names) -> Option<Arc<Compiled>> {
    let compiled = recipe.compile(Arc::clone(snapshot), names.answers(), None).await?;
    if compiled.names.is_empty() {
        return Some(compiled);
    }
    names.set_wanted(&compiled.names);
    names.settle().await;
    recipe.compile(Arc::clone(snapshot), names.answers(), Some(compiled)).await
}

/// The number of a worker, and whether it ended without a panic.
async fn end_of(worker: Worker) -> (usize, bool) {
    let is_well = worker.ended.await.is_ok();
    // The thread has told that it is done, or is unwinding; either way this takes no time.
    let _ = tokio::task::spawn_blocking(move || worker.thread.join()).await;
    (worker.index, is_well)
}

/// The newest snapshot that is not the one `seen` last.
async fn next_snapshot(ports: &mut IngressPorts, seen: Option<&Arc<Snapshot>>) -> Result<Arc<Snapshot>, IngressError> {
    loop {
        let newest = ports.snapshots.borrow_and_update().clone();
        match newest {
            Some(newest) if seen.is_none_or(|seen| !Arc::ptr_eq(seen, &newest)) => return Ok(newest),
            _ => ports.snapshots.changed().await.map_err(|_| IngressError::SourceLost)?,
        }
    }
}

/// What tables are made with.
struct Recipe {
    options: CompileOptions,
    /// Shown to clients that ask for no name we have a certificate for; one per process, as clients may pin it.
    default: Arc<Certificate>,
}

impl Recipe {
    /// Compiles on a thread that may be blocked; `None`, and a line in the log, if that panicked.
    async fn compile(
        &self,
        snapshot: Arc<Snapshot>,
        answers: Arc<Answers>,
        previous: Option<Arc<Compiled>>,
    ) -> Option<Arc<Compiled>> {
        let (options, default) = (self.options.clone(), Arc::clone(&self.default));
        let work = move || compile(&snapshot, &answers, &options, &default, previous.as_deref(), Timestamp::now());
        match tokio::task::spawn_blocking(work).await {
            Ok(compiled) => Some(Arc::new(compiled)),
            Err(error) => {
                tracing::error!(%error, "the routes could not be compiled and stay as they were; this is a bug");
                None
            }
        }
    }
}

/// Tells everybody what is in force now.
fn publish(ports: &IngressPorts, compiled: &Arc<Compiled>) {
    ports.tables.send_replace(Some(Arc::clone(compiled)));
    ports.reports.send_replace(Arc::new(compiled.report.clone()));
    ports.routes.send_replace(Arc::new(compiled.routes.clone()));
    ports.certificates.send_replace(compiled.certificates.clone());
    let metrics = &ports.metrics;
    metrics.retain(&compiled.routes.ingresses);
    metrics.swaps.inc();
    let now = Timestamp::now().as_second();
    metrics.last_swap.set(now);
    metrics.reloaded(compiled.report.generation, now, &compiled.certificates.to_vec());
    metrics.routes.set(i64::try_from(compiled.routes.len).unwrap_or(i64::MAX));
    tracing::info!(
        routes = compiled.routes.len,
        certified_names = compiled.table.certs().len(),
        problems = compiled.report.problems.len(),
        "a route table is in force"
    );
}

/// What all workers are made of.
struct Hall<'a> {
    options: &'a IngressOptions,
    timeouts: Arc<Timeouts>,
    table: &'a Arc<ArcSwap<RouteTable>>,
    tls: &'a Arc<Door>,
    /// Idle connections to endpoints that one worker keeps.
    pool: usize,
    streams: &'a watch::Sender<Arc<Streams>>,
    ports: &'a IngressPorts,
    writer: &'a Writer,
}

impl Hall<'_> {
    /// Starts the workers; each tells when it accepts.
    fn open(
        &self,
        listeners: Vec<Listener>,
        drain: &CancellationToken,
    ) -> Result<(Vec<Worker>, Vec<oneshot::Receiver<()>>), IngressError> {
        let ips = streams::addresses(listeners.iter().filter(|it| it.scheme == Scheme::Http).map(|it| it.address));
        let mut seats: Vec<Vec<_>> = (0..self.options.workers).map(|_| Vec::new()).collect();
        for listener in listeners {
            for (seat, socket) in seats.iter_mut().zip(listener.sockets) {
                seat.push((listener.scheme, listener.address, socket));
            }
        }
        let mut workers = Vec::new();
        let mut accepting = Vec::new();
        for (index, sockets) in seats.into_iter().enumerate() {
            let (ready, accepts) = oneshot::channel();
            let log = self.writer.log(self.options.access_log, Arc::clone(&self.ports.metrics));
            let gateway = Gateway::new(
                Arc::clone(self.table),
                Arc::clone(&self.timeouts),
                Arc::clone(&self.ports.metrics),
                Arc::clone(&log),
                self.ports.challenges.clone(),
                Arc::new(AtomicBool::new(false)),
            );
            let keeper = Keeper {
                worker: index,
                ips: ips.clone(),
                streams: self.streams.subscribe(),
                table: Arc::clone(self.table),
                timeouts: Arc::clone(&self.timeouts),
                metrics: Arc::clone(&self.ports.metrics),
                epoch: Instant::now(),
            };
            let seat = Seat {
                streams: keeper,
                index,
                sockets,
                tls: Arc::clone(self.tls),
                table: Arc::clone(self.table),
                pool: self.pool,
                gateway,
                log,
                metrics: Arc::clone(&self.ports.metrics),
                timeouts: Arc::clone(&self.timeouts),
                drain_timeout: self.options.drain_timeout,
                drain: drain.clone(),
                ready,
            };
            workers.push(seat.start().map_err(|source| IngressError::Worker { worker: index, source })?);
            accepting.push(accepts);
        }
        Ok((workers, accepting))
    }
}
