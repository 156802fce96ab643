//! Places at which a test can kill the host between two steps of the way. In a build with the feature
//! `faults`, an invocation that comes to the place named by the variable `FAULT` says so and stays
//! there; in every other build these functions are nothing.

/// A place to stop at.
#[cfg(feature = "faults")]
pub fn point(name: &str) {
    if std::env::var("FAULT").is_ok_and(|fault| fault == name) {
        // Where traces are: who has read this has read what was before.
        println!("fault: at {name}");
        // The whole instance, with all its lanes.
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_: &str) {}

/// Says what happens to a job, for tests that compare it with what should.
#[cfg(all(feature = "faults", not(test)))]
pub fn trace(event: &str, id: impl std::fmt::Display, version: u64) {
    println!("trace: {event} {id} {version}");
}

#[cfg(not(any(feature = "faults", test)))]
#[inline(always)]
pub fn trace(_: &str, _: impl std::fmt::Display, _: u64) {}

/// Says it to the simulation that this thread belongs to, if it does.
#[cfg(test)]
pub fn trace(event: &'static str, id: super::job::Id, version: u64) {
    TRACER.with_borrow(|tracer| {
        if let Some(tracer) = tracer {
            tracer(event, id, version);
        }
    });
}

#[cfg(test)]
pub type Tracer = Box<dyn Fn(&'static str, super::job::Id, u64)>;

#[cfg(test)]
thread_local! {
    pub static TRACER: std::cell::RefCell<Option<Tracer>> = const { std::cell::RefCell::new(None) };
}
