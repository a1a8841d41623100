//! Follows one collection of objects, for as long as the process lives.
//!
//! ```text
//! streaming list ─(not offered)─> list by pages
//!       │ all told                    │ all told
//!       v                             v
//!   watch from the last version ── ended, silent, unreachable ──> wait, resume from the last version
//!       └── 410 Gone ──> list again
//! ```
//!
//! Decides nothing and forgets nothing: every object goes to [`super::mirror`], with the marks that tell what a list
//! no longer contains.

#![expect(clippy::disallowed_methods, reason = "io reads the clock")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use config::manifest::Object;
use config::object::ObjectName;
use http_body_util::BodyExt;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::connection::{ANSWER, Connection, Failure, refused};
use super::kinds::{self, Malformed, Mark, Source};
use super::retry::Retry;
use super::{Timing, trouble::Trouble};

/// Objects of one page.
const PAGE: u32 = 500;
/// A watch that lived this long was a good one.
const HEALTHY: Duration = Duration::from_secs(1);
/// Failures after which it is said that the server cannot be reached.
const PATIENCE: u32 = 3;
/// The longest line a watch may have: etcd keeps no object near as large.
const LONGEST_LINE: usize = 32 << 20;

/// What a watch tells.
#[derive(Debug)]
pub(super) struct News {
    pub(super) source: Arc<Source>,
    pub(super) change: Change,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Change {
    /// A list begins.
    Begin,
    /// An object is in the list.
    Listed(ObjectName, Object),
    /// The list is complete; what was not in it is gone. It began after relist number `epoch` was asked for.
    End { epoch: u64 },
    /// An object was made or changed.
    Applied(ObjectName, Object),
    /// An object is gone.
    Deleted(ObjectName),
    /// An object cannot be read; its last good version stays.
    Malformed(Malformed),
    /// Why nothing is heard; `None` when it is again.
    Trouble(Option<Trouble>),
}

/// One collection.
pub(super) struct Watcher {
    pub(super) connection: Arc<Connection>,
    pub(super) source: Arc<Source>,
    pub(super) timing: Timing,
    pub(super) news: mpsc::Sender<News>,
    /// Asks for a list when it changes.
    pub(super) relist: watch::Receiver<u64>,
}

/// Where it is.
struct Place {
    /// The version to resume from; `None` if a list is due.
    version: Option<String>,
    /// Whether the server offers streaming lists, as far as we know.
    streaming: bool,
    retry: Retry,
    /// When the last list began.
    listed: Option<Instant>,
    /// When to list again although nothing calls for it.
    relist: Instant,
    trouble: Option<Trouble>,
    /// Whether it was watched before.
    followed: bool,
}

/// One event of a watch.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
    metadata: PageMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

/// Nobody listens any more.
struct Closed;

/// Why a watch or a list ended.
enum End {
    Failed(Failure),
    Closed,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl Watcher {
    /// Follows the collection until nobody listens.
    pub(super) async fn run(mut self) {
        let mut place = Place {
            version: None,
            streaming: true,
            retry: Retry::new(self.timing.first_retry, self.timing.longest_retry),
            listed: None,
            relist: Instant::now() + self.timing.jittered_relist(),
            trouble: None,
            followed: false,
        };
        loop {
            let began = Instant::now();
            let ended =
                if place.version.is_some() { self.follow(&mut place).await } else { self.list(&mut place).await };
            let wait = match ended {
                Err(End::Closed) => return,
                Err(End::Failed(failure)) => match self.failed(&mut place, &failure).await {
                    Ok(wait) => wait,
                    Err(Closed) => return,
                },
                Ok(()) if began.elapsed() >= HEALTHY || place.version.is_none() => Duration::ZERO,
                Ok(()) => place.retry.failed(fastrand::f64(), None),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.news.closed() => return,
            }
        }
    }

    /// Decides what a failure means; how long to wait.
    async fn failed(&self, place: &mut Place, failure: &Failure) -> Result<Duration, Closed> {
        let mut asked = failure.retry_after();
        match failure.code() {
            404 if self.source.is_optional() => {
                // The server does not know the kind: there are none, until it does.
                let epoch = *self.relist.borrow();
                place.version = None;
                self.tell(Change::Begin).await?;
                self.tell(Change::End { epoch }).await?;
                self.tell_trouble(place, None).await?;
                return Ok(self.timing.absent);
            }
            410 => {
                place.version = None;
                let due = place.listed.map(|listed| listed + self.timing.relist_spacing);
                let wait = due.map(|due| due.saturating_duration_since(Instant::now())).unwrap_or_default();
                return Ok(wait.max(asked.unwrap_or_default()));
            }
            400 | 422 if place.version.is_none() && place.streaming => {
                place.streaming = false;
                return Ok(Duration::ZERO);
            }
            403 => asked = asked.or(Some(self.timing.first_retry)),
            _ => {}
        }
        let wait = place.retry.failed(fastrand::f64(), asked);
        let trouble = Trouble::of(failure);
        if trouble.is_denied() || place.retry.failures() >= PATIENCE {
            self.tell_trouble(place, Some(trouble)).await?;
        }
        Ok(wait)
    }

    async fn tell_trouble(&self, place: &mut Place, trouble: Option<Trouble>) -> Result<(), Closed> {
        // What lasts is told at every attempt, to be counted; that it is over, once.
        if trouble.is_none() && place.trouble.is_none() {
            return Ok(());
        }
        place.trouble.clone_from(&trouble);
        self.tell(Change::Trouble(trouble)).await
    }

    async fn tell(&self, change: Change) -> Result<(), Closed> {
        self.news.send(News { source: Arc::clone(&self.source), change }).await.map_err(|_| Closed)
    }

    async fn list(&mut self, place: &mut Place) -> Result<(), End> {
        let epoch = *self.relist.borrow_and_update();
        place.listed = Some(Instant::now());
        place.relist = Instant::now() + self.timing.jittered_relist();
        if place.streaming {
            let watch = WatchParams { field_selector: self.source.fields.clone(), ..WatchParams::default() };
            let watch = watch.initial_events().timeout(self.timing.watch_seconds());
            return self.stream(place, &watch, "", Some(epoch)).await;
        }
        self.tell(Change::Begin).await?;
        let mut params = ListParams { field_selector: self.source.fields.clone(), ..ListParams::default() }.limit(PAGE);
        loop {
            let request = Request::new(self.source.path()).list(&params).map_err(unbuildable)?;
            let body = self.connection.ask(request, ANSWER).await?;
            self.connection.metrics().heard(self.source.kind);
            let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| Failure::Garbled(error.to_string()))?;
            for item in page.items {
                self.object(item.get(), Change::Listed).await?;
            }
            if page.metadata.next.is_empty() {
                self.listed(place, page.metadata.resource_version, epoch).await?;
                return Ok(());
            }
            params.continue_token = Some(page.metadata.next);
        }
    }

