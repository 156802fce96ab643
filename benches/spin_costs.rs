//! What jobs cost on Spin, whose SQLite keeps them. Says that it was skipped where `spin` is not on PATH.

use crate::host::{Kind, is_on_path};
use crate::job_costs::{durable_time_to_ack_by_files, full_store, many_clients};

pub fn all() {
    if !is_on_path("spin") {
        println!("skipped: Spin, since `spin` is not on PATH");
        return;
    }
    durable_time_to_ack_by_files(Kind::Spin, 3.0);
    many_clients(Kind::Spin);
    full_store(Kind::Spin);
}
