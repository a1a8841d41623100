//! How the parts are wired.
//!
//! ```text
//!            ┌──────────── snapshots ───────────────┬───────────┬──────────┐
//!  cluster ──┤                                      v           v          v
//!            └<── reports ── speaker, ingress, acme          echo      show, admin
//!                               └─ vips, routes, certificates ────────────^
//! ```
//!
//! Four stages of shutdown: `drain` hands the VIPs over to other nodes, `left` says that new clients go there and ends
//! the parts that serve others, `release` ends the speaker once the last request is answered, `stop` ends what all of
//! them rely on until then.
#![expect(clippy::disallowed_methods, reason = "the time until ready is logged")]

mod error;
mod options;

use std::sync::Arc;
use std::time::{Duration, Instant};

use acme::io::{AcmePorts, Wish};
use acme::metrics::AcmeMetrics;
use cluster::{Cluster, Leadership};
use config::challenge::Challenges;
use config::report::{Certificates, ManagedEntry, Routes, VipEntry};
use ingress::compile::Compiled;
use ingress::io::{Ingress, IngressPorts, Timeouts};
use ingress::metrics::IngressMetrics;
use ingress::metrics::compat::Controller;
use lb_speaker::io::{MoveOrder, SpeakerPorts};
use lb_speaker::member_metrics::MemberMetrics;
use lb_speaker::metrics::SpeakerMetrics;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use self::error::RunError;
use self::options::{Needs, Source};
use crate::admin::{self, View};
use crate::cli::{self, IngressArgs, ProcessArgs, SourceArgs, SpeakerArgs};
use crate::keys::{self, KeyError};
use crate::parts::{Parts, describe};
use crate::readiness::Readiness;
use crate::shutdown::Signals;
use crate::table::Listeners;
use crate::{defaults, echo, process, show};

/// How long the admin API and the echo pages may take to finish what they serve.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is to run: a part without flags does not.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Where objects come from.
    pub(crate) source: SourceArgs,
    /// Flags of the process as a whole.
    pub(crate) process: ProcessArgs,
    /// The speaker.
    pub(crate) speaker: Option<SpeakerArgs>,
    /// The ingress.
    pub(crate) ingress: Option<IngressArgs>,
    /// Whether certificates are ordered for the Ingresses that are served.
    pub(crate) acme: bool,
    /// Whether loopback endpoints are served by us.
    pub(crate) with_echo: bool,
}

impl Setup {
    /// The parts that report something to write, as they end the name of a Lease.
    const fn parts(&self) -> &'static str {
        match (&self.speaker, &self.ingress) {
            (Some(_), None) => "-speaker",
            (None, Some(_)) => "-ingress",
            (Some(_), Some(_)) | (None, None) => "",
        }
    }
}

/// Runs until a signal or a failure ends it.
pub(crate) async fn run(setup: Setup) -> Result<(), RunError> {
    let (started, drain) = (Instant::now(), CancellationToken::new());
    tokio::spawn(Signals::listen().map_err(RunError::Signals)?.run(drain.clone()));
    // Everything that may be refused comes first, so that a wrong flag leaves no trace.
    let node = defaults::node_name(setup.process.node_name.as_deref());
    let company = setup.speaker.as_ref().map(|args| &args.company);
    let key_file = company.and_then(|company| company.heartbeat_key_file.clone());
    let key = key_file.as_deref().map(keys::read).transpose()?;
    let needs = Needs {
        heartbeat_key: company.is_some() && key.is_none(),
        letters: company.is_some(),
        config_maps: setup.ingress.as_ref().map(options::config_maps).unwrap_or_default(),
    };
    let source = Source::of(&setup.source, setup.parts(), &node, needs)?;
    let in_cluster = source.is_cluster();
    if key.is_none() && !in_cluster && company.is_some_and(|company| !company.peers.is_empty()) {
        return Err(KeyError::Missing.into());
    }
    let sockets = Sockets::bind(&setup, in_cluster).await?;
    info!(
        version = cli::VERSION,
        node = &*node,
        %source,
        "ferrogate starts"
    );
    let stop = CancellationToken::new();
    let registry = Registry::new();
    let cluster = source.open(&registry, stop.clone()).await?;
    let heartbeat_keys = match key_file {
        None => cluster.heartbeat_key.clone(),
        Some(path) => {
            let (sender, keys) = watch::channel(key);
            tokio::spawn(keys::follow(path, sender, stop.clone()));
            keys
        }
    };
    let (outputs, readiness) = (Outputs::default(), Readiness::new());
    let stages = Stages { drain, ..Stages::default() };
    Wiring {
        started,
        node,
        in_cluster,
        cluster,
        heartbeat_keys,
        outputs,
        readiness,
        wishes: None,
        moves: None,
        stages,
        stop,
    }
    .start(setup, sockets, registry)
    .await
}

/// Everything that listens, bound.
struct Sockets {
    admin: TcpListener,
    data_plane: Option<Ingress>,
    listeners: Listeners,
}

