//! Signals: the first SIGTERM or SIGINT drains, the second ends the process at once, SIGHUP does nothing.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The signals we hear.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals over from their defaults; must be called within a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: signal(SignalKind::hangup())? })
    }

    /// Turns signals into `shutdown` for as long as the process lives.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut hangups = 0_u64;
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hangup.recv() => {
                    hangups += 1;
                    if hangups == 1 {
                        info!("SIGHUP needs no answer: manifests and certificates are watched, changes take effect at once");
                    }
                    continue;
                }
            };
            if shutdown.is_cancelled() {
                warn!(signal = name, "second signal: exiting at once, running requests are cut off");
                std::process::exit(1);
            }
            info!(signal = name, "draining: finishing running requests; a second signal exits at once");
            shutdown.cancel();
        }
    }
}
