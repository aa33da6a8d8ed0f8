//! Results that change: where they may be written, and how.
//!
//! A grouping without a window gives a row for each group, and another one whenever the group changes; ROW_NUMBER with a
//! bound gives a row for each key and number. A topic can hold that where the record key is what a row is known by: then
//! each record replaces the one before it. So the key columns of the Topic must be what rows are known by, all of it and
//! nothing else (but for constants), and never null where there is only one of them: a record without key replaces
//! nothing.

use datafusion_expr::{BinaryExpr, Expr as DfExpr, Operator};
use freshet_plan::{Changes, DataType, Emits};
use sqlparser::tokenizer::Span;

use crate::Table;
use crate::arrow_types::{from_arrow, to_arrow};
use crate::bind::{conjuncts, constant};
use crate::error::{Outcome, Site, SqlError};
use crate::ranking::ROW_NUMBER;
use crate::relation::Relation;
use crate::sink::{Statement, is_wider};

/// Ways to a result that is final.
const WINDOW: &str =
    "or group by a window, whose result is final: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))";
const FIRST_ROW: &str =
    "or keep the first row by event time, which is final: ORDER BY the event time, and WHERE rn = 1";

impl Relation {
    /// Which rows it gives, where they are no ordinary stream of rows; `source` is the table that it reads.
    fn emits(&self, source: &Table) -> Option<Emits> {
        if let Some(ranking) = &self.ranking {
            return Some(ranking.emits(source, !self.having.is_empty()));
        }
        let grouping = self.grouping.as_ref().filter(|_| self.window.is_none())?;
        Some(match (grouping.aggregates.is_empty(), self.having.is_empty()) {
            (true, _) => Emits::First,
            (false, true) => Emits::Latest,
            (false, false) => Emits::Changes,
        })
    }

    /// Whether rows that it has given are replaced by later ones.
    pub(crate) fn updates(&self, source: &Table) -> bool {
        self.emits(source).is_some_and(|emits| emits != Emits::First)
    }
}

impl Statement {
    /// Which rows its grouping gives, where it has one without a window.
    pub(crate) fn emits(&self, source: &Table) -> Option<Emits> {
        let emits = self.relation.emits(source)?;
        // Who looks on wants to see what a row replaces.
        Some(if self.changes == Changes::Log { Emits::Changes } else { emits })
    }
}

/// What a row is known by: a part of it.
struct Part {
    /// For people.
    text: String,
    /// As outputs are computed from it.
    expr: DfExpr,
    data_type: DataType,
    may_be_null: bool,
}

/// What rows of a result are known by.
struct Identity {
    /// What gives the result, for people.
    what: String,
    parts: Vec<Part>,
    /// Whether ROW_NUMBER is 1 in every row.
    has_one_number: bool,
    /// The way to a result that is final.
    way_out: &'static str,
}

impl Identity {
    fn of(relation: &Relation) -> Option<Self> {
        let nulls = |value: &crate::relation::Typed, column: Option<&DfExpr>| may_be_null(relation, value, column);
        if let Some(ranking) = &relation.ranking {
            let parts = ranking.keys.iter().map(|key| Part {
                text: key.text.clone(),
                expr: key.value.expr.clone(),
                data_type: key.data_type.clone(),
                may_be_null: nulls(&key.value, Some(&key.value.raw)),
            });
            let has_one_number = ranking.limit == Some(1);
            let number = (!has_one_number).then(|| Part {
                text: "ROW_NUMBER()".to_owned(),
                expr: DfExpr::Column(datafusion_common::Column::new_unqualified(ROW_NUMBER)),
                data_type: DataType::BigInt,
                may_be_null: false,
            });
            return Some(Self {
                what: "ROW_NUMBER".to_owned(),
                parts: parts.chain(number).collect(),
                has_one_number,
                way_out: FIRST_ROW,
            });
        }
        let grouping = relation.grouping.as_ref()?;
        let parts = grouping.keys.iter().enumerate().map(|(at, key)| {
            let expr = DfExpr::Column(datafusion_common::Column::new_unqualified(format!("#key{at}")));
            let may_be_null = nulls(&key.value, Some(&expr));
            Part { text: key.text.clone(), expr, data_type: key.data_type.clone(), may_be_null }
        });
        let parts: Vec<Part> = parts.collect();
        let what = if parts.is_empty() {
            "an aggregate over the whole stream".to_owned()
        } else {
            format!("GROUP BY {}", texts(&parts))
        };
        Some(Self { what, parts, has_one_number: false, way_out: WINDOW })
    }

    /// Which part `output` is: as it is, or widened, so that different rows stay different.
    fn part(&self, output: &DfExpr) -> Option<usize> {
        if let Some(at) = self.parts.iter().position(|part| part.expr == *output) {
            return Some(at);
        }
        let DfExpr::Cast(cast) = output else { return None };
        let at = self.part(&cast.expr)?;
        let (from, to) = (&self.parts[at].data_type, from_arrow(cast.field.data_type())?);
        (to_arrow(from) == to_arrow(&to) || is_wider(from, &to)).then_some(at)
    }

    /// Whether `output` is the same in every row.
    fn is_constant(&self, output: &DfExpr) -> bool {
        constant(output).is_some_and(|value| !value.is_null())
            || (self.has_one_number && matches!(output, DfExpr::Column(column) if column.name == ROW_NUMBER))
    }
}

fn texts(parts: &[Part]) -> String {
    parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(", ")
}

