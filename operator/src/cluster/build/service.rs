//! The headless Service: gives every pod a DNS name, also before it is ready, since engines and people look at sick pods too.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::Owner;
use crate::names::{self, ADMIN_PORT, HTTP_PORT};

pub fn build(owner: &Owner) -> Service {
    let port = |name: &str, port: u16| ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: owner.metadata(names::service(&owner.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&owner.name)),
            ports: Some(vec![
                port("https-admin", ADMIN_PORT),
                port("http-metrics", HTTP_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
