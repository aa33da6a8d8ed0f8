//! UNION ALL: the rows of several queries, one after another as they come.
//!
//! A query is a list of relations, of which each gives its rows for itself. What stands over a UNION ALL is planned over
//! every part: a filter and a projection of all rows are a filter and a projection of the rows of each. So the parts need
//! not meet before the table that they are written to. Columns go together by position; they are called as in the first
//! part, and have the widest of the parts' types.

use arrow_schema::DataType as ArrowType;
use datafusion_expr::{Cast, Expr as DfExpr};
use freshet_plan::DataType;

use crate::arrow_types::{from_arrow, to_arrow};
use crate::convert_expr::not_a_column;
use crate::error::{Outcome, all};
use crate::relation::{Relation, Typed};
use crate::select::Planner;
use crate::sink::{is_wider, null};

impl Planner<'_> {
    /// The parts of a UNION ALL as one list of relations with the same columns.
    pub(crate) fn union(&self, parts: Vec<Vec<Relation>>) -> Outcome<Vec<Relation>> {
        let mut relations: Vec<Relation> = parts.into_iter().flatten().collect();
        let Some(first) = relations.first().cloned() else { return Ok(relations) };
        for other in &relations[1..] {
            let (wanted, given) = (first.columns.len(), other.columns.len());
            if wanted != given {
                let span = other.columns.first().map_or_else(|| self.site.whole(), |column| column.value.span);
                return Err(self
                    .site
                    .error(span, format!("this part of UNION ALL gives {given} columns, and the first gives {wanted}"))
                    .help("select as many in each part: they go together by position")
                    .into());
            }
        }
        let updating = relations.iter().find(|relation| relation.updates(&self.catalog.tables[relation.source]));
        if let Some(column) = updating.and_then(|relation| relation.columns.first()) {
            return Err(self
                .site
                .error(
                    column.value.span,
                    "a part of UNION ALL whose rows are replaced by later ones is not supported yet",
                )
                .help("write it to a topic of its own with one INSERT INTO")
                .into());
        }
        let types = all((0..first.columns.len()).map(|at| self.common_type(&relations, at)))?;
        for relation in &mut relations {
            relation.names.clear();
            for ((column, named), wanted) in relation.columns.iter_mut().zip(&first.columns).zip(&types) {
                column.name.clone_from(&named.name);
                if let Some(wanted) = wanted {
                    column.value = self.as_type(&column.value, wanted)?;
                }
            }
        }
        Ok(relations)
    }

    /// The type of the columns at `at`; `None` where all are NULL.
    fn common_type(&self, relations: &[Relation], at: usize) -> Outcome<Option<DataType>> {
        let mut found: Option<DataType> = None;
        for relation in relations {
            let column = &relation.columns[at];
            let value = &column.value;
            if value.data_type == ArrowType::Null {
                continue;
            }
            let Some(given) = from_arrow(&value.data_type) else {
                let message = format!("`{}` is {}", column.name, not_a_column(&value.data_type));
                return Err(self.site.error(value.span, message).into());
            };
            found = match found {
                None => Some(given),
                Some(found) if found == given || is_wider(&given, &found) => Some(found),
                Some(found) if is_wider(&found, &given) => Some(given),
                Some(found) => {
                    return Err(self
                        .site
                        .error(
                            value.span,
                            format!("this part of UNION ALL gives {given} here, and the ones before it give {found}"),
                        )
                        .help(format!("write CAST(… AS {found}) around it, or another type around all of them"))
                        .into());
                }
            };
        }
        Ok(found)
    }

    fn as_type(&self, value: &Typed, wanted: &DataType) -> Outcome<Typed> {
        let data_type = to_arrow(wanted);
        if value.data_type == data_type {
            return Ok(value.clone());
        }
        if value.data_type == ArrowType::Null {
            let expr = null(wanted).map_err(|message| self.site.error(value.span, message))?;
            return Ok(Typed { raw: expr.clone(), expr, data_type, nullable: true, span: value.span });
        }
        let cast = |expr: &DfExpr| DfExpr::Cast(Cast::new(Box::new(expr.clone()), data_type.clone()));
        Ok(Typed { raw: cast(&value.raw), expr: cast(&value.expr), data_type: data_type.clone(), ..value.clone() })
    }
}
