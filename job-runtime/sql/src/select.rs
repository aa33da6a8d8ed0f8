//! SELECT: its list, WHERE, GROUP BY and HAVING over a relation give a relation.

use datafusion_expr::ExprSchemable;
use sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned,
    TableAlias, Value, WildcardAdditionalOptions, With,
};
use sqlparser::tokenizer::Span;

use crate::Catalog;
use crate::aggregate::{contains_aggregate, has_aggregate};
use crate::arrow_types::from_arrow;
use crate::bind::{Binder, Bound, MAX_SIZE, as_column, columns_in, schema_of, size_with, substituted, typed};
use crate::convert_expr::{convert, not_a_column};
use crate::error::{Outcome, Site, all, both};
use crate::names::{Found, Scope, look_up};
use crate::ranking;
use crate::refuse::{self, Part};
use crate::refuse_expr;
use crate::relation::{Named, Relation, RelationColumn, Typed};
use crate::walk::children_mut;

/// What planning one statement needs.
pub(crate) struct Planner<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) site: &'a Site<'a>,
    pub(crate) binder: &'a Binder,
}

/// One output of a SELECT, as it is written.
struct Item {
    name: String,
    expr: Expr,
}

impl Planner<'_> {
    /// Plans a query: a relation, or several whose rows it gives together.
    pub(crate) fn query(&self, query: Query, named: &Named) -> Outcome<Vec<Relation>> {
        let (refused, parts) = refuse::query(self.site, query);
        both(refused, parts.and_then(|(with, parts)| self.with_parts(with, parts, named)))
            .map(|((), relations)| relations)
    }

    fn with_parts(&self, with: Option<With>, parts: Vec<Part>, named: &Named) -> Outcome<Vec<Relation>> {
        let mut named = named.clone();
        if let Some(With { with_token: _, recursive: _, cte_tables }) = with {
            for cte in cte_tables {
                let entry = self.cte(cte, &named)?;
                named.retain(|(name, _)| *name != entry.0);
                named.push(entry);
            }
        }
        let planned = all(parts.into_iter().map(|part| match part {
            Part::Select(select) => {
                both(refuse::select(self.site, &select), self.select(&select, &named)).map(|((), relations)| relations)
            }
            Part::Query(query) => self.query(*query, &named),
        }))?;
        if planned.len() == 1 { Ok(planned.into_iter().flatten().collect()) } else { self.union(planned) }
    }

    fn cte(&self, cte: Cte, named: &Named) -> Outcome<(String, Vec<Relation>)> {
        let Cte { alias, query, from, materialized, closing_paren_token: _ } = cte;
        let TableAlias { explicit: _, name, columns, at } = alias;
        if from.is_some() || materialized.is_some() || at.is_some() {
            return Err(self.site.error(name.span, "MATERIALIZED and other options of WITH are not supported").into());
        }
        let mut relations = self.query(*query, named)?;
        for relation in &mut relations {
            self.renamed(relation, &name, &columns)?;
        }
        Ok((name.value, relations))
    }

    fn select(&self, select: &Select, named: &Named) -> Outcome<Vec<Relation>> {
        let relations = self.from(&select.from, named)?;
        let whole = relations.len() == 1;
        all(relations.into_iter().map(|relation| self.select_over(select, relation, whole)))
    }

    /// A SELECT over one relation, which is the `whole` of what it reads, or a part of a UNION ALL.
    fn select_over(&self, select: &Select, mut relation: Relation, whole: bool) -> Outcome<Relation> {
        let outer = relation.outer();
        let scope = Scope { relations: &relation.names, columns: &outer };
        // GROUP BY ALL has been refused.
        let group_by = match &select.group_by {
            GroupByExpr::Expressions(group_by, _) => group_by.as_slice(),
            GroupByExpr::All(_) => return Err(Vec::new()),
        };

        let items = self.items(&select.projection, &relation)?;
        let bind = |expr: &Expr| self.bind(&scope, &relation, expr);
        let numbering = items.iter().position(|item| ranking::row_number(&item.expr).is_some());
        let ranking = numbering.and_then(|at| ranking::row_number(&items[at].expr)).map(|function| {
            let more = items.iter().filter(|item| ranking::row_number(&item.expr).is_some()).count() > 1;
            let others = more || !group_by.is_empty() || select.having.is_some() || select.distinct.is_some();
            ranking::alone(self.site, function.name.span(), others)?;
            self.ranking(function, &relation, &bind)
        });
        let ranking = ranking.transpose()?;
        let outputs = all(items.iter().enumerate().map(|(at, item)| match numbering {
            Some(numbering) if numbering == at => Ok(ranking::number(&item.expr)),
            _ => bind(&item.expr),
        }));
        let condition =
            select.selection.as_ref().map(|expr| self.no_aggregates(expr, "WHERE").and_then(|()| bind(expr)));
        let condition = condition.transpose();
        let keys = all(group_by.iter().map(|expr| {
            let expr = self.group_item(expr, &items, &scope)?;
            self.no_aggregates(&expr, "GROUP BY")?;
            bind(&expr)
        }));
        let having = select.having.as_ref().map(|expr| bind(&with_aliases(expr, &items, &scope))).transpose();
        let ((outputs, condition), (keys, having)) = both(both(outputs, condition), both(keys, having))?;

        if let Some(condition) = condition.as_ref().filter(|_| relation.ranking.is_some()) {
            relation = self.bounded(relation, condition)?;
        } else if let Some(condition) = condition {
            let condition = self.condition(&condition, &relation, "WHERE")?;
            if relation.grouping.is_none() && columns_in(&condition.raw).iter().any(|name| name.starts_with('#')) {
                return Err(self
                    .site
                    .error(
                        condition.span,
                        "window_start, window_end and window_time are not known before rows are grouped",
                    )
                    .help("put the condition into HAVING")
                    .into());
            }
            self.before_sessions(&condition, &relation)?;
            if relation.grouping.is_some() { &mut relation.having } else { &mut relation.filters }.push(condition);
        }

        if let Some(ranking) = ranking {
            relation = relation.numbered(ranking);
        }
        if matches!(select.distinct, Some(Distinct::Distinct)) {
            return self.distinct(relation, &items, outputs, &keys, having.as_ref());
        }
        let grouped = !keys.is_empty() || outputs.iter().chain(&having).any(|bound| has_aggregate(&bound.raw));
        if grouped && !whole {
            let span = keys.first().or(outputs.first()).map_or_else(|| self.site.whole(), |bound| bound.span);
            return Err(self
                .site
                .error(span, "grouping the rows of a UNION ALL is not supported yet")
                .help("write the UNION ALL to a topic with one INSERT INTO, and group that topic's rows with another")
                .into());
        }
        if grouped {
            return self.group(
                relation,
                &items.iter().map(|item| item.name.clone()).collect::<Vec<_>>(),
                outputs,
                &keys,
                having,
            );
        }
        if let Some(having) = having {
            return Err(self
                .site
                .error(having.span, "HAVING without GROUP BY and without aggregates")
                .help("write WHERE, or GROUP BY window_start, window_end")
                .into());
        }
        let columns = all(items.iter().zip(&outputs).map(|(item, bound)| {
            Ok(RelationColumn { name: item.name.clone(), value: self.typed(bound, &relation)? })
        }))?;
        Ok(Relation { columns, ..relation })
    }

    /// SELECT DISTINCT: what is grouped by all that is selected.
    fn distinct(
        &self,
        relation: Relation,
        items: &[Item],
        outputs: Vec<Bound>,
        keys: &[Bound],
        having: Option<&Bound>,
    ) -> Outcome<Relation> {
        let aggregated = outputs.iter().find(|bound| has_aggregate(&bound.raw));
        if let Some(grouped) = keys.first().or(aggregated).or(having) {
            return Err(self
                .site
                .error(grouped.span, "SELECT DISTINCT together with GROUP BY or aggregates is not supported")
                .help("leave DISTINCT out: each group has one row")
                .into());
        }
        let again = |bound: &Bound| Bound { raw: bound.raw.clone(), syntax: bound.syntax.clone(), span: bound.span };
        let keys: Vec<Bound> = outputs.iter().map(again).collect();
        self.group(relation, &items.iter().map(|item| item.name.clone()).collect::<Vec<_>>(), outputs, &keys, None)
    }

    /// Refuses what can't stand in an expression, and binds the rest over what `relation`'s columns stand for.
    fn bind(&self, scope: &Scope<'_>, relation: &Relation, expr: &Expr) -> Outcome<Bound> {
        let expr = &crate::respell::flink(self.site, expr)?;
        refuse_expr::expression(self.site, expr)?;
        let bound = self.binder.bind(self.site, scope, expr)?;
        if size_with(&bound.raw, &|name| relation.raw(name)) > MAX_SIZE {
            return Err(self
                .site
                .error(bound.span, format!("with all that its names stand for, this has more than {MAX_SIZE} parts"))
                .help("compute it in steps: write some of them to a topic, and read that topic with another statement")
                .into());
        }
        let raw = substituted(bound.raw, &|name| relation.raw(name).cloned())
            .map_err(|error| self.site.error(bound.span, crate::bind::explain(&error)))?;
        Ok(Bound { raw, ..bound })
    }

    /// Types `bound` over the columns that `relation`'s expressions are over, and checks that a plan can compute it.
    pub(crate) fn typed(&self, bound: &Bound, relation: &Relation) -> Outcome<Typed> {
        let schema = schema_of(self.site, bound.span, relation.inner())?;
        let result = typed(&bound.raw, &schema).and_then(|expr| {
            let (given, nullable) = (expr.get_type(&schema)?, expr.nullable(&schema)?);
            let (expr, data_type) = as_column(expr, given);
            Ok(Typed { raw: bound.raw.clone(), expr, data_type, nullable, span: bound.span })
        });
        let typed = result.map_err(|error| self.binder.type_error(self.site, bound, &relation.outer(), &error))?;
        convert(&typed.expr, &|name| Some((0, name.to_owned())), Some(&schema))
            .map_err(|message| self.site.error(bound.span, format!("this can't be planned: {message}")))?;
        Ok(typed)
    }

    /// A condition: `bound` as a Boolean.
    pub(crate) fn condition(&self, bound: &Bound, relation: &Relation, clause: &str) -> Outcome<Typed> {
        let typed = self.typed(bound, relation)?;
        if typed.data_type == arrow_schema::DataType::Boolean {
            return Ok(typed);
        }
        let what = from_arrow(&typed.data_type)
            .map_or_else(|| not_a_column(&typed.data_type), |data_type| data_type.to_string());
        Err(self
            .site
            .error(bound.span, format!("{clause} needs a condition; this is {what}"))
            .help("compare it with something")
            .into())
    }

    fn no_aggregates(&self, expr: &Expr, clause: &str) -> Outcome<()> {
        match contains_aggregate(expr) {
            Some((name, span)) => Err(self
                .site
                .error(span, format!("the aggregate {name} can't stand in {clause}"))
                .help("put conditions on aggregates into HAVING")
                .into()),
            None => Ok(()),
        }
    }

    /// The SELECT list, with `*` written out and every output named.
    fn items(&self, projection: &[SelectItem], relation: &Relation) -> Outcome<Vec<Item>> {
        let site = self.site;
        let every = |span: Span, options: &WildcardAdditionalOptions| -> Outcome<Vec<Item>> {
            let WildcardAdditionalOptions {
                wildcard_token: _,
                opt_ilike,
                opt_exclude,
                opt_except,
                opt_replace,
                opt_rename,
                opt_alias,
            } = options;
            let any = opt_ilike.is_some()
                || opt_exclude.is_some()
                || opt_except.is_some()
                || opt_replace.is_some()
                || opt_rename.is_some()
                || opt_alias.is_some();
            if any {
                return Err(site.error(span, format!("`*{options}` is not supported")).help("list the columns").into());
            }
            let columns = relation.columns.iter();
            Ok(columns
                .map(|column| Item {
                    name: column.name.clone(),
                    expr: Expr::Identifier(Ident { value: column.name.clone(), quote_style: Some('`'), span }),
                })
                .collect())
        };
        let items = projection.iter().map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Ok(vec![Item { name: output_name(expr), expr: expr.clone() }]),
            SelectItem::ExprWithAlias { expr, alias } => {
                Ok(vec![Item { name: alias.value.clone(), expr: expr.clone() }])
            }
            SelectItem::ExprWithAliases { expr, aliases: _ } => {
                Err(site.error(expr.span(), "several names for one column are not supported").into())
            }
            SelectItem::Wildcard(options) => every(options.wildcard_token.0.span, options),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                let known = match name.0.as_slice() {
                    [part] => part.as_ident().is_some_and(|ident| {
                        matches!(look_up(ident, relation.names.iter().map(String::as_str)), Found::One(_))
                    }),
                    _ => false,
                };
                if !known {
                    return Err(site
                        .error(name.span(), format!("there is no table `{name}` here"))
                        .help("write `*`")
                        .into());
                }
                every(name.span(), options)
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                Err(site.error(expr.span(), "`.*` of a value is not supported").help("list its fields").into())
            }
        });
        Ok(all(items)?.into_iter().flatten().collect())
    }

    /// What an item of GROUP BY means: a position in the SELECT list, an alias of it, or an expression.
    fn group_item(&self, expr: &Expr, items: &[Item], scope: &Scope<'_>) -> Outcome<Expr> {
        if let Expr::Value(value) = expr
            && let Value::Number(number, _) = &value.value
        {
            let at = number.parse::<usize>().ok().and_then(|position| position.checked_sub(1));
            return match at.and_then(|at| items.get(at)) {
                Some(item) => Ok(item.expr.clone()),
                None => {
                    let message = format!(
                        "GROUP BY {number} is no position in the SELECT list, which has {} columns",
                        items.len()
                    );
                    Err(self.site.error(value.span, message).help("name the column").into())
                }
            };
        }
        match expr {
            Expr::Identifier(ident) if matches!(scope.column(ident), Found::Nothing) => {
                Ok(alias_of(ident, items).cloned().unwrap_or_else(|| expr.clone()))
            }
            _ => Ok(expr.clone()),
        }
    }
}