    async fn listed(&self, place: &mut Place, version: String, epoch: u64) -> Result<(), Closed> {
        place.version = Some(version);
        place.retry.succeeded();
        self.tell_trouble(place, None).await?;
        self.tell(Change::End { epoch }).await
    }

    async fn follow(&mut self, place: &mut Place) -> Result<(), End> {
        let Some(version) = place.version.clone() else { return Ok(()) };
        if std::mem::replace(&mut place.followed, true) {
            self.connection.metrics().restarted(self.source.kind);
        }
        let watch = WatchParams { field_selector: self.source.fields.clone(), ..WatchParams::default() };
        let watch = watch.timeout(self.timing.watch_seconds());
        self.stream(place, &watch, &version, None).await
    }

    /// Reads one watch to its end; `list` is the number of the relist if it begins with all objects.
    async fn stream(
        &mut self,
        place: &mut Place,
        watch: &WatchParams,
        version: &str,
        mut list: Option<u64>,
    ) -> Result<(), End> {
        let request = Request::new(self.source.path()).watch(watch, version).map_err(unbuildable)?;
        let late = |_| Failure::Unreachable(format!("no answer within {} s", ANSWER.as_secs()));
        let answer = timeout(ANSWER, self.connection.send(request)).await.map_err(late)??;
        if list.is_some() {
            self.tell(Change::Begin).await?;
        } else {
            self.tell_trouble(place, None).await?;
        }
        let mut lines = Lines { body: answer.into_body(), buffer: BytesMut::new(), scanned: 0 };
        loop {
            let silence = Instant::now() + self.timing.read_deadline;
            let line = tokio::select! {
                line = lines.next() => line?,
                () = sleep_until(silence.min(place.relist).into()) => {
                    if place.relist <= Instant::now() {
                        place.version = None;
                    }
                    // A server that never tells the end of the list does not know streaming lists.
                    place.streaming &= list.is_none();
                    return Ok(());
                }
                Ok(()) = self.relist.changed(), if list.is_none() => {
                    place.version = None;
                    return Ok(());
                }
                () = self.news.closed() => return Err(End::Closed),
            };
            let Some(line) = line else { return Ok(()) };
            self.connection.metrics().heard(self.source.kind);
            self.event(&line, place, &mut list).await?;
        }
    }

    async fn event(&self, line: &[u8], place: &mut Place, list: &mut Option<u64>) -> Result<(), End> {
        let garbled = |error: serde_json::Error| Failure::Garbled(error.to_string());
        let Line { kind, object } = serde_json::from_slice(line).map_err(garbled)?;
        let object = object.get();
        match (&*kind, *list) {
            ("ADDED" | "MODIFIED", Some(_)) => return Ok(self.object(object, Change::Listed).await?),
            ("ADDED" | "MODIFIED", None) => self.object(object, Change::Applied).await?,
            ("DELETED", _) => self.object(object, |name, _| Change::Deleted(name)).await?,
            ("BOOKMARK", Some(epoch)) => {
                if let Some(Mark { version, listed: true }) = kinds::mark(object) {
                    *list = None;
                    place.followed = true;
                    self.listed(place, version, epoch).await?;
                }
                return Ok(());
            }
            ("ERROR", _) => return Err(refused(object).into()),
            _ => {}
        }
        if let (None, Some(Mark { version, .. })) = (*list, kinds::mark(object)) {
            place.version = Some(version);
            place.retry.succeeded();
        }
        Ok(())
    }

    async fn object(&self, text: &str, change: impl FnOnce(ObjectName, Object) -> Change) -> Result<(), Closed> {
        match kinds::decode(&self.source, text) {
            Ok((name, object)) => self.tell(change(name, object)).await,
            Err(Some(malformed)) => self.tell(Change::Malformed(malformed)).await,
            Err(None) => Ok(()),
        }
    }
}

/// A request of ours is always well-formed, unless a namespace or name is not.
#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn unbuildable(error: kube::core::request::Error) -> Failure {
    Failure::Garbled(error.to_string())
}

/// The lines of a body.
struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer has no end of line.
    scanned: usize,
}

impl Lines {
    /// The next line, without its end; `None` at the end of the body. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Result<Option<BytesMut>, Failure> {
        loop {
            if let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.scanned + end);
                self.buffer.advance(1);
                self.scanned = 0;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.scanned = self.buffer.len();
            if self.scanned > LONGEST_LINE {
                return Err(Failure::Garbled("an event has no end".to_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                // A server that goes away in the middle of a watch ends it, that is all.
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}
