//! Slots: folders that hold the claims of one holder.
//!
//! A slot's folder is named `ROLE.free`, `ROLE.left` or `ROLE.SIGN`. Taking one is the end of the old name,
//! by a rename or a removal, which only one of many can win. Who has lost a slot has lost the way to its
//! claims.

use super::super::{Holding, Kind, Result, Role, Sign, Slot, StoreError};
use super::files::Files;
use super::folder::Folder;
use crate::jobs::job::Id;

/// The folder of the slots. It changes whenever one is entered, renewed or left.
pub const SLOTS_FOLDER: &str = "slots";

/// Where a slot of this role is, held like this.
fn folder(role: Role, holding: &Holding) -> String {
    match holding {
        Holding::Free => format!("slots/{role}.free"),
        Holding::Left => format!("slots/{role}.left"),
        Holding::Held(Sign(sign)) => format!("slots/{role}.{sign}"),
    }
}

fn parse(name: &str) -> Option<(Role, Holding)> {
    let (role, holding) = name.split_once('.')?;
    let role = Role::parse(role)?;
    let holding = match holding {
        "free" => Holding::Free,
        "left" => Holding::Left,
        sign => Holding::Held(Sign(sign.into())),
    };
    Some((role, holding))
}

/// What follows the id of a job that has ended and of which somebody is told.
pub const TELL: &str = ".tell";

/// Where the slot in this folder keeps this claim.
pub fn claim_in(folder: &str, id: Id, kind: Kind) -> String {
    let suffix = if kind == Kind::Tell { TELL } else { "" };
    format!("{folder}/{id}{suffix}")
}

/// Where a held slot keeps this claim.
pub fn claimed(slot: &Slot, id: Id, kind: Kind) -> String {
    claim_in(&slot_folder(slot), id, kind)
}

/// Where a held slot keeps its claims.
pub fn slot_folder(slot: &Slot) -> String {
    format!("slots/{}.{}", slot.role, slot.sign.0)
}

impl<F: Folder> Files<F> {
    /// Makes the slots of a new store: all of them at once, so that none of them is there twice.
    pub fn make_slots(&self) -> Result<()> {
        if self.exists(SLOTS_FOLDER)? {
            return Ok(());
        }
        let slots = self.unused();
        self.make_folder(&slots)?;
        for role in Role::all() {
            self.make_folder(&format!("{slots}/{role}.free"))?;
        }
        self.sync(&slots)?;
        if self.rename_if_free(&slots, SLOTS_FOLDER)? {
            return Ok(());
        }
        self.remove_all(&slots)
    }

    /// Makes the slots that are missing.
    pub fn mend_slots(&self) -> Result<()> {
        self.make_slots()?;
        // One that is being renamed may be missed once.
        let (first, second) = (self.slots()?, self.slots()?);
        for role in Role::all() {
            if ![&first, &second].iter().any(|slots| slots.iter().any(|slot| slot.0 == role)) {
                self.make_folder(&folder(role, &Holding::Free))?;
            }
        }
        Ok(())
    }

    /// All slots.
    pub fn slots(&self) -> Result<Vec<(Role, Holding)>> {
        Ok(self.names(SLOTS_FOLDER)?.iter().filter_map(|name| parse(name)).collect())
    }

    /// The folders of all slots that may hold claims.
    pub fn held_slots(&self) -> Result<impl Iterator<Item = (Role, String)>> {
        let held = self.slots()?.into_iter().filter(|(_, holding)| *holding != Holding::Free);
        Ok(held.map(|(role, holding)| (role, folder(role, &holding))))
    }

    fn sign(&self) -> Sign {
        Sign(self.token())
    }

    /// Takes a slot that is still as it was seen. A free one goes, and a new one takes its place: whatever a
    /// power cut undoes, what was claimed in it is never in a slot that looks free.
    pub fn enter_slot(&self, role: Role, seen: &Holding) -> Result<Option<Slot>> {
        let slot = Slot { role, sign: self.sign() };
        let (old, new) = (folder(role, seen), slot_folder(&slot));
        if *seen != Holding::Free {
            return Ok(self.rename_if_any(&old, &new)?.then_some(slot));
        }
        self.make_folder(&new)?;
        if self.remove_if_empty(&old)? {
            return Ok(Some(slot));
        }
        self.remove_if_empty(&new)?;
        Ok(None)
    }

    pub fn renew_slot(&self, slot: &mut Slot) -> Result<()> {
        let new = Slot { role: slot.role, sign: self.sign() };
        if !self.rename_if_any(&slot_folder(slot), &slot_folder(&new))? {
            return Err(StoreError::Lost);
        }
        *slot = new;
        Ok(())
    }

    /// Gives a slot back. A new folder takes the place of an empty one: no power cut brings back into a free
    /// slot what was in it.
    pub fn leave_slot(&self, slot: Slot) -> Result<()> {
        if self.remove_if_empty(&slot_folder(&slot))? {
            return self.make_folder(&folder(slot.role, &Holding::Free));
        }
        self.rename(&slot_folder(&slot), &folder(slot.role, &Holding::Left))
    }

    /// The claims of a slot. What is no claim is set aside.
    pub fn claims_of(&self, slot: &Slot) -> Result<Vec<(Id, Kind)>> {
        let mut claims = Vec::new();
        for name in self.sorted_names(&slot_folder(slot))? {
            let (id, kind) = match name.strip_suffix(TELL) {
                Some(id) => (id, Kind::Tell),
                None => (name.as_str(), Kind::Work),
            };
            match Id::parse(id) {
                Some(id) => claims.push((id, kind)),
                None => self.set_aside(&format!("{}/{name}", slot_folder(slot)), "it is no job's name")?,
            }
        }
        Ok(claims)
    }
}
