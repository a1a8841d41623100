//! Why the appliance does not start, or ends: each with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use cluster::{ApiError, DirError};
use ingress::io::IngressError;

use crate::keys::KeyError;
use crate::parts::PartError;

/// Why the appliance did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Nothing says where objects come from.
    #[error("there is nothing to serve; name a folder with --manifests, or a cluster with --kubeconfig")]
    NoSource,
    /// The folder of manifests is not there.
    #[error("cannot read the manifests in {}; name an existing folder with --manifests", path.display())]
    Manifests {
        /// The folder asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The state folder that was asked for cannot be used.
    #[error("cannot write to the state folder {}; make it writable for this user, or choose another with --state", path.display())]
    State {
        /// The folder asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The admin listener could not be opened.
    #[error(
        "cannot listen on {address} for the admin API; stop what listens there, or choose another address with --admin"
    )]
    Admin {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Signals could not be taken over.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// Two metrics have one name.
    #[error("metrics cannot be registered, which is a bug; please report it")]
    Metrics(#[from] prometheus::Error),
    /// Heartbeats cannot be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The folder could not be watched.
    #[error(transparent)]
    Source(#[from] DirError),
    /// The cluster could not be used.
    #[error(transparent)]
    Cluster(#[from] ApiError),
    /// The data plane could not start.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// A part ended before it was asked to.
    #[error(transparent)]
    Part(#[from] PartError),
}
