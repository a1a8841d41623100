//! Keeps the memory: as leader writes it, as follower reads what the leader wrote.
//!
//! Becoming leader means reading again under the lock, since the leader before may have written just before it died.
//! What could not be written is not remembered either: an address counts as committed only when it is on disk.

use std::sync::Arc;
use std::time::Instant;

use config::diagnostic::{Problem, Severity};
use config::object::FieldPath;
use tracing::{info, warn};

use super::DirError;
use super::lock::{self, Lock};
use super::state::{Signature, StateError, Store};
use crate::Leadership;
use crate::debounce::Backoff;
use crate::memory::Memory;

/// The memory, and the right to change it.
#[derive(Debug)]
pub(super) struct Keeper {
    disk: Option<Disk>,
    memory: Memory,
}

/// What stands behind the memory; a memory without one lasts as long as the process.
#[derive(Debug)]
struct Disk {
    store: Store,
    identity: String,
    lock: Option<Lock>,
    seen: Option<Signature>,
    config: Option<Arc<str>>,
    backoff: Backoff,
    /// Damaged statuses that were set aside; said until the end, since addresses may have changed by it.
    damage: Option<String>,
    failure: Option<String>,
    config_failure: Option<String>,
}

impl Keeper {
    /// Opens the state; leads at once if nobody else does.
    pub(super) fn open(store: Option<Store>, identity: String) -> Result<Self, DirError> {
        let Some(store) = store else {
            return Ok(Self { disk: None, memory: Memory::default() });
        };
        let config = store.read_config();
        let disk = Disk {
            store,
            identity,
            lock: None,
            seen: None,
            config,
            backoff: Backoff::default(),
            damage: None,
            failure: None,
            config_failure: None,
        };
        let mut keeper = Self { disk: Some(disk), memory: Memory::default() };
        keeper.start()?;
        Ok(keeper)
    }

    fn start(&mut self) -> Result<(), DirError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        self.memory = match disk.store.read() {
            Ok(memory) => memory,
            Err(error) if matches!(&error, StateError::Decode { .. }) && !error.is_newer() => Memory::default(),
            Err(error) => return Err(DirError::State(error)),
        };
        disk.seen = disk.store.signature();
        if let Some(memory) = disk.try_lead().map_err(DirError::State)? {
            self.memory = memory;
        } else if disk.lock.is_none() {
            let leader = lock::holder(disk.store.folder());
            info!(leader = leader.unwrap_or_default(), "another process writes this state folder; following it");
        }
        Ok(())
    }

    pub(super) const fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn leadership(&self) -> Leadership {
        match &self.disk {
            Some(disk) if disk.lock.is_none() => Leadership::Follower,
            Some(_) | None => Leadership::Leader,
        }
    }

    /// The text of the last valid address configuration that is on disk.
    pub(super) fn config(&self) -> Option<Arc<str>> {
        self.disk.as_ref()?.config.clone()
    }

    /// Takes the lock if it is free, gives up one that is worth nothing, reads what a leader wrote.
    pub(super) fn refresh(&mut self, now: Instant) {
        let Some(disk) = &mut self.disk else { return };
        if disk.lock.as_ref().is_some_and(|lock| !lock.is_valid()) {
            warn!("the state folder was removed or replaced; taking it up again");
            disk.lock = None;
        }
        if disk.lock.is_some() {
            if disk.store.signature().is_none() && disk.backoff.allows(now) {
                // Somebody removed the file under us; what we know of is still true.
                let memory = self.memory.clone();
                disk.write(&memory, now);
            }
            return;
        }
        let read = match disk.try_lead() {
            Ok(None) => disk.follow(),
            Ok(Some(memory)) if disk.seen.is_none() => {
                // A new, empty folder: our memory outlives the old one.
                (memory == Memory::default()).then(|| self.memory.clone())
            }
            Ok(led) => led,
            Err(error) => {
                disk.failure = Some(error.to_string());
                None
            }
        };
        self.memory = read.unwrap_or_else(|| std::mem::take(&mut self.memory));
    }

    /// Commits `memory`; whether it is committed now. While writing fails, attempts are spaced out, and go on even if
    /// nothing is left to write, to find out when it works again.
    pub(super) fn commit(&mut self, memory: Memory, now: Instant) -> bool {
        let failing = self.disk.as_ref().is_some_and(|disk| disk.failure.is_some());
        if memory == self.memory && !failing {
            return true;
        }
        let written = match &mut self.disk {
            None => true,
            Some(disk) => {
                disk.lock.as_ref().is_some_and(Lock::is_valid) && disk.backoff.allows(now) && disk.write(&memory, now)
            }
        };
        if written {
            self.memory = memory;
        }
        written
    }

    /// Keeps the text of a valid address configuration for the next start.
    pub(super) fn keep_config(&mut self, text: Option<&Arc<str>>, now: Instant) {
        let (Some(disk), Some(text)) = (&mut self.disk, text) else { return };
        if disk.lock.is_none() || disk.config.as_ref() == Some(text) || !disk.backoff.allows(now) {
            return;
        }
        match disk.store.write_config(text) {
            Ok(()) => {
                disk.config = Some(Arc::clone(text));
                disk.config_failure = None;
                disk.backoff.succeeded();
            }
            Err(error) => {
                warn!(%error, "cannot keep the address configuration for the next start");
                disk.config_failure = Some(error.to_string());
                disk.backoff.failed(now);
            }
        }
    }

    /// When a failed attempt is to be repeated.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let disk = self.disk.as_ref()?;
        disk.backoff.deadline().filter(|_| disk.lock.is_some())
    }

    /// What an operator should know about the state folder.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let failure = disk.failure.as_ref().map(|failure| {
            format!("{failure}; addresses in use stay, new ones are not given until it works again (tried repeatedly)")
        });
        let config = disk.config_failure.as_ref().map(|failure| {
            format!("{failure}; a restart would not know the last good address configuration (tried repeatedly)")
        });
        let messages = [disk.damage.clone(), failure, config].into_iter().flatten();
        let problem = |message| {
            let (severity, field) = (Severity::Error, FieldPath::root());
            Problem { severity, object: None, field, message, place: None }
        };
        messages.map(problem).collect()
    }
}

