//! What the lanes of a drain want stored, gathered until all of them wait: a database stores many jobs in hardly
//! more time than one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Engine;
use crate::jobs::store::{Result, Save, Slot};

/// What waits to be stored, of lanes that wait for that.
#[derive(Default)]
pub struct Together(RefCell<Vec<Rc<Request>>>);

struct Request {
    save: RefCell<Option<Save>>,
    answer: RefCell<Option<(Save, Result<bool>)>>,
    lane: RefCell<Option<Waker>>,
}

impl Together {
    /// Waits until it is stored what there is new of a job: what came of it, and whether its claim has ended with that.
    pub async fn store(&self, save: Save) -> (Save, Result<bool>) {
        let save = RefCell::new(Some(save));
        let request = Rc::new(Request { save, answer: RefCell::default(), lane: RefCell::default() });
        self.0.borrow_mut().push(request.clone());
        poll_fn(|context| match request.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                request.lane.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Stores all that waits, and wakes those lanes.
    pub fn store_all(&self, engine: &Engine, slot: &Slot) {
        let requests = self.0.take();
        if requests.is_empty() {
            return;
        }
        let mut saves: Vec<_> = requests.iter().filter_map(|request| request.save.take()).collect();
        let results = engine.save_all(slot, &mut saves);
        for ((request, save), result) in requests.iter().zip(saves).zip(results) {
            request.answer.replace(Some((save, result)));
            if let Some(lane) = request.lane.take() {
                lane.wake();
            }
        }
    }
}
