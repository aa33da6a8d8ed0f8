//! Names: what an identifier in an expression refers to.
//!
//! A name is looked up as it is written; where nothing is called so and it is not quoted, without regard to
//! case, as long as that is unambiguous. Every name is resolved here, in the syntax tree, where its place is
//! known; what DataFusion's planner then sees are exact names of columns, and `get_field` for fields of structs.

use arrow_schema::{DataType as ArrowType, Fields};
use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Spanned, Subscript, Value,
};
use sqlparser::tokenizer::Span;

use crate::error::{Outcome, Site, SqlError};
use crate::walk::children_mut;

/// What names may refer to inside one SELECT.
pub(crate) struct Scope<'a> {
    /// What the relation may be called before a dot: its alias, or its table's names.
    pub(crate) relations: &'a [String],
    /// Its columns.
    pub(crate) columns: &'a Fields,
}

/// The name among `names` that `wanted` was probably meant to be.
pub(crate) fn suggestion<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let lower = wanted.to_lowercase();
    let distance = |name: &str| datafusion_common::utils::datafusion_strsim::levenshtein(&name.to_lowercase(), &lower);
    let nearest = names.map(|name| (distance(name), name)).min()?;
    let length = lower.chars().count();
    // A name of one or two letters is as near to any other.
    let reach = if length <= 2 { 1 } else { 1 + length / 4 };
    (nearest.0 <= reach.min(length.saturating_sub(1))).then(|| nearest.1.to_owned())
}

/// What a look-up found.
pub(crate) enum Found<T> {
    /// Exactly one.
    One(T),
    /// Several that differ only in case.
    Several,
    /// Nothing.
    Nothing,
}

/// Looks `ident` up among `names`: as written first, then without regard to case unless it is quoted.
pub(crate) fn look_up<'a>(ident: &Ident, names: impl Iterator<Item = &'a str> + Clone) -> Found<usize> {
    if let Some(at) = names.clone().position(|name| name == ident.value) {
        return Found::One(at);
    }
    if ident.quote_style.is_some() {
        return Found::Nothing;
    }
    let mut near = names.enumerate().filter(|(_, name)| name.to_lowercase() == ident.value.to_lowercase());
    match (near.next(), near.next()) {
        (Some((at, _)), None) => Found::One(at),
        (Some(_), Some(_)) => Found::Several,
        (None, _) => Found::Nothing,
    }
}

impl Scope<'_> {
    /// The column that `ident` names.
    pub(crate) fn column(&self, ident: &Ident) -> Found<usize> {
        look_up(ident, self.columns.iter().map(|field| field.name().as_str()))
    }

    fn is_relation(&self, ident: &Ident) -> bool {
        matches!(look_up(ident, self.relations.iter().map(String::as_str)), Found::One(_))
    }

    /// Replaces every name in `expr` by what it refers to.
    pub(crate) fn resolve(&self, site: &Site<'_>, expr: &mut Expr) -> Outcome<()> {
        let mut resolver = Resolver { scope: self, site, errors: Vec::new() };
        resolver.resolve(expr);
        if resolver.errors.is_empty() { Ok(()) } else { Err(resolver.errors) }
    }

    fn unknown(&self, site: &Site<'_>, ident: &Ident, span: Span) -> SqlError {
        let names = self.columns.iter().map(|field| field.name().as_str());
        let relation = self.relations.first().map_or("the table", String::as_str);
        let help = match suggestion(&ident.value, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its columns are {}", names.collect::<Vec<_>>().join(", ")),
        };
        site.error(span, format!("`{relation}` has no column `{}`", ident.value)).help(help)
    }

    fn ambiguous(site: &Site<'_>, ident: &Ident) -> SqlError {
        site.error(ident.span, format!("`{}` names several columns that differ only in case", ident.value))
            .help("write it exactly, in backticks")
    }

    /// What a chain of names means: `column`, `relation.column`, `column.field`, `relation.column.field`…
    fn chain(&self, site: &Site<'_>, parts: &[Ident]) -> Result<Expr, SqlError> {
        let Some((first, rest)) = parts.split_first() else {
            return Err(site.error(Span::empty(), "a name is missing"));
        };
        let qualified = !rest.is_empty() && self.is_relation(first);
        let (column, fields) = match rest.split_first() {
            Some((column, fields)) if qualified => (column, fields),
            _ => (first, rest),
        };
        let found = match (self.column(column), qualified) {
            // `merchant.country` where the relation happens to be called like its column.
            (Found::Nothing, true) if matches!(self.column(first), Found::One(_)) => (self.column(first), first, rest),
            (found, _) => (found, column, fields),
        };
        let (found, column, fields) = found;
        let at = match found {
            Found::One(at) => at,
            Found::Several => return Err(Self::ambiguous(site, column)),
            Found::Nothing if !rest.is_empty() && !qualified => {
                let relation =
                    self.relations.first().map_or_else(String::new, |name| format!("; the table is `{name}`"));
                let error = self.unknown(site, column, column.span);
                let message = format!("`{}` is neither a table nor a column here{relation}", column.value);
                return Err(SqlError { message, ..error });
            }
            Found::Nothing => return Err(self.unknown(site, column, column.span)),
        };
        let field = &self.columns[at];
        let mut expr =
            Expr::Identifier(Ident { value: field.name().clone(), quote_style: Some('`'), span: column.span });
        let mut data_type = field.data_type().clone();
        let mut path = field.name().clone();
        for name in fields {
            let ArrowType::Struct(inner) = &data_type else {
                let message = format!("`{path}` has no fields: it is no STRUCT");
                return Err(site
                    .error(name.span, message)
                    .help("declare its fields in the Topic: STRUCT<name TYPE, …>"));
            };
            let at = match look_up(name, inner.iter().map(|field| field.name().as_str())) {
                Found::One(at) => at,
                Found::Several => return Err(Self::ambiguous(site, name)),
                Found::Nothing => {
                    let names = || inner.iter().map(|field| field.name().as_str());
                    let help = match suggestion(&name.value, names()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("its fields are {}", names().collect::<Vec<_>>().join(", ")),
                    };
                    return Err(site.error(name.span, format!("`{path}` has no field `{}`", name.value)).help(help));
                }
            };
            let inner = std::sync::Arc::clone(&inner[at]);
            expr = get_field(expr, inner.name(), name.span);
            path = format!("{path}.{}", inner.name());
            data_type = inner.data_type().clone();
        }
        Ok(expr)
    }
}

