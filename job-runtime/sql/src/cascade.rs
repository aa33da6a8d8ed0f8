//! Windows over windowed queries.
//!
//! The groups of a window are rows like any others: their event time is their `window_time`, and they come when the
//! watermark has passed it. So a window can be laid over them, by that time: a minute's sums become an hour's. Such a
//! query is an aggregation over what another one gives, and is planned as the stages of the one behind those of the other.

use arrow_schema::{DataType as ArrowType, Field};
use datafusion_expr::Expr as DfExpr;
use freshet_plan::Window;
use sqlparser::ast::Ident;

use crate::bind::fields;
use crate::error::Outcome;
use crate::names::{Found, look_up, suggestion};
use crate::relation::{Below, Relation, WINDOW_COLUMNS, plain};
use crate::select::Planner;

impl Planner<'_> {
    /// The rows of a windowed aggregation as those that a window goes over, by its `time`.
    pub(crate) fn cascaded(&self, relation: Relation, table: &Ident, time: &Ident) -> Outcome<Relation> {
        let site = self.site;
        if let Some((Window::Session { .. }, _)) = relation.window {
            return Err(site
                .error(table.span, format!("a window over the sessions of `{}` is not supported yet", table.value))
                .help("write the sessions to a topic with one INSERT INTO, and read that topic with another")
                .into());
        }
        let names = || relation.columns.iter().map(|column| column.name.as_str());
        let at = match look_up(time, names()) {
            Found::One(at) => at,
            Found::Several | Found::Nothing => {
                let near = suggestion(&time.value, names()).unwrap_or_else(|| "window_time".to_owned());
                return Err(site
                    .error(time.span, format!("`{}` has no column `{}`", table.value, time.value))
                    .help(format!("did you mean `{near}`? Windows over a windowed query go by its window_time"))
                    .into());
            }
        };
        let (_, window_time) = WINDOW_COLUMNS[2];
        if !matches!(&relation.columns[at].value.raw, DfExpr::Column(column) if column.name == window_time) {
            return Err(site
                .error(
                    time.span,
                    format!("windows over a windowed query go by its window_time, not by `{}`", time.value),
                )
                .help(format!("select `window_time AS rowtime` in `{}`, and write DESCRIPTOR(rowtime)", table.value))
                .into());
        }
        for (at, column) in relation.columns.iter().enumerate() {
            if relation.columns[..at].iter().any(|other| other.name == column.name) {
                return Err(site
                    .error(column.value.span, format!("`{}` has two columns `{}`", table.value, column.name))
                    .help("give one of them another name with AS")
                    .into());
            }
            if column.value.data_type == ArrowType::Null {
                return Err(site
                    .error(column.value.span, format!("`{}` of `{}` has no type", column.name, table.value))
                    .help("write CAST(NULL AS STRING), or another type")
                    .into());
            }
        }
        let base =
            fields(relation.columns.iter().map(|c| Field::new(&c.name, c.value.data_type.clone(), c.value.nullable)));
        let columns = base.iter().map(|field| plain(field, table.span)).collect();
        let time = relation.columns[at].name.clone();
        Ok(Relation {
            names: relation.names.clone(),
            source: relation.source,
            columns,
            base,
            filters: Vec::new(),
            window: None,
            partition: Vec::new(),
            grouping: None,
            having: Vec::new(),
            ranking: None,
            below: Some(Below { relation: Box::new(relation), time }),
        })
    }
}
