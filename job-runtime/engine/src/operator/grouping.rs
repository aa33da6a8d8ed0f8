//! What every grouping of a plan is checked for, with or without windows.

use freshet_plan::Column;

use crate::accumulate::AggregateSpec;
use crate::group::key::can_group;

/// Checks the positions of grouping columns against their names and types.
pub(super) fn check_columns(group: &[usize], columns: &[Column]) -> Result<(), String> {
    if group.len() != columns.len() {
        return Err(format!("{} grouping columns, {} types", group.len(), columns.len()));
    }
    match columns.iter().find(|column| !can_group(&column.data_type)) {
        Some(column) => Err(format!("column `{}` is {}, which can't be grouped by", column.name, column.data_type)),
        None => Ok(()),
    }
}

/// Checks that the rows before a grouping have the columns that it reads.
pub(super) fn check_input(
    input: &[Column],
    group: &[usize],
    columns: &[Column],
    aggregates: &[AggregateSpec],
) -> Result<(), String> {
    for (position, wanted) in group.iter().zip(columns) {
        if input.get(*position).map(|column| &column.data_type) != Some(&wanted.data_type) {
            return Err(format!("column {position} of its rows is not `{}` {}", wanted.name, wanted.data_type));
        }
    }
    let is_lost = |aggregate: &&AggregateSpec| {
        [aggregate.argument, aggregate.filter].into_iter().flatten().any(|at| at >= input.len())
    };
    match aggregates.iter().find(is_lost) {
        Some(aggregate) => Err(format!("aggregate `{}` reads a column that is not there", aggregate.name)),
        None => Ok(()),
    }
}
