//! Continuations that compute, on hosts that do not preempt them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::host::{Kind, guest, guest_setup, on_every_host};
use crate::wire::Connection;

on_every_host! {
    /// With a single thread in the host, a continuation that computes at once would hold back its
    /// own ack until it is done, if finishing gave the host no turn.
    fn a_computing_continuation_does_not_hold_back_its_own_ack(kind: Kind) -> String {
        let (setup, recorder) = guest_setup(kind);
        let host = setup.process_variable("TOKIO_WORKER_THREADS", "1").start();
        let ack = Connection::open(host.address).get("/computes?ms=3000&key=computes");
        assert_eq!(ack.status, 202);
        // Time for what was said before to get here; far less than the work still takes.
        sleep(Duration::from_millis(500));
        assert!(host.output("computed").is_empty(), "the ack came when the work had ended");
        host.wait_for_output("computed");
        recorder.wait("computes", 1);
        "yes".into()
    }

    /// Twice as many computing continuations as cores, in slices: acks keep coming while all of
    /// them compute.
    fn acks_keep_coming_while_continuations_compute_in_slices(kind: Kind) -> String {
        let (host, recorder) = guest(kind);
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
        let begun = Instant::now();
        for _ in 0..2 * cores {
            assert_eq!(Connection::open(host.address).get("/slices?ms=4000&key=slices").status, 202);
        }
        let mut acks = 0;
        while begun.elapsed() < Duration::from_millis(2500) {
            assert_eq!(Connection::open(host.address).get("/bytes?n=1&key=others").status, 202);
            acks += 1;
        }
        assert!(recorder.so_far("slices").is_empty(), "they have ended too early to show anything");
        assert!(acks >= 10, "only {acks} acks in 2.5 s");
        recorder.wait("slices", 2 * cores);
        "yes".into()
    }
}
