//! The simulation's executor: order, clock, deaths, pauses and the trace hash.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use freshet_env::sim::{NodeFault, NodeId, SIM_EPOCH_MS, Sim, Stop};
use freshet_env::{Env, SharedEnv, deadline};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LONG: Duration = Duration::from_secs(3600);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three nodes that sleep, draw and report: the order of everything and the hash of it.
fn scramble(seed: u64) -> (Vec<u32>, u64) {
    let sim = Sim::new(seed);
    let order = Rc::new(RefCell::new(Vec::new()));
    for n in 0..3 {
        let (env, order) = (sim.env(NodeId(n)), order.clone());
        sim.spawn(format!("worker {n}"), NodeId(n), async move {
            for round in 0..20 {
                env.sleep(ms(env.random_u64() % 3)).await;
                env.trace(format_args!("round {round}"));
                order.borrow_mut().push(n);
            }
        });
    }
    assert_eq!(sim.run_until(LONG, |_| false), Stop::Stuck, "all tasks have ended");
    (order.take(), sim.trace_hash())
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 0..20 {
        assert_eq!(scramble(seed), scramble(seed), "seed {seed}");
    }
    let hashes: std::collections::BTreeSet<u64> = (0..20).map(|seed| scramble(seed).1).collect();
    assert_eq!(hashes.len(), 20, "each seed takes its own way");
    assert_ne!(scramble(1).0, scramble(2).0);
}

#[test]
fn a_reported_event_changes_the_hash() {
    let run = |event: &'static str| {
        let sim = Sim::new(1);
        let env = sim.env(A);
        sim.spawn("reporter", A, async move { env.trace(format_args!("{event}")) });
        sim.run_until(LONG, |_| false);
        sim.trace_hash()
    };
    assert_ne!(run("committed 1"), run("committed 2"));
}

#[test]
fn the_clock_moves_only_when_nobody_can_go_on() {
    let sim = Sim::new(3);
    let env = sim.env(A);
    let seen = sim.spawn("sleeper", A, async move {
        let before = (env.now_ms(), env.monotonic());
        env.offload(Box::new(|| {})).await;
        let same = (env.now_ms(), env.monotonic());
        env.sleep(ms(1500)).await;
        (before == same, env.now_ms() - before.0, env.monotonic())
    });
    assert_eq!(sim.run_until(LONG, |_| seen.is_finished()), Stop::Done);
    assert_eq!(seen.take(), Some((true, 1500, ms(1500))));
}

#[test]
fn a_nodes_wall_clock_may_be_wrong_and_its_timers_are_not() {
    let sim = Sim::new(3);
    sim.set_skew_ms(B, -5000);
    let (right, wrong) = (sim.env(A), sim.env(B));
    assert_eq!(right.now_ms(), SIM_EPOCH_MS);
    assert_eq!(wrong.now_ms(), SIM_EPOCH_MS - 5000);
    assert_eq!(wrong.monotonic(), right.monotonic());
}

#[test]
fn deadlines_fall_due_on_the_virtual_clock_and_leave_no_timer_behind() {
    let sim = Sim::new(3);
    let env: SharedEnv = Rc::new(sim.env(A));
    let task = sim.spawn("waiter", A, async move {
        let late = deadline(&env, ms(10), std::future::pending::<()>()).await;
        let early = deadline(&env, LONG, std::future::ready(1)).await;
        (late, early)
    });
    assert_eq!(sim.run_until(LONG, |_| false), Stop::Stuck);
    assert_eq!(task.take(), Some((None, Some(1))));
    assert_eq!(sim.now(), ms(10), "the timer of the second deadline was taken back");
}

#[test]
fn a_run_stops_at_its_deadline_and_goes_on_from_there() {
    let sim = Sim::new(3);
    let env = sim.env(A);
    let task = sim.spawn("sleeper", A, async move { env.sleep(ms(100)).await });
    assert_eq!(sim.run_until(ms(99), |_| false), Stop::Deadline);
    assert_eq!((sim.now(), task.is_finished()), (ms(99), false));
    assert_eq!(sim.run_until(ms(200), |_| task.is_finished()), Stop::Done);
    assert_eq!(sim.now(), ms(100));
}

#[test]
fn a_loop_that_never_lets_time_pass_is_named() {
    let sim = Sim::new(3);
    let env = sim.env(A);
    sim.spawn("spinner", A, async move {
        loop {
            env.crash_point("spin").await;
        }
    });
    assert_eq!(sim.run_until(LONG, |_| false), Stop::Livelock("spinner".to_owned()));
}

/// Counts how far a task came, and whether it was dropped.
struct Progress(Rc<Cell<u32>>, Rc<Cell<bool>>);

impl Drop for Progress {
    fn drop(&mut self) {
        self.1.set(true);
    }
}