impl Sockets {
    async fn bind(setup: &Setup, in_cluster: bool) -> Result<Self, RunError> {
        let address = setup.process.admin;
        let admin = TcpListener::bind(address).await.map_err(|source| RunError::Admin { address, source })?;
        let bind =
            |args: &IngressArgs| Ingress::bind(options::ingress(args, &setup.process, in_cluster), Timeouts::default());
        let data_plane = setup.ingress.as_ref().map(bind).transpose()?;
        let listeners = Listeners {
            http: data_plane.as_ref().map(Ingress::http).unwrap_or_default(),
            https: data_plane.as_ref().map(Ingress::https).unwrap_or_default(),
            admin: admin.local_addr().ok(),
        };
        Ok(Self { admin, data_plane, listeners })
    }
}

/// What the parts publish for people and tools; kept open here, whichever parts run.
#[derive(Debug, Default)]
struct Outputs {
    vips: watch::Sender<Arc<Vec<VipEntry>>>,
    routes: watch::Sender<Arc<Routes>>,
    certificates: watch::Sender<Certificates>,
    tables: watch::Sender<Option<Arc<Compiled>>>,
    challenges: watch::Sender<Arc<Challenges>>,
    managed: watch::Sender<Arc<Vec<ManagedEntry>>>,
}

/// How far shutdown has come.
#[derive(Clone, Debug, Default)]
struct Stages {
    /// It was asked for.
    drain: CancellationToken,
    /// Other nodes have the VIPs, or nobody could take them.
    left: CancellationToken,
    /// No new clients are to be expected.
    close: CancellationToken,
    /// The ingress has ended.
    served: CancellationToken,
    /// The VIPs are not needed any more.
    release: CancellationToken,
}

impl Stages {
    /// Closes the doors once new clients go elsewhere, and lets go of the VIPs once nobody is served through them.
    async fn follow(self) {
        self.drain.cancelled().await;
        self.left.cancelled().await;
        self.close.cancel();
        self.served.cancelled().await;
        self.release.cancel();
    }
}

/// What the parts are wired to.
struct Wiring {
    started: Instant,
    node: Arc<str>,
    in_cluster: bool,
    cluster: Cluster,
    heartbeat_keys: watch::Receiver<Option<Arc<str>>>,
    outputs: Outputs,
    readiness: Readiness,
    /// What operators ask of certificates; `None` if nobody orders any.
    wishes: Option<mpsc::Sender<Wish>>,
    /// What operators ask of VIPs; `None` if nobody announces any.
    moves: Option<mpsc::Sender<MoveOrder>>,
    stages: Stages,
    stop: CancellationToken,
}

impl Wiring {
    /// Starts everything, then ends everything in order.
    async fn start(mut self, setup: Setup, sockets: Sockets, registry: Registry) -> Result<(), RunError> {
        process::register(&registry)?;
        let mut parts = Parts::default();
        if let Some(args) = &setup.speaker {
            self.speaker(args, &setup, &registry, &mut parts)?;
        } else {
            self.stages.left.cancel();
        }
        if let Some(data_plane) = sockets.data_plane {
            let class = setup.ingress.as_ref().map(|args| args.controller.clone()).unwrap_or_default();
            let controller = options::controller(class, &self.node);
            self.ingress(data_plane, &controller, &registry, &mut parts)?;
        } else {
            self.stages.served.cancel();
        }
        if setup.acme {
            self.acme(&setup, &registry, &mut parts)?;
        }
        let helpers = self.helpers(&setup, sockets.listeners, sockets.admin, registry);
        let ended = parts.finished(self.stages.drain.clone(), setup.process.drain_timeout).await;
        self.end(helpers).await;
        Ok(ended?)
    }

    fn speaker(
        &mut self,
        args: &SpeakerArgs,
        setup: &Setup,
        registry: &Registry,
        parts: &mut Parts,
    ) -> Result<(), RunError> {
        let (moves, incoming) = mpsc::channel(16);
        self.moves = Some(moves);
        let wires = SpeakerPorts {
            snapshots: self.cluster.snapshots.clone(),
            reports: self.cluster.reports.speaker.clone(),
            vips: self.outputs.vips.clone(),
            metrics: SpeakerMetrics::register(registry)?,
            leader: is_leader(self.cluster.leadership.clone()),
            member_metrics: MemberMetrics::register(registry)?,
            keys: self.heartbeat_keys.clone(),
            answered: self.cluster.answered.clone(),
            post: self.cluster.letters.outgoing.clone(),
            mail: self.cluster.letters.incoming.clone(),
            ready: self.readiness.part("speaker"),
            moves: incoming,
            leave: self.stages.drain.clone(),
            left: self.stages.left.clone(),
            shutdown: self.stages.release.clone(),
        };
        let options = options::speaker(args, setup, &self.node, self.in_cluster);
        // Dropped even by a panic: without a speaker nobody hands anything over.
        let left = self.stages.left.clone().drop_guard();
        parts.spawn("speaker", async move {
            let outcome = lb_speaker::io::run(options, wires).await;
            drop(left);
            outcome
        });
        Ok(())
    }

