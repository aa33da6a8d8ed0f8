//! The assignment of tasks to slots: a pure function that balances, and moves as few tasks as it can.
//!
//! Balanced means: of each stage's tasks, two slots' numbers differ by at most one, and so do their numbers
//! of tasks overall. That fixes how many tasks each slot gets of each stage, except who gets the
//! remainders: a stage of n tasks on k slots gives every slot n ÷ k, and n mod k slots one more. Giving out
//! those extra tasks so that most of what a slot has stays with it is a flow problem:
//!
//! ```text
//! origin ─(n mod k)─▶ stage ─(1, gains 1 where the slot has more than n ÷ k)─▶ slot ─▶ end
//! ```
//!
//! where each slot takes ⌊R ÷ k⌋ extra tasks, and R mod k of the slots one more, R being all extra tasks.
//! The flow of R units that gains most moves fewest. Ties go to lower numbers, so that the same
//! input gives the same assignment everywhere.

use std::collections::{BTreeMap, VecDeque};

use crate::TaskId;

/// Which slot runs each of `tasks` (each once). `previous` is the assignment before; tasks that it does not
/// know are new. No slots, no assignment.
#[must_use]
pub fn assign(tasks: &[TaskId], slots: u32, previous: Option<&BTreeMap<TaskId, u32>>) -> BTreeMap<TaskId, u32> {
    let mut assignment = BTreeMap::new();
    if slots == 0 {
        return assignment;
    }
    let slot_count = slots as usize;
    let mut stages: BTreeMap<&str, Vec<&TaskId>> = BTreeMap::new();
    for task in tasks {
        stages.entry(&task.stage).or_default().push(task);
    }
    let had = |task: &TaskId| previous.and_then(|p| p.get(task)).copied().filter(|slot| *slot < slots);
    let have: Vec<Vec<usize>> = stages
        .values()
        .map(|tasks| {
            let mut have = vec![0; slot_count];
            tasks.iter().filter_map(|task| had(task)).for_each(|slot| have[slot as usize] += 1);
            have
        })
        .collect();
    let sizes: Vec<usize> = stages.values().map(Vec::len).collect();
    let mut quotas = quotas(&sizes, &have, slot_count);

    for (tasks, quota) in stages.values_mut().zip(&mut quotas) {
        tasks.sort_unstable();
        let mut homeless = Vec::new();
        for task in tasks.iter() {
            match had(task).map(|slot| (slot, &mut quota[slot as usize])) {
                Some((slot, left)) if *left > 0 => {
                    *left -= 1;
                    assignment.insert((*task).clone(), slot);
                }
                _ => homeless.push(*task),
            }
        }
        let places = (0..slots).flat_map(|slot| std::iter::repeat_n(slot, quota[slot as usize]));
        assignment.extend(homeless.into_iter().cloned().zip(places));
    }
    assignment
}

/// How many tasks each slot gets of each stage (stages × slots).
fn quotas(sizes: &[usize], have: &[Vec<usize>], slots: usize) -> Vec<Vec<usize>> {
    let extra: usize = sizes.iter().map(|size| size % slots).sum();
    let (origin, end) = (0, 1);
    let (stage_node, slot_node) = (|stage: usize| 2 + stage, |slot: usize| 2 + sizes.len() + slot);
    let mut flow = Flow::new(2 + sizes.len() + slots);
    for (stage, size) in sizes.iter().enumerate() {
        flow.edge(origin, stage_node(stage), (size % slots) as i64, 0);
        for (slot, have) in have[stage].iter().enumerate() {
            let gains = *have > size / slots;
            flow.edge(stage_node(stage), slot_node(slot), 1, if gains { -1 } else { 0 });
        }
    }
    // Filling every slot's even share outweighs all that can be gained.
    let even_share = -(extra as i64 + 1);
    for slot in 0..slots {
        flow.edge(slot_node(slot), end, (extra / slots) as i64, even_share);
        flow.edge(slot_node(slot), end, 1, 0);
    }
    flow.fill(origin, end);
    let mut quotas: Vec<Vec<usize>> = sizes.iter().map(|size| vec![size / slots; slots]).collect();
    for (stage, quota) in quotas.iter_mut().enumerate() {
        for &edge in &flow.edges_of[stage_node(stage)] {
            let Edge { to, room, .. } = flow.edges[edge];
            // Even edges lead forward, odd ones are their ways back.
            if edge % 2 == 0 && room == 0 {
                quota[to - slot_node(0)] += 1;
            }
        }
    }
    quotas
}

struct Edge {
    to: usize,
    room: i64,
    cost: i64,
}

/// A cheapest fullest flow, by successive cheapest paths.
struct Flow {
    edges: Vec<Edge>,
    edges_of: Vec<Vec<usize>>,
}

impl Flow {
    fn new(nodes: usize) -> Self {
        Self { edges: Vec::new(), edges_of: vec![Vec::new(); nodes] }
    }

    fn edge(&mut self, from: usize, to: usize, room: i64, cost: i64) {
        for (from, to, room, cost) in [(from, to, room, cost), (to, from, 0, -cost)] {
            self.edges_of[from].push(self.edges.len());
            self.edges.push(Edge { to, room, cost });
        }
    }

    fn fill(&mut self, origin: usize, end: usize) {
        while let Some(path) = self.cheapest_path(origin, end) {
            for edge in path {
                self.edges[edge].room -= 1;
                self.edges[edge ^ 1].room += 1;
            }
        }
    }

    /// The edges of the cheapest way that has room (Bellman–Ford with a queue: costs may be negative, but
    /// no cycle is).
    fn cheapest_path(&self, origin: usize, end: usize) -> Option<Vec<usize>> {
        let mut cost = vec![i64::MAX; self.edges_of.len()];
        let mut came_by = vec![usize::MAX; self.edges_of.len()];
        let mut queued = vec![false; self.edges_of.len()];
        let mut queue = VecDeque::from([origin]);
        cost[origin] = 0;
        while let Some(node) = queue.pop_front() {
            queued[node] = false;
            for &edge in &self.edges_of[node] {
                let Edge { to, room, cost: step } = self.edges[edge];
                if room > 0 && cost[node] + step < cost[to] {
                    cost[to] = cost[node] + step;
                    came_by[to] = edge;
                    if !std::mem::replace(&mut queued[to], true) {
                        queue.push_back(to);
                    }
                }
            }
        }
        if cost[end] == i64::MAX {
            return None;
        }
        let mut path = Vec::new();
        let mut node = end;
        while node != origin {
            path.push(came_by[node]);
            node = self.edges[came_by[node] ^ 1].to;
        }
        Some(path)
    }
}
