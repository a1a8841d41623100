//! Asks DNS for the names in a [`NameBook`].
//!
//! Names are absolute: search domains are not tried, as a cluster's own DNS does not try them for the CNAME that an
//! `ExternalName` Service is to Pods.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::Name;
use tokio::time::{sleep_until, timeout};

use crate::resolve::{Answers, Found, LookupError, NameBook};

/// Questions under way at once.
const MAX_ASKED: usize = 64;
/// For one question to one server.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long answers are gathered before they are told together.
const GATHER: Duration = Duration::from_millis(20);
/// How long the start waits for the first answers.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// The names that are wanted, and the questions under way.
pub(super) struct Names {
    book: NameBook,
    resolver: Resolver,
    asked: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// When to tell of what has changed.
    news: Option<Instant>,
}

type Reply = (Arc<str>, Result<Found, LookupError>);

impl Names {
    /// Asks `servers`; without any, those of `/etc/resolv.conf`, after `/etc/hosts`.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            book: NameBook::default(),
            resolver: Resolver { servers, ready: None },
            asked: FuturesUnordered::new(),
            news: None,
        }
    }

    /// What is known.
    pub(super) fn answers(&self) -> Arc<Answers> {
        Arc::clone(self.book.answers())
    }

    /// Keeps these names and no others.
    pub(super) fn set_wanted(&mut self, names: &BTreeSet<Arc<str>>) {
        self.book.set_wanted(names, Instant::now());
    }

    /// Waits until every name was answered once, or for as long as a start may take.
    pub(super) async fn settle(&mut self) {
        let all = async {
            while !self.book.is_settled() {
                self.changed().await;
            }
        };
        // Those that take longer are told when they come.
        let _ = timeout(FIRST_ANSWERS, all).await;
    }

    /// Waits until [`Self::answers`] differ; may be dropped and called again.
    pub(super) async fn changed(&mut self) {
        loop {
            self.ask();
            let has_room = self.asked.len() < MAX_ASKED;
            let due = self.book.next_deadline().filter(|_| has_room);
            tokio::select! {
                biased;
                Some((name, result)) = self.asked.next() => self.take(&name, result),
                () = at(self.news) => {
                    self.news = None;
                    return;
                }
                () = at(due) => {}
            }
        }
    }

    fn ask(&mut self) {
        while self.asked.len() < MAX_ASKED
            && let Some(name) = self.book.poll_due(Instant::now())
        {
            let lookup = self.resolver.lookup(Arc::clone(&name));
            self.asked.push(Box::pin(lookup));
        }
    }

    fn take(&mut self, name: &Arc<str>, result: Result<Found, LookupError>) {
        let failure = result.as_ref().err().cloned();
        if matches!(failure, Some(LookupError::Failed { .. })) {
            // The name servers may be others by now.
            self.resolver.ready = None;
        }
        let now = Instant::now();
        if self.book.answered(name, result, now) {
            if let Some(error) = &failure {
                tracing::warn!(%name, %error, "the name of a Service cannot be resolved");
            }
            self.news.get_or_insert(now + GATHER);
        } else if let Some(error) = &failure {
            tracing::debug!(%name, %error, "a name is still not resolved");
        }
    }
}

/// Waits for a moment that may never come.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Who is asked.
struct Resolver {
    servers: Vec<SocketAddr>,
    /// Made when it is first needed, since most need none.
    ready: Option<Result<TokioResolver, LookupError>>,
}

impl Resolver {
    fn lookup(&mut self, name: Arc<str>) -> impl Future<Output = Reply> + Send + 'static {
        let resolver = self.ready.get_or_insert_with(|| build(&self.servers)).clone();
        async move {
            let result = match resolver {
                Ok(resolver) => ask(&resolver, &name).await,
                Err(error) => Err(error),
            };
            (name, result)
        }
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, LookupError> {
    let provider = TokioRuntimeProvider::default();
    let builder = if servers.is_empty() {
        TokioResolver::builder(provider).map(|mut builder| {
            configure(builder.options_mut(), ResolveHosts::Always);
            builder
        })
    } else {
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        let mut builder = TokioResolver::builder_with_config(config, provider);
        configure(builder.options_mut(), ResolveHosts::Never);
        Ok(builder)
    };
    builder.and_then(hickory_resolver::ResolverBuilder::build).map_err(|error| failed(&error))
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

fn configure(options: &mut ResolverOpts, hosts: ResolveHosts) {
    options.timeout = ANSWER_TIME;
    // The book knows how long an answer is good for.
    options.cache_size = 0;
    options.use_hosts_file = hosts;
    options.ip_strategy = if has_ipv6() { LookupIpStrategy::Ipv4AndIpv6 } else { LookupIpStrategy::Ipv4Only };
}

/// Whether this machine has a route to IPv6 addresses out there; connecting a UDP socket sends nothing.
fn has_ipv6() -> bool {
    let somewhere = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 53));
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect(somewhere)).is_ok()
}

async fn ask(resolver: &TokioResolver, name: &str) -> Result<Found, LookupError> {
    let mut absolute = Name::from_ascii(name).map_err(|error| LookupError::Failed { why: error.to_string() })?;
    absolute.set_fqdn(true);
    let lookup = resolver.lookup_ip(absolute).await.map_err(|error| failed(&error))?;
    let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
    let addrs: Vec<_> = lookup.iter().collect();
    if addrs.is_empty() { Err(LookupError::Missing { ttl: Some(ttl) }) } else { Ok(Found { addrs, ttl }) }
}

fn failed(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            LookupError::Missing { ttl: none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())) }
        }
        error => LookupError::Failed { why: error.to_string() },
    }
}
