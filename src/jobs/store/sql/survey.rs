//! What a continuation asks again and again, asked at once: who holds the slots, what clients want, what is
//! unfinished, who keeps SQLite open, and when the next job has been kept long enough.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::rows::failed;
use super::{Database, Failure, Row, Sql, schema};
use crate::jobs::job::{Id, State};
use crate::jobs::store::{Ask, Mark, Result, RetryAll, Role, Wanted};
use crate::jobs::time::Time;

/// How long an answer counts that was not asked for yet. Each is given once.
pub const MOMENT: Duration = Duration::from_millis(5);

/// The parts of the last answer that are left.
#[derive(Default)]
pub struct Survey {
    at: Duration,
    /// Until when somebody keeps SQLite open.
    pub open: Option<Time>,
    /// Each slot with its holder's token and his signs of life.
    pub slots: Option<Vec<(Role, Option<String>, i64)>>,
    pub pulse: Option<u64>,
    pub marks: Option<Vec<Mark>>,
    pub retries: Option<Vec<RetryAll>>,
    pub unfinished: Option<Vec<String>>,
    /// When the first of those jobs has ended that are kept.
    pub ended: Option<Option<Time>>,
}

impl<D: Database> Sql<D> {
    /// The part that is taken, of this moment.
    pub(super) fn surveyed<T>(&self, take: impl Fn(&mut Survey) -> Option<T>) -> Result<T> {
        let mut survey = self.survey.borrow_mut();
        let is_fresh = self.host.elapsed() < survey.at + MOMENT;
        if let Some(part) = Some(&mut *survey).filter(|_| is_fresh).and_then(&take) {
            return Ok(part);
        }
        *survey = self.take_survey()?;
        Ok(take(&mut survey).expect("it has all parts"))
    }

    /// Forgets what it knew of the slots, since this invocation has changed them.
    pub(super) fn has_moved(&self) {
        let mut survey = self.survey.borrow_mut();
        (survey.slots, survey.pulse) = (None, None);
    }

    fn take_survey(&self) -> Result<Survey> {
        let doing = "looking around";
        let statement = schema::SURVEY.call(self.database.dialect());
        // The schema's version comes along, since this is often what comes first.
        let is_right =
            |rows: &[Row]| rows.first().is_some_and(|row| matches!(row.integer(4), Ok(schema::VERSION)));
        let rows = self.run_first(doing, &statement, &[], is_right)?;
        read(&rows, self.host.elapsed()).map_err(|failure| failed(doing, failure))
    }
}

fn read(rows: &[Row], at: Duration) -> std::result::Result<Survey, Failure> {
    let (mut slots, mut marks, mut retries) = (Vec::new(), Vec::new(), Vec::new());
    let (mut open, mut unfinished, mut ended) = (Time(0), Vec::new(), None);
    for row in rows {
        let (name, text) = (row.text(1)?, row.text_if_any(2)?);
        match row.text(0)? {
            "open" => open = Time(row.integer(3)? as u64),
            "slot" => slots.extend(
                Role::parse(name)
                    .map(|role| Ok((role, text.map(str::to_owned), row.integer(3)?)))
                    .transpose()?,
            ),
            "mark" => {
                let (round, ask) = (u32::try_from(row.integer(3)?).ok(), text.and_then(Ask::parse));
                let mark = Id::parse(name).zip(round).zip(ask);
                marks.extend(mark.map(|((id, round), ask)| Mark { id, round, ask }));
            }
            "retry" => retries.extend(text.and_then(|text| retry(name, text))),
            "unfinished" => unfinished.push(name.to_owned()),
            _ => ended = row.integer_if_any(3)?.map(|first| Time(first as u64)),
        }
    }
    slots.sort_unstable_by_key(|slot| slot.0.to_string());
    let mut hasher = fnv::FnvHasher::default();
    for (role, token, beat) in &slots {
        (role.to_string(), token, beat).hash(&mut hasher);
    }
    Ok(Survey {
        at,
        open: Some(open),
        slots: Some(slots),
        pulse: Some(hasher.finish().max(1)),
        marks: Some(marks),
        retries: Some(retries),
        unfinished: Some(unfinished),
        ended: Some(ended),
    })
}

/// All jobs that are to begin again: which ones, and which was seen to last.
fn retry(name: &str, text: &str) -> Option<RetryAll> {
    let mut parts = text.splitn(3, ' ');
    let state = parts.next().and_then(State::parse)?;
    let after = parts.next().and_then(Id::parse);
    let worker = parts.next()?.strip_prefix('=').map(str::to_owned);
    Some(RetryAll { name: name.into(), wanted: Wanted { state: Some(state), worker }, after })
}
