//! INSERT INTO: what a query gives, put into the columns of a topic.
//!
//! A value is cast for the user only where no value can be lost by it: to a wider type of the same kind. Everything
//! else is an error that names the column, both types and the CAST to write.

use arrow_schema::{DataType as ArrowType, Fields};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::{BinaryExpr, Cast, Expr as DfExpr, ExprSchemable, Operator};
use freshet_plan::{Changes, Column, DataType};
use sqlparser::ast::{Ident, ObjectName, Query, Spanned};

use crate::arrow_types::{from_arrow, to_arrow};
use crate::bind::constant;
use crate::convert_expr::not_a_column;
use crate::error::{Outcome, SqlError, all, both};
use crate::names::{Found, look_up, suggestion};
use crate::refuse::InsertParts;
use crate::relation::{Named, Relation, RelationColumn, find_table, unknown_table};
use crate::select::Planner;
use crate::updating;

/// A statement that is bound: what it reads and gives, and where that goes.
#[derive(Clone)]
pub(crate) struct Statement {
    /// Which statement of the text, from 0.
    pub(crate) index: u32,
    /// What it reads. Its own columns no longer matter.
    pub(crate) relation: Relation,
    /// The table that it writes, as a position in the catalogue.
    pub(crate) sink: usize,
    /// What goes into each of that table's columns.
    pub(crate) outputs: Vec<DfExpr>,
    /// How that table is told of changes.
    pub(crate) changes: Changes,
}