#[test]
fn an_armed_crash_point_ends_the_whole_node_there() {
    let sim = Sim::new(4);
    let (steps, dropped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let progress = Progress(steps.clone(), dropped.clone());
    let env = sim.env(A);
    sim.spawn("committer", A, async move {
        for step in 1..=5 {
            progress.0.set(step);
            env.crash_point("epoch.committed").await;
        }
    });
    let env = sim.env(A);
    sim.spawn("bystander", A, async move { env.sleep(ms(50)).await });
    let restarted = Rc::new(Cell::new(false));
    let flag = restarted.clone();
    sim.arm(A, "epoch.committed", 3, NodeFault::Kill, move |sim| {
        assert_eq!(sim.tasks_of(A), 0, "nobody of the node is left");
        flag.set(true);
        let env = sim.env(A);
        sim.spawn("successor", A, async move { env.crash_point("epoch.committed").await });
    });
    assert_eq!(sim.run_until(LONG, |_| false), Stop::Stuck);
    assert_eq!((steps.get(), dropped.get(), restarted.get()), (3, true, true));
    assert_eq!(sim.passed(A, "epoch.committed"), 4);
    assert_eq!(sim.now(), ms(0), "the bystander's timer died with it");
}

#[test]
fn any_poll_can_be_the_last() {
    for nth in 1..=10 {
        let sim = Sim::new(5);
        let steps = Rc::new(Cell::new(0));
        let (env, seen) = (sim.env(A), steps.clone());
        sim.spawn("stepper", A, async move {
            loop {
                seen.set(seen.get() + 1);
                env.sleep(ms(1)).await;
            }
        });
        sim.arm_poll(A, nth, NodeFault::Kill, |_| {});
        assert_eq!(sim.run_until(LONG, |_| false), Stop::Stuck);
        assert_eq!(steps.get(), nth);
    }
}

#[test]
fn a_task_that_kills_its_own_node_is_not_polled_again() {
    let sim = Rc::new(Sim::new(6));
    let after = Rc::new(Cell::new(false));
    let (killer, seen, env) = (Rc::downgrade(&sim), after.clone(), sim.env(A));
    sim.spawn("suicide", A, async move {
        killer.upgrade().expect("the simulation runs").kill(A);
        env.sleep(ms(1)).await;
        seen.set(true);
    });
    assert_eq!(sim.run_until(LONG, |_| false), Stop::Stuck);
    assert!(!after.get());
}

#[test]
fn a_paused_node_wakes_later_with_its_timers_run_out() {
    let sim = Sim::new(7);
    let log = Rc::new(RefCell::new(Vec::new()));
    for (name, node) in [("zombie", A), ("successor", B)] {
        let (env, log) = (sim.env(node), log.clone());
        sim.spawn(name, node, async move {
            env.sleep(ms(10)).await;
            env.crash_point("takeover.looked-again").await;
            log.borrow_mut().push((name, env.monotonic()));
        });
    }
    sim.arm(A, "takeover.looked-again", 1, NodeFault::Pause, |sim| {
        assert!(sim.is_paused(A));
        sim.at(ms(500), |sim| sim.resume(A));
    });
    assert_eq!(sim.run_until(LONG, |_| false), Stop::Stuck);
    assert_eq!(*log.borrow(), [("successor", ms(10)), ("zombie", ms(500))]);
}

#[test]
fn a_paused_node_can_be_killed_and_started_again() {
    let sim = Sim::new(8);
    let env = sim.env(A);
    let old = sim.spawn("old", A, async move { env.sleep(ms(10)).await });
    sim.pause(A);
    sim.run_until(ms(20), |_| false);
    sim.kill(A);
    let env = sim.env(A);
    let new = sim.spawn("new", A, async move { env.sleep(ms(10)).await });
    assert_eq!(sim.run_until(LONG, |_| new.is_finished()), Stop::Done);
    assert!(!old.is_finished());
}

#[test]
fn what_is_disarmed_does_not_happen() {
    let sim = Sim::new(9);
    sim.arm_poll(A, 1, NodeFault::Kill, |_| {});
    sim.disarm(A);
    let task = sim.spawn("survivor", A, async {});
    assert_eq!(sim.run_until(LONG, |_| task.is_finished()), Stop::Done);
}

#[test]
fn the_last_events_can_be_read() {
    let sim = Sim::new(10);
    sim.keep_trace(2);
    for n in 1..=3 {
        sim.trace(format_args!("event {n}"));
    }
    let lines = sim.kept_trace();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with("event 2") && lines[1].ends_with("event 3"), "{lines:?}");
}

#[test]
fn dropping_a_simulation_drops_its_tasks() {
    let dropped = Rc::new(Cell::new(false));
    let sim = Sim::new(11);
    let progress = Progress(Rc::default(), dropped.clone());
    let env: SharedEnv = Rc::new(sim.env(A));
    sim.spawn("holder", A, async move {
        let _progress = progress;
        env.sleep(LONG).await;
    });
    sim.run_until(ms(1), |_| false);
    drop(sim);
    assert!(dropped.get());
}
