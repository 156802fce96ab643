//! Sales: totals by category of what a table of sales has.
//!
//! A worker in Rust. README.md beside it tells how to build and try it.

use std::collections::BTreeMap;
use std::io::Cursor;

use csv::{Position, Reader, StringRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;

use bindings::afterack::worker::types::{Again, Output, Progress};
use bindings::exports::afterack::worker::worker::{Failure, Guest, Input, Job, Next, Refusal};

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/worker.wit", world: "plug-in" });
}

/// How many rows a step reads.
const ROWS: usize = 500;

/// A row of the table, which may have other columns, too.
#[derive(Deserialize)]
struct Sale {
    category: String,
    quantity: u32,
    price_cents: u32,
}

/// What a step leaves to the next one. Nothing else is kept between them.
#[derive(Default, Serialize, Deserialize)]
struct Checkpoint {
    /// Where the next row begins.
    offset: u64,
    line: u64,
    rows: u64,
    categories: BTreeMap<String, Totals>,
}

#[derive(Default, Serialize, Deserialize)]
struct Totals {
    quantity: u64,
    revenue_cents: u64,
}

struct Worker;
bindings::export!(Worker with_types_in bindings);

impl Guest for Worker {
    fn check(input: Input) -> Result<(), Refusal> {
        let kind =
            input.content_type.as_deref().unwrap_or("none").split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("text/csv") {
            return Err(Refusal::UnsupportedMediaType(format!(
                "unsupported Content-Type: {kind} (expected text/csv)"
            )));
        }
        let text = std::str::from_utf8(&input.body)
            .map_err(|error| Refusal::BadRequest(format!("invalid input: {error} (expected UTF-8)")))?;
        let mut table = Reader::from_reader(text.as_bytes());
        let columns = table.headers().map_err(|error| Refusal::BadRequest(error.to_string()))?.clone();
        if let Some(missing) =
            ["category", "quantity", "price_cents"].into_iter().find(|name| !has(&columns, name))
        {
            let found = columns.iter().collect::<Vec<_>>().join(", ");
            return Err(Refusal::UnprocessableContent(format!(
                "no column `{missing}`: the first line names `{found}` (expected category, quantity, price_cents)"
            )));
        }
        if table.records().next().is_none() {
            return Err(Refusal::UnprocessableContent("no rows: 0 (expected at least 1)".into()));
        }
        Ok(())
    }

    fn step(job: Job) -> Result<Next, Failure> {
        let mut so_far: Checkpoint = match &job.checkpoint {
            Some(checkpoint) => serde_json::from_slice(checkpoint).map_err(fatal)?,
            None => Checkpoint::default(),
        };
        let mut table = Reader::from_reader(Cursor::new(&job.input.body));
        let columns = table.headers().map_err(fatal)?.clone();
        if so_far.offset > 0 {
            let mut place = Position::new();
            place.set_byte(so_far.offset).set_line(so_far.line).set_record(so_far.rows + 1);
            table.seek(place).map_err(fatal)?;
        }
        let mut row = StringRecord::new();
        for _ in 0..ROWS {
            if !table.read_record(&mut row).map_err(fatal)? {
                return Ok(Next::Done(report(&so_far)));
            }
            let sale: Sale = row.deserialize(Some(&columns)).map_err(fatal)?;
            let totals = so_far.categories.entry(sale.category).or_default();
            totals.quantity += u64::from(sale.quantity);
            totals.revenue_cents += u64::from(sale.quantity) * u64::from(sale.price_cents);
            so_far.rows += 1;
        }
        (so_far.offset, so_far.line) = (table.position().byte(), table.position().line());
        let progress = Progress {
            done: u32::try_from(so_far.offset).unwrap_or(u32::MAX),
            total: u32::try_from(job.input.body.len()).unwrap_or(u32::MAX),
            message: format!("bytes are read: {} rows", so_far.rows),
        };
        let checkpoint = serde_json::to_vec(&so_far).map_err(fatal)?;
        Ok(Next::Again(Again { checkpoint, progress: Some(progress) }))
    }
}

fn has(columns: &StringRecord, name: &str) -> bool {
    columns.iter().any(|column| column == name)
}

/// What would be no better at another try.
fn fatal(error: impl ToString) -> Failure {
    Failure::Fatal(error.to_string())
}

fn report(all: &Checkpoint) -> Output {
    let revenue_cents: u64 = all.categories.values().map(|totals| totals.revenue_cents).sum();
    let report = json!({ "rows": all.rows, "revenue_cents": revenue_cents, "categories": all.categories });
    Output { content_type: "application/json".into(), body: format!("{report:#}\n").into() }
}
