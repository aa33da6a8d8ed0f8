//! How fast windows are, and how much memory they take: `cargo run --example window_speed [rows] [keys]`.
//!
//! Prints millions of rows per CPU-second of the operators alone (rows come decoded, results go to a sink
//! that drops them), and bytes of memory a key.
#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use freshet_engine::operator::{self, Effects, Late, Operator, Progress, Sink};
use freshet_engine::{EngineError, Rows};
use freshet_log::Outgoing;
use freshet_plan::{Aggregate, AggregateFunction, Column, DataType, Step, Window, WindowAggregate};
use freshet_state::rows::RowBuffer;

const BATCH_ROWS: usize = 8192;
const ROWS_PER_WINDOW: usize = 1_000_000;
const WINDOW_MS: i64 = 10_000;
const SLIDE_MS: i64 = 2_000;
const ROWS_PER_EPOCH: usize = 250_000;

const TUMBLE: Window = Window::Tumble { size_ms: WINDOW_MS, offset_ms: 0 };
const HOP: Window = Window::Hop { size_ms: WINDOW_MS, slide_ms: SLIDE_MS, offset_ms: 0 };
const CUMULATE: Window = Window::Cumulate { size_ms: WINDOW_MS, step_ms: SLIDE_MS, offset_ms: 0 };
/// Shorter than the time between two rows of most of 100,000 keys.
const SESSION: Window = Window::Session { gap_ms: SLIDE_MS };

#[derive(Default)]
struct Drop {
    rows: usize,
}

impl Sink for Drop {
    fn write(&mut self, rows: &Rows, _out: &mut Outgoing) -> Result<(), EngineError> {
        self.rows += rows.batch.num_rows();
        Ok(())
    }
}

fn count_and_sum(window: Window) -> WindowAggregate {
    let aggregate = |name: &str, function, argument: Option<usize>| Aggregate {
        name: name.to_owned(),
        function,
        argument,
        argument_type: argument.map(|_| DataType::BigInt),
        distinct: false,
        filter: None,
        data_type: DataType::BigInt,
    };
    WindowAggregate {
        id: "agg-speed".to_owned(),
        window,
        time_column: 2,
        group: vec![0],
        group_columns: vec![Column::new("account", DataType::String)],
        aggregates: vec![
            aggregate("n", AggregateFunction::Count, None),
            aggregate("total", AggregateFunction::Sum, Some(1)),
        ],
        state_version: 1,
    }
}

/// Rows `from..`: keys in no order, time that moves on.
fn rows(from: usize, keys: usize) -> Rows {
    let range = from..from + BATCH_ROWS;
    let key = |n: usize| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % keys;
    let accounts: ArrayRef =
        Arc::new(StringArray::from_iter_values(range.clone().map(|n| format!("account-{:07}", key(n)))));
    let amounts: ArrayRef = Arc::new(Int64Array::from_iter_values(range.clone().map(|n| n as i64 % 1_000)));
    let times = range.map(|n| n as i64 * WINDOW_MS / ROWS_PER_WINDOW as i64).collect::<Vec<_>>();
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(times.clone()));
    Rows {
        batch: RecordBatch::try_from_iter([("account", accounts), ("amount", amounts), ("ts", time)]).expect("a batch"),
        watermark: Int64Array::from_value(times[0] - 1, BATCH_ROWS),
        event_time: times.into(),
        origin: None,
        kinds: None,
    }
}

fn effects<'a>(out: &'a mut Outgoing, late: &'a mut Late) -> Effects<'a> {
    Effects { out, late, full_at_bytes: usize::MAX }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mb() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).expect("resident pages").parse::<f64>().expect("a number") * 4096.0 / 1e6
}

/// Runs `total` rows over `keys` keys through `step`: windows fire, and an epoch's snapshot is taken now and then.
fn run(name: &str, step: &Step, total: usize, keys: usize) {
    let mut operators: Vec<Box<dyn Operator>> = vec![operator::of_window(step).expect("an operator")];
    let (mut sink, mut out, mut late) = (Drop::default(), Outgoing::default(), Late::default());
    let (mut spent, mut done, mut snapshots) = (0.0, 0, 0);
    while done < total {
        // A few batches at a time, so that making them is not measured and clock ticks are fine enough.
        let batches: Vec<Rows> = (0..32).map(|n| rows(done + n * BATCH_ROWS, keys)).collect();
        let begun = cpu_seconds();
        for rows in batches {
            let watermark = rows.watermark.value(0);
            operator::push(&mut operators, &mut sink, rows, effects(&mut out, &mut late)).expect("rows");
            operator::for_each(&mut operators, &mut sink, effects(&mut out, &mut late), |o, context| {
                o.on_watermark(watermark, context)
            })
            .expect("fires");
            done += BATCH_ROWS;
            if done % ROWS_PER_EPOCH < BATCH_ROWS {
                operator::for_each(&mut operators, &mut sink, effects(&mut out, &mut late), |o, context| {
                    o.on_flush(context).map(|()| Progress::Done)
                })
                .expect("flushes");
                let mut state = RowBuffer::default();
                operators[0].snapshot(&mut state);
                snapshots += state.len();
            }
        }
        spent += cpu_seconds() - begun;
    }
    println!(
        "{name}: {done} rows, {keys} keys, {} results, {snapshots} state rows: {:.2} M rows per CPU-second",
        sink.rows,
        done as f64 / spent / 1e6
    );
}

/// Opens one window with `keys` keys and weighs it.
fn weigh(keys: usize) {
    let mut operators: Vec<Box<dyn Operator>> =
        vec![operator::of_window(&Step::WindowAggregate(count_and_sum(TUMBLE))).expect("an operator")];
    let (mut sink, mut out, mut late) = (Drop::default(), Outgoing::default(), Late::default());
    let before = resident_mb();
    for from in (0..keys * 4).step_by(BATCH_ROWS) {
        let mut rows = rows(from, keys);
        let time = TimestampMillisecondArray::from_value(1, BATCH_ROWS);
        let columns = vec![rows.batch.column(0).clone(), rows.batch.column(1).clone(), Arc::new(time) as ArrayRef];
        rows.batch = RecordBatch::try_new(rows.batch.schema(), columns).expect("a batch");
        rows.watermark = Int64Array::from_value(-1, BATCH_ROWS);
        operator::push(&mut operators, &mut sink, rows, effects(&mut out, &mut late)).expect("rows");
    }
    let stats = operators[0].stats();
    let open = resident_mb() - before;
    println!(
        "{} keys: {:.0} MB resident, {:.0} MB by its own count, {:.0} bytes a key",
        stats.keys,
        open,
        stats.bytes as f64 / 1e6,
        stats.bytes as f64 / stats.keys as f64
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let total = arguments.next().unwrap_or(4_000_000);
    let keys = arguments.next().unwrap_or(100_000);
    for (name, window) in [
        ("tumbling", TUMBLE),
        ("hopping every 2 s", HOP),
        ("cumulating by 2 s", CUMULATE),
        ("sessions with gaps up to 2 s", SESSION),
    ] {
        run(&format!("window aggregate, {name}"), &Step::WindowAggregate(count_and_sum(window)), total, keys);
        run(&format!("window combine, {name}"), &Step::WindowCombine(count_and_sum(window)), total, keys);
    }
    weigh(1_000_000);
}