/// How the rows of `relation`, which reads `source`, are written to `sink`, into whose columns go `outputs`; or why they
/// can't be. `span` is where the statement names the sink.
pub(crate) fn changes(
    site: &Site<'_>,
    span: Span,
    (relation, source): (&Relation, &Table),
    sink: &Table,
    outputs: &[DfExpr],
) -> Outcome<Changes> {
    let Some(identity) = Identity::of(relation).filter(|_| relation.updates(source)) else {
        return Ok(Changes::Append);
    };
    let name = &sink.name;
    let found: Vec<Option<usize>> = outputs.iter().map(|output| identity.part(output)).collect();
    if sink.key.is_empty() {
        let message = format!(
            "the result of {} changes as records come, and the Topic of `{name}` declares no key by which a record \
             could replace the one before it",
            identity.what
        );
        return Err(site.error(span, message).help(without_key(sink, &identity, &found)).into());
    }
    let mut covered = vec![false; identity.parts.len()];
    for column in &sink.key {
        let at = sink.columns.iter().position(|known| known.name == *column);
        match at.and_then(|at| outputs.get(at).map(|output| (output, found[at]))) {
            Some((_, Some(part))) => covered[part] = true,
            Some((output, None)) if identity.is_constant(output) => {}
            _ => return Err(no_part(site, span, sink, &identity, column, &found).into()),
        }
    }
    if let Some(missing) = covered.iter().position(|covered| !covered) {
        let text = &identity.parts[missing].text;
        let message = format!(
            "rows of {} are known by `{text}`, which is no part of the key of `{name}` ({}): different rows would replace \
             one another",
            identity.what,
            sink.key.join(", ")
        );
        let help = match found.iter().position(|part| *part == Some(missing)) {
            Some(at) => format!("add `{}` to schema.key of the Topic, or leave `{text}` out", column(sink, at)),
            None => format!("select `{text}` into a column of the Topic's key, or leave it out"),
        };
        return Err(site.error(span, message).help(help).into());
    }
    if let [only] = sink.key.as_slice() {
        let at = sink.columns.iter().position(|known| known.name == *only);
        let part = at.and_then(|at| found[at]).map(|part| &identity.parts[part]);
        if let Some(Part { text, .. }) = part.filter(|part| part.may_be_null) {
            let message = format!(
                "`{text}` may be null, and is the key of `{name}` by itself: a record without key can't be replaced"
            );
            let help = format!(
                "add WHERE {text} IS NOT NULL, or write COALESCE({text}, …), or declare the column `required` where it \
                 comes from"
            );
            return Err(site.error(span, message).help(help).into());
        }
    }
    Ok(Changes::Upsert)
}

fn column(sink: &Table, at: usize) -> &str {
    sink.columns.get(at).map_or("", |column| &column.name)
}

/// The columns that what rows are known by goes into, where all of it does.
fn key_columns(sink: &Table, identity: &Identity, found: &[Option<usize>]) -> Option<String> {
    let of = |part: usize| found.iter().position(|found| *found == Some(part)).map(|at| column(sink, at));
    let columns: Vec<&str> = (0..identity.parts.len()).map(of).collect::<Option<_>>()?;
    (!columns.is_empty()).then(|| columns.join(", "))
}

fn without_key(sink: &Table, identity: &Identity, found: &[Option<usize>]) -> String {
    let way_out = identity.way_out;
    if identity.parts.is_empty() {
        return format!(
            "give the result a column with a constant, SELECT 'all' AS name, …, and the Topic schema.key: [name]; {way_out}"
        );
    }
    match key_columns(sink, identity, found) {
        Some(columns) => format!("give the Topic schema.key: [{columns}]; {way_out}"),
        None => {
            let texts = texts(&identity.parts);
            format!(
                "select all that a row is known by ({texts}), and make those columns the Topic's schema.key; {way_out}"
            )
        }
    }
}

fn no_part(
    site: &Site<'_>,
    span: Span,
    sink: &Table,
    identity: &Identity,
    column: &str,
    found: &[Option<usize>],
) -> SqlError {
    let way_out = identity.way_out;
    let message = format!(
        "`{column}` is part of the key of `{}`, and is not what rows of {} are known by: when it changes, the record with \
         its old value would stay",
        sink.name, identity.what
    );
    let help = match key_columns(sink, identity, found) {
        Some(columns) => format!("give the Topic schema.key: [{columns}]; {way_out}"),
        None => {
            let texts = texts(&identity.parts);
            format!(
                "select all that a row is known by ({texts}), as it is, into the columns of the Topic's key; {way_out}"
            )
        }
    };
    site.error(span, message).help(help)
}

/// Whether a key can be null: it is not required, and no condition keeps nulls out, neither one on rows nor one on the
/// result, in which it is `column`.
fn may_be_null(relation: &Relation, value: &crate::relation::Typed, column: Option<&DfExpr>) -> bool {
    let mut of_rows = relation.filters.iter().flat_map(|filter| conjuncts(&filter.raw));
    let mut of_result = relation.having.iter().flat_map(|having| conjuncts(&having.raw));
    value.nullable
        && !of_rows.any(|condition| keeps_nulls_out(condition, &value.raw))
        && !of_result.any(|condition| column.is_some_and(|column| keeps_nulls_out(condition, column)))
}

/// Whether `condition` is true for no row in which `value` is null.
fn keeps_nulls_out(condition: &DfExpr, value: &DfExpr) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    match condition {
        DfExpr::IsNotNull(inner) => **inner == *value,
        DfExpr::BinaryExpr(BinaryExpr { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right }) => {
            **left == *value || **right == *value
        }
        DfExpr::Like(like) => *like.expr == *value,
        DfExpr::InList(list) => *list.expr == *value,
        DfExpr::Between(between) => *between.expr == *value,
        _ => false,
    }
}