    fn ingress(
        &self,
        data_plane: Ingress,
        controller: &Controller,
        registry: &Registry,
        parts: &mut Parts,
    ) -> Result<(), RunError> {
        process::register_compat(registry, controller)?;
        let wires = IngressPorts {
            snapshots: self.cluster.snapshots.clone(),
            challenges: self.outputs.challenges.subscribe(),
            reports: self.cluster.reports.ingress.clone(),
            routes: self.outputs.routes.clone(),
            certificates: self.outputs.certificates.clone(),
            tables: self.outputs.tables.clone(),
            metrics: IngressMetrics::register_as(registry, controller)?,
            ready: self.readiness.part("ingress"),
            shutdown: self.stages.close.clone(),
        };
        // Dropped even by a panic: without an ingress there is no reason to keep the VIPs.
        let served = self.stages.served.clone().drop_guard();
        parts.spawn("ingress", async move {
            let outcome = data_plane.run(wires).await;
            drop(served);
            outcome
        });
        Ok(())
    }

    fn acme(&mut self, setup: &Setup, registry: &Registry, parts: &mut Parts) -> Result<(), RunError> {
        let (wishes, incoming) = mpsc::channel(16);
        self.wishes = Some(wishes);
        let wires = AcmePorts {
            snapshots: self.cluster.snapshots.clone(),
            routes: self.outputs.routes.subscribe(),
            leads: is_leader(self.cluster.leadership.clone()),
            reports: self.cluster.reports.acme.clone(),
            challenges: self.outputs.challenges.clone(),
            managed: self.outputs.managed.clone(),
            wishes: incoming,
            metrics: AcmeMetrics::register(registry)?,
            ready: self.readiness.part("acme"),
            shutdown: self.stages.drain.clone(),
        };
        parts.spawn("acme", acme::io::run(options::acme(setup, self.in_cluster), wires));
        Ok(())
    }

    /// What shows and serves the rest; it lives until the parts have ended.
    fn helpers(&self, setup: &Setup, listeners: Listeners, admin: TcpListener, registry: Registry) -> JoinSet<()> {
        let mut helpers = JoinSet::new();
        if setup.with_echo {
            let snapshots = self.cluster.snapshots.clone();
            helpers.spawn(echo::follow::run(snapshots, Arc::clone(&self.node), self.stop.clone()));
        }
        let publish_service = setup.ingress.as_ref().and_then(|args| args.publish_service.clone());
        let screen = show::Screen { listeners, publish_service, format: setup.process.log_format };
        helpers.spawn(show::run(self.view(), screen, self.readiness.clone(), self.stages.drain.clone()));
        let served = admin::serve(admin, self.view(), self.readiness.clone(), registry, self.stop.clone());
        helpers.spawn(async move {
            if let Err(error) = served.await {
                error!(error = describe(&error), "the admin API ended");
            }
        });
        helpers.spawn(tell(self.started, self.readiness.clone(), self.stages.drain.clone()));
        helpers.spawn(self.stages.clone().follow());
        helpers
    }

    fn view(&self) -> View {
        let reports = &self.cluster.reports;
        View {
            snapshots: self.cluster.snapshots.clone(),
            reports: [&reports.speaker, &reports.ingress, &reports.acme].map(watch::Sender::subscribe),
            vips: self.outputs.vips.subscribe(),
            routes: self.outputs.routes.subscribe(),
            certificates: self.outputs.certificates.subscribe(),
            tables: self.outputs.tables.subscribe(),
            node: Arc::clone(&self.node),
            managed: self.outputs.managed.subscribe(),
            wishes: self.wishes.clone(),
            moves: self.moves.clone(),
        }
    }

    async fn end(self, mut helpers: JoinSet<()>) {
        self.stop.cancel();
        // A helper that panicked was logged when it did.
        let ended = async { while helpers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            warn!("cutting off readers of the admin API");
        }
        self.cluster.stopped().await;
        info!("ferrogate ended");
    }
}

/// Whether this process writes what is reported, as it changes.
fn is_leader(mut leadership: watch::Receiver<Leadership>) -> watch::Receiver<bool> {
    let (publish, leader) = watch::channel(*leadership.borrow_and_update() == Leadership::Leader);
    tokio::spawn(async move {
        while leadership.changed().await.is_ok() {
            publish.send_replace(*leadership.borrow_and_update() == Leadership::Leader);
        }
    });
    leader
}

/// Says once that everything is ready, and tells probes as soon as it drains.
async fn tell(started: Instant, readiness: Readiness, drain: CancellationToken) {
    tokio::select! {
        ready = readiness.settled() => if ready { info!("ready after {} ms", started.elapsed().as_millis()) },
        () = drain.cancelled() => {}
    }
    drain.cancelled().await;
    readiness.drain();
}