/// The expression that the alias `ident` names, if it is one.
fn alias_of<'a>(ident: &Ident, items: &'a [Item]) -> Option<&'a Expr> {
    match look_up(ident, items.iter().map(|item| item.name.as_str())) {
        Found::One(at) => Some(&items[at].expr),
        Found::Several | Found::Nothing => None,
    }
}

/// `expr` with names that are no columns, but aliases of the SELECT list, replaced by what they name.
fn with_aliases(expr: &Expr, items: &[Item], scope: &Scope<'_>) -> Expr {
    fn replace(expr: &mut Expr, items: &[Item], scope: &Scope<'_>) {
        match expr {
            Expr::Identifier(ident) if matches!(scope.column(ident), Found::Nothing) => {
                if let Some(named) = alias_of(ident, items) {
                    *expr = Expr::Nested(Box::new(named.clone()));
                }
            }
            other => children_mut(other).into_iter().for_each(|child| replace(child, items, scope)),
        }
    }
    let mut expr = expr.clone();
    replace(&mut expr, items, scope);
    expr
}

/// What an output without an alias is called: a column or field by its name, anything else as it is written.
fn output_name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::CompoundIdentifier(idents) => idents.last().map_or_else(String::new, |ident| ident.value.clone()),
        Expr::Nested(inner) => output_name(inner),
        other => other.to_string(),
    }
}
