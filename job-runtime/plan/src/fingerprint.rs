//! Fingerprints and ids from meaning.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Expr, Plan, Step};

/// The first `digits` hexadecimal digits of the SHA-256 of a value's JSON.
///
/// # Panics
/// Never for the types of this crate: all of them serialise.
pub fn short_hash<T: Serialize + ?Sized>(value: &T, digits: usize) -> String {
    let json = serde_json::to_vec(value).expect("plan types serialise");
    let mut text: String = Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

impl Plan {
    /// What two plans that compute the same share: 12 hexadecimal digits. Names that only people read (of columns in
    /// expressions and between steps, of aggregates), the tables' names in SQL and the numbers of statements are not
    /// in it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        short_hash(&self.without_names(), 12)
    }

    /// The plan without what is only for people.
    fn without_names(&self) -> Self {
        let mut plan = self.clone();
        for stage in &mut plan.stages {
            match &mut stage.input {
                crate::Input::Topic(source) => source.table.clear(),
                crate::Input::Repartition(source) => source.columns.iter_mut().for_each(|column| column.name.clear()),
            }
            for chain in &mut stage.chains {
                chain.statement = 0;
                for step in &mut chain.steps {
                    strip_step(step);
                }
                match &mut chain.output {
                    crate::Output::Topic(sink) => sink.table.clear(),
                    crate::Output::Repartition { columns, .. } => {
                        columns.iter_mut().for_each(|column| column.name.clear());
                    }
                }
            }
        }
        plan
    }
}

fn strip_step(step: &mut Step) {
    match step {
        Step::Filter { predicate } => strip(predicate),
        Step::Project { columns } => {
            for column in columns {
                // A sink's names are in the sink.
                column.name.clear();
                strip(&mut column.expr);
            }
        }
        Step::WindowAggregate(aggregate) | Step::WindowCombine(aggregate) | Step::WindowMerge(aggregate) => {
            aggregate.group_columns.iter_mut().for_each(|column| column.name.clear());
            aggregate.aggregates.iter_mut().for_each(|call| call.name.clear());
        }
        Step::Rank(rank) | Step::RankCombine(rank) | Step::RankMerge(rank) => {
            rank.partition_columns.iter_mut().chain(&mut rank.kept_columns).for_each(|column| column.name.clear());
            rank.order.iter_mut().for_each(|by| by.name.clear());
        }
        Step::GroupAggregate(group) | Step::GroupCombine(group) | Step::GroupMerge(group) => {
            group.group_columns.iter_mut().for_each(|column| column.name.clear());
            group.aggregates.iter_mut().for_each(|call| call.name.clear());
        }
    }
}

/// Takes the names of columns out of an expression; their positions say it all.
fn strip(expr: &mut Expr) {
    match expr {
        Expr::Column { index: _, name } => name.clear(),
        Expr::Literal { .. } => {}
        Expr::Binary { op: _, left, right } => {
            strip(left);
            strip(right);
        }
        Expr::Not { expr }
        | Expr::Negative { expr }
        | Expr::IsNull { expr, .. }
        | Expr::IsTruth { expr, .. }
        | Expr::Cast { expr, .. }
        | Expr::Field { expr, .. } => strip(expr),
        Expr::Like { expr, pattern, .. } => {
            strip(expr);
            strip(pattern);
        }
        Expr::InList { expr, list, .. } => {
            strip(expr);
            list.iter_mut().for_each(strip);
        }
        Expr::Case { base, when, otherwise } => {
            base.iter_mut().chain(otherwise).for_each(|expr| strip(expr));
            for (when, then) in when {
                strip(when);
                strip(then);
            }
        }
        Expr::Call { function: _, args } => args.iter_mut().for_each(strip),
    }
}
