//! The component that this package builds: a user of [`jobs`](crate::jobs) like any other.

use crate::jobs::{Service, demo};

crate::jobs!(Service::new().worker(demo()).upstreams());
