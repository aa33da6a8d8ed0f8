//! Window table functions: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))` and `TUMBLE(t, ts, …)`;
//! sessions are made by columns: `SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE)`.

use freshet_plan::Window;
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Spanned};
use sqlparser::tokenizer::Span;

use crate::error::{Outcome, Site, both};
use crate::lengths::interval_ms;
use crate::{functions, refuse};

/// A call of a window table function.
pub(crate) struct WindowCall {
    /// The table's name, its last part.
    pub(crate) table: Ident,
    /// The columns whose values have sessions of their own.
    pub(crate) partition: Vec<Ident>,
    /// The column by which rows are put into windows.
    pub(crate) time: Ident,
    /// The windows.
    pub(crate) window: Window,
    /// Where the function's name stands.
    pub(crate) span: Span,
}

/// The window table functions that are planned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Kind {
    fn of(name: &ObjectName) -> Option<Self> {
        Some(match name.to_string().to_lowercase().as_str() {
            "tumble" => Self::Tumble,
            "hop" => Self::Hop,
            "cumulate" => Self::Cumulate,
            "session" => Self::Session,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        }
    }

    /// Its arguments, in the order in which they are given by position; an OFFSET may be left out.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
            Self::Hop => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
            Self::Cumulate => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
            Self::Session => &["DATA", "TIMECOL", "GAP"],
        }
    }

    /// How many of them must be given.
    const fn least(self) -> usize {
        match self {
            Self::Session => self.arguments().len(),
            _ => self.arguments().len() - 1,
        }
    }

    /// The same in words.
    const fn takes(self) -> &'static str {
        match self {
            Self::Tumble => "a table, a time column, a size and perhaps an offset",
            Self::Hop => "a table, a time column, a slide, a size and perhaps an offset",
            Self::Cumulate => "a table, a time column, a step, a size and perhaps an offset",
            Self::Session => "a table, perhaps with PARTITION BY, a time column and a gap",
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Tumble => "write TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)",
            Self::Hop => {
                "write HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND): the slide, then the size"
            }
            Self::Cumulate => {
                "write CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND): the step, then the size"
            }
            Self::Session => "write SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
        }
    }
}

/// Reads the call of the window table function `name`.
pub(crate) fn window_call(site: &Site<'_>, name: &ObjectName, args: &[FunctionArg]) -> Outcome<WindowCall> {
    let span = name.span();
    let Some(kind) = Kind::of(name) else {
        return Err(site
            .error(span, format!("there is no table function `{name}`"))
            .help("there are TUMBLE, HOP, CUMULATE and SESSION: write TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)")
            .into());
    };
    let found = arguments(site, span, kind, args)?;
    let [Some(table), Some(time), lengths @ ..] = found.as_slice() else {
        return Err(too_few(site, span, kind, args));
    };
    let (lengths, offset) = lengths.split_at(kind.least() - 2);
    let offset = &offset.first().copied().flatten();
    let lengths = lengths.iter().copied().collect::<Option<Vec<&Expr>>>();
    let window = match (kind, lengths.as_deref()) {
        (Kind::Tumble, Some([size])) => tumble(site, span, size, *offset),
        (Kind::Hop, Some([slide, size])) => hop(site, span, slide, size, *offset),
        (Kind::Cumulate, Some([step, size])) => cumulate(site, span, step, size, *offset),
        (Kind::Session, Some([gap])) => session(site, span, gap),
        _ => return Err(too_few(site, span, kind, args)),
    };
    let names = both(table_name(site, span, kind, table), time_column(site, span, time));
    let (window, ((table, partition), time)) = both(window, names)?;
    Ok(WindowCall { table, partition, time, window, span })
}

fn session(site: &Site<'_>, span: Span, gap: &Expr) -> Outcome<Window> {
    checked(site, place(gap, span), Window::Session { gap_ms: length_ms(site, span, gap, "gap")? })
}

fn tumble(site: &Site<'_>, span: Span, size: &Expr, offset: Option<&Expr>) -> Outcome<Window> {
    let (size_ms, offset_ms) = both(length_ms(site, span, size, "size"), offset_ms(site, span, offset))?;
    Ok(Window::Tumble { size_ms, offset_ms: offset_ms.rem_euclid(size_ms) })
}

fn hop(site: &Site<'_>, span: Span, slide: &Expr, size: &Expr, offset: Option<&Expr>) -> Outcome<Window> {
    let lengths = both(length_ms(site, span, slide, "slide"), length_ms(site, span, size, "size"));
    let ((slide_ms, size_ms), offset_ms) = both(lengths, offset_ms(site, span, offset))?;
    let offset_ms = offset_ms.rem_euclid(slide_ms);
    // Windows that lie side by side, whatever they are called: the same state.
    if slide_ms == size_ms {
        return Ok(Window::Tumble { size_ms, offset_ms });
    }
    checked(site, place(size, span), Window::Hop { size_ms, slide_ms, offset_ms })
}

fn cumulate(site: &Site<'_>, span: Span, step: &Expr, size: &Expr, offset: Option<&Expr>) -> Outcome<Window> {
    let lengths = both(length_ms(site, span, step, "step"), length_ms(site, span, size, "size"));
    let ((step_ms, size_ms), offset_ms) = both(lengths, offset_ms(site, span, offset))?;
    let offset_ms = offset_ms.rem_euclid(size_ms);
    if size_ms % step_ms != 0 {
        return Err(site
            .error(place(size, span), "the size of cumulating windows must be a multiple of their step")
            .help("write CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND): the step, then the size")
            .into());
    }
    if step_ms == size_ms {
        return Ok(Window::Tumble { size_ms, offset_ms });
    }
    checked(site, place(size, span), Window::Cumulate { size_ms, step_ms, offset_ms })
}