fn get_field(root: Expr, name: &str, span: Span) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let name = Expr::Value(Value::SingleQuotedString(name.to_owned()).with_span(span));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(root.span(), "get_field")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument(root), argument(name)],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

struct Resolver<'a, 'b> {
    scope: &'a Scope<'b>,
    site: &'a Site<'a>,
    errors: Vec<SqlError>,
}

impl Resolver<'_, '_> {
    /// `root['a'].b[…]`: names and quoted names become one chain; anything else is refused.
    fn access(&self, root: &Expr, accesses: &[AccessExpr]) -> Result<Expr, SqlError> {
        let mut names = match root {
            Expr::Identifier(ident) => vec![ident.clone()],
            Expr::CompoundIdentifier(idents) => idents.clone(),
            _ => Vec::new(),
        };
        let from_name = !names.is_empty();
        for access in accesses {
            let name = match access {
                AccessExpr::Dot(Expr::Identifier(ident)) => Some(ident.clone()),
                AccessExpr::Dot(Expr::Value(value))
                | AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => match &value.value {
                    Value::SingleQuotedString(name) => {
                        Some(Ident { value: name.clone(), quote_style: Some('\''), span: value.span })
                    }
                    _ => None,
                },
                _ => None,
            };
            let Some(name) = name else {
                let span = if access.span().start.line == 0 { root.span() } else { access.span() };
                return Err(self
                    .site
                    .error(span, "elements of arrays and slices are not supported yet")
                    .help("a field of a STRUCT is written merchant.country or merchant['country']"));
            };
            names.push(name);
        }
        if from_name {
            return self.scope.chain(self.site, &names);
        }
        Ok(names.iter().fold(root.clone(), |root, name| get_field(root, &name.value, name.span)))
    }

    fn resolve(&mut self, expr: &mut Expr) {
        let resolved = match expr {
            Expr::Identifier(ident) => self.scope.chain(self.site, std::slice::from_ref(ident)),
            Expr::CompoundIdentifier(idents) => self.scope.chain(self.site, idents),
            Expr::CompoundFieldAccess { root, access_chain } => {
                if !matches!(root.as_ref(), Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                    self.resolve(root);
                }
                self.access(root, access_chain)
            }
            _ => {
                for child in children_mut(expr) {
                    self.resolve(child);
                }
                return;
            }
        };
        match resolved {
            Ok(resolved) => *expr = resolved,
            Err(error) => self.errors.push(error),
        }
    }
}
