//! Clients that wait: as many as may, over all invocations.
//!
//! ```text
//! waiters/UNTIL.SIGN         somebody waits, at most until then
//! ```

use super::files::Files;
use super::folder::Folder;
use crate::jobs::store::{LONGEST_WAIT, Result, Waiter};
use crate::jobs::time::{TOLERANCE, Time};

impl<F: Folder> Files<F> {
    /// Lets somebody wait, if fewer than `most` do. What a crash has left, or a clock that was ahead,
    /// counts for no longer than a wait lasts.
    pub fn admit_waiter(&self, most: usize, now: Time) -> Result<Option<Waiter>> {
        if most == 0 {
            return Ok(None);
        }
        let waiter = Waiter { name: format!("waiters/{:013}.{}", (now + LONGEST_WAIT).0, self.token()) };
        self.append(&waiter.name, b"")?;
        let mut waiting = 0;
        for name in self.names("waiters")? {
            let until = name.split_once('.').and_then(|(until, _)| until.parse().ok()).map(Time);
            match until.filter(|until| *until + TOLERANCE >= now && *until <= now + LONGEST_WAIT + TOLERANCE)
            {
                Some(_) => waiting += 1,
                None => self.remove_if_any(&format!("waiters/{name}"))?,
            }
        }
        if waiting <= most {
            return Ok(Some(waiter));
        }
        self.dismiss_waiter(waiter)?;
        Ok(None)
    }

    pub fn dismiss_waiter(&self, waiter: Waiter) -> Result<()> {
        self.remove_if_any(&waiter.name)
    }
}