fn checked(site: &Site<'_>, span: Span, window: Window) -> Outcome<Window> {
    match window.check() {
        Ok(()) => Ok(window),
        Err(message) => {
            let help = if window.pane_ms() > 1_000 {
                "write shorter lengths"
            } else {
                "panes are as long as the greatest length that divides all lengths of the window: take lengths that have a longer one in common"
            };
            Err(site.error(span, message).help(help).into())
        }
    }
}

/// A length that is more than nothing.
fn length_ms(site: &Site<'_>, span: Span, expr: &Expr, what: &str) -> Outcome<i64> {
    let at = place(expr, span);
    match interval_ms(site, at, expr)? {
        ms if ms > 0 => Ok(ms),
        _ => Err(site
            .error(at, format!("the {what} of a window must be more than nothing"))
            .help("write INTERVAL '10' SECOND")
            .into()),
    }
}

fn offset_ms(site: &Site<'_>, span: Span, expr: Option<&Expr>) -> Outcome<i64> {
    expr.map_or(Ok(0), |expr| interval_ms(site, place(expr, span), expr))
}

fn too_few(site: &Site<'_>, span: Span, kind: Kind, args: &[FunctionArg]) -> Vec<crate::SqlError> {
    let message = format!("{} takes {}; {} were given", kind.name(), kind.takes(), args.len());
    site.error(span, message).help(kind.example()).into()
}

/// The arguments, in the order of [`Kind::arguments`].
fn arguments<'a>(site: &Site<'_>, span: Span, kind: Kind, args: &'a [FunctionArg]) -> Outcome<Vec<Option<&'a Expr>>> {
    let known = kind.arguments();
    let mut found: Vec<Option<&Expr>> = vec![None; known.len()];
    if args.len() > found.len() {
        let (least, most) = (kind.least(), known.len());
        let takes = if least == most { most.to_string() } else { format!("{least} or {most}") };
        return Err(site
            .error(span, format!("{} takes {takes} arguments; {} were given", kind.name(), args.len()))
            .help(kind.example())
            .into());
    }
    let named = args.iter().any(|arg| matches!(arg, FunctionArg::Named { .. }));
    for (at, argument) in args.iter().enumerate() {
        let (slot, expr) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if !named => (at, expr),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), operator: _ } => {
                let Some(slot) = known.iter().position(|known| name.value.eq_ignore_ascii_case(known)) else {
                    let (last, others) = known.split_last().unwrap_or((&"", &[]));
                    return Err(site
                        .error(name.span, format!("{} has no argument `{}`", kind.name(), name.value))
                        .help(format!("its arguments are {} and {last}", others.join(", ")))
                        .into());
                };
                if found[slot].is_some() {
                    return Err(site.error(name.span, format!("the argument `{}` is given twice", name.value)).into());
                }
                (slot, expr)
            }
            other => {
                return Err(site
                    .error(place_of(other.span(), span), format!("`{other}` is no argument of {} here", kind.name()))
                    .help("give all arguments by position, or all by name")
                    .into());
            }
        };
        found[slot] = Some(expr);
    }
    Ok(found)
}

fn place(expr: &Expr, otherwise: Span) -> Span {
    place_of(expr.span(), otherwise)
}

fn place_of(span: Span, otherwise: Span) -> Span {
    if span.start.line == 0 { otherwise } else { span }
}

/// A table's name, and the columns behind PARTITION BY.
fn table_name(site: &Site<'_>, span: Span, kind: Kind, expr: &Expr) -> Outcome<(Ident, Vec<Ident>)> {
    let one = |expr: &Expr| match expr {
        Expr::CompoundIdentifier(parts) => parts.first().filter(|_| parts.len() == 1).cloned(),
        Expr::Identifier(ident) => Some(ident.clone()),
        _ => None,
    };
    let (ident, partition) = match expr {
        Expr::Prefixed { prefix: _, value } => match value.as_ref() {
            Expr::Tuple(parts) => {
                (parts.first().and_then(one), parts.iter().skip(1).filter_map(one).collect::<Vec<_>>())
            }
            other => (one(other), Vec::new()),
        },
        Expr::Identifier(ident) => (Some(ident.clone()), Vec::new()),
        _ => (None, Vec::new()),
    };
    let ident = ident.ok_or_else(|| -> Vec<crate::SqlError> {
        site.error(place(expr, span), "the first argument of a window function is a table's name")
            .help("write TABLE t; for a query, name it first: WITH q AS (SELECT …), then TABLE q")
            .into()
    })?;
    match partition.first() {
        Some(column) if kind != Kind::Session => Err(site
            .error(
                column.span,
                format!("PARTITION BY in {} is not supported: its windows are the same for every group", kind.name()),
            )
            .help("leave it out, and name the columns in GROUP BY; SESSION has it")
            .into()),
        _ => Ok((ident, partition)),
    }
}

fn time_column(site: &Site<'_>, span: Span, expr: &Expr) -> Outcome<Ident> {
    let inside = match expr {
        Expr::Function(function) if functions::name(function) == "descriptor" => {
            match refuse::bare_call(site, function)? {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Some(expr),
                _ => None,
            }
        }
        other => Some(other),
    };
    match inside {
        Some(Expr::Identifier(ident)) => Ok(ident.clone()),
        _ => Err(site
            .error(place(expr, span), "the time column of a window is one column's name")
            .help("write DESCRIPTOR(ts)")
            .into()),
    }
}
