//! Places at which a test can kill the host between two steps of the way. In a build with the feature
//! `faults`, an invocation that comes to the place named by the variable `FAULT` says so and stays
//! there; in every other build these functions are nothing.

/// A place to stop at.
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    if std::env::var("FAULT").is_ok_and(|fault| fault == name) {
        eprintln!("fault: at {name}");
        // The whole instance, with all its lanes.
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_: &str) {}

/// Says what happens to a job, for tests that compare it with what should.
#[cfg(feature = "faults")]
pub fn trace(event: &str, id: impl std::fmt::Display, version: u64) {
    println!("trace: {event} {id} {version}");
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn trace(_: &str, _: impl std::fmt::Display, _: u64) {}
