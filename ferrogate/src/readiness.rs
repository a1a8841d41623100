//! Whether every part is ready, part by part.
//!
//! A part is handed the sending half of a channel; it sends when it is ready and drops the half unsent when it failed.
//! `GET /readyz` reads the whole, and turns unready again once the process drains.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{oneshot, watch};

/// How far a part has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It has not said anything yet.
    Starting,
    /// It does its work.
    Ready,
    /// It gave up before it was ready.
    Failed,
    /// The process is shutting down.
    Draining,
}

/// Every part by its name.
pub(crate) type Stages = BTreeMap<&'static str, Stage>;

/// Gathers the parts.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    stages: Arc<watch::Sender<Stages>>,
}

impl Readiness {
    /// Without parts.
    pub(crate) fn new() -> Self {
        Self { stages: Arc::new(watch::Sender::new(Stages::new())) }
    }

    /// Adds a part, starting; what it is given says later how it went.
    pub(crate) fn part(&self, name: &'static str) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        self.set(name, Stage::Starting);
        let this = self.clone();
        tokio::spawn(async move {
            let stage = if receiver.await.is_ok() { Stage::Ready } else { Stage::Failed };
            this.set(name, stage);
        });
        sender
    }

    /// Marks every part as draining, so that nobody sends us new work.
    pub(crate) fn drain(&self) {
        self.stages.send_modify(|stages| stages.values_mut().for_each(|stage| *stage = Stage::Draining));
    }

    /// How far every part has come.
    pub(crate) fn stages(&self) -> Stages {
        self.stages.borrow().clone()
    }

    /// Waits until every part is ready, or until one has failed: `false`.
    pub(crate) async fn settled(&self) -> bool {
        let done = |stages: &Stages| stages.values().all(|stage| *stage != Stage::Starting);
        let mut receiver = self.stages.subscribe();
        let Ok(stages) = receiver.wait_for(done).await else { return false };
        is_ready(&stages)
    }

    fn set(&self, name: &'static str, stage: Stage) {
        self.stages.send_modify(|stages| {
            let current = stages.entry(name).or_insert(Stage::Starting);
            // A part that becomes ready while we drain does not make the process ready again.
            if *current != Stage::Draining {
                *current = stage;
            }
        });
    }
}

/// Whether all parts are ready.
pub(crate) fn is_ready(stages: &Stages) -> bool {
    stages.values().all(|stage| *stage == Stage::Ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_is_ready_when_its_last_part_is() {
        let readiness = Readiness::new();
        let (speaker, ingress) = (readiness.part("speaker"), readiness.part("ingress"));
        speaker.send(()).unwrap();
        assert!(!is_ready(&readiness.stages()));
        ingress.send(()).unwrap();
        assert!(readiness.settled().await);
    }

    #[tokio::test]
    async fn a_part_that_drops_its_half_has_failed() {
        let readiness = Readiness::new();
        drop(readiness.part("ingress"));
        assert!(!readiness.settled().await);
        assert_eq!(readiness.stages()["ingress"], Stage::Failed);
    }

    #[tokio::test]
    async fn a_draining_process_is_not_ready_whatever_its_parts_say() {
        let readiness = Readiness::new();
        let late = readiness.part("ingress");
        readiness.drain();
        late.send(()).unwrap();
        tokio::task::yield_now().await;
        assert!(!is_ready(&readiness.stages()));
    }
}