impl Disk {
    /// Takes the lock if it is free, and reads the statuses under it; `None` while another process leads.
    fn try_lead(&mut self) -> Result<Option<Memory>, StateError> {
        self.store.make()?;
        let folder = self.store.folder();
        let locked = Lock::take(folder, &self.identity);
        let locked = locked.map_err(|source| StateError::Folder { path: folder.to_owned(), source })?;
        let Some(lock) = locked else { return Ok(None) };
        self.store.clean()?;
        let memory = match self.store.read() {
            Ok(memory) => memory,
            Err(error) if matches!(error, StateError::Decode { .. }) && !error.is_newer() => self.set_aside(&error)?,
            Err(error) => return Err(error),
        };
        self.seen = self.store.signature();
        self.lock = Some(lock);
        self.failure = None;
        info!(folder = %self.store.folder().display(), identity = self.identity, "leading: this process writes status");
        Ok(Some(memory))
    }

    fn set_aside(&mut self, error: &StateError) -> Result<Memory, StateError> {
        let aside = self.store.set_aside()?;
        warn!(%error, aside = %aside.display(), "damaged state set aside; addresses may be assigned anew");
        self.damage = Some(format!(
            "{error}; it was set aside as {}, and addresses that only it knew may be assigned anew",
            aside.display()
        ));
        Ok(Memory::default())
    }

    /// What the leader wrote since we last looked.
    fn follow(&mut self) -> Option<Memory> {
        let signature = self.store.signature();
        if signature == self.seen {
            return None;
        }
        match self.store.read() {
            Ok(memory) => {
                self.seen = signature;
                self.failure = None;
                Some(memory)
            }
            Err(error) => {
                self.failure = Some(error.to_string());
                None
            }
        }
    }

    fn write(&mut self, memory: &Memory, now: Instant) -> bool {
        match self.store.write(memory) {
            Ok(()) => {
                if self.failure.take().is_some() {
                    info!("the state folder can be written again");
                }
                self.backoff.succeeded();
                self.seen = self.store.signature();
                true
            }
            Err(error) => {
                warn!(%error, "cannot write statuses; will try again");
                self.failure = Some(error.to_string());
                self.backoff.failed(now);
                false
            }
        }
    }
}
