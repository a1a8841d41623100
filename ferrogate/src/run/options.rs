//! From flags to the options of each part.

use std::fs;
use std::path::{Path, PathBuf};

use cluster::DirOptions;
use config::object::ObjectName;
use config::settings::DEFAULT_CONFIG_MAP;
use ingress::access;
use ingress::compile::CompileOptions;
use ingress::io::IngressOptions;
use lb_speaker::io::{Delivery, SpeakerOptions};
use lb_speaker::plan::PlanOptions;
use tracing::warn;

use super::RunError;
use crate::cli::{AccessLog, IngressArgs, ProcessArgs, SourceArgs, SpeakerArgs};
use crate::defaults;

/// Refuses a folder that cannot be read.
pub(super) fn check_manifests(path: &Path) -> Result<(), RunError> {
    fs::read_dir(path).map(drop).map_err(|source| RunError::Manifests { path: path.to_owned(), source })
}

/// Where state is kept; `None` for nowhere, after a warning.
///
/// A folder that was asked for must be usable; one that we chose ourselves need not be.
pub(super) fn state_dir(source: &SourceArgs) -> Result<Option<PathBuf>, RunError> {
    if let Some(path) = &source.state {
        let refused = |source| RunError::State { path: path.clone(), source };
        return defaults::prove_writable(path).map(|()| Some(path.clone())).map_err(refused);
    }
    let Some(path) = defaults::state_dir(&source.manifests) else {
        warn!("addresses are not remembered across restarts: there is no home folder; name one with --state");
        return Ok(None);
    };
    match defaults::prove_writable(&path) {
        Ok(()) => Ok(Some(path)),
        Err(error) => {
            warn!(
                path = %path.display(), %error,
                "addresses are not remembered across restarts: this folder is not writable; choose another with --state"
            );
            Ok(None)
        }
    }
}

/// The source of objects.
pub(super) fn dir(source: &SourceArgs, state: Option<PathBuf>, node: &str) -> DirOptions {
    let (namespace, name) = DEFAULT_CONFIG_MAP;
    DirOptions {
        manifests: source.manifests.clone(),
        state,
        config_map: ObjectName::new(namespace, name),
        identity: node.to_owned(),
    }
}

/// The speaker.
pub(super) fn speaker(args: &SpeakerArgs, node: &str) -> SpeakerOptions {
    SpeakerOptions {
        node: node.to_owned(),
        interfaces: args.interfaces.clone(),
        // No kube-proxy stands between a folder of manifests and the listeners.
        deliver: Delivery::Loopback,
        plan: PlanOptions { lb_class: args.lb_class.clone() },
    }
}

/// The data plane.
pub(super) fn ingress(args: &IngressArgs, process: &ProcessArgs) -> IngressOptions {
    IngressOptions {
        http: defaults::listeners(&args.http, 80, 8080),
        https: defaults::listeners(&args.https, 443, 8443),
        workers: args.workers.map_or(0, usize::from),
        drain_timeout: process.drain_timeout,
        access_log: match args.access_log {
            AccessLog::Off => access::AccessLog::Off,
            AccessLog::Text => access::AccessLog::Text,
            AccessLog::Json => access::AccessLog::Json,
        },
        compile: compile(args),
    }
}

/// Which Ingresses are ours and what their backends may be.
fn compile(args: &IngressArgs) -> CompileOptions {
    CompileOptions {
        ingress_class: args.ingress_class.clone(),
        controller: args.controller.clone(),
        watch_without_class: args.watch_ingress_without_class,
        publish_service: args.publish_service.clone(),
        // Whoever writes the folder owns this machine; in a cluster a tenant would reach what only listens here.
        loopback_endpoints: true,
    }
}