impl Planner<'_> {
    /// Plans an INSERT.
    pub(crate) fn insert(&self, index: u32, parts: InsertParts, views: &Named) -> Outcome<Vec<Statement>> {
        let InsertParts { table, columns, query } = parts;
        let sink = self.sink(&table, views);
        let query_span = Query::span(&query);
        let relations = self.query(*query, views);
        let (sink, relations) = both(sink, relations)?;
        all(relations.into_iter().map(|relation| self.written(index, sink, (&table, &columns), query_span, relation)))
    }

    /// One relation, written to a table.
    fn written(
        &self,
        index: u32,
        sink: usize,
        (table, columns): (&ObjectName, &[ObjectName]),
        query_span: sqlparser::tokenizer::Span,
        relation: Relation,
    ) -> Outcome<Statement> {
        self.no_bare_window(&relation)?;
        let target = &self.catalog.tables[sink];
        if self.catalog.tables[relation.source].topic == target.topic {
            return Err(self
                .site
                .error(
                    table.span(),
                    format!("the statement reads and writes `{table}`: its output would be its input for ever"),
                )
                .help("write another table")
                .into());
        }
        let targets = self.targets(sink, table, columns, relation.columns.len(), query_span)?;
        let mut outputs: Vec<Option<DfExpr>> = vec![None; target.columns.len()];
        let casts = relation.columns.iter().zip(&targets).map(|(given, at)| {
            let wanted = &target.columns[*at];
            Ok((*at, self.fitted(given, wanted, &target.name, relation.inner())?))
        });
        for (at, expr) in all(casts)? {
            outputs[at] = Some(expr);
        }
        let outputs = all(outputs.into_iter().zip(&target.columns).map(|(output, column)| match output {
            Some(expr) => Ok(expr),
            None if column.required => Err(self.not_null(table, column, "is not written").into()),
            None if target.key.contains(&column.name) => {
                let message = format!("`{}` is part of the key of `{}` and is not written", column.name, target.name);
                Err(self.site.error(table.span(), message).help(format!("select a value for `{}`", column.name)).into())
            }
            None => null(&column.data_type).map_err(|message| self.site.error(table.span(), message).into()),
        }))?;
        self.ranking_is_bounded(&relation, &outputs)?;
        let source = &self.catalog.tables[relation.source];
        let changes = updating::changes(self.site, table.span(), (&relation, source), target, &outputs)?;
        Ok(Statement { index, relation, sink, outputs, changes })
    }

    /// Refuses a window whose rows are not grouped.
    pub(crate) fn no_bare_window(&self, relation: &Relation) -> Outcome<()> {
        match (&relation.window, &relation.grouping) {
            (Some((_, span)), None) => Err(self
                .site
                .error(*span, "a window without GROUP BY is not supported yet")
                .help("add GROUP BY window_start, window_end")
                .into()),
            _ => Ok(()),
        }
    }

    fn not_null(&self, table: &ObjectName, column: &Column, what: &str) -> SqlError {
        self.site
            .error(table.span(), format!("`{}` of `{table}` is required and {what}", column.name))
            .help(format!("select a value for `{}`", column.name))
    }

    fn sink(&self, name: &ObjectName, views: &Named) -> Outcome<usize> {
        let ident: Option<Ident> = match name.0.as_slice() {
            [part] => part.as_ident().cloned(),
            _ => None,
        };
        let Some(ident) = ident else {
            return Err(self
                .site
                .error(name.span(), format!("`{name}` is not a table's name: names of tables have no dots"))
                .help("a table is called as its Topic resource, with `_` for `-`")
                .into());
        };
        find_table(self.catalog, &ident).ok_or_else(|| {
            if !matches!(look_up(&ident, views.iter().map(|(name, _)| name.as_str())), Found::Nothing) {
                let message = format!("`{}` is a view: nothing can be written to it", ident.value);
                return self.site.error(ident.span, message).help("write a Topic's table").into();
            }
            unknown_table(self.site, &ident, self.catalog.tables.iter().map(|table| table.name.as_str())).into()
        })
    }

    /// Which columns of the table the query's columns go into.
    fn targets(
        &self,
        sink: usize,
        table: &ObjectName,
        columns: &[ObjectName],
        given: usize,
        query: sqlparser::tokenizer::Span,
    ) -> Outcome<Vec<usize>> {
        let target = &self.catalog.tables[sink];
        let names = || target.columns.iter().map(|column| column.name.as_str());
        let targets = if columns.is_empty() {
            (0..target.columns.len()).collect()
        } else {
            let mut found: Vec<usize> = Vec::new();
            for name in columns {
                let ident = name.0.first().filter(|_| name.0.len() == 1).and_then(|part| part.as_ident());
                let at = match ident.map(|ident| look_up(ident, names())) {
                    Some(Found::One(at)) => at,
                    Some(Found::Nothing | Found::Several) | None => {
                        let help = match suggestion(&name.to_string(), names()) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => format!("its columns are {}", names().collect::<Vec<_>>().join(", ")),
                        };
                        let message = format!("`{}` has no column `{name}`", target.name);
                        return Err(self.site.error(name.span(), message).help(help).into());
                    }
                };
                if found.contains(&at) {
                    return Err(self.site.error(name.span(), format!("`{name}` is listed twice")).into());
                }
                found.push(at);
            }
            found
        };
        if targets.len() != given {
            let wanted: Vec<&str> = targets.iter().map(|at| target.columns[*at].name.as_str()).collect();
            let message = format!(
                "the SELECT gives {given} columns, and `{table}` takes {}: {}",
                wanted.len(),
                wanted.join(", ")
            );
            let help = format!("select as many, or list those that are given: INSERT INTO {table} (…) SELECT …");
            let span = if query.start.line == 0 { table.span() } else { query };
            return Err(self.site.error(span, message).help(help).into());
        }
        Ok(targets)
    }

    /// `given` as a value of `wanted`.
    fn fitted(&self, given: &RelationColumn, wanted: &Column, table: &str, over: &Fields) -> Outcome<DfExpr> {
        let value = &given.value;
        let error = |message: String| self.site.error(value.span, message);
        if value.data_type == ArrowType::Null || constant(&value.expr).is_some_and(ScalarValue::is_null) {
            if wanted.required {
                return Err(error(format!("`{}` of `{table}` is required; this is NULL", wanted.name)).into());
            }
            return null(&wanted.data_type).map_err(|message| error(message).into());
        }
        let Some(from) = from_arrow(&value.data_type) else {
            return Err(error(format!("`{}` is {}", given.name, not_a_column(&value.data_type))).into());
        };
        let to = &wanted.data_type;
        if from == *to {
            return Ok(value.expr.clone());
        }
        // A constant fits if its value does.
        if let Some(constant) = constant(&value.expr)
            && is_number(&from)
            && is_number(to)
            && let Ok(small) = constant.cast_to(&to_arrow(to))
            && !small.is_null()
            && small.cast_to(&value.data_type).is_ok_and(|back| back == *constant)
        {
            return Ok(DfExpr::Literal(small, None));
        }
        let schema = crate::bind::schema_of(self.site, value.span, over)?;
        if is_wider(&from, to) || (is_number(&from) && is_number(to) && always_fits(&value.expr, to, &schema)) {
            return Ok(DfExpr::Cast(Cast::new(Box::new(value.expr.clone()), to_arrow(to))));
        }
        Err(error(format!("`{}` of `{table}` is {to}, and this is {from}, which may not fit", wanted.name))
            .help(format!("write CAST(… AS {to}) around it, or change the Topic's column to {from}"))
            .into())
    }
}

