//! The secret that all speakers share: read from its Secret, made if there is none.
//!
//! Whoever comes first makes it; the API server lets only one succeed, and the others read what that one made. It is
//! read again every minute, so that a key is changed without a restart, and kept beside the cache, so that a speaker
//! that starts while the API server is away can take part.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::object::ObjectName;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{Connection, Failure, WRITE};
use crate::dir::atomic;

/// The name of its file beside the cache.
const FILE: &str = "heartbeat-key";
/// The field of the Secret.
const FIELD: &str = "key";
/// How often it is read.
const PAUSE: Duration = Duration::from_mins(1);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Random bytes of a secret that we make.
const LEN: usize = 32;

/// Reads it for as long as the source runs.
pub(super) struct SharedSecret {
    pub(super) connection: Arc<Connection>,
    pub(super) name: ObjectName,
    pub(super) cache: Option<PathBuf>,
    pub(super) found: watch::Sender<Option<Arc<str>>>,
    pub(super) stop: CancellationToken,
}

impl SharedSecret {
    /// Until `stop`.
    pub(super) async fn run(self) {
        if let Some(kept) = self.cache.as_deref().and_then(kept) {
            self.found.send_replace(Some(kept));
        }
        let mut troubled = false;
        loop {
            let outcome = self.obtain().await;
            let pause = if outcome.is_ok() { PAUSE } else { RETRY };
            match outcome {
                Ok(text) => {
                    troubled = false;
                    self.take(text);
                }
                Err(failure) if !troubled => {
                    troubled = true;
                    warn!(secret = %self.name, %failure, "the secret of heartbeats cannot be had; trying again");
                }
                Err(_) => {}
            }
            if self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    fn take(&self, text: Arc<str>) {
        let known = self.found.borrow().as_deref() == Some(&*text);
        if known {
            return;
        }
        if let Some(Err(error)) = self.cache.as_deref().map(|folder| atomic::replace(folder, FILE, &text)) {
            warn!(%error, "the secret of heartbeats cannot be kept in the folder named with --cache");
        }
        self.found.send_replace(Some(text));
    }

    async fn obtain(&self) -> Result<Arc<str>, Failure> {
        let missing = match self.get().await {
            Err(failure) if failure.code() == 404 => failure,
            outcome => return outcome,
        };
        match self.create().await {
            // Somebody was faster: theirs is the one.
            Err(failure) if failure.code() == 409 => self.get().await,
            // No namespace, say: what was looked for says it better than what was tried.
            Err(failure) if failure.code() == 404 => Err(missing),
            outcome => outcome,
        }
    }

    async fn get(&self) -> Result<Arc<str>, Failure> {
        let request = Request::new(self.path()).get(&self.name.name, &GetParams::default());
        self.ask(request).await
    }

    async fn create(&self) -> Result<Arc<str>, Failure> {
        let (name, namespace) = (&*self.name.name, &*self.name.namespace);
        let data = json!({ FIELD: ByteString(make()?.into_bytes()) });
        let metadata = json!({ "name": name, "namespace": namespace });
        let body =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data });
        let request = Request::new(self.path()).create(&PostParams::default(), body.to_string().into_bytes());
        let made = self.ask(request).await?;
        info!(secret = %self.name, "made the secret of heartbeats");
        Ok(made)
    }

    async fn ask(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Arc<str>, Failure> {
        let request = request.map_err(|error| Failure::Garbled(error.to_string()))?;
        read(self.connection.json(request, WRITE).await?)
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.name.namespace)
    }
}

/// The text in a Secret.
fn read(secret: Value) -> Result<Arc<str>, Failure> {
    let secret: Secret = serde_json::from_value(secret).map_err(|error| Failure::Garbled(error.to_string()))?;
    let bytes = secret.data.and_then(|mut data| data.remove(FIELD)).unwrap_or_default().0;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.trim().is_empty());
    let empty =
        || Failure::Garbled(format!("its field {FIELD:?} is empty or no text; delete the Secret to have it made anew"));
    text.map(Arc::from).ok_or_else(empty)
}

/// A new secret, in digits.
fn make() -> Result<String, Failure> {
    use std::fmt::Write as _;
    let mut bytes = [0; LEN];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| Failure::Garbled("this system gives no random numbers".to_owned()))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    }))
}

/// What was kept on disk.
fn kept(folder: &Path) -> Option<Arc<str>> {
    let text = std::fs::read_to_string(folder.join(FILE)).ok()?;
    (!text.trim().is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_secrets_are_alike() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_eq!(one.len(), 2 * LEN);
        assert_ne!(one, other);
    }

    #[test]
    fn a_secret_without_a_key_is_refused() {
        for data in [json!({}), json!({ "key": "" }), json!({ "other": "YQ==" }), json!({ "key": "/w==" })] {
            assert!(
                read(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": data })).is_err(),
                "{data}"
            );
        }
        let good = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": { "key": "YQo=" } });
        assert_eq!(&*read(good).unwrap(), "a\n");
    }
}
