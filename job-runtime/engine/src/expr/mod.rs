//! Expressions of a plan, made ready to run over batches.
//!
//! [`compile()`] turns an [`Expr`] into DataFusion's physical form, with the rules of Freshet where they are
//! stricter:
//! * **The outcome of a row depends on that row alone**, never on how rows are cut into batches. `AND`, `OR`,
//!   `IN` and `CASE` evaluate an operand that can fail only for the rows that need it, from left to right:
//!   `b <> 0 AND a / b > 1` never divides by zero. No rows, no failure.
//! * **Numbers never wrap.** Overflow of integers and decimals, division of integers and decimals by zero,
//!   and a cast that can't be are errors. Floats follow IEEE 754.
//! * **No hidden input.** Functions that look at the clock, at chance or at a session are refused.
//!
//! The result has the type of a column ([`CompiledExpr::data_type`]), whatever Arrow type a function prefers
//! to work in.

mod call;
mod compile;
mod field;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options, prep_null_mask_filter};
use arrow::datatypes::Decimal128Type;
use arrow_schema::{DataType as ArrowType, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use freshet_plan::{DataType, Expr};

use crate::EngineError;
use crate::types::plan_type;

/// An expression that is ready to run over rows of one schema.
#[derive(Debug, Clone)]
pub struct CompiledExpr {
    physical: Arc<dyn PhysicalExpr>,
    /// The position, when the expression is nothing but a column.
    column: Option<usize>,
    arrow_type: ArrowType,
    data_type: DataType,
}

/// Makes `expr` ready to run over rows of `input`.
///
/// # Errors
/// [`EngineError::Plan`] for a column that is not there, types that don't go together, an unknown function,
/// or one whose value is no function of its arguments.
pub fn compile(expr: &Expr, input: &SchemaRef) -> Result<CompiledExpr, EngineError> {
    let physical = compile::physical(expr, input)?;
    CompiledExpr::new(physical, input)
}

/// As [`compile()`], with the result cast to `data_type` where it is of another type.
///
/// # Errors
/// As [`compile()`], and [`EngineError::Plan`] where there is no such cast.
pub fn compile_as(expr: &Expr, data_type: &DataType, input: &SchemaRef) -> Result<CompiledExpr, EngineError> {
    let physical = compile::physical_as(expr, data_type, input)?;
    CompiledExpr::new(physical, input)
}

/// Makes a condition ready to run over rows of `input`.
///
/// # Errors
/// As [`compile()`], and [`EngineError::Plan`] when it is not a Boolean.
pub fn compile_predicate(expr: &Expr, input: &SchemaRef) -> Result<CompiledPredicate, EngineError> {
    let compiled = compile(expr, input)?;
    if compiled.data_type != DataType::Boolean {
        let (text, data_type) = (compiled.text(), &compiled.data_type);
        return Err(EngineError::Plan(format!("`{text}` is of the type {data_type}, where a condition is needed")));
    }
    Ok(CompiledPredicate(compiled))
}

impl CompiledExpr {
    fn new(physical: Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Result<Self, EngineError> {
        let physical = compile::settle(physical, input)?;
        let arrow_type = physical.data_type(input).map_err(|error| compile::refused(&error))?;
        let data_type = plan_type(&arrow_type).ok_or_else(|| {
            let text = Sql(physical.as_ref());
            EngineError::Plan(format!("`{text}` gives a value of the type {arrow_type}, which no column can hold"))
        })?;
        let column = physical.downcast_ref::<Column>().map(Column::index);
        Ok(Self { physical, column, arrow_type, data_type })
    }

    /// The type of the values that it gives.
    #[must_use]
    pub const fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The values for each of `rows`, which must be of the schema that it was compiled for: an array as long
    /// as `rows`. A plain column is not copied.
    ///
    /// # Errors
    /// [`EngineError::Expression`] naming the expression, when it fails for some row.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EngineError> {
        if let Some(column) = self.column.and_then(|column| rows.columns().get(column)) {
            return Ok(Arc::clone(column));
        }
        if rows.num_rows() == 0 {
            return Ok(new_empty_array(&self.arrow_type));
        }
        let array = self.computed(rows).map_err(|error| self.failed(&error))?;
        // Structs and lists differ from what was announced at most in what may be null in them.
        let array = if *array.data_type() == self.arrow_type {
            array
        } else {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&array, &self.arrow_type, &options).map_err(|error| self.failed(&error.into()))?
        };
        // Sums and products of decimals are exact in 128 bits, which hold a little more than 38 digits.
        if let ArrowType::Decimal128(precision, _) = self.arrow_type {
            let checked = array.as_primitive::<Decimal128Type>().validate_decimal_precision(precision);
            checked.map_err(|error| self.failed(&error.into()))?;
        }
        Ok(array)
    }

    /// What DataFusion computes. Some of its functions panic instead of failing, where a text grows beyond 2 GiB or
    /// an argument lies at the end of its type: that is a failure of the expression on these rows, as any other.
    fn computed(&self, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        let compute = || self.physical.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()));
        // Nothing outlives a panic: expressions keep no state between rows.
        catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(DataFusionError::Execution(format!("it can't be computed: {text}")))
        })
    }

    fn text(&self) -> String {
        const MAX_BYTES: usize = 200;
        let mut text = Sql(self.physical.as_ref()).to_string();
        if text.len() > MAX_BYTES {
            text.truncate(text.floor_char_boundary(MAX_BYTES));
            text.push('…');
        }
        text
    }

    #[cold]
    fn failed(&self, error: &DataFusionError) -> EngineError {
        EngineError::Expression { operator: format!("`{}`", self.text()), detail: compile::message(error) }
    }
}

/// Shows a physical expression as SQL.
struct Sql<'a>(&'a dyn PhysicalExpr);

impl std::fmt::Display for Sql<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// A condition that is ready to run over rows of one schema.
#[derive(Debug, Clone)]
pub struct CompiledPredicate(CompiledExpr);

impl CompiledPredicate {
    /// For each of `rows`, whether the condition is true: an array as long as `rows`, without nulls. Where
    /// the condition is null, it is not true.
    ///
    /// # Errors
    /// As [`CompiledExpr::evaluate`].
    pub fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray, EngineError> {
        let truth = self.0.evaluate(rows)?;
        let truth = truth.as_boolean();
        Ok(if truth.null_count() == 0 { truth.clone() } else { prep_null_mask_filter(truth) })
    }
}

#[cfg(test)]
mod tests;