/// Whether every value that `expr` can have is one of the number type `to`, although its own type is a wider one: the
/// branches of `CASE WHEN ok THEN 1 ELSE 0 END` are BIGINTs, and fit into an INT.
fn always_fits(expr: &DfExpr, to: &DataType, schema: &DFSchema) -> bool {
    let of = |expr: &DfExpr| expr.get_type(schema).ok().and_then(|data_type| from_arrow(&data_type));
    let fits = |expr: &DfExpr| always_fits(expr, to, schema);
    let is_integer = |data_type: &DataType| {
        matches!(data_type, DataType::TinyInt | DataType::SmallInt | DataType::Int | DataType::BigInt)
    };
    if of(expr).is_some_and(|from| from == *to || is_wider(&from, to)) {
        return true;
    }
    match expr {
        DfExpr::Literal(value, _) => {
            value.is_null()
                || value.cast_to(&to_arrow(to)).is_ok_and(|small| {
                    !small.is_null() && small.cast_to(&value.data_type()).is_ok_and(|back| back == *value)
                })
        }
        DfExpr::Cast(cast) => {
            let (inner, outer) = (of(&cast.expr), from_arrow(cast.field.data_type()));
            inner.zip(outer).is_some_and(|(inner, outer)| is_wider(&inner, &outer)) && fits(&cast.expr)
        }
        DfExpr::Case(case) => {
            case.when_then_expr.iter().all(|(_, then)| fits(then)) && case.else_expr.iter().all(|expr| fits(expr))
        }
        DfExpr::ScalarFunction(call) => match call.func.name() {
            "coalesce" | "nvl" | "greatest" | "least" => call.args.iter().all(fits),
            "nullif" => call.args.first().is_some_and(fits),
            "nvl2" => call.args.iter().skip(1).all(fits),
            _ => false,
        },
        // A remainder is nearer to 0 than the divisor, and a quotient than the dividend.
        DfExpr::BinaryExpr(BinaryExpr { left, op, right }) if of(expr).is_some_and(|own| is_integer(&own)) => {
            let divisor = constant(right);
            match op {
                Operator::Modulo => (divisor.is_some() && fits(right)) || fits(left),
                Operator::Divide => divisor.is_some_and(|by| *by > ScalarValue::Int64(Some(0))) && fits(left),
                _ => false,
            }
        }
        _ => false,
    }
}

pub(crate) fn null(data_type: &DataType) -> Result<DfExpr, String> {
    let value = ScalarValue::try_from(&to_arrow(data_type))
        .map_err(|error| format!("there is no null of {data_type}: {error}"))?;
    Ok(DfExpr::Literal(value, None))
}

const fn is_number(data_type: &DataType) -> bool {
    use DataType::{BigInt, Decimal, Double, Float, Int, SmallInt, TinyInt};
    matches!(data_type, TinyInt | SmallInt | Int | BigInt | Float | Double | Decimal(..))
}

/// Whether every value of `from` is one of `to`.
///
/// A DECIMAL of 38 digits is what sums give: its precision says nothing about its values. It goes into any DECIMAL
/// that keeps its fraction; a value that does not fit stops the job, and never becomes another.
pub(crate) fn is_wider(from: &DataType, to: &DataType) -> bool {
    use DataType::{BigInt, Date, Decimal, Double, Float, Int, SmallInt, Timestamp, TimestampLtz, TinyInt};
    let digits = |data_type: &DataType| match data_type {
        TinyInt => Some(3),
        SmallInt => Some(5),
        Int => Some(10),
        BigInt => Some(19),
        _ => None,
    };
    match (from, to) {
        (Decimal(38, scale), Decimal(_, wide_scale)) if wide_scale >= scale => true,
        (Decimal(precision, scale), Decimal(wide, wide_scale)) => {
            wide_scale >= scale && wide - wide_scale >= precision - scale
        }
        (TinyInt | SmallInt | Int | Float, Double) | (TinyInt | SmallInt, Float) => true,
        (Timestamp(from), Timestamp(to)) | (TimestampLtz(from), TimestampLtz(to)) => to >= from && *to < 9,
        (Date, Timestamp(digits)) => *digits < 9,
        _ => match (digits(from), digits(to), to) {
            (Some(from), Some(to), _) => to >= from,
            (Some(from), None, Decimal(precision, scale)) => precision - scale >= from,
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wider_types_are_cast_to() {
        for (from, to, fits) in [
            ("INT", "BIGINT", true),
            ("BIGINT", "INT", false),
            ("INT", "DOUBLE", true),
            ("BIGINT", "DOUBLE", false),
            ("BIGINT", "DECIMAL(19,0)", true),
            ("BIGINT", "DECIMAL(19,2)", false),
            ("DECIMAL(12,2)", "DECIMAL(14,4)", true),
            ("DECIMAL(12,2)", "DECIMAL(12,4)", false),
            ("DECIMAL(12,4)", "DECIMAL(12,2)", false),
            ("DECIMAL(38,2)", "DECIMAL(18,2)", true),
            ("DECIMAL(38,6)", "DECIMAL(18,2)", false),
            ("DECIMAL(12,2)", "DOUBLE", false),
            ("DOUBLE", "FLOAT", false),
            ("TIMESTAMP(3)", "TIMESTAMP(6)", true),
            ("TIMESTAMP(6)", "TIMESTAMP(3)", false),
            ("TIMESTAMP(3)", "TIMESTAMP_LTZ(3)", false),
            ("INT", "STRING", false),
            ("TIMESTAMP(3)", "STRING", false),
            ("STRING", "INT", false),
            ("DATE", "TIMESTAMP(3)", true),
        ] {
            let parse = |text: &str| text.parse::<DataType>().expect(text);
            assert_eq!(is_wider(&parse(from), &parse(to)), fits, "{from} to {to}");
        }
    }
}
