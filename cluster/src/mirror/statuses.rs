//! Puts committed addresses on Services, as an API server keeps them in `status`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::object::ObjectName;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus};

use crate::memory::Memory;

/// Services with their status, made once per change.
#[derive(Debug, Default)]
pub(super) struct Statuses(BTreeMap<ObjectName, Dressed>);

#[derive(Debug)]
struct Dressed {
    written: Arc<Service>,
    ips: Vec<IpAddr>,
    service: Arc<Service>,
}

impl Statuses {
    /// The Services as written, with the addresses of `memory` for their whole status: what a manifest says of its
    /// status is a wish at best.
    pub(super) fn put_on(
        &mut self,
        services: BTreeMap<ObjectName, Arc<Service>>,
        memory: &Memory,
    ) -> BTreeMap<ObjectName, Arc<Service>> {
        let mut dressed = BTreeMap::new();
        for (name, written) in services {
            let ips = memory.services.get(&name).map_or(&[][..], |status| &status.ips);
            let same = |old: &Dressed| Arc::ptr_eq(&old.written, &written) && old.ips == ips;
            let next = self.0.remove(&name).filter(same).unwrap_or_else(|| Dressed::new(written, ips));
            dressed.insert(name, next);
        }
        self.0 = dressed;
        self.0.iter().map(|(name, dressed)| (name.clone(), Arc::clone(&dressed.service))).collect()
    }
}

impl Dressed {
    fn new(written: Arc<Service>, ips: &[IpAddr]) -> Self {
        let ips = ips.to_vec();
        if ips.is_empty() && written.status.is_none() {
            return Self { service: Arc::clone(&written), written, ips };
        }
        let ingress = |ip: &IpAddr| LoadBalancerIngress { ip: Some(ip.to_string()), ..LoadBalancerIngress::default() };
        let load_balancer = LoadBalancerStatus { ingress: Some(ips.iter().map(ingress).collect()) };
        let status = ServiceStatus { load_balancer: Some(load_balancer), ..ServiceStatus::default() };
        let status = (!ips.is_empty()).then_some(status);
        Self { service: Arc::new(Service { status, ..(*written).clone() }), written, ips }
    }
}
