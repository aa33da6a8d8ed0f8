//! What can be asked of sessions.
//!
//! Sessions are made of rows before anything else looks at them: `SESSION(TABLE t PARTITION BY k, …)` puts every row of
//! `t` into a session of its `k`. What stands behind it sees those sessions and changes none. So they can be planned as
//! the windows of a grouping only where the grouping is by just what they are made by, and only where a condition takes
//! all rows of a session or none. Everything else is refused with what to write instead.

use datafusion_expr::Expr as DfExpr;
use freshet_plan::Window;
use sqlparser::tokenizer::Span;

use crate::aggregate::Key;
use crate::bind::columns_in;
use crate::error::Outcome;
use crate::relation::{Relation, Typed};
use crate::select::Planner;

impl Relation {
    /// Where a window of sessions was written, if it is one.
    fn sessions(&self) -> Option<Span> {
        self.window.and_then(|(window, span)| matches!(window, Window::Session { .. }).then_some(span))
    }
}

impl Planner<'_> {
    /// Refuses a condition on the rows of sessions that could take some of a session's rows and leave others.
    pub(crate) fn before_sessions(&self, condition: &Typed, relation: &Relation) -> Outcome<()> {
        if relation.sessions().is_none() || relation.grouping.is_some() {
            return Ok(());
        }
        let by = |name: &String| {
            let is_it = |by: &Typed| matches!(&by.raw, DfExpr::Column(column) if column.name == *name);
            relation.partition.iter().any(is_it)
        };
        if columns_in(&condition.raw).iter().all(by) {
            return Ok(());
        }
        Err(self
            .site
            .error(
                condition.span,
                "sessions are made of all rows, and this condition would take some out of them afterwards",
            )
            .help(
                "put it before the sessions: WITH q AS (SELECT … WHERE …), then SESSION(TABLE q …); or count some rows \
                 only: COUNT(*) FILTER (WHERE …)",
            )
            .into())
    }

    /// Refuses to group sessions by anything but what they are made by.
    pub(crate) fn keys_of_sessions(&self, relation: &Relation, keys: &[Key]) -> Outcome<()> {
        let Some(window) = relation.sessions() else { return Ok(()) };
        let by: Vec<String> = relation.partition.iter().map(|by| self.site.text(by.span)).collect();
        if let Some(key) = keys.iter().find(|key| !relation.partition.iter().any(|by| by.raw == key.value.raw)) {
            let text = self.site.text(key.value.span);
            let message = match by.as_slice() {
                [] => format!("sessions are made of all rows together, and `{text}` would divide them"),
                by => format!("sessions are made by {}, and `{text}` would divide them", by.join(", ")),
            };
            let wanted = by.iter().chain([&text]).cloned().collect::<Vec<_>>().join(", ");
            let help =
                format!("write SESSION(TABLE … PARTITION BY ({wanted}), …); to see one of its values, MAX({text})");
            return Err(self.site.error(key.value.span, message).help(help).into());
        }
        if let Some(missing) = relation.partition.iter().find(|by| !keys.iter().any(|key| key.value.raw == by.raw)) {
            let text = self.site.text(missing.span);
            return Err(self
                .site
                .error(
                    if missing.span.start.line == 0 { window } else { missing.span },
                    format!("sessions are made by `{text}`, which is not grouped by"),
                )
                .help(format!("add {text} to GROUP BY, or leave it out of PARTITION BY"))
                .into());
        }
        Ok(())
    }
}
