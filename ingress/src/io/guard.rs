//! Passwords, checked without holding anybody up.
//!
//! A costly hash is computed on a thread of its own, a few at a time; who was right a moment ago is remembered, so
//! that a browser's twenty requests for one page cost one hash. What is remembered is a keyed digest of name,
//! password and list of users: it tells nothing by itself, and a new list begins anew.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::answer::Fault;
use crate::filter::{Check, Credentials, Users};

/// How long somebody is remembered.
const MEMORY: Duration = Duration::from_mins(1);
/// How many are, by one worker.
const MOST: usize = 4096;
/// Hashes that may wait for their turn.
const QUEUE: usize = 64;

/// Turns for costly hashes: so many at once as there are cores, for all workers together.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    Semaphore::new(cores)
});
/// Those who compute or wait.
static QUEUED: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(QUEUE));

/// The key of a digest, and what it is of.
type Digest = [u8; 32];

/// Who was right a moment ago.
#[derive(Debug)]
pub(super) struct Verified {
    key: hmac::Key,
    /// By the first half of the digest. The list of users is held, so that its address stays its own.
    known: Mutex<HashMap<[u8; 16], Known>>,
}

#[derive(Debug)]
struct Known {
    digest: Digest,
    until: Instant,
    _users: Arc<Users>,
}

impl Verified {
    pub(super) fn new() -> Self {
        let random: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &random), known: Mutex::default() }
    }

    /// Whether somebody is one of the users; an error if too many want to know.
    pub(super) async fn check(&self, users: &Arc<Users>, who: Credentials) -> Result<bool, Fault> {
        if let Check::Known(is_right) = users.check(&who) {
            return Ok(is_right);
        }
        let digest = self.digest(users, &who);
        if self.remembers(&digest) {
            return Ok(true);
        }
        let is_right = compute(Arc::clone(users), who).await?;
        if is_right {
            self.remember(digest, users);
        }
        Ok(is_right)
    }

    fn digest(&self, users: &Arc<Users>, who: &Credentials) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(Arc::as_ptr(users) as usize).to_be_bytes());
        context.update(&who.user.len().to_be_bytes());
        context.update(who.user.as_bytes());
        context.update(&who.password);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn remembers(&self, digest: &Digest) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&half(digest)).filter(|known| known.until > Instant::now());
        known.is_some_and(|known| verify_slices_are_equal(&known.digest, digest).is_ok())
    }

    fn remember(&self, digest: Digest, users: &Arc<Users>) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, known| known.until > now);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(half(&digest), Known { digest, until: now + MEMORY, _users: Arc::clone(users) });
    }
}

fn half(digest: &Digest) -> [u8; 16] {
    std::array::from_fn(|at| digest[at])
}

/// Computes a costly hash when its turn has come.
async fn compute(users: Arc<Users>, who: Credentials) -> Result<bool, Fault> {
    let _queued = QUEUED.try_acquire().map_err(|_| Fault::Overloaded)?;
    // Nobody closes the semaphore.
    let _turn = TURNS.acquire().await.map_err(|_| Fault::Internal)?;
    tokio::task::spawn_blocking(move || users.verify(&who)).await.map_err(|_| Fault::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_right_is_remembered_until_the_list_changes() {
        let verified = Verified::new();
        let list = |hash: &str| Arc::new(Users::read(&format!("ann:{hash}")).0);
        let ann = |password: &str| Credentials { user: "ann".to_owned(), password: password.into() };
        let users = list("$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/");
        for (password, right) in [("secret", true), ("wrong", false), ("secret", true)] {
            assert_eq!(verified.check(&users, ann(password)).await, Ok(right), "{password}");
        }
        assert_eq!(verified.known.lock().unwrap().len(), 1);
        assert!(verified.remembers(&verified.digest(&users, &ann("secret"))));
        let changed = list("$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I0");
        assert_eq!(verified.check(&changed, ann("secret")).await, Ok(false));
    }
}
