//! The watch: the one invocation that stays when nothing is due, so that what is due later begins at its
//! time and what others lose goes on, without anybody asking.

use std::time::Duration;

use super::drain::renewal;
use super::{Engine, LOOK};
use crate::jobs::store::{Holding, Result, Role, Slot, StoreError};

/// How long holders of slots that give no sign of life count as alive.
pub(super) const SILENCE: Duration = Duration::from_millis(400);

impl Engine {
    /// Stays as the watch until there is something to do, unless somebody else is alive: whether this
    /// invocation has to look what to do next.
    pub(super) async fn stay(&self, slots: &[(Role, Holding)]) -> Result<bool> {
        let mut watches = slots.iter().filter(|(role, _)| *role == Role::Watch).map(|(_, holding)| holding);
        let held = watches.clone().find(|holding| matches!(holding, Holding::Held(_)));
        let Some(seen) = held.or_else(|| watches.next()) else {
            // It is being renewed right now, or was missing and has been made.
            self.host.sleep(LOOK).await;
            return Ok(true);
        };
        if let Holding::Held(_) = seen
            && self.is_somebody_alive().await?
        {
            return Ok(false);
        }
        let Some(slot) = self.store.enter(Role::Watch, seen)? else {
            return Ok(false); // Whoever was faster lives.
        };
        self.stays.set(true);
        self.watch(slot, seen).await?;
        self.feel_pulse()?;
        Ok(true)
    }

    /// Whether a holder of a slot has given a sign of life since this request came, or gives one before
    /// long: a drain will look who watches before it returns. That a slot is held is no sign: its holder may
    /// have died with its host a moment ago, and nobody might come after this request.
    async fn is_somebody_alive(&self) -> Result<bool> {
        let until = self.host.elapsed() + SILENCE;
        loop {
            let pulse = self.store.pulse()?;
            let before = self.pulse.replace(pulse);
            if before != 0 && before != pulse {
                return Ok(true);
            }
            if self.host.elapsed() >= until {
                return Ok(false);
            }
            // Until one is due: many continuations may wait, and each look costs a statement in a database.
            self.host.sleep(renewal(self)).await;
        }
    }

    /// Feels the pulse anew after this invocation has quickened it itself.
    pub(super) fn feel_pulse(&self) -> Result<()> {
        self.pulse.set(self.store.pulse()?);
        Ok(())
    }

    /// Waits until there is something to do, or nothing to wait for.
    async fn watch(&self, mut slot: Slot, seen: &Holding) -> Result<()> {
        if *seen != Holding::Free {
            self.adopt_claims(&mut slot, seen, &mut || {})?;
        }
        let mut others = Vec::new();
        while !self.is_spent() {
            match self.look_around(&mut slot, &mut others) {
                Ok(true) => break,
                Ok(false) => {}
                Err(StoreError::Lost) => return Err(StoreError::Lost),
                // It may pass, and somebody has to be there then.
                Err(error) => self.note_failure(&error),
            }
            self.host.sleep(LOOK).await;
            self.store.renew(&mut slot)?;
        }
        self.store.leave(slot)
    }

    /// Whether there is something to do for this invocation, or nothing to wait for. `others` are the signs
    /// of other watches at the last look.
    fn look_around(&self, slot: &mut Slot, others: &mut Vec<Holding>) -> Result<bool> {
        // That it is lost shows at the next sign of life.
        self.do_chores(&mut || drop(self.store.renew(slot)))?;
        let marks = self.store.marks()?;
        self.heed(slot, &marks, &|_| false)?;
        self.retry_more(slot)?;
        let slots = self.store.slots()?;
        // After a crash at the wrong moment there are two slots for a watch. One that lives is enough.
        let is_other = |(role, holding): &&(Role, Holding)| {
            *role == Role::Watch && !matches!(holding, Holding::Held(sign) if *sign == slot.sign)
        };
        let now: Vec<_> = slots.iter().filter(is_other).map(|(_, holding)| holding.clone()).collect();
        let before = std::mem::replace(others, now);
        if !before.is_empty() && !others.is_empty() && before != *others {
            return Ok(true);
        }
        Ok(self.role(&slots, false, true)?.is_some() || self.is_all_done(&slots, Some(slot))?)
    }
}
