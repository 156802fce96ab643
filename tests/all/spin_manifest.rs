//! The project's own spin.toml, with which users start the component on Spin.

use crate::host::{Folder, Kind, on, spin_up};
use crate::jobs::Client;

on! {
    [spin Spin]

    /// A health probe is all that comes after the crash.
    fn with_the_projects_spin_toml_jobs_survive_a_crash(kind: Kind) -> String {
        let data = Folder::new();
        let host = spin_up(kind, &data.0, "lease=2s");
        let id = Client(&host).job(r#"{"steps":6,"step_ms":500}"#);
        Client(&host).wait_until(&id, |job| job["progress"]["done"] == 2);
        host.kill();
        let host = spin_up(kind, &data.0, "lease=2s");
        assert_eq!(Client(&host).get("/healthz").status, 200);
        host.wait_for_output(&format!("{id} succeeded"));
        let job = Client(&host).status(&id);
        assert_eq!((&job["progress"]["done"], &job["progress"]["total"]), (&6.into(), &6.into()), "{job}");
        assert_eq!(Client(&host).metric(r#"afterack_jobs_ended_total{state="succeeded"}"#), 1);
        "yes".into()
    }

    fn with_the_projects_spin_toml_a_wrong_variable_is_named(kind: Kind) -> String {
        let data = Folder::new();
        let host = spin_up(kind, &data.0, "drains=9");
        let detail = Client(&host).get("/healthz").problem(500);
        assert_eq!(detail, "AFTERACK_DRAINS: 9 is out of range (1 to 8)");
        "yes".into()
    }
}
