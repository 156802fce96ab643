//! The component that this package builds: a user of [`jobs`](crate::jobs) like any other.

use crate::jobs::{Service, demo};

crate::jobs!(service());

fn service() -> Service {
    let service = Service::new().worker(demo());
    #[cfg(feature = "plugin")]
    let service = crate::jobs::plug_ins().fold(service, Service::worker);
    service.upstreams()
}
