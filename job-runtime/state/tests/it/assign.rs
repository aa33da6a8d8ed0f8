use std::collections::BTreeMap;

use freshet_state::TaskId;
use freshet_state::assign::assign;
use proptest::prelude::*;

type Assignment = BTreeMap<TaskId, u32>;

fn tasks(stages: &[u32]) -> Vec<TaskId> {
    let all = stages.iter().enumerate();
    all.flat_map(|(stage, count)| (0..*count).map(move |partition| TaskId::new(format!("s{stage}"), partition)))
        .collect()
}

fn spread(assignment: &Assignment, slots: u32, of: impl Fn(&TaskId) -> bool) -> u32 {
    let mut counts = vec![0; slots as usize];
    assignment.iter().filter(|(task, _)| of(task)).for_each(|(_, slot)| counts[*slot as usize] += 1);
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

fn balanced(assignment: &Assignment, slots: u32, stages: usize) -> bool {
    spread(assignment, slots, |_| true) <= 1
        && (0..stages).all(|stage| spread(assignment, slots, |task| task.stage == format!("s{stage}")) <= 1)
}

fn moved(before: &Assignment, after: &Assignment) -> usize {
    after.iter().filter(|(task, slot)| before.get(task).is_some_and(|had| had != *slot)).count()
}

/// The fewest moves of any balanced assignment, by trying all of them.
fn fewest_moves(tasks: &[TaskId], slots: u32, before: &Assignment, stages: usize) -> usize {
    let mut fewest = usize::MAX;
    for code in 0..u64::from(slots).pow(tasks.len() as u32) {
        let mut rest = code;
        let mut assignment = Assignment::new();
        for task in tasks {
            assignment.insert(task.clone(), (rest % u64::from(slots)) as u32);
            rest /= u64::from(slots);
        }
        if balanced(&assignment, slots, stages) {
            fewest = fewest.min(moved(before, &assignment));
        }
    }
    fewest
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn every_task_has_a_slot_and_all_is_balanced(
        stages in prop::collection::vec(0..40_u32, 1..5),
        path in prop::collection::vec(1..12_u32, 1..6),
    ) {
        let tasks = tasks(&stages);
        let mut before: Option<Assignment> = None;
        for slots in path {
            let after = assign(&tasks, slots, before.as_ref());
            prop_assert_eq!(after.len(), tasks.len());
            prop_assert!(after.values().all(|slot| *slot < slots));
            prop_assert!(balanced(&after, slots, stages.len()), "{:?}", after);
            prop_assert_eq!(&assign(&tasks, slots, Some(&after)), &after, "what is balanced stays");
            let shuffled: Vec<_> = tasks.iter().rev().cloned().collect();
            prop_assert_eq!(&assign(&shuffled, slots, before.as_ref()), &after, "the order of tasks is of no account");
            before = Some(after);
        }
    }

    #[test]
    fn no_balanced_assignment_moves_fewer(
        stages in prop::collection::vec(1..4_u32, 1..4).prop_filter("small", |s| s.iter().sum::<u32>() <= 7),
        slots in 1..4_u32,
        had in prop::collection::vec(prop::option::of(0..4_u32), 7),
    ) {
        let tasks = tasks(&stages);
        let before: Assignment =
            tasks.iter().cloned().zip(had).filter_map(|(task, slot)| Some((task, slot?))).collect();
        let after = assign(&tasks, slots, Some(&before));
        prop_assert!(balanced(&after, slots, stages.len()));
        prop_assert_eq!(moved(&before, &after), fewest_moves(&tasks, slots, &before, stages.len()));
    }
}

#[test]
fn one_more_slot_takes_its_share_and_no_other_task_moves() {
    let tasks = tasks(&[12, 64]);
    let before = assign(&tasks, 3, None);
    let after = assign(&tasks, 4, Some(&before));
    assert_eq!(moved(&before, &after), 19, "a quarter of 76");
    assert!(after.iter().all(|(task, slot)| before[task] == *slot || *slot == 3));
}

#[test]
fn no_slots_no_assignment() {
    assert!(assign(&tasks(&[3]), 0, None).is_empty());
}

#[test]
fn many_slots_are_no_matter() {
    let tasks = tasks(&[600, 997, 64, 12]);
    let before = assign(&tasks, 97, None);
    let after = assign(&tasks, 100, Some(&before));
    assert!(balanced(&after, 100, 4));
    assert!(moved(&before, &after) < 200, "{} moved", moved(&before, &after));
}
