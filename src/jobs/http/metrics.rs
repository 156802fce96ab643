//! `GET /metrics`: what there is, in [Prometheus' text format](https://prometheus.io/docs/instrumenting/exposition_formats/).

use std::fmt::Write;

use crate::jobs::store::Counts;

/// The content type of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn text(counts: &Counts) -> String {
    let mut text = format!(
        "# HELP afterack_jobs Jobs that have not ended.\n\
         # TYPE afterack_jobs gauge\n\
         afterack_jobs{{state=\"queued\"}} {}\n\
         afterack_jobs{{state=\"running\"}} {}\n\
         # HELP afterack_untold Jobs that have ended and still wait for somebody to be told of it.\n\
         # TYPE afterack_untold gauge\n\
         afterack_untold {}\n\
         # HELP afterack_drains Instances that run jobs.\n\
         # TYPE afterack_drains gauge\n\
         afterack_drains {}\n\
         # HELP afterack_jobs_ended_total Jobs that have ended since the store was made.\n\
         # TYPE afterack_jobs_ended_total counter\n",
        counts.waiting, counts.running, counts.untold, counts.drains
    );
    for (state, total) in counts.ended {
        let _ = writeln!(text, "afterack_jobs_ended_total{{state=\"{}\"}} {total}", state.name());
    }
    let _ = writeln!(
        text,
        "# HELP afterack_notifications_failed_total Notifications that were given up.\n\
         # TYPE afterack_notifications_failed_total counter\n\
         afterack_notifications_failed_total {}",
        counts.given_up
    );
    text
}
