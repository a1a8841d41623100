//! What all Services of a snapshot ask for, kept for the next one.

use std::sync::Arc;

use config::derived::{Derived, DerivedAll};
use config::object::ObjectName;
use config::shared::SharedMap;
use config::snapshot::Objects;
use k8s_openapi::api::core::v1::Service;

use super::{Standing, read};

/// What one Service asks for.
pub type Reading = Derived<Service, Standing>;

/// What each Service asks for.
pub type AllReadings = SharedMap<ObjectName, Arc<Reading>>;

/// What the Services of one snapshot ask for, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    class: Option<String>,
    all: DerivedAll<Service, Standing>,
}

impl Readings {
    /// Reads what changed since the last call, and everything if another class is served.
    pub fn update(&mut self, services: &Objects<Service>, class: Option<&str>) -> &AllReadings {
        if self.class.as_deref() != class {
            self.all.clear();
            self.class = class.map(str::to_owned);
        }
        self.all.update(services, |name, service| read(name, service, class))
    }
}
