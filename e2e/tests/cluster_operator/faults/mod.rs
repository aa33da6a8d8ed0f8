//! What the operator says when something is wrong: a table of faults, each done to a job or a Topic of its own, many side
//! by side. The right condition with the right reason within half a minute; and all is well again within half a minute
//! of the mend. After it no secret stands in anything that can be read.

mod canary;
mod jobs;
mod parts;
mod stage;
mod table;
mod topics;
mod workers;

use std::collections::VecDeque;
use std::sync::Mutex;

use stage::Stage;
use table::{Fault, Of, try_out};

use crate::*;

/// How many faults are tried side by side.
const SIDE_BY_SIDE: usize = 4;

#[test]
fn each_fault_is_named_and_forgotten() {
    let scene = scene("cluster_operator::each_fault_is_named");
    stage::prepare(&scene);
    let faults: Vec<Fault> = [jobs::faults(), topics::faults(), workers::faults()].into_iter().flatten().collect();
    assert!(faults.len() >= 25, "{} faults", faults.len());
    // Parts of names, with commas between them.
    let asked = std::env::var("FRESHET_FAULT").ok();
    let wanted = |fault: &Fault| {
        asked.as_ref().is_none_or(|asked| asked.split(',').any(|part| fault.name.contains(part.trim())))
    };
    let chosen = faults.into_iter().filter(wanted);
    let queue = Mutex::new(chosen.collect::<VecDeque<_>>());
    let done = Mutex::new(Vec::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(fault) = queue.lock().unwrap().pop_front() else { return };
                    let outcome = try_out(&scene, &fault);
                    println!("{outcome}");
                    done.lock().unwrap().push(outcome);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    for fault in parts::faults().into_iter().filter(wanted) {
        let outcome = try_out(&scene, &fault);
        println!("{outcome}");
        done.push(outcome);
    }
    println!("{} faults in {:.0} s", done.len(), began.elapsed().as_secs_f64());
    let remains = done.iter_mut().map(|outcome| std::mem::take(&mut outcome.remains)).collect();
    canary::nothing_secret_is_shown(&scene, remains, asked.is_none());
    let failed: Vec<String> =
        done.iter().filter(|outcome| outcome.failure.is_some()).map(ToString::to_string).collect();
    assert!(
        failed.is_empty(),
        "{} of {} faults are not told as they should be:\n{}",
        failed.len(),
        done.len(),
        failed.join("\n")
    );
}
