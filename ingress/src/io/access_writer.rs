//! Where the lines of the access log go, off the hot path.
//!
//! Each worker collects lines in a buffer of its own and hands it over when it is large or a moment old; one thread
//! writes to standard output. If that thread cannot keep up, because whoever reads the output does not, whole buffers
//! are dropped and counted; a request never waits for the log.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use config::global::LogRules;

use crate::access::{AccessLog, Entry};
use crate::metrics::IngressMetrics;

/// A buffer this large is handed over at once.
const BATCH: usize = 32 * 1024;
/// A buffer this old is handed over, however small.
const DELAY: Duration = Duration::from_millis(50);
/// Buffers that may wait for the writer, over all workers.
const QUEUE: usize = 256;

/// The thread that writes; it ends when the last [`Log`] is gone.
pub(super) struct Writer {
    queue: SyncSender<Vec<u8>>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&lines))?;
        Ok(Self { queue, thread })
    }

    /// A worker's end of the queue.
    pub(super) fn log(&self, format: AccessLog, metrics: Arc<IngressMetrics>) -> Arc<Log> {
        Arc::new(Log { format, metrics, queue: self.queue.clone(), lines: Mutex::default() })
    }

    /// Waits until everything that was handed over is written; all [`Log`]s must be gone.
    pub(super) fn finish(self) {
        drop(self.queue);
        // The thread has no way to panic but a bug, which has been reported by then.
        let _ = self.thread.join();
    }
}

fn write(batches: &Receiver<Vec<u8>>) {
    for batch in batches {
        // Nobody is left to tell about a closed standard output.
        let _ = std::io::stdout().lock().write_all(&batch);
    }
    let _ = std::io::stdout().lock().flush();
}

/// What this machine is called.
pub(super) fn node() -> &'static str {
    static NODE: LazyLock<String> = LazyLock::new(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    });
    &NODE
}

/// The access log of one worker.
pub(super) struct Log {
    format: AccessLog,
    metrics: Arc<IngressMetrics>,
    queue: SyncSender<Vec<u8>>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl Log {
    /// Whether a request is to be told of.
    pub(super) fn wants(&self, rules: &LogRules, target: &str) -> bool {
        self.format.wants(rules, target)
    }

    /// Adds the line of one request.
    pub(super) fn write(self: &Arc<Self>, rules: &LogRules, entry: &Entry<'_>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = lines.bytes.is_empty();
        self.format.write(rules, entry, &mut lines.bytes);
        lines.count += 1;
        if lines.bytes.len() >= BATCH {
            self.hand_over(&mut lines);
        } else if is_first {
            let log = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(DELAY).await;
                log.flush();
            });
        }
    }

    /// Hands over what there is.
    pub(super) fn flush(&self) {
        self.hand_over(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn hand_over(&self, lines: &mut Lines) {
        if lines.bytes.is_empty() {
            return;
        }
        let Lines { bytes, count } = std::mem::take(lines);
        if self.queue.try_send(bytes).is_err() {
            self.metrics.log_dropped.inc_by(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn entry(target: &str) -> Entry<'_> {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            client: None,
            method: "GET",
            target,
            protocol: "HTTP/1.1",
            scheme: "http",
            host: "",
            status: 200,
            bytes_sent: 0,
            bytes_received: 0,
            duration: Duration::ZERO,
            referer: None,
            user_agent: None,
            request_id: "",
            ingress: None,
            service: None,
            attempts: &[],
            peer: None,
            user: None,
            port: 80,
            tls: None,
            rule: None,
            node: "",
            fields: nothing(),
            sent: None,
        }
    }

    fn nothing() -> &'static http::HeaderMap {
        static NOTHING: LazyLock<http::HeaderMap> = LazyLock::new(http::HeaderMap::new);
        &NOTHING
    }

    fn log(queue: SyncSender<Vec<u8>>) -> Arc<Log> {
        let metrics = IngressMetrics::register(&prometheus::Registry::new()).unwrap();
        Arc::new(Log { format: AccessLog::Text, metrics, queue, lines: Mutex::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_handed_over_together_a_moment_later() {
        let (queue, batches) = sync_channel(1);
        let log = log(queue);
        log.write(&LogRules::default(), &entry("/1"));
        log.write(&LogRules::default(), &entry("/2"));
        assert!(batches.try_recv().is_err());
        tokio::time::sleep(DELAY * 2).await;
        let batch = String::from_utf8(batches.try_recv().unwrap()).unwrap();
        assert_eq!(batch.lines().count(), 2, "{batch}");
        assert_eq!(log.metrics.log_dropped.get(), 0);
    }

    #[tokio::test]
    async fn what_nobody_takes_is_dropped_and_counted() {
        let (queue, batches) = sync_channel(1);
        let log = log(queue);
        for _ in 0..3 {
            log.write(&LogRules::default(), &entry("/"));
            log.flush();
        }
        assert_eq!((batches.try_iter().count(), log.metrics.log_dropped.get()), (1, 2));
    }
}
