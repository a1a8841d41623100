//! The parts of the process while they run: each by name, none lost without a word.
//!
//! A part is meant to run until shutdown. One that ends before, with an error, a panic or even well, takes the others
//! down in order, and the process says which it was.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// What a part ends with.
type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// How much longer than the drain timeout a part may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// Why the process ends although nobody asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    /// A part could not go on.
    #[error("{part} failed")]
    Failed {
        /// Which.
        part: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A part came upon a bug; the panic was logged where it happened.
    #[error("{part} stopped because of a bug; please report the log lines before this one")]
    Panicked {
        /// Which.
        part: &'static str,
    },
    /// A part ended without being asked.
    #[error("{part} ended by itself, which is a bug; please report the log lines before this one")]
    Ended {
        /// Which.
        part: &'static str,
    },
    /// Parts still ran when the time was over.
    #[error("{parts} did not end in time and was cut off")]
    Late {
        /// Which, separated by commas.
        parts: String,
    },
}

/// The parts that run.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    tasks: JoinSet<Outcome>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Starts a part.
    pub(crate) fn spawn<E>(&mut self, name: &'static str, part: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let handle = self.tasks.spawn(async { part.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Waits until all parts have ended after `shutdown`; a part that ends before causes it.
    ///
    /// Fails with the first thing that went wrong, and logs the others.
    pub(crate) async fn finished(mut self, shutdown: CancellationToken, drain: Duration) -> Result<(), PartError> {
        let mut first = None;
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(drain.saturating_add(GRACE)).await;
        };
        tokio::pin!(late);
        loop {
            let joined = tokio::select! {
                joined = self.tasks.join_next_with_id() => joined,
                () = &mut late => return Err(first.unwrap_or(PartError::Late { parts: self.running() })),
            };
            let Some(joined) = joined else { return first.map_or(Ok(()), Err) };
            let Err(failure) = self.judge(joined, shutdown.is_cancelled()) else { continue };
            if first.is_none() {
                error!(error = describe(&failure), "a part ended; shutting down the others");
                first = Some(failure);
            } else {
                error!(error = describe(&failure), "another part failed");
            }
            shutdown.cancel();
        }
    }

    fn judge(&mut self, joined: Result<(Id, Outcome), JoinError>, asked: bool) -> Result<(), PartError> {
        let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let part = self.names.remove(&id).unwrap_or("a part");
        match joined {
            Err(_) => Err(PartError::Panicked { part }),
            Ok((_, Err(source))) => Err(PartError::Failed { part, source }),
            Ok((_, Ok(()))) if !asked => Err(PartError::Ended { part }),
            Ok((_, Ok(()))) => {
                info!(part, "ended");
                Ok(())
            }
        }
    }

    fn running(&self) -> String {
        let mut names: Vec<_> = self.names.values().copied().collect();
        names.sort_unstable();
        names.join(", ")
    }
}

/// An error and its causes in one line; a cause that the text before it names already is not repeated.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    async fn until(shutdown: CancellationToken) -> io::Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn parts_that_end_when_asked_end_well() {
        let (mut parts, shutdown) = (Parts::default(), CancellationToken::new());
        parts.spawn("speaker", until(shutdown.clone()));
        parts.spawn("ingress", until(shutdown.clone()));
        shutdown.cancel();
        assert!(parts.finished(shutdown, Duration::from_mins(1)).await.is_ok());
    }

    #[tokio::test]
    async fn one_part_that_fails_is_named_and_ends_the_others() {
        let (mut parts, shutdown) = (Parts::default(), CancellationToken::new());
        parts.spawn("speaker", async { Err(io::Error::other("no link")) });
        parts.spawn("ingress", until(shutdown.clone()));
        let error = parts.finished(shutdown.clone(), Duration::from_mins(1)).await.unwrap_err();
        assert_eq!(describe(&error), "speaker failed: no link");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_and_a_silent_end_are_failures() {
        for (panics, expected) in [(true, "because of a bug"), (false, "ended by itself")] {
            let (mut parts, shutdown) = (Parts::default(), CancellationToken::new());
            parts.spawn("ingress", async move {
                assert!(!panics, "on purpose");
                Ok::<_, io::Error>(())
            });
            let error = parts.finished(shutdown, Duration::ZERO).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_is_cut_off_and_named() {
        let (mut parts, shutdown) = (Parts::default(), CancellationToken::new());
        parts.spawn("ingress", std::future::pending::<io::Result<()>>());
        shutdown.cancel();
        let error = parts.finished(shutdown, Duration::from_secs(30)).await.unwrap_err();
        assert_eq!(error.to_string(), "ingress did not end in time and was cut off");
    }
}
